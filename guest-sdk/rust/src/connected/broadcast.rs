//! A keyed stream beside a broadcast one.

use crate::chain::Chain;
use crate::chain::exit::NoExtra;
use crate::graph::Input;
use crate::keyed::KeyedStream;
use crate::process::{BesideBroadcast, KeyedBroadcastProcess, Processing, Setup, begin_process};
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
        let mut rules = rules.broadcast();
        BroadcastConnectedStream {
            keyed: self,
            broadcast: Input {
                fields: D::Out::fields(),
                origins: rules.close(NoExtra),
            },
            record: std::marker::PhantomData,
        }
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
        begin_process(&flow, "broadcast_process", selector.key_fields(), inputs, |setup| {
            BesideBroadcast::new(make(setup), selector)
        })
    }
}
