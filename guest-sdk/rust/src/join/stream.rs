//! The streams after `join`, and how a chain that begins with a window over both is declared.

use std::marker::PhantomData;

use super::guest::{Grouped, TwoStreams};
use super::{Full, GroupFunction, GroupHead, Inner, Left, Right, TaggedUnion, WindowedJoin};
use crate::bindings::dataflow as wit;
use crate::graph::Handle;
use crate::keyed::{KeyedStream, SharedKey};
use crate::process::{ProcessFunction, Processing, Setup, begin_process};
use crate::state::kept::state_fields;
use crate::value::{Owned, Record};
use crate::window::{Asked, OwnStates, WindowAssigner};
use crate::{OutputTag, Stream};

/// Two streams with keys of one type, whose rows are to be joined: what [`KeyedStream::join`] and its relatives make.
///
/// `J` says which rows are put out that have no partner: [`Inner`], [`Left`], [`Right`] or [`Full`].
pub struct JoinedStreams<T: Record, U: Record, K: Owned + Clone, J> {
    pub(super) streams: BothStreams<T, U, K>,
    kind: PhantomData<J>,
}

/// Two keyed streams.
pub(super) struct BothStreams<T: Record, U: Record, K: Owned + Clone> {
    pub(super) first: KeyedStream<T, K>,
    pub(super) second: KeyedStream<U, K>,
}

impl<T: Record, U: Record, K: Owned + Clone> BothStreams<T, U, K> {
    /// Begins a chain with a process function of both by event time, which is made of their keys and declares its states.
    pub(super) fn begin_process<F: ProcessFunction>(
        self,
        construct: &str,
        make: impl FnOnce((SharedKey<T, K>, SharedKey<U, K>), &mut Setup) -> F,
    ) -> Stream<Processing<F>> {
        let BothStreams { first, second } = self;
        let (flow, key_fields) = (first.flow.clone(), first.selector.key_fields());
        let keys = (first.selector.clone(), second.selector.clone());
        let inputs = vec![first.into_input(), second.into_input()];
        let stream = begin_process(&flow, construct, key_fields, inputs, |setup| make(keys, setup));
        flow.borrow_mut().needs_event_time(stream.operator());
        stream
    }
}

impl<T: Record, U: Record, K: Owned + Clone, J> std::fmt::Debug for JoinedStreams<T, U, K, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinedStreams")
    }
}

impl<T: Record, K: Owned + Clone> KeyedStream<T, K> {
    /// Joins rows with equal keys that are in the same window, or not too far apart: each pair of them is put out once.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct View { page: i64, user: String, at: Timestamp }
    /// # #[derive(Record, Clone)]
    /// # struct Click { page: i64, link: String, at: Timestamp }
    /// #[derive(Record)]
    /// struct Seen { page: i64, user: String, link: String }
    ///
    /// fn seen(views: Stream<Rows<View>>, clicks: Stream<Rows<Click>>) {
    ///     let views = views.watermarks(Watermarks::monotonic(View::FIELDS.at));
    ///     let clicks = clicks.watermarks(Watermarks::monotonic(Click::FIELDS.at));
    ///     views
    ///         .key_by(View::FIELDS.page)
    ///         .join(clicks.key_by(Click::FIELDS.page))
    ///         .window(Tumbling::of(Duration::from_secs(10)))
    ///         .apply(|view, click| Seen { page: view.page, user: view.user.clone(), link: click.link.clone() })
    ///         .uid("seen")
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn join<U: Record>(self, other: KeyedStream<U, K>) -> JoinedStreams<T, U, K, Inner> {
        JoinedStreams::new(self, other)
    }

    /// As [`KeyedStream::join`]; rows of this stream that have no partner are put out, too.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct View { page: i64, at: Timestamp }
    /// # #[derive(Record, Clone)]
    /// # struct Click { page: i64, link: String, at: Timestamp }
    /// fn links(views: KeyedStream<View, i64>, clicks: KeyedStream<Click, i64>) -> Stream<impl Chain> {
    ///     views
    ///         .left_join(clicks)
    ///         .window(Tumbling::of(Duration::from_secs(10)))
    ///         .apply(|view, click| (view.page, click.map(|click| click.link.clone())))
    /// }
    /// ```
    pub fn left_join<U: Record>(self, other: KeyedStream<U, K>) -> JoinedStreams<T, U, K, Left> {
        JoinedStreams::new(self, other)
    }

    /// As [`KeyedStream::join`]; rows of the other stream that have no partner are put out, too.
    pub fn right_join<U: Record>(self, other: KeyedStream<U, K>) -> JoinedStreams<T, U, K, Right> {
        JoinedStreams::new(self, other)
    }

    /// As [`KeyedStream::join`]; rows of both streams that have no partner are put out, too.
    pub fn full_join<U: Record>(self, other: KeyedStream<U, K>) -> JoinedStreams<T, U, K, Full> {
        JoinedStreams::new(self, other)
    }
}

impl<T: Record, U: Record, K: Owned + Clone, J> JoinedStreams<T, U, K, J> {
    fn new(first: KeyedStream<T, K>, second: KeyedStream<U, K>) -> Self {
        JoinedStreams {
            streams: BothStreams { first, second },
            kind: PhantomData,
        }
    }

    /// Rows in the same window are partners. They are put out when the watermark reaches the window's end, with its last
    /// moment as their time.
    ///
    /// Windows may be of any kind: of processing time, global, with gaps that rows say, with a
    /// [trigger](WindowedJoin::trigger) or an [evictor](WindowedJoin::evictor). An assigner of one's own, like those, sees the
    /// rows of both streams as [`TaggedUnion`]. What is said of [windows](crate::window#what-surprises) is true of these.
    ///
    /// Of sessions, a window is a stretch in which rows of either stream come without a gap.
    ///
    /// See [`KeyedStream::join`] for an example.
    pub fn window(self, assigner: impl WindowAssigner<TaggedUnion<T, U>>) -> WindowedJoin<T, U, K, J>
    where
        T: Owned,
        U: Owned,
    {
        WindowedJoin::new(WindowedPair::new(self.streams, assigner))
    }
}

/// Two keyed streams in windows.
pub(super) struct WindowedPair<T: Record + Owned, U: Record + Owned, K: Owned + Clone> {
    streams: BothStreams<T, U, K>,
    pub(super) asked: Asked<TaggedUnion<T, U>>,
    late: Option<(&'static str, &'static str)>,
}

impl<T: Record + Owned, U: Record + Owned, K: Owned + Clone> WindowedPair<T, U, K> {
    pub(super) fn new(streams: BothStreams<T, U, K>, assigner: impl WindowAssigner<TaggedUnion<T, U>>) -> Self {
        WindowedPair {
            streams,
            asked: Asked::new(assigner),
            late: None,
        }
    }

    pub(super) fn set_late(&mut self, first: &OutputTag<T>, second: &OutputTag<U>) {
        self.late = Some((first.name(), second.name()));
    }

    /// Begins the chain.
    pub(super) fn head<G>(self, construct: &str, function: G) -> Stream<GroupHead<G>>
    where
        G: GroupFunction<First = T, Second = U, Key = K>,
    {
        let flow = self.streams.first.flow.clone();
        let mut errors = self.asked.errors();
        // Two tags of one name are one output.
        let shared = self.late.is_some_and(|(first, second)| first == second);
        if shared && T::fields() != U::fields() {
            errors.push("its late outputs have the same tag and different types of rows".to_owned());
        }
        let stream = match self.asked.host() {
            Some(window) => self.of_host(construct, window, shared, function),
            None => self.of_guest(construct, shared, function),
        };
        let mut graph = flow.borrow_mut();
        errors
            .into_iter()
            .for_each(|error| graph.error_of(stream.operator(), error));
        drop(graph);
        stream
    }

    /// Windows of the host.
    fn of_host<G>(self, construct: &str, mut window: wit::Window, shared: bool, function: G) -> Stream<GroupHead<G>>
    where
        G: GroupFunction<First = T, Second = U, Key = K>,
    {
        let BothStreams { first, second } = self.streams;
        let flow = first.flow.clone();
        let mut graph = flow.borrow_mut();
        // Late outputs are the chain's first ports.
        window.late_ports = self
            .late
            .map_or(Vec::new(), |_| vec![Some(0), Some(u32::from(!shared))]);
        let head = wit::Head::Window(wit::KeyedWindow {
            key_schema: graph.schema(first.selector.key_fields()),
            window,
            accumulator: wit::StateDecl {
                name: "rows".to_owned(),
                aliases: Vec::new(),
                kind: wit::StateKind::Accumulator,
                schema: graph.schema(state_fields::<G::Stored>()),
                migrations: Vec::new(),
                ttl: None,
            },
        });
        let inputs = vec![first.into_input(), second.into_input()];
        let (chain, operator) = graph.begin_chain(construct, inputs, head);
        if let Some((first, second)) = self.late {
            let schemas = [graph.schema(T::fields()), graph.schema(U::fields())];
            graph.add_side_port(chain, operator, first, schemas[0]);
            if !shared {
                graph.add_side_port(chain, operator, second, schemas[1]);
            }
        }
        drop(graph);
        Stream::opened(flow, chain, operator, GroupHead::of_host(function, operator))
    }

    /// Windows of the guest: to the host a keyed function of two inputs, with state and timers.
    fn of_guest<G>(self, construct: &str, shared: bool, function: G) -> Stream<GroupHead<G>>
    where
        G: GroupFunction<First = T, Second = U, Key = K>,
    {
        let (late, BothStreams { first, second }) = (self.late, self.streams);
        let flow = first.flow.clone();
        let streams = TwoStreams {
            first: first.selector.clone(),
            second: second.selector.clone(),
            late,
        };
        let function = (Grouped(function), OwnStates::default());
        let (chain, windows) = self.asked.begin((construct, &flow), function, streams, |states| {
            let mut graph = flow.borrow_mut();
            let key_schema = graph.schema(first.selector.key_fields());
            let head = states.head(&mut graph, Some(key_schema), false);
            graph.begin_chain(construct, vec![first.into_input(), second.into_input()], head)
        });
        let operator = windows.operator;
        if let Some((first, second)) = late {
            add_late_port::<T>(&flow, (chain, operator), first);
            if !shared {
                add_late_port::<U>(&flow, (chain, operator), second);
            }
        }
        Stream::opened(flow, chain, operator, GroupHead::of_guest(windows))
    }
}

/// Adds the side output of late rows, which the guest fills.
fn add_late_port<T: Record>(flow: &Handle, (chain, operator): (u32, u32), tag: &'static str) {
    let mut graph = flow.borrow_mut();
    let schema = graph.schema(T::fields());
    let port = graph.add_side_port(chain, operator, tag, schema);
    graph.sides(chain).add::<T>(operator, tag, port);
}
