//! What a subtask is beside its channels: a source with its splits, watermarks, a chain with the host's half, a sink.

use super::datum::{Column, Datum, Key, columns};
use super::guest::{ChainInfo, Guest, Row};
use super::keyed::Keyed;
use super::patterns::Patterns;
use super::runner::Runner;
use super::time::{FIRST, Generator};
use super::windows::Windows;
use crate::bindings::dataflow::{EventTime, Head, OperatorKind, Partition, WatermarkSource, Watermarks};
use crate::bindings::operators::TimerKind;
use crate::bindings::types::{DataType, TimeUnit};

/// A split of a source, which a test feeds.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) number: usize,
    /// Watermarks that it makes, or that are given; none without event time.
    pub(crate) generator: Option<Generator>,
    pub(crate) has_ended: bool,
}

/// How rows get their times, and watermarks follow from them.
#[derive(Debug, Clone)]
pub(crate) struct Strategy {
    time: TimeOf,
    watermark: WatermarkOf,
}

/// Where the time of rows comes from.
#[derive(Debug, Clone)]
enum TimeOf {
    Column(TimeColumn),
    Sent,
    Clock,
}

/// Where watermarks come from.
#[derive(Debug, Clone)]
enum WatermarkOf {
    Times,
    Column(TimeColumn),
    /// The computed key.
    Key,
    Clock,
}

/// A column of times.
#[derive(Debug, Clone)]
struct TimeColumn {
    index: usize,
    /// A value is so many ms, or so many make one.
    factor: i128,
    divisor: i128,
}

impl TimeColumn {
    fn new(name: &str, columns: &[Column]) -> Self {
        let found = columns.iter().position(|column| column.field.name == name);
        let index = found.unwrap_or_else(|| panic!("there is no column `{name}` with times"));
        let (factor, divisor) = match &columns[index].field.data_type {
            DataType::Date32 => (86_400_000, 1),
            DataType::Timestamp(timestamp) => match timestamp.unit {
                TimeUnit::Second => (1_000, 1),
                TimeUnit::Millisecond => (1, 1),
                TimeUnit::Microsecond => (1, 1_000),
                TimeUnit::Nanosecond => (1, 1_000_000),
            },
            _ => (1, 1),
        };
        TimeColumn { index, factor, divisor }
    }

    /// In ms; none where it is null.
    fn of(&self, row: &Row) -> Option<i64> {
        let value = &row.values[self.index];
        if *value == Datum::Null {
            return None;
        }
        let millis = value.integer().saturating_mul(self.factor).div_euclid(self.divisor);
        Some(millis.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }
}

impl Strategy {
    /// As it is declared for rows of these columns.
    pub(crate) fn new(declared: &Watermarks, columns: &[Column]) -> Self {
        Strategy {
            time: match &declared.time {
                EventTime::Field(name) => TimeOf::Column(TimeColumn::new(name, columns)),
                EventTime::Computed => TimeOf::Sent,
                EventTime::Ingestion => TimeOf::Clock,
            },
            watermark: match &declared.source {
                WatermarkSource::Bounded(_) => WatermarkOf::Times,
                WatermarkSource::Field(name) => WatermarkOf::Column(TimeColumn::new(name, columns)),
                WatermarkSource::Computed => WatermarkOf::Key,
                WatermarkSource::Clock(_) => WatermarkOf::Clock,
            },
        }
    }

    /// Gives rows their times, and has the watermark follow.
    pub(crate) fn assign(&self, rows: &mut [Row], generator: &mut Generator, now: i64) {
        for row in rows.iter_mut() {
            row.time = match &self.time {
                TimeOf::Column(column) => column.of(row).expect("event time is not null"),
                TimeOf::Sent => row.time,
                TimeOf::Clock => generator.ingestion_time(now),
            };
        }
        let said = match &self.watermark {
            WatermarkOf::Times => return generator.rows(rows.iter().map(|row| row.time), now),
            WatermarkOf::Clock => {
                generator.look(now);
                None
            }
            WatermarkOf::Column(column) => rows.iter().filter_map(|row| column.of(row)).max(),
            WatermarkOf::Key => {
                let said = rows.iter().filter(|row| row.key[0] != Datum::Null);
                said.map(|row| row.key[0].integer() as i64).max()
            }
        };
        generator.stay_active(now);
        if let Some(watermark) = said {
            generator.raise(watermark);
        }
    }
}

/// The host's half of a chain.
#[derive(Debug)]
pub(crate) enum HeadOperator {
    Stateless,
    Keyed(Box<Keyed>),
    Windows(Box<Windows>),
    Patterns(Box<Patterns>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) enum Body {
    Source {
        splits: Vec<Split>,
        /// None where a test gives times, or nobody does.
        strategy: Option<Strategy>,
    },
    /// Lets rows and watermarks of a source pass, which makes them itself.
    Passing,
    Watermarks {
        strategy: Strategy,
        generator: Generator,
    },
    /// Answers requests at once.
    Requests,
    /// Looks rows up at once.
    Lookup,
    Chain {
        head: HeadOperator,
        watermark: i64,
    },
    Sink,
}

impl HeadOperator {
    pub(crate) fn new(info: &ChainInfo, subtask: usize) -> Self {
        match &info.chain.head {
            Head::Stateless => HeadOperator::Stateless,
            Head::Keyed(_) | Head::Unkeyed(_) => HeadOperator::Keyed(Box::new(Keyed::new(info, subtask))),
            Head::Window(window) => HeadOperator::Windows(Box::new(Windows::new(&window.window))),
            Head::Pattern(pattern) => {
                let program = info.program.clone().expect("a pattern was compiled");
                HeadOperator::Patterns(Box::new(Patterns::new(program, &pattern.pattern, info.has_time)))
            }
        }
    }

    /// Rows of an input that came over an edge of this kind.
    pub(crate) fn rows(&mut self, guest: &mut Guest<'_>, input: u32, partition: &Partition, rows: &[Row]) {
        match self {
            HeadOperator::Stateless => {
                guest.rows(input, &[], rows);
            }
            HeadOperator::Keyed(keyed) if keyed.own_key.is_some() => keyed.own_rows(guest, input, rows),
            HeadOperator::Keyed(keyed) if matches!(partition, Partition::Broadcast) => {
                keyed.broadcast(guest, input, rows);
            }
            HeadOperator::Keyed(keyed) => keyed.rows(guest, input, &keys(partition, rows), rows),
            HeadOperator::Windows(windows) => windows.rows(guest, input, &keys(partition, rows), rows),
            HeadOperator::Patterns(patterns) => patterns.rows(guest, &keys(partition, rows), rows),
        }
    }

    /// Fires what a watermark makes due.
    pub(crate) fn watermark(&mut self, guest: &mut Guest<'_>, watermark: i64) {
        match self {
            HeadOperator::Stateless => {}
            HeadOperator::Keyed(keyed) => keyed.fire(guest, TimerKind::EventTime, watermark),
            HeadOperator::Windows(windows) => windows.fire(guest, watermark),
            HeadOperator::Patterns(patterns) => patterns.watermark(guest, watermark),
        }
    }

    /// When something is due in processing time.
    pub(crate) fn next_time(&self) -> Option<i64> {
        match self {
            HeadOperator::Keyed(keyed) => keyed.next_time(),
            HeadOperator::Patterns(patterns) => patterns.next_time(),
            HeadOperator::Stateless | HeadOperator::Windows(_) => None,
        }
    }

    /// Fires what is due then.
    pub(crate) fn time(&mut self, guest: &mut Guest<'_>, now: i64) {
        match self {
            HeadOperator::Keyed(keyed) => keyed.fire(guest, TimerKind::ProcessingTime, now),
            HeadOperator::Patterns(patterns) => patterns.time(guest, now),
            HeadOperator::Stateless | HeadOperator::Windows(_) => {}
        }
    }
}

/// The keys of rows that came over an edge of this kind.
pub(crate) fn keys(partition: &Partition, rows: &[Row]) -> Vec<Key> {
    let key = |row: &Row| match partition {
        Partition::HashFields(fields) => fields.iter().map(|field| row.values[*field as usize].clone()).collect(),
        Partition::HashComputed => row.key.clone(),
        Partition::Forward
        | Partition::Rebalance
        | Partition::Rescale
        | Partition::Shuffle
        | Partition::Numbered
        | Partition::Broadcast
        | Partition::Global
        | Partition::SameSubtask => Key::new(),
    };
    rows.iter().map(key).collect()
}

impl Body {
    /// How far event time has come here.
    pub(crate) fn watermark(&self) -> i64 {
        match self {
            Body::Chain { watermark, .. } => *watermark,
            Body::Watermarks { generator, .. } => generator.watermark,
            Body::Source { .. } | Body::Passing | Body::Requests | Body::Lookup | Body::Sink => FIRST,
        }
    }
}

impl Runner {
    /// Columns of the rows that come to a native operator.
    pub(crate) fn columns_into(&self, task: usize) -> Vec<Column> {
        let edge = self.plan.edges.iter().find(|edge| edge.to == task);
        let edge = edge.expect("rows come to every operator but sources");
        let from = &self.plan.tasks[edge.from];
        match &self.graph.operators[from.operator as usize].kind {
            OperatorKind::Source(source) => columns(&self.graph.schemas[source.schema as usize]),
            OperatorKind::Requests(requests) => columns(&self.graph.schemas[requests.schema as usize]),
            OperatorKind::Lookup(lookup) => columns(&self.graph.schemas[lookup.schema as usize]),
            OperatorKind::Function(function) => {
                let port = &self.graph.chains[function.chain as usize].ports[edge.port as usize];
                columns(&self.graph.schemas[port.schema as usize])
            }
            OperatorKind::Watermarks(_) | OperatorKind::Sink(_) => self.columns_into(edge.from),
        }
    }
}
