//! What a subtask is beside its channels: a source with its splits, watermarks, a chain with the host's half, a sink.

use super::datum::Key;
use super::guest::{ChainInfo, Guest, Row};
use super::keyed::Keyed;
use super::time::{FIRST, Generator};
use super::windows::Windows;
use crate::bindings::dataflow::{EventTime, Head, Partition};
use crate::bindings::operators::TimerKind;

/// A split of a source, which a test feeds.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) number: usize,
    /// Watermarks that it makes, or that are given; none without event time.
    pub(crate) generator: Option<Generator>,
    pub(crate) has_ended: bool,
}

/// Where the time of rows is read, if the host reads it.
#[derive(Debug, Clone)]
pub(crate) enum TimeSource {
    Column { index: usize, divisor: Divisor },
    Sent,
}

/// From what a column counts to ms.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Divisor {
    Times(i128),
    By(i128),
}

impl TimeSource {
    pub(crate) fn set(&self, row: &mut Row) {
        if let TimeSource::Column { index, divisor } = self {
            let value = row.values[*index].integer();
            let millis = match divisor {
                Divisor::Times(factor) => value.saturating_mul(*factor),
                Divisor::By(divisor) => value.div_euclid(*divisor),
            };
            row.time = millis.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        }
    }

    /// As an event time is declared, over columns of these names and types.
    pub(crate) fn new(time: &EventTime, columns: &[super::datum::Column]) -> TimeSource {
        use crate::bindings::types::{DataType, TimeUnit};
        let EventTime::Field(name) = time else {
            return TimeSource::Sent;
        };
        let found = columns.iter().position(|column| column.field.name == *name);
        let index = found.unwrap_or_else(|| panic!("there is no column `{name}` to be event time"));
        let divisor = match &columns[index].field.data_type {
            DataType::Date32 => Divisor::Times(86_400_000),
            DataType::Timestamp(timestamp) => match timestamp.unit {
                TimeUnit::Second => Divisor::Times(1_000),
                TimeUnit::Millisecond => Divisor::Times(1),
                TimeUnit::Microsecond => Divisor::By(1_000),
                TimeUnit::Nanosecond => Divisor::By(1_000_000),
            },
            _ => Divisor::Times(1),
        };
        TimeSource::Column { index, divisor }
    }
}

/// The host's half of a chain.
#[derive(Debug)]
pub(crate) enum HeadOperator {
    Stateless,
    Keyed(Box<Keyed>),
    Windows(Box<Windows>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) enum Body {
    Source {
        splits: Vec<Split>,
        time: Option<TimeSource>,
    },
    /// Lets rows and watermarks of a source pass, which makes them itself.
    Passing,
    Watermarks {
        time: TimeSource,
        generator: Generator,
    },
    Chain {
        head: HeadOperator,
        watermark: i64,
    },
    Sink,
}

impl HeadOperator {
    pub(crate) fn new(info: &ChainInfo) -> Self {
        match &info.chain.head {
            Head::Stateless => HeadOperator::Stateless,
            Head::Keyed(_) => HeadOperator::Keyed(Box::new(Keyed::new(info))),
            Head::Window(window) => HeadOperator::Windows(Box::new(Windows::new(&window.window))),
        }
    }

    /// Rows of an input that came over an edge of this kind.
    pub(crate) fn rows(&mut self, guest: &mut Guest<'_>, input: u32, partition: &Partition, rows: &[Row]) {
        match self {
            HeadOperator::Stateless => {
                guest.rows(input, &[], rows);
            }
            HeadOperator::Keyed(keyed) if matches!(partition, Partition::Broadcast) => {
                keyed.broadcast(guest, input, rows);
            }
            HeadOperator::Keyed(keyed) => keyed.rows(guest, input, &keys(partition, rows), rows),
            HeadOperator::Windows(windows) => windows.rows(guest, input, &keys(partition, rows), rows),
        }
    }

    /// Fires what a watermark makes due.
    pub(crate) fn watermark(&mut self, guest: &mut Guest<'_>, watermark: i64) {
        match self {
            HeadOperator::Stateless => {}
            HeadOperator::Keyed(keyed) => keyed.fire(guest, TimerKind::EventTime, watermark),
            HeadOperator::Windows(windows) => windows.fire(guest, watermark),
        }
    }

    /// When something is due in processing time.
    pub(crate) fn next_time(&self) -> Option<i64> {
        match self {
            HeadOperator::Keyed(keyed) => keyed.next_time(),
            HeadOperator::Stateless | HeadOperator::Windows(_) => None,
        }
    }

    /// Fires what is due then.
    pub(crate) fn time(&mut self, guest: &mut Guest<'_>, now: i64) {
        if let HeadOperator::Keyed(keyed) = self {
            keyed.fire(guest, TimerKind::ProcessingTime, now);
        }
    }
}

/// The keys of rows that came over an edge of this kind.
pub(crate) fn keys(partition: &Partition, rows: &[Row]) -> Vec<Key> {
    let key = |row: &Row| match partition {
        Partition::HashFields(fields) => fields.iter().map(|field| row.values[*field as usize].clone()).collect(),
        Partition::HashComputed => row.key.clone(),
        Partition::Forward | Partition::Rebalance | Partition::Broadcast | Partition::Global => Key::new(),
    };
    rows.iter().map(key).collect()
}

impl Body {
    /// How far event time has come here.
    pub(crate) fn watermark(&self) -> i64 {
        match self {
            Body::Chain { watermark, .. } => *watermark,
            Body::Watermarks { generator, .. } => generator.watermark,
            Body::Source { .. } | Body::Passing | Body::Sink => FIRST,
        }
    }
}
