//! Interval joins: rows that are not too far apart in event time.
//!
//! Each key has two lists of rows that wait for partners, in order of time. A row looks through the other list, and goes
//! into its own until the watermark says that no partner can come any more. Where rows are put out alone each has a timer
//! then; where not, rows go some at a time.

use super::Pairing;
use crate::bindings::operators::CallError;
use crate::chain::Tail;
use crate::keyed::SharedKey;
use crate::metrics::Counter;
use crate::process::{Entries, KeyedContext, KeyedRows, ProcessFunction, Setup, Timer};
use crate::results::record;
use crate::state::ListState;
use crate::value::{Owned, Record, Value};
use crate::{OpenContext, OutputTag};

/// A row that is kept.
#[derive(Debug, Clone)]
pub struct Waiting<T> {
    pub(super) time: i64,
    /// It has had a partner.
    matched: bool,
    pub(super) row: T,
}

impl<T> Waiting<T> {
    /// One without a partner so far.
    pub(super) fn new(time: i64, row: T) -> Self {
        let matched = false;
        Waiting { time, matched, row }
    }
}

record!(Waiting<T> { time: i64, matched: bool, row: T });

/// How far apart rows may be: of a row of the first stream at t, partners are at t + `lower` to t + `upper`, in ms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interval {
    pub(super) lower: i64,
    pub(super) upper: i64,
}

/// Pairs rows that are not too far apart.
pub struct IntervalJoin<T, U, K, P>
where
    T: Record + Owned + Clone,
    U: Record + Owned + Clone,
    Vec<Waiting<T>>: Owned,
    Vec<Waiting<U>>: Owned,
{
    pairing: P,
    first: Side<T, K>,
    second: Side<U, K>,
}

/// What is kept of one stream.
struct Side<T, K>
where
    T: Record + Owned + Clone,
    Vec<Waiting<T>>: Owned,
{
    waiting: ListState<Waiting<T>>,
    key: SharedKey<T, K>,
    /// Partners of a row at t are at t + this,
    from: i64,
    /// to t + this.
    to: i64,
    late: Option<&'static str>,
    late_rows: Counter,
}

impl<T, K> Side<T, K>
where
    T: Record + Owned + Clone,
    Vec<Waiting<T>>: Owned,
{
    /// Until when a row at that time waits: at its own time at least, so that what is put out for it is not late.
    fn expires(&self, time: i64) -> i64 {
        time.saturating_add(self.to.max(0))
    }

    /// Keeps a row, in order of time. `exactly`: something is to be done at the moment when it expires.
    fn keep<C, O: Value>(&self, row: Waiting<T>, exactly: bool, cx: &mut KeyedContext<'_, C, O>) {
        let expires = self.expires(row.time);
        let is_first = self.waiting.update(|rows| {
            let place = rows.partition_point(|other| other.time <= row.time);
            rows.insert(place, row);
            rows.len() == 1
        });
        if exactly || is_first {
            cx.set_event_timer_millis(expires);
        }
    }

    /// Takes out what has expired.
    fn expired<C, O: Value>(&self, now: i64, exactly: bool, cx: &mut KeyedContext<'_, C, O>) -> Vec<Waiting<T>> {
        let count = self
            .waiting
            .with(|rows| rows.partition_point(|row| self.expires(row.time) <= now));
        if count == 0 {
            return Vec::new();
        }
        let (expired, next) = self.waiting.update(|rows| {
            let expired = rows.drain(..count).collect();
            (expired, rows.first().map(|row| row.time))
        });
        if let Some(time) = next.filter(|_| !exactly) {
            // Later than it could be, so that several go at once.
            cx.set_event_timer_millis(self.expires(time).saturating_add(self.to.max(0) / 8));
        }
        expired
    }

    /// Drops a late row, or puts it out beside the others.
    fn handle_late<C, O: Value>(&self, row: T, cx: &mut KeyedContext<'_, C, O>) {
        self.late_rows.add(1);
        if let Some(tag) = self.late {
            cx.side(&OutputTag::<T>::new(tag), row);
        }
    }
}

/// What the two sides of a join do with a row of one.
struct Steps<'s, T, U, K>
where
    T: Record + Owned + Clone,
    U: Record + Owned + Clone,
    Vec<Waiting<T>>: Owned,
    Vec<Waiting<U>>: Owned,
{
    own: &'s Side<T, K>,
    other: &'s Side<U, K>,
    /// Rows of its own are put out alone.
    alone: bool,
    /// Rows of the other are.
    other_alone: bool,
}

impl<T, U, K> Steps<'_, T, U, K>
where
    T: Record + Owned + Clone,
    U: Record + Owned + Clone,
    Vec<Waiting<T>>: Owned,
    Vec<Waiting<U>>: Owned,
{
    fn row<O: Record + Owned>(&self, row: T, cx: &mut KeyedContext<'_, K, O>, pair: impl Fn(&T, &U) -> O) {
        let Some(time) = cx.timestamp() else {
            unreachable!("a join without event time is refused when it is built");
        };
        let time = time.millis();
        if cx.watermark().is_some_and(|watermark| time <= watermark.millis()) {
            self.own.handle_late(row, cx);
            return;
        }
        let (from, to) = (time.saturating_add(self.own.from), time.saturating_add(self.own.to));
        let partners = self.other.waiting.with(|rows| {
            let begin = rows.partition_point(|other| other.time < from);
            let end = rows.partition_point(|other| other.time <= to).max(begin);
            for partner in &rows[begin..end] {
                cx.push_at(time.max(partner.time), pair(&row, &partner.row));
            }
            begin..end
        });
        let matched = !partners.is_empty();
        if self.other_alone && matched {
            let mark = |rows: &mut Vec<Waiting<U>>| rows[partners].iter_mut().for_each(|other| other.matched = true);
            self.other.waiting.update(mark);
        }
        self.own.keep(Waiting { time, matched, row }, self.alone, cx);
    }
}

impl<T, U, K, P> IntervalJoin<T, U, K, P>
where
    T: Record + Owned + Clone,
    U: Record + Owned + Clone,
    Vec<Waiting<T>>: Owned,
    Vec<Waiting<U>>: Owned,
{
    pub(super) fn new(
        pairing: P,
        interval: Interval,
        keys: (SharedKey<T, K>, SharedKey<U, K>),
        late: Option<(&'static str, &'static str)>,
        setup: &mut Setup,
    ) -> Self {
        IntervalJoin {
            pairing,
            first: Side {
                waiting: setup.list_state("first"),
                key: keys.0,
                from: interval.lower,
                to: interval.upper,
                late: late.map(|late| late.0),
                late_rows: setup.counter("late_first"),
            },
            second: Side {
                waiting: setup.list_state("second"),
                key: keys.1,
                from: interval.upper.saturating_neg(),
                to: interval.lower.saturating_neg(),
                late: late.map(|late| late.1),
                late_rows: setup.counter("late_second"),
            },
        }
    }
}

impl<T, U, K, P> ProcessFunction for IntervalJoin<T, U, K, P>
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
        let (first, second, pairing) = (&self.first, &self.second, &self.pairing);
        match rows.input {
            0 => {
                let steps = Steps {
                    own: first,
                    other: second,
                    alone: P::FIRST_ALONE,
                    other_alone: P::SECOND_ALONE,
                };
                let pair = |first: &T, second: &U| pairing.both(first, second);
                entries.each_row(rows, &*first.key, |row, cx| steps.row(row, cx, pair));
            }
            1 => {
                let steps = Steps {
                    own: second,
                    other: first,
                    alone: P::SECOND_ALONE,
                    other_alone: P::FIRST_ALONE,
                };
                let pair = |second: &U, first: &T| pairing.both(first, second);
                entries.each_row(rows, &*second.key, |row, cx| steps.row(row, cx, pair));
            }
            _ => return rows.unknown_input(),
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer<K>, cx: &mut KeyedContext<'_, K, P::Out>) {
        let now = timer.time.millis();
        for waited in self.first.expired(now, P::FIRST_ALONE, cx) {
            if let Some(row) = (!waited.matched).then(|| self.pairing.first(&waited.row)).flatten() {
                cx.push(row);
            }
        }
        for waited in self.second.expired(now, P::SECOND_ALONE, cx) {
            if let Some(row) = (!waited.matched).then(|| self.pairing.second(&waited.row)).flatten() {
                cx.push(row);
            }
        }
    }
}
