//! How an interval join is written down.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::marker::PhantomData;
use std::time::Duration;

use super::interval::{Interval, Waiting};
use super::stream::BothStreams;
use super::{Full, Inner, IntervalJoin, JoinedStreams, Left, Pairing, Right};
use crate::keyed::KeyedStream;
use crate::process::Processing;
use crate::time::{check_whole, millis};
use crate::value::{Owned, Record};
use crate::{OutputTag, Stream};

/// A bound of an interval: how much earlier or later than a row its partners may be.
///
/// ```
/// # use millrace::prelude::*;
/// let from_five_seconds_before = TimeBound::before(Duration::from_secs(5));
/// let to_less_than_a_minute_after = TimeBound::after(Duration::from_secs(60)).exclusive();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeBound {
    millis: i64,
    exclusive: bool,
    /// It was given in whole ms.
    whole: bool,
}

impl TimeBound {
    /// That much earlier.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let bound = TimeBound::before(Duration::from_secs(5));
    /// ```
    pub fn before(duration: Duration) -> Self {
        TimeBound {
            millis: -(millis(duration) as i64),
            exclusive: false,
            whole: is_whole(duration),
        }
    }

    /// That much later.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let bound = TimeBound::after(Duration::from_secs(5));
    /// ```
    pub fn after(duration: Duration) -> Self {
        TimeBound {
            millis: millis(duration) as i64,
            exclusive: false,
            whole: is_whole(duration),
        }
    }

    /// Not exactly that much: the bound itself is outside.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let later = TimeBound::after(Duration::ZERO).exclusive();
    /// ```
    #[must_use]
    pub fn exclusive(self) -> Self {
        TimeBound {
            exclusive: true,
            ..self
        }
    }
}

fn is_whole(duration: Duration) -> bool {
    check_whole("", duration).is_ok()
}

/// Two streams whose rows are joined if they are not too far apart: what [`JoinedStreams::between`] makes.
pub struct IntervalJoinedStreams<T: Record, U: Record, K: Owned + Clone, J> {
    streams: BothStreams<T, U, K>,
    interval: Interval,
    /// Its bounds were given in whole ms.
    whole: bool,
    late: Option<(&'static str, &'static str)>,
    kind: PhantomData<J>,
}

impl<T: Record, U: Record, K: Owned + Clone, J> std::fmt::Debug for IntervalJoinedStreams<T, U, K, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntervalJoinedStreams")
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl<T: Record, K: Owned + Clone> KeyedStream<T, K> {
    /// The same as [`KeyedStream::join`], under the name that interval joins have elsewhere.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Order { id: i64, cents: i64 }
    /// # #[derive(Record, Clone)]
    /// # struct Shipment { order: i64, carrier: String }
    /// #[derive(Record)]
    /// struct Shipped { order: i64, carrier: String }
    ///
    /// /// Shipments within four hours of the order.
    /// fn in_time(orders: KeyedStream<Order, i64>, shipments: KeyedStream<Shipment, i64>) {
    ///     orders
    ///         .interval_join(shipments)
    ///         .between(TimeBound::after(Duration::ZERO), TimeBound::after(Duration::from_secs(4 * 3600)))
    ///         .apply(|order, shipment| Shipped { order: order.id, carrier: shipment.carrier.clone() })
    ///         .uid("shipped")
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn interval_join<U: Record>(self, other: KeyedStream<U, K>) -> JoinedStreams<T, U, K, Inner> {
        self.join(other)
    }
}

impl<T: Record, U: Record, K: Owned + Clone, J> JoinedStreams<T, U, K, J> {
    /// Rows are partners if that of the second stream is no earlier than the first bound says, from the time of that of the
    /// first stream on, and no later than the second. Event time counts, of both streams.
    ///
    /// A pair is put out as soon as both rows are there, with the later of both times. A row that has had no partner is
    /// put out when none can come any more, and has that moment as its time. Rows wait until then in the state of
    /// their key. Late rows, whose time the watermark has reached, are dropped and counted, or become
    /// [side outputs](IntervalJoinedStreams::late_outputs).
    ///
    /// See [`KeyedStream::interval_join`] for an example.
    pub fn between(self, lower: TimeBound, upper: TimeBound) -> IntervalJoinedStreams<T, U, K, J> {
        let interval = Interval {
            lower: lower.millis.saturating_add(i64::from(lower.exclusive)),
            upper: upper.millis.saturating_sub(i64::from(upper.exclusive)),
        };
        IntervalJoinedStreams {
            streams: self.streams,
            interval,
            whole: lower.whole && upper.whole,
            late: None,
            kind: PhantomData,
        }
    }
}

impl<T: Record, U: Record, K: Owned + Clone, J> IntervalJoinedStreams<T, U, K, J> {
    /// Late rows become side outputs. Without this they are dropped and counted.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Order { id: i64 }
    /// # #[derive(Record, Clone)]
    /// # struct Shipment { order: i64 }
    /// static LATE_ORDERS: OutputTag<Order> = OutputTag::new("late-orders");
    /// static LATE_SHIPMENTS: OutputTag<Shipment> = OutputTag::new("late-shipments");
    ///
    /// fn in_time(orders: KeyedStream<Order, i64>, shipments: KeyedStream<Shipment, i64>) {
    ///     let shipped = orders
    ///         .interval_join(shipments)
    ///         .between(TimeBound::after(Duration::ZERO), TimeBound::after(Duration::from_secs(4 * 3600)))
    ///         .late_outputs(&LATE_ORDERS, &LATE_SHIPMENTS)
    ///         .apply(|order, _shipment| (order.id,));
    ///     shipped.side_output(&LATE_ORDERS).sink("late", Stdout::ndjson());
    ///     shipped.sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn late_outputs(mut self, first: &OutputTag<T>, second: &OutputTag<U>) -> Self {
        self.late = Some((first.name(), second.name()));
        self
    }

    fn begin<P>(self, construct: &str, pairing: P) -> Stream<Processing<IntervalJoin<T, U, K, P>>>
    where
        T: Owned + Clone,
        U: Owned + Clone,
        Vec<Waiting<T>>: Owned,
        Vec<Waiting<U>>: Owned,
        P: Pairing<T, U>,
    {
        let (flow, interval, whole) = (self.streams.first.flow.clone(), self.interval, self.whole);
        let stream = self.streams.begin_process(construct, |keys, setup| {
            IntervalJoin::new(pairing, interval, keys, self.late, setup)
        });
        if !whole {
            let error = "a bound of the interval is whole milliseconds, and less than 5000 years";
            flow.borrow_mut().error_of(stream.operator(), error);
        }
        if interval.lower > interval.upper {
            let error = format!(
                "rows have no partners between {} ms and {} ms from them on: the interval is empty",
                interval.lower, interval.upper
            );
            flow.borrow_mut().error_of(stream.operator(), error);
        }
        stream
    }
}

/// `apply` for each kind of join.
macro_rules! apply {
    ($kind:ident, $construct:literal, ($($row:ty),*), $doc:literal) => {
        impl<T, U, K> IntervalJoinedStreams<T, U, K, $kind>
        where
            T: Record + Owned + Clone,
            U: Record + Owned + Clone,
            Vec<Waiting<T>>: Owned,
            Vec<Waiting<U>>: Owned,
            K: Owned + Clone,
        {
            #[doc = $doc]
            ///
            /// See [`KeyedStream::interval_join`] for an example.
            pub fn apply<O, F>(self, function: F) -> Stream<Processing<IntervalJoin<T, U, K, $kind<F>>>>
            where
                O: Record + Owned,
                F: Fn($($row),*) -> O + 'static,
            {
                self.begin($construct, $kind(function))
            }
        }
    };
}
apply!(Inner, "interval_join", (&T, &U), "Makes a row of each pair.");
apply!(
    Left,
    "interval_left_join",
    (&T, Option<&U>),
    "Makes a row of each pair, and of each row of the first stream that has no partner."
);
apply!(
    Right,
    "interval_right_join",
    (Option<&T>, &U),
    "Makes a row of each pair, and of each row of the second stream that has no partner."
);
apply!(
    Full,
    "interval_full_join",
    (Option<&T>, Option<&U>),
    "Makes a row of each pair, and of each row of either stream that has no partner."
);
