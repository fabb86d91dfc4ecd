//! The stream after `pattern`.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::marker::PhantomData;

use super::builder::Pattern;
use super::declared::Declared;
use super::head::{FlatSelect, MatchFunction, Order, PatternHead, Select, TimedOut};
use super::matched::Match;
use super::order::SortKey;
use crate::bindings::dataflow as wit;
use crate::keyed::KeyedStream;
use crate::time::{check_some, millis};
use crate::value::{Owned, Record, Value};
use crate::{Out, OutputTag, Stream};

/// Matches of a key that have begun, unless something else is asked for.
const PARTIAL_MATCHES_MAX: u32 = 10_000;

/// A pattern that is looked for in a keyed stream: what [`KeyedStream::pattern`] makes.
pub struct PatternStream<T: Record, K: Owned + Clone> {
    keyed: KeyedStream<T, K>,
    pattern: Pattern<T>,
    partial_matches_max: u32,
    late: Option<&'static str>,
    timed_out: Option<TimedOut<T, K>>,
    order: Option<Order<T>>,
}

impl<T: Record, K: Owned + Clone> std::fmt::Debug for PatternStream<T, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PatternStream")
            .field("keyed", &self.keyed)
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

impl<T: Record, K: Owned + Clone> PatternStream<T, K> {
    pub(crate) fn new(keyed: KeyedStream<T, K>, pattern: Pattern<T>) -> Self {
        PatternStream {
            keyed,
            pattern,
            partial_matches_max: PARTIAL_MATCHES_MAX,
            late: None,
            timed_out: None,
            order: None,
        }
    }

    /// Bounds the matches of a key that have begun; otherwise 10,000. Where there are more the oldest are given up, and
    /// counted in the report.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// fn failures(logins: KeyedStream<Login, i64>) {
    ///     logins
    ///         .pattern(Pattern::<Login>::begin("failures").where_(|login| !login.ok).times(3))
    ///         .partial_matches_max(100)
    ///         .select(|found| (found.key(),))
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn partial_matches_max(self, partial_matches_max: u32) -> Self {
        PatternStream {
            partial_matches_max,
            ..self
        }
    }

    /// Orders rows of equal time, of a key: the least first, and those that are equal still as they came. Otherwise all of them stay
    /// in the order in which they came, which may be another after a restart, or at another parallelism. (Flink's
    /// `EventComparator`.)
    ///
    /// Without event time these are rows that arrive in the same millisecond; they wait for its end. The function sees each row once,
    /// in place; what it returns is a [`SortKey`].
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Trade { share: i64, sequence: i64, cents: i64 }
    /// fn falls(trades: KeyedStream<Trade, i64>) {
    ///     let fall = Pattern::<Trade>::begin("high")
    ///         .next("low")
    ///         .where_iterative(|trade, before| before.last("high").is_some_and(|high| trade.cents < high.cents));
    ///     trades
    ///         .pattern(fall)
    ///         .order_equal_times_by(|trade| trade.sequence)
    ///         .select(|found| (found.key(),))
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn order_equal_times_by<S, F>(self, key: F) -> Self
    where
        S: SortKey,
        F: for<'r, 'a> Fn(&'r <T as Value>::Of<'a>) -> S + 'static,
    {
        PatternStream {
            order: Some(Box::new(move |row, bytes| key(row).write(bytes))),
            ..self
        }
    }

    /// Gives rows that come behind the watermark to a side output, instead of dropping and counting them.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool }
    /// static LATE: OutputTag<Login> = OutputTag::new("late");
    ///
    /// fn failures(logins: KeyedStream<Login, i64>) {
    ///     let failures = logins
    ///         .pattern(Pattern::<Login>::begin("failures").where_(|login| !login.ok).times(3))
    ///         .late_output(&LATE)
    ///         .select(|found| (found.key(),));
    ///     failures.side_output(&LATE).sink("late", Stdout::ndjson());
    ///     failures.sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn late_output(self, tag: &OutputTag<T>) -> Self {
        PatternStream {
            late: Some(tag.name()),
            ..self
        }
    }

    /// Makes a row of each match that has begun and whose time is over, and gives it to a side output. Each is put out once,
    /// as soon as the watermark says that its time is over, with all rows that it has.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Step { order: i64, paid: bool }
    /// static UNPAID: OutputTag<(i64,)> = OutputTag::new("unpaid");
    ///
    /// fn paid(steps: KeyedStream<Step, i64>) {
    ///     let order = Pattern::<Step>::begin("order").followed_by("paid").where_(|step| step.paid);
    ///     let paid = steps
    ///         .pattern(order.within(Duration::from_secs(3600)))
    ///         .timed_out(&UNPAID, |begun| (begun.key(),))
    ///         .select(|found| (found.key(),));
    ///     paid.side_output(&UNPAID).sink("unpaid", Stdout::ndjson());
    ///     paid.sink("paid", Stdout::ndjson());
    /// }
    /// ```
    pub fn timed_out<U, F>(self, tag: &OutputTag<U>, function: F) -> Self
    where
        U: Record + Owned,
        F: for<'x, 'm, 'b> Fn(&'x Match<'m, 'b, T, K>) -> U + 'static,
    {
        self.flat_timed_out(tag, move |begun| [function(begun)])
    }

    /// Makes any number of rows of each match that has begun and whose time is over: see [`timed_out`](Self::timed_out).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Step { order: i64, item: i64, paid: bool }
    /// static UNPAID: OutputTag<(i64,)> = OutputTag::new("unpaid items");
    ///
    /// fn paid(steps: KeyedStream<Step, i64>) {
    ///     let order = Pattern::<Step>::begin("items").where_(|step| !step.paid).one_or_more().greedy();
    ///     let paid = steps
    ///         .pattern(order.followed_by("paid").where_(|step| step.paid).within(Duration::from_secs(3600)))
    ///         .flat_timed_out(&UNPAID, |begun| begun.rows("items").map(|step| (step.item,)).collect::<Vec<_>>())
    ///         .select(|found| (found.key(),));
    ///     paid.side_output(&UNPAID).sink("unpaid", Stdout::ndjson());
    ///     paid.sink("paid", Stdout::ndjson());
    /// }
    /// ```
    pub fn flat_timed_out<U, I, F>(self, tag: &OutputTag<U>, function: F) -> Self
    where
        U: Record + Owned,
        I: IntoIterator<Item = U>,
        F: for<'x, 'm, 'b> Fn(&'x Match<'m, 'b, T, K>) -> I + 'static,
    {
        let name = tag.name();
        let timed_out: TimedOut<T, K> = Box::new(move |operator, found, cx| {
            let time = cx.time;
            for row in function(found) {
                cx.sides.push::<U>(operator, name, row, time);
            }
        });
        let mut stream = self;
        if stream.timed_out.replace(timed_out).is_some() {
            let error = "`timed_out` is said twice: one function can put rows out to several tags";
            stream.pattern.errors.push(error.to_owned());
        }
        stream
    }

    /// Makes one row of each match. Its event time is that of the last row of the match.
    ///
    /// See the [module](super) for an example.
    pub fn select<U, F>(self, function: F) -> Stream<PatternHead<Select<T, K, U, F>>>
    where
        U: Record + Owned,
        F: for<'x, 'm, 'b> Fn(&'x Match<'m, 'b, T, K>) -> U + 'static,
    {
        let types = PhantomData;
        self.head("pattern.select", Select { function, types })
    }

    /// Makes any number of rows of each match.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::pattern::Match;
    /// # #[derive(Record)]
    /// # struct Login { user: i64, ok: bool, from: String }
    /// # #[derive(Record)]
    /// # struct Suspect { from: String }
    /// fn suspects(logins: KeyedStream<Login, i64>) {
    ///     logins
    ///         .pattern(Pattern::<Login>::begin("failures").where_(|login| !login.ok).times(3))
    ///         .flat_select(|found, out: &mut Out<'_, Suspect>| {
    ///             for login in found.rows("failures") {
    ///                 out.push(Suspect { from: login.from });
    ///             }
    ///         })
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn flat_select<U, F>(self, function: F) -> Stream<PatternHead<FlatSelect<T, K, U, F>>>
    where
        U: Record,
        F: for<'x, 'm, 'b, 'o> Fn(&'x Match<'m, 'b, T, K>, &'x mut Out<'o, U>) + 'static,
    {
        let types = PhantomData;
        self.head("pattern.flat_select", FlatSelect { function, types })
    }

    fn head<M: MatchFunction<In = T, Key = K>>(self, construct: &str, function: M) -> Stream<PatternHead<M>> {
        let flow = self.keyed.flow.clone();
        let selector = self.keyed.selector.clone();
        let declared = Declared::new(self.pattern.elements);
        let conditions = declared.conditions.iter();
        let pattern = wit::Pattern {
            elements: declared.elements,
            conditions: conditions.map(|condition| condition.is_iterative()).collect(),
            within_ms: self.pattern.within.map(millis),
            within_gap_ms: self.pattern.within_gap.map(millis),
            after_match: self.pattern.after_match.to_contract(),
            timeouts: self.timed_out.is_some(),
            // The chain's first port.
            late_port: self.late.map(|_| 0),
            partial_matches_max: self.partial_matches_max,
            orders_equal_times: self.order.is_some(),
        };
        let (chain, operator) = self.keyed.begin(construct, |_, key_schema| {
            wit::Head::Pattern(wit::KeyedPattern { key_schema, pattern })
        });
        let mut graph = flow.borrow_mut();
        let times = [("within", self.pattern.within), ("within_gap", self.pattern.within_gap)];
        for (what, time) in times {
            let checked = time.map_or(Ok(()), |time| check_some(&format!("the time of `{what}`"), time));
            checked.unwrap_or_else(|error| graph.error_of(operator, error));
        }
        if self.timed_out.is_some() && times.iter().all(|(_, time)| time.is_none()) {
            let error =
                "no match is over before it is complete, and `timed_out` needs such: say `within` or `within_gap`";
            graph.error_of(operator, error);
        }
        for error in self.pattern.errors {
            graph.error_of(operator, error);
        }
        if let Some(late) = self.late {
            let schema = graph.schema(T::fields());
            graph.add_side_port(chain, operator, late, schema);
        }
        drop(graph);
        let head = PatternHead {
            function,
            operator,
            selector,
            conditions: declared.conditions,
            stages: declared.stages,
            timed_out: self.timed_out,
            order: self.order,
            given: 0,
        };
        Stream::opened(flow, chain, operator, head)
    }
}
