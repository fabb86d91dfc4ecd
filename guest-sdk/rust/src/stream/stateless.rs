//! Functions without state: `map`, `filter`, `flat_map` and their relatives.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::fmt::Display;

use super::{Filter, FlatMap, Inspect, Map, Process, ProcessSetup, Processed, Stream, TryFlatMap, TryMap};
use crate::OutputTag;
use crate::chain::exit::NoExtra;
use crate::chain::{Chain, Emit, RowContext, Then};
use crate::graph::Input;
use crate::position;
use crate::process::{OfSubtask, OperatorSetup, Processing, StatefulProcess, begin_unkeyed};
use crate::value::{Owned, Record, Value};
use crate::values::Timestamp;

/// Takes the rows that a function puts out.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Word<'a> { text: &'a str }
///
/// fn shout(text: &str, out: &mut Out<'_, Word<'static>>) {
///     for word in text.to_uppercase().split(' ') {
///         out.push(Word { text: word });
///     }
/// }
/// ```
pub struct Out<'o, U: Value> {
    operator: u32,
    next: &'o mut (dyn Emit<U> + 'o),
    cx: &'o mut RowContext,
    given: u64,
}

impl<U: Value> std::fmt::Debug for Out<'_, U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out")
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

// The emitter behind `dyn` is known where an `Out` is made, and the closure that takes it is inlined there:
// the calls are direct ones once compiled.
impl<'o, U: Value> Out<'o, U> {
    #[inline(always)]
    pub(crate) fn new(operator: u32, next: &'o mut (dyn Emit<U> + 'o), cx: &'o mut RowContext) -> Self {
        Out {
            operator,
            next,
            cx,
            given: 0,
        }
    }

    /// Puts a row out. It may borrow from anything that lives until this returns.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn twice(row: i64, out: &mut Out<'_, (i64,)>) {
    ///     out.push((row,));
    ///     out.push((row,));
    /// }
    /// ```
    #[inline(always)]
    pub fn push(&mut self, row: U::Of<'_>) {
        self.given += 1;
        self.next.emit(row, self.cx);
        position::enter(self.operator);
    }

    /// Puts a row out beside the main output. If nobody takes that output, the row is dropped.
    ///
    /// See [`OutputTag`] for an example.
    pub fn side<T: Record>(&mut self, tag: &OutputTag<T>, row: T::Of<'_>) {
        let time = self.cx.time;
        self.cx.sides.push::<T>(self.operator, tag.name(), row, time);
    }

    /// Event time of the row, if the stream has one.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_timed(out: &Out<'_, (i64,)>) -> bool { out.timestamp().is_some() }
    /// ```
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.cx.timestamp()
    }

    /// How far event time has come; none before the first watermark.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_late(out: &Out<'_, (i64,)>) -> bool { out.timestamp() <= out.watermark() }
    /// ```
    pub fn watermark(&self) -> Option<Timestamp> {
        self.cx.watermark()
    }

    /// Processing time. It stands still during a block.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn age(made: Timestamp, out: &Out<'_, (i64,)>) -> i64 { out.now().millis() - made.millis() }
    /// ```
    pub fn now(&self) -> Timestamp {
        self.cx.now()
    }

    pub(crate) fn given(&self) -> u64 {
        self.given
    }
}

impl<C: Chain> Stream<C> {
    /// Makes one row of each row. The new row borrows nothing; [`Stream::flat_map`] can put out rows that do.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// #[derive(Record)]
    /// struct Line<'a> { text: &'a str }
    ///
    /// #[derive(Record)]
    /// struct Length { bytes: u64 }
    ///
    /// fn lengths(lines: Stream<Rows<Line<'static>>>) {
    ///     lines.map(|line| Length { bytes: line.text.len() as u64 }).sink("out", Discard::new());
    /// }
    /// ```
    pub fn map<U, F>(self, function: F) -> Stream<Then<C, Map<C::Out, U, F>>>
    where
        U: Record + Owned,
        F: for<'a> Fn(<C::Out as Value>::Of<'a>) -> U + 'static,
    {
        self.then("map", |operator| Map::new(operator, function))
    }

    /// Keeps the rows for which the function says `true`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Line<'a> { text: &'a str }
    /// fn no_comments(lines: Stream<Rows<Line<'static>>>) {
    ///     lines.filter(|line| !line.text.starts_with('#')).sink("out", Discard::new());
    /// }
    /// ```
    pub fn filter<F>(self, function: F) -> Stream<Then<C, Filter<C::Out, F>>>
    where
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) -> bool + 'static,
    {
        self.then("filter", |operator| Filter::new(operator, function))
    }

    /// Makes any number of rows of each row.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Line<'a> { text: &'a str }
    /// # #[derive(Record)]
    /// # struct Word<'a> { text: &'a str }
    /// fn words(lines: Stream<Rows<Line<'static>>>) {
    ///     lines
    ///         .flat_map(|line, out: &mut Out<'_, Word<'static>>| {
    ///             for text in line.text.split_whitespace() {
    ///                 out.push(Word { text });
    ///             }
    ///         })
    ///         .sink("out", Discard::new());
    /// }
    /// ```
    pub fn flat_map<U, F>(self, function: F) -> Stream<Then<C, FlatMap<C::Out, U, F>>>
    where
        U: Record,
        F: for<'a, 'x, 'o> Fn(<C::Out as Value>::Of<'a>, &'x mut Out<'o, U>) + 'static,
    {
        self.then("flat_map", |operator| FlatMap::new(operator, function))
    }

    /// Runs a function that is opened and closed, and may have metrics. With a key it may have state and timers as well:
    /// [`KeyedStream::process`](crate::KeyedStream::process).
    ///
    /// See [`Process`] for an example.
    pub fn process<P: Process<In = C::Out>>(
        self,
        make: impl FnOnce(&mut ProcessSetup) -> P,
    ) -> Stream<Then<C, Processed<P>>> {
        self.then("process", |operator| Processed::new(operator, make))
    }

    /// Runs a function that keeps lists from one row to another. It begins a chain: rows are encoded before it.
    ///
    /// See [`StatefulProcess`] for an example.
    pub fn process_with_state<P: StatefulProcess<In = C::Out>>(
        mut self,
        make: impl FnOnce(&mut OperatorSetup) -> P,
    ) -> Stream<Processing<OfSubtask<P>>> {
        let input = Input {
            fields: C::Out::fields(),
            origins: self.close(NoExtra),
        };
        begin_unkeyed(&self.flow, "stateful_process", vec![input], |setup| {
            OfSubtask::new(make(setup))
        })
    }

    /// Looks at each row and lets it pass.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Line<'a> { text: &'a str }
    /// fn logged(lines: Stream<Rows<Line<'static>>>) {
    ///     lines.inspect(|line| info!("{}", line.text)).sink("out", Discard::new());
    /// }
    /// ```
    pub fn inspect<F>(self, function: F) -> Stream<Then<C, Inspect<C::Out, F>>>
    where
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) + 'static,
    {
        self.then("inspect", |operator| Inspect::new(operator, function))
    }

    /// Makes one row of each row, or refuses it: see [`Stream::on_reject`].
    ///
    /// A refused row has no effect at all: what other functions of the chain put out for it is taken back. A
    /// function that can refuse rows does not share a chain with a keyed one before it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Line<'a> { text: &'a str }
    /// # #[derive(Record)]
    /// # struct Number { value: i64 }
    /// fn numbers(lines: Stream<Rows<Line<'static>>>) {
    ///     lines
    ///         .try_map(|line| line.text.parse().map(|value| Number { value }))
    ///         .on_reject(Reject::Skip)
    ///         .sink("out", Discard::new());
    /// }
    /// ```
    pub fn try_map<U, X, F>(self, function: F) -> Stream<Then<C::Refusing<C>, TryMap<C::Out, U, X, F>>>
    where
        U: Record + Owned,
        X: Display + 'static,
        F: for<'a> Fn(<C::Out as Value>::Of<'a>) -> Result<U, X> + 'static,
    {
        C::refusing(self).then("try_map", |operator| TryMap::new(operator, function))
    }

    /// Makes any number of rows of each row, or refuses it with all of them: see [`Stream::try_map`].
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Line<'a> { text: &'a str }
    /// # #[derive(Record)]
    /// # struct Number { value: i64 }
    /// fn numbers(lines: Stream<Rows<Line<'static>>>) {
    ///     lines
    ///         .try_flat_map(|line, out: &mut Out<'_, Number>| {
    ///             for word in line.text.split(' ') {
    ///                 let value = word.parse().map_err(|error| format!("`{word}`: {error}"))?;
    ///                 out.push(Number { value });
    ///             }
    ///             Ok::<(), String>(())
    ///         })
    ///         .on_reject(Reject::Skip)
    ///         .sink("out", Discard::new());
    /// }
    /// ```
    pub fn try_flat_map<U, X, F>(self, function: F) -> Stream<Then<C::Refusing<C>, TryFlatMap<C::Out, U, X, F>>>
    where
        U: Record,
        X: Display + 'static,
        F: for<'a, 'x, 'o> Fn(<C::Out as Value>::Of<'a>, &'x mut Out<'o, U>) -> Result<(), X> + 'static,
    {
        C::refusing(self).then("try_flat_map", |operator| TryFlatMap::new(operator, function))
    }
}
