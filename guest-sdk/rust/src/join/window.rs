//! Window joins.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::marker::PhantomData;
use std::time::Duration;

use super::stream::WindowedPair;
use super::{Full, Group, GroupFunction, GroupHead, Inner, Left, Pairing, Right, TaggedUnion};
use crate::chain::{Emit, RowContext};
use crate::position;
use crate::value::{Owned, Record};
use crate::window::{Evictor, Trigger};
use crate::{OutputTag, Stream};

/// Two streams whose rows are joined by windows: what [`JoinedStreams::window`](super::JoinedStreams::window) makes.
pub struct WindowedJoin<T: Record + Owned, U: Record + Owned, K: Owned + Clone, J> {
    pair: WindowedPair<T, U, K>,
    kind: PhantomData<J>,
}

impl<T: Record + Owned, U: Record + Owned, K: Owned + Clone, J> std::fmt::Debug for WindowedJoin<T, U, K, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WindowedJoin")
    }
}

/// Pairs the rows of windows.
pub struct WindowJoin<T, U, K, P> {
    pairing: P,
    types: PhantomData<fn(T, U) -> K>,
}

impl<T, U, K, P> GroupFunction for WindowJoin<T, U, K, P>
where
    T: Record + Owned + Clone,
    U: Record + Owned + Clone,
    (Vec<T>, Vec<U>): Owned,
    K: Owned + Clone,
    P: Pairing<T, U>,
{
    type First = T;
    type Second = U;
    type Key = K;
    type Stored = (Vec<T>, Vec<U>);
    type Out = P::Out;

    fn to_stored(first: Vec<T>, second: Vec<U>) -> (Vec<T>, Vec<U>) {
        (first, second)
    }

    fn from_stored(stored: (Vec<T>, Vec<U>)) -> (Vec<T>, Vec<U>) {
        stored
    }

    #[inline(always)]
    fn group<E: Emit<P::Out>>(&self, group: Group<'_, K, T, U>, cx: &mut RowContext, next: &mut E) -> u64 {
        let mut given = 0;
        let mut put = |row: P::Out| {
            next.emit(row, cx);
            position::enter(group.operator);
            given += 1;
        };
        if group.second.is_empty() {
            if P::FIRST_ALONE {
                group
                    .first
                    .iter()
                    .filter_map(|row| self.pairing.first(row))
                    .for_each(put);
            }
        } else if group.first.is_empty() {
            if P::SECOND_ALONE {
                group
                    .second
                    .iter()
                    .filter_map(|row| self.pairing.second(row))
                    .for_each(put);
            }
        } else {
            for first in group.first {
                for second in group.second {
                    put(self.pairing.both(first, second));
                }
            }
        }
        given
    }
}

impl<T: Record + Owned, U: Record + Owned, K: Owned + Clone, J> WindowedJoin<T, U, K, J> {
    pub(super) fn new(pair: WindowedPair<T, U, K>) -> Self {
        WindowedJoin {
            pair,
            kind: PhantomData,
        }
    }

    /// Says when windows fire, in the place of their end: see [`WindowedStream::trigger`](crate::WindowedStream::trigger).
    /// The trigger is asked about the rows of both streams.
    ///
    /// At each firing all pairs of the window are put out, those of before once more unless it was
    /// [purged](crate::window::PurgingTrigger); a row has no partner if there is none then.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct View { page: i64 }
    /// # #[derive(Record, Clone)]
    /// # struct Click { page: i64 }
    /// /// The pairs of every hundred rows of a page, and of those that are left at the end of the day.
    /// fn seen(views: KeyedStream<View, i64>, clicks: KeyedStream<Click, i64>) {
    ///     views
    ///         .join(clicks)
    ///         .window(Tumbling::of(Duration::from_secs(24 * 3600)).processing_time())
    ///         .trigger(PurgingTrigger::of(CountTrigger::of(100).or_at_end()))
    ///         .apply(|view, _click| (view.page,))
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn trigger(mut self, trigger: impl Trigger<TaggedUnion<T, U>>) -> Self {
        self.pair.asked.set_trigger(trigger);
        self
    }

    /// Takes rows of either stream out of windows that fire: see
    /// [`WindowedStream::evictor`](crate::WindowedStream::evictor).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct View { page: i64 }
    /// # #[derive(Record, Clone)]
    /// # struct Click { page: i64 }
    /// /// The pairs among the last ten rows of a page, at every row.
    /// fn seen(views: KeyedStream<View, i64>, clicks: KeyedStream<Click, i64>) {
    ///     views
    ///         .join(clicks)
    ///         .window(GlobalWindows)
    ///         .trigger(CountTrigger::of(1))
    ///         .evictor(CountEvictor::of(10))
    ///         .apply(|view, _click| (view.page,))
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn evictor(mut self, evictor: impl Evictor<TaggedUnion<T, U>>) -> Self
    where
        T: Clone,
        U: Clone,
    {
        self.pair.asked.set_evictor(evictor);
        self
    }

    /// Keeps windows that long after they have fired: on late rows they fire again, with all of their pairs.
    ///
    /// As with [`WindowedStream::allowed_lateness`](crate::WindowedStream::allowed_lateness), whoever takes the results
    /// has to expect those of before once more.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.pair.asked.allowed_lateness = lateness;
        self
    }

    /// Rows that are too late for any window become side outputs. Without this they are dropped and counted.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct View { page: i64 }
    /// # #[derive(Record, Clone)]
    /// # struct Click { page: i64 }
    /// static LATE_VIEWS: OutputTag<View> = OutputTag::new("late-views");
    /// static LATE_CLICKS: OutputTag<Click> = OutputTag::new("late-clicks");
    ///
    /// fn joined(views: KeyedStream<View, i64>, clicks: KeyedStream<Click, i64>) {
    ///     let joined = views
    ///         .join(clicks)
    ///         .window(Tumbling::of(Duration::from_secs(10)))
    ///         .late_outputs(&LATE_VIEWS, &LATE_CLICKS)
    ///         .apply(|view, _click| (view.page,));
    ///     joined.side_output(&LATE_VIEWS).sink("late", Stdout::ndjson());
    ///     joined.sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn late_outputs(mut self, first: &OutputTag<T>, second: &OutputTag<U>) -> Self {
        self.pair.set_late(first, second);
        self
    }
}

/// `apply` for each kind of join.
macro_rules! apply {
    ($kind:ident, $construct:literal, ($($row:ty),*), $doc:literal) => {
        impl<T, U, K> WindowedJoin<T, U, K, $kind>
        where
            T: Record + Owned + Clone,
            U: Record + Owned + Clone,
            (Vec<T>, Vec<U>): Owned,
            K: Owned + Clone,
        {
            #[doc = $doc]
            ///
            /// See [`KeyedStream::join`](crate::KeyedStream::join) for an example.
            pub fn apply<O, F>(self, function: F) -> Stream<GroupHead<WindowJoin<T, U, K, $kind<F>>>>
            where
                O: Record + Owned,
                F: Fn($($row),*) -> O + 'static,
            {
                let join = WindowJoin {
                    pairing: $kind(function),
                    types: PhantomData,
                };
                self.pair.head($construct, join)
            }
        }
    };
}
apply!(Inner, "window.join", (&T, &U), "Makes a row of each pair.");
apply!(
    Left,
    "window.left_join",
    (&T, Option<&U>),
    "Makes a row of each pair, and of each row of the first stream that has no partner."
);
apply!(
    Right,
    "window.right_join",
    (Option<&T>, &U),
    "Makes a row of each pair, and of each row of the second stream that has no partner."
);
apply!(
    Full,
    "window.full_join",
    (Option<&T>, Option<&U>),
    "Makes a row of each pair, and of each row of either stream that has no partner."
);
