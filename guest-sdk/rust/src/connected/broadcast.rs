//! A stream beside a broadcast one, with a key or without.

use crate::chain::Chain;
use crate::chain::exit::NoExtra;
use crate::graph::{Handle, Input};
use crate::keyed::KeyedStream;
use crate::process::{
    BROADCAST_PROCESS, BesideBroadcast, BroadcastProcess, KeyedBroadcastProcess, OfSubtaskBeside, OperatorSetup,
    Processing, Setup, begin_process, begin_unkeyed,
};
use crate::stream::Stream;
use crate::value::{Owned, Record};

/// A keyed stream beside one of which every subtask gets all rows: what [`KeyedStream::connect_broadcast`] makes.
pub struct BroadcastConnectedStream<T: Record, U: Record, K: Owned + Clone> {
    keyed: KeyedStream<T, K>,
    broadcast: Input,
    record: std::marker::PhantomData<fn() -> U>,
}

impl<T: Record, U: Record, K: Owned + Clone> std::fmt::Debug for BroadcastConnectedStream<T, U, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BroadcastConnectedStream")
    }
}

impl<T: Record, K: Owned + Clone> KeyedStream<T, K> {
    /// Connects a stream of which every subtask gets all rows: of rules that rows of all keys go by.
    ///
    /// See [`KeyedBroadcastProcess`] for an example.
    pub fn connect_broadcast<D: Chain>(self, rules: Stream<D>) -> BroadcastConnectedStream<T, D::Out, K> {
        BroadcastConnectedStream {
            keyed: self,
            broadcast: broadcast_input(rules),
            record: std::marker::PhantomData,
        }
    }
}

fn broadcast_input<D: Chain>(rules: Stream<D>) -> Input {
    Input {
        fields: D::Out::fields(),
        origins: rules.broadcast().close(NoExtra),
    }
}

impl<T: Record, U: Record, K: Owned + Clone> BroadcastConnectedStream<T, U, K> {
    /// Runs a function with broadcast state, and state and timers of keys. It is made by `make`, which declares its states.
    ///
    /// See [`KeyedBroadcastProcess`] for an example.
    pub fn process<P, F>(self, make: F) -> Stream<Processing<BesideBroadcast<P>>>
    where
        P: KeyedBroadcastProcess<In = T, Broadcast = U, Key = K>,
        F: FnOnce(&mut Setup) -> P,
    {
        let (flow, selector) = (self.keyed.flow.clone(), self.keyed.selector.clone());
        let inputs = vec![self.keyed.into_input(), self.broadcast];
        begin_process(&flow, BROADCAST_PROCESS, selector.key_fields(), inputs, |setup| {
            BesideBroadcast::new(make(setup), selector)
        })
    }
}

/// A stream beside one of which every subtask gets all rows: what [`Stream::connect_broadcast`] makes.
pub struct UnkeyedBroadcastConnectedStream<T: Record, U: Record> {
    flow: Handle,
    inputs: Vec<Input>,
    records: std::marker::PhantomData<fn() -> (T, U)>,
}

impl<T: Record, U: Record> std::fmt::Debug for UnkeyedBroadcastConnectedStream<T, U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnkeyedBroadcastConnectedStream")
    }
}

impl<C: Chain> Stream<C> {
    /// Connects a stream of which every subtask gets all rows: of rules that all rows go by.
    ///
    /// See [`BroadcastProcess`] for an example; with a key see [`KeyedStream::connect_broadcast`].
    pub fn connect_broadcast<D: Chain>(mut self, rules: Stream<D>) -> UnkeyedBroadcastConnectedStream<C::Out, D::Out> {
        let own = Input {
            fields: C::Out::fields(),
            origins: self.close(NoExtra),
        };
        UnkeyedBroadcastConnectedStream {
            flow: self.flow.clone(),
            inputs: vec![own, broadcast_input(rules)],
            records: std::marker::PhantomData,
        }
    }
}

impl<T: Record, U: Record> UnkeyedBroadcastConnectedStream<T, U> {
    /// Runs a function with broadcast state. It is made by `make`, which declares its states.
    ///
    /// See [`BroadcastProcess`] for an example.
    pub fn process<P, F>(self, make: F) -> Stream<Processing<OfSubtaskBeside<P>>>
    where
        P: BroadcastProcess<In = T, Broadcast = U>,
        F: FnOnce(&mut OperatorSetup) -> P,
    {
        begin_unkeyed(&self.flow, BROADCAST_PROCESS, self.inputs, |setup| {
            OfSubtaskBeside::new(make(setup))
        })
    }
}
