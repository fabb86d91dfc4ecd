//! Co-groups: a function of all rows of a window, from both streams.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::marker::PhantomData;
use std::time::Duration;

use super::stream::{BothStreams, WindowedPair};
use super::{Group, GroupFunction, GroupHead, TaggedUnion};
use crate::chain::{Emit, RowContext};
use crate::keyed::KeyedStream;
use crate::value::{Owned, Record};
use crate::window::{Evictor, Trigger, Window, WindowAssigner};
use crate::{Out, OutputTag, Stream};

/// Two streams with keys of one type: what [`KeyedStream::co_group`] makes.
pub struct CoGroupedStreams<T: Record, U: Record, K: Owned + Clone> {
    streams: BothStreams<T, U, K>,
}

impl<T: Record, U: Record, K: Owned + Clone> std::fmt::Debug for CoGroupedStreams<T, U, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CoGroupedStreams")
    }
}

/// Two streams in windows: what [`CoGroupedStreams::window`] makes.
pub struct WindowedCoGroup<T: Record + Owned, U: Record + Owned, K: Owned + Clone> {
    pair: WindowedPair<T, U, K>,
}

impl<T: Record + Owned, U: Record + Owned, K: Owned + Clone> std::fmt::Debug for WindowedCoGroup<T, U, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WindowedCoGroup")
    }
}

/// See [`WindowedCoGroup::apply`].
pub struct CoGrouping<T, U, K, O, F> {
    function: F,
    types: PhantomData<fn(T, U, K) -> O>,
}

impl<T, U, K, O, F> GroupFunction for CoGrouping<T, U, K, O, F>
where
    T: Record + Owned + Clone,
    U: Record + Owned + Clone,
    (Vec<T>, Vec<U>): Owned,
    K: Owned + Clone,
    O: Record,
    F: for<'r, 'x, 'o> Fn(K, Window, &'r [T], &'r [U], &'x mut Out<'o, O>) + 'static,
{
    type First = T;
    type Second = U;
    type Key = K;
    type Stored = (Vec<T>, Vec<U>);
    type Out = O;

    fn to_stored(first: Vec<T>, second: Vec<U>) -> (Vec<T>, Vec<U>) {
        (first, second)
    }

    fn from_stored(stored: (Vec<T>, Vec<U>)) -> (Vec<T>, Vec<U>) {
        stored
    }

    #[inline(always)]
    fn group<E: Emit<O>>(&self, group: Group<'_, K, T, U>, cx: &mut RowContext, next: &mut E) -> u64 {
        let mut out = Out::new(group.operator, next, cx);
        (self.function)(group.key, group.window, group.first, group.second, &mut out);
        out.given()
    }
}

impl<T: Record, K: Owned + Clone> KeyedStream<T, K> {
    /// Brings the rows of two streams with equal keys together, window by window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct View { page: i64 }
    /// # #[derive(Record, Clone)]
    /// # struct Click { page: i64 }
    /// #[derive(Record)]
    /// struct Rate { page: i64, views: u64, clicks: u64 }
    ///
    /// fn rates(views: KeyedStream<View, i64>, clicks: KeyedStream<Click, i64>) {
    ///     views
    ///         .co_group(clicks)
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .apply(|page, _window, views: &[View], clicks: &[Click], out: &mut Out<'_, Rate>| {
    ///             out.push(Rate { page, views: views.len() as u64, clicks: clicks.len() as u64 });
    ///         })
    ///         .uid("rates")
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn co_group<U: Record>(self, other: KeyedStream<U, K>) -> CoGroupedStreams<T, U, K> {
        CoGroupedStreams {
            streams: BothStreams {
                first: self,
                second: other,
            },
        }
    }
}

impl<T: Record, U: Record, K: Owned + Clone> CoGroupedStreams<T, U, K> {
    /// Gathers the rows of both streams in windows, of any kind: see
    /// [`JoinedStreams::window`](super::JoinedStreams::window).
    ///
    /// See [`KeyedStream::co_group`] for an example.
    pub fn window(self, assigner: impl WindowAssigner<TaggedUnion<T, U>>) -> WindowedCoGroup<T, U, K>
    where
        T: Owned,
        U: Owned,
    {
        WindowedCoGroup {
            pair: WindowedPair::new(self.streams, assigner),
        }
    }
}

impl<T: Record + Owned, U: Record + Owned, K: Owned + Clone> WindowedCoGroup<T, U, K> {
    /// Says when windows fire, in the place of their end: see [`WindowedJoin::trigger`](super::WindowedJoin::trigger).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct View { page: i64 }
    /// # #[derive(Record, Clone)]
    /// # struct Click { page: i64 }
    /// /// Clicks in each hundred rows of a page.
    /// fn rates(views: KeyedStream<View, i64>, clicks: KeyedStream<Click, i64>) {
    ///     views
    ///         .co_group(clicks)
    ///         .window(GlobalWindows)
    ///         .trigger(PurgingTrigger::of(CountTrigger::of(100)))
    ///         .apply(|page, _window, _views: &[View], clicks: &[Click], out: &mut Out<'_, (i64, u64)>| {
    ///             out.push((page, clicks.len() as u64));
    ///         })
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn trigger(mut self, trigger: impl Trigger<TaggedUnion<T, U>>) -> Self {
        self.pair.asked.set_trigger(trigger);
        self
    }

    /// Takes rows of either stream out of windows that fire: see [`WindowedJoin::evictor`](super::WindowedJoin::evictor).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct View { page: i64 }
    /// # #[derive(Record, Clone)]
    /// # struct Click { page: i64 }
    /// /// Clicks among the last hundred rows of a page in each minute.
    /// fn rates(views: KeyedStream<View, i64>, clicks: KeyedStream<Click, i64>) {
    ///     views
    ///         .co_group(clicks)
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .evictor(CountEvictor::of(100))
    ///         .apply(|page, _window, _views: &[View], clicks: &[Click], out: &mut Out<'_, (i64, u64)>| {
    ///             out.push((page, clicks.len() as u64));
    ///         })
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

    /// Keeps windows that long after they have fired: on late rows they fire again, with all of their rows.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.pair.asked.allowed_lateness = lateness;
        self
    }

    /// Rows that are too late for any window become side outputs. Without this they are dropped and counted.
    ///
    /// See [`WindowedJoin::late_outputs`](super::WindowedJoin::late_outputs) for an example.
    pub fn late_outputs(mut self, first: &OutputTag<T>, second: &OutputTag<U>) -> Self {
        self.pair.set_late(first, second);
        self
    }

    /// Runs a function on the rows of each key and window, of which one of both streams at least has some.
    ///
    /// See [`KeyedStream::co_group`] for an example.
    pub fn apply<O, F>(self, function: F) -> Stream<GroupHead<CoGrouping<T, U, K, O, F>>>
    where
        T: Clone,
        U: Clone,
        (Vec<T>, Vec<U>): Owned,
        O: Record,
        F: for<'r, 'x, 'o> Fn(K, Window, &'r [T], &'r [U], &'x mut Out<'o, O>) + 'static,
    {
        let grouping = CoGrouping {
            function,
            types: PhantomData,
        };
        self.pair.head("window.co_group", grouping)
    }
}
