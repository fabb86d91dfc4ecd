//! Two keyed streams that were connected.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use super::{CoFlatMap, CoMap, CoRows, ConnectedStreams};
use crate::keyed::KeyedStream;
use crate::process::{CoProcess, Processing, Setup, TwoInputs, begin_process};
use crate::value::{Owned, Record, Value};
use crate::{Out, Stream};

/// Two streams with keys of one type whose rows go to the same function: what [`KeyedStream::connect`] makes.
///
/// Rows with equal keys go to the same subtask, from whichever stream they are.
pub struct ConnectedKeyedStreams<T: Record, U: Record, K: Owned + Clone> {
    first: KeyedStream<T, K>,
    second: KeyedStream<U, K>,
}

impl<T: Record, U: Record, K: Owned + Clone> std::fmt::Debug for ConnectedKeyedStreams<T, U, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectedKeyedStreams")
    }
}

impl<T: Record, U: Record, K: Owned + Clone> ConnectedKeyedStreams<T, U, K> {
    pub(crate) fn new(first: KeyedStream<T, K>, second: KeyedStream<U, K>) -> Self {
        ConnectedKeyedStreams { first, second }
    }

    /// Runs a function with state and timers that both streams share. It is made by `make`, which declares its states.
    ///
    /// See [`CoProcess`] for an example.
    pub fn process<P, F>(self, make: F) -> Stream<Processing<TwoInputs<P>>>
    where
        P: CoProcess<First = T, Second = U, Key = K>,
        F: FnOnce(&mut Setup) -> P,
    {
        let ConnectedKeyedStreams { first, second } = self;
        let (flow, keys) = (first.flow.clone(), first.selector.key_fields());
        let (of_first, of_second) = (first.selector.clone(), second.selector.clone());
        let inputs = vec![first.into_input(), second.into_input()];
        begin_process(&flow, "co_process", keys, inputs, |setup| {
            TwoInputs::new(make(setup), of_first, of_second)
        })
    }

    /// Makes one row of each row, by one function for each stream. See [`ConnectedStreams::map`].
    pub fn map<O, F, G>(self, first: F, second: G) -> Stream<CoRows<CoMap<T, U, O, F, G>>>
    where
        O: Record + Owned,
        F: for<'a> Fn(<T as Value>::Of<'a>) -> O + 'static,
        G: for<'a> Fn(<U as Value>::Of<'a>) -> O + 'static,
    {
        self.without_state().map(first, second)
    }

    /// Makes any number of rows of each row, by one function for each stream. See [`ConnectedStreams::flat_map`].
    pub fn flat_map<O, F, G>(self, first: F, second: G) -> Stream<CoRows<CoFlatMap<T, U, O, F, G>>>
    where
        O: Record,
        F: for<'a, 'x, 'o> Fn(<T as Value>::Of<'a>, &'x mut Out<'o, O>) + 'static,
        G: for<'a, 'x, 'o> Fn(<U as Value>::Of<'a>, &'x mut Out<'o, O>) + 'static,
    {
        self.without_state().flat_map(first, second)
    }

    fn without_state(self) -> ConnectedStreams<T, U> {
        let flow = self.first.flow.clone();
        ConnectedStreams::new(flow, vec![self.first.into_input(), self.second.into_input()])
    }
}
