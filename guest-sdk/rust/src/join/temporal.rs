//! Temporal joins: each row with what was valid at its time.
//!
//! Each key has two lists in order of time: rows that wait until the watermark has reached their time, by a timer each, and
//! versions: the one that is valid at the watermark, and those after it.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::marker::PhantomData;

use super::interval::Waiting;
use super::stream::BothStreams;
use super::{Inner, Left, Pairing};
use crate::bindings::operators::CallError;
use crate::chain::Tail;
use crate::keyed::{KeyedStream, SharedKey};
use crate::metrics::Counter;
use crate::process::{Entries, KeyedContext, KeyedRows, ProcessFunction, Processing, Setup, Timer};
use crate::state::ListState;
use crate::value::{Owned, Record, Value};
use crate::{OpenContext, OutputTag, Stream};

/// A stream whose rows are joined with versions: what [`KeyedStream::temporal_join`] makes.
///
/// `J` says whether rows are put out for which there is no version: [`Inner`] or [`Left`].
pub struct TemporallyJoinedStreams<T: Record, U: Record, K: Owned + Clone, J> {
    streams: BothStreams<T, U, K>,
    late: Option<&'static str>,
    kind: PhantomData<J>,
}

impl<T: Record, U: Record, K: Owned + Clone, J> std::fmt::Debug for TemporallyJoinedStreams<T, U, K, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TemporallyJoinedStreams")
    }
}

impl<T: Record, K: Owned + Clone> KeyedStream<T, K> {
    /// Joins each row with the row of the other stream that was valid at its time: the last one of its key that is not later.
    /// Rows for which there is none are dropped.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Order { currency: String, amount: f64, at: Timestamp }
    /// # #[derive(Record, Clone)]
    /// # struct Rate { currency: String, euros: f64, from: Timestamp }
    /// #[derive(Record)]
    /// struct Priced { euros: f64, at: Timestamp }
    ///
    /// fn priced(orders: KeyedStream<Order, String>, rates: KeyedStream<Rate, String>) {
    ///     orders
    ///         .temporal_join(rates)
    ///         .apply(|order, rate| Priced { euros: order.amount * rate.euros, at: order.at })
    ///         .uid("priced")
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    ///
    /// Event time counts, of both streams: a row waits until the watermark has reached its time, for until then a version
    /// may come that is valid for it. So a stream of versions that rests must be [idle](crate::stream::Watermarks::idle_after), or
    /// hold up the others. Of versions with the same time the one that came last is valid. Of each key the version that is
    /// valid now stays in state for ever; earlier ones go.
    ///
    /// Rows whose time the watermark has reached when they come are late: they are dropped and counted, or become a
    /// [side output](TemporallyJoinedStreams::late_output). A late version is valid for rows that are still to come.
    pub fn temporal_join<U: Record>(self, versions: KeyedStream<U, K>) -> TemporallyJoinedStreams<T, U, K, Inner> {
        TemporallyJoinedStreams::new(self, versions)
    }

    /// As [`KeyedStream::temporal_join`]; rows for which there is no version are put out, too.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Order { currency: String, amount: f64, at: Timestamp }
    /// # #[derive(Record, Clone)]
    /// # struct Rate { currency: String, euros: f64, from: Timestamp }
    /// fn priced(orders: KeyedStream<Order, String>, rates: KeyedStream<Rate, String>) {
    ///     orders
    ///         .left_temporal_join(rates)
    ///         .apply(|order, rate| (order.at, rate.map(|rate| order.amount * rate.euros)))
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn left_temporal_join<U: Record>(self, versions: KeyedStream<U, K>) -> TemporallyJoinedStreams<T, U, K, Left> {
        TemporallyJoinedStreams::new(self, versions)
    }
}

impl<T: Record, U: Record, K: Owned + Clone, J> TemporallyJoinedStreams<T, U, K, J> {
    fn new(first: KeyedStream<T, K>, second: KeyedStream<U, K>) -> Self {
        TemporallyJoinedStreams {
            streams: BothStreams { first, second },
            late: None,
            kind: PhantomData,
        }
    }

    /// Late rows become a side output. Without this they are dropped and counted.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Order { amount: f64 }
    /// # #[derive(Record, Clone)]
    /// # struct Rate { euros: f64 }
    /// static LATE: OutputTag<Order> = OutputTag::new("late");
    ///
    /// fn priced(orders: KeyedStream<Order, String>, rates: KeyedStream<Rate, String>) {
    ///     let priced = orders.temporal_join(rates).late_output(&LATE);
    ///     let priced = priced.apply(|order, rate| (order.amount * rate.euros,));
    ///     priced.side_output(&LATE).sink("late", Stdout::ndjson());
    ///     priced.sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn late_output(mut self, tag: &OutputTag<T>) -> Self {
        self.late = Some(tag.name());
        self
    }

    fn begin<P>(self, construct: &str, pairing: P) -> Stream<Processing<TemporalJoin<T, U, K, P>>>
    where
        T: Owned + Clone,
        U: Owned + Clone,
        Vec<Waiting<T>>: Owned,
        Vec<Waiting<U>>: Owned,
        P: Pairing<T, U>,
    {
        self.streams.begin_process(construct, |keys, setup| {
            TemporalJoin::new(pairing, keys, self.late, setup)
        })
    }
}

impl<T, U, K> TemporallyJoinedStreams<T, U, K, Inner>
where
    T: Record + Owned + Clone,
    U: Record + Owned + Clone,
    Vec<Waiting<T>>: Owned,
    Vec<Waiting<U>>: Owned,
    K: Owned + Clone,
{
    /// Makes a row of each row and its version. See [`KeyedStream::temporal_join`] for an example.
    pub fn apply<O, F>(self, function: F) -> Stream<Processing<TemporalJoin<T, U, K, Inner<F>>>>
    where
        O: Record + Owned,
        F: Fn(&T, &U) -> O + 'static,
    {
        self.begin("temporal_join", Inner(function))
    }
}

impl<T, U, K> TemporallyJoinedStreams<T, U, K, Left>
where
    T: Record + Owned + Clone,
    U: Record + Owned + Clone,
    Vec<Waiting<T>>: Owned,
    Vec<Waiting<U>>: Owned,
    K: Owned + Clone,
{
    /// Makes a row of each row and its version, if there is one. See [`KeyedStream::left_temporal_join`] for an example.
    pub fn apply<O, F>(self, function: F) -> Stream<Processing<TemporalJoin<T, U, K, Left<F>>>>
    where
        O: Record + Owned,
        F: Fn(&T, Option<&U>) -> O + 'static,
    {
        self.begin("left_temporal_join", Left(function))
    }
}

/// Pairs rows with versions.
pub struct TemporalJoin<T, U, K, P>
where
    T: Record + Owned + Clone,
    U: Record + Owned + Clone,
    Vec<Waiting<T>>: Owned,
    Vec<Waiting<U>>: Owned,
{
    pairing: P,
    waiting: ListState<Waiting<T>>,
    versions: ListState<Waiting<U>>,
    keys: (SharedKey<T, K>, SharedKey<U, K>),
    late: Option<&'static str>,
    late_rows: Counter,
}

impl<T, U, K, P> TemporalJoin<T, U, K, P>
where
    T: Record + Owned + Clone,
    U: Record + Owned + Clone,
    Vec<Waiting<T>>: Owned,
    Vec<Waiting<U>>: Owned,
{
    fn new(
        pairing: P,
        keys: (SharedKey<T, K>, SharedKey<U, K>),
        late: Option<&'static str>,
        setup: &mut Setup,
    ) -> Self {
        TemporalJoin {
            pairing,
            waiting: setup.list_state("rows"),
            versions: setup.list_state("versions"),
            keys,
            late,
            late_rows: setup.counter("late_rows"),
        }
    }

    /// Versions before the one that is valid at a time are of no use to rows that come after it.
    fn forget_versions(&self, time: i64) {
        let old = |versions: &[Waiting<U>]| {
            versions
                .partition_point(|version| version.time <= time)
                .saturating_sub(1)
        };
        let count = self.versions.with(|versions| old(versions));
        if count > 0 {
            self.versions.update(|versions| drop(versions.drain(..count)));
        }
    }
}

/// Puts a row into a list that is in order of time, behind those of the same time.
fn insert<T: Record + Owned + Clone>(list: &ListState<Waiting<T>>, time: i64, row: T)
where
    Vec<Waiting<T>>: Owned,
{
    list.update(|rows| {
        let place = rows.partition_point(|other| other.time <= time);
        rows.insert(place, Waiting::new(time, row));
    });
}

impl<T, U, K, P> ProcessFunction for TemporalJoin<T, U, K, P>
where
    T: Record + Owned + Clone,
    U: Record + Owned + Clone,
    Vec<Waiting<T>>: Owned,
    Vec<Waiting<U>>: Owned,
    K: Owned + Clone,
    P: Pairing<T, U>,
{
    type Key = K;
    type Out = P::Out;

    fn open(&mut self, _cx: &OpenContext) {}

    fn close(&mut self) {}

    #[inline(always)]
    fn rows<E: Tail<P::Out>>(&mut self, rows: &KeyedRows<'_>, entries: &mut Entries<'_, E>) -> Result<(), CallError> {
        let this = &*self;
        match rows.input {
            0 => entries.each_row(rows, &*this.keys.0, |row: T, cx| {
                let Some(time) = event_time(cx) else { return };
                if cx.watermark().is_some_and(|watermark| time <= watermark.millis()) {
                    this.late_rows.add(1);
                    if let Some(tag) = this.late {
                        cx.side(&OutputTag::<T>::new(tag), row);
                    }
                    return;
                }
                cx.set_event_timer_millis(time);
                insert(&this.waiting, time, row);
            }),
            1 => entries.each_row(rows, &*this.keys.1, |version: U, cx| {
                let Some(time) = event_time(cx) else { return };
                insert(&this.versions, time, version);
                if let Some(watermark) = cx.watermark() {
                    this.forget_versions(watermark.millis());
                }
            }),
            _ => return rows.unknown_input(),
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer<K>, cx: &mut KeyedContext<'_, K, P::Out>) {
        let now = timer.time.millis();
        let due: Vec<Waiting<T>> = self.waiting.update(|rows| {
            let count = rows.partition_point(|row| row.time <= now);
            rows.drain(..count).collect()
        });
        self.versions.with(|versions| {
            for waited in due {
                let before = versions.partition_point(|version| version.time <= waited.time);
                let row = match before.checked_sub(1).map(|last| &versions[last]) {
                    Some(version) => Some(self.pairing.both(&waited.row, &version.row)),
                    None => self.pairing.first(&waited.row),
                };
                if let Some(row) = row {
                    cx.push(row);
                }
            }
        });
        self.forget_versions(now);
    }
}

/// The time of the row at hand, which the graph was checked for.
fn event_time<C, O: Value>(cx: &KeyedContext<'_, C, O>) -> Option<i64> {
    cx.timestamp().map(|time| time.millis())
}
