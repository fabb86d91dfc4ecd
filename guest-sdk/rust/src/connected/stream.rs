//! Two streams that were connected.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::marker::PhantomData;

use super::{CoFlatMap, CoFunction, CoMap, CoRows};
use crate::bindings::dataflow as wit;
use crate::chain::Chain;
use crate::chain::exit::NoExtra;
use crate::graph::{Handle, Input};
use crate::process::{OperatorSetup, Processing, StatefulCoProcess, TwoOfSubtask, begin_unkeyed};
use crate::value::{Owned, Record, Value};
use crate::{Out, Stream};

/// Two streams whose rows go to the same function: what [`Stream::connect`] makes.
pub struct ConnectedStreams<T: Record, U: Record> {
    flow: Handle,
    inputs: Vec<Input>,
    records: PhantomData<fn() -> (T, U)>,
}

impl<T: Record, U: Record> std::fmt::Debug for ConnectedStreams<T, U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectedStreams")
    }
}

impl<C: Chain> Stream<C> {
    /// Connects two streams: a function then takes the rows of both, whatever their types.
    ///
    /// For functions with state of a key, and timers, see [`KeyedStream::connect`](crate::KeyedStream::connect).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// # #[derive(Record, Clone)]
    /// # struct Refund { shop: String, cents: i64 }
    /// fn money(sales: Stream<Rows<Sale>>, refunds: Stream<Rows<Refund>>) -> Stream<impl Chain<Out = (String, i64)>> {
    ///     sales.connect(refunds).map(|sale| (sale.shop, sale.cents), |refund| (refund.shop, -refund.cents))
    /// }
    /// ```
    pub fn connect<D: Chain>(mut self, mut other: Stream<D>) -> ConnectedStreams<C::Out, D::Out> {
        let first = Input {
            fields: C::Out::fields(),
            origins: self.close(NoExtra),
        };
        let second = Input {
            fields: D::Out::fields(),
            origins: other.close(NoExtra),
        };
        ConnectedStreams::new(self.flow.clone(), vec![first, second])
    }
}

impl<T: Record, U: Record> ConnectedStreams<T, U> {
    pub(crate) fn new(flow: Handle, inputs: Vec<Input>) -> Self {
        ConnectedStreams {
            flow,
            inputs,
            records: PhantomData,
        }
    }

    /// Makes one row of each row, by one function for each stream.
    ///
    /// See [`Stream::connect`] for an example.
    pub fn map<O, F, G>(self, first: F, second: G) -> Stream<CoRows<CoMap<T, U, O, F, G>>>
    where
        O: Record + Owned,
        F: for<'a> Fn(<T as Value>::Of<'a>) -> O + 'static,
        G: for<'a> Fn(<U as Value>::Of<'a>) -> O + 'static,
    {
        self.begin("co_map", CoMap::new(first, second))
    }

    /// Makes any number of rows of each row, by one function for each stream.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Line<'a> { text: &'a str }
    /// # #[derive(Record)]
    /// # struct Word { text: String }
    /// fn words(lines: Stream<Rows<Line<'static>>>, more: Stream<Rows<Word>>) {
    ///     lines
    ///         .connect(more)
    ///         .flat_map(
    ///             |line, out: &mut Out<'_, Line<'static>>| line.text.split(' ').for_each(|text| out.push(Line { text })),
    ///             |word, out: &mut Out<'_, Line<'static>>| out.push(Line { text: &word.text }),
    ///         )
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn flat_map<O, F, G>(self, first: F, second: G) -> Stream<CoRows<CoFlatMap<T, U, O, F, G>>>
    where
        O: Record,
        F: for<'a, 'x, 'o> Fn(<T as Value>::Of<'a>, &'x mut Out<'o, O>) + 'static,
        G: for<'a, 'x, 'o> Fn(<U as Value>::Of<'a>, &'x mut Out<'o, O>) + 'static,
    {
        self.begin("co_flat_map", CoFlatMap::new(first, second))
    }

    /// Runs a function with state of its subtask that both streams share. It is made by `make`, which declares its states.
    ///
    /// See [`StatefulCoProcess`] for an example.
    pub fn process<P, F>(self, make: F) -> Stream<Processing<TwoOfSubtask<P>>>
    where
        P: StatefulCoProcess<First = T, Second = U>,
        F: FnOnce(&mut OperatorSetup) -> P,
    {
        begin_unkeyed(&self.flow, "stateful_co_process", self.inputs, |setup| {
            TwoOfSubtask::new(make(setup))
        })
    }

    fn begin<W: CoFunction>(self, construct: &str, function: W) -> Stream<CoRows<W>> {
        let mut graph = self.flow.borrow_mut();
        let (chain, operator) = graph.begin_chain(construct, self.inputs, wit::Head::Stateless);
        drop(graph);
        Stream::opened(self.flow, chain, operator, CoRows::new(function, operator))
    }
}
