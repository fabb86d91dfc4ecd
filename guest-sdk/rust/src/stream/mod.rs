//! Streams: how a dataflow is written down.

mod stages;
mod stateless;

use std::rc::Rc;

use crate::bindings::dataflow as wit;
use crate::chain::closed::Closed;
use crate::chain::exit::{ComputedKey, Extra, NoExtra, Nowhere, Port};
use crate::chain::{Chain, Rows, Stage, Then};
use crate::connect::Sink;
use crate::graph::{Handle, Origin};
use crate::keyed::{KeySelector, KeyedStream};
use crate::value::Record;

pub use stages::{Filter, FlatMap, Inspect, Map, Pass, TryFlatMap, TryMap};
pub use stateless::Out;

/// A stream of rows, and the functions since they last crossed an edge.
///
/// Every method takes the stream and gives a new one. The functions in between become one loop: see
/// [`chain`](crate::chain).
pub struct Stream<C: Chain> {
    flow: Handle,
    /// Where the rows come from, as long as no function takes them.
    origins: Vec<Origin>,
    /// The chain that grows here.
    open: Option<u32>,
    /// The last operator.
    operator: u32,
    /// Taken when the stream becomes another one.
    chain: Option<C>,
}

impl<C: Chain> std::fmt::Debug for Stream<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl<T: Record> Clone for Stream<Rows<T>> {
    fn clone(&self) -> Self {
        Stream::from_origins(Rc::clone(&self.flow), self.origins.clone())
    }
}

impl<T: Record> Stream<Rows<T>> {
    pub(crate) fn from_origins(flow: Handle, origins: Vec<Origin>) -> Self {
        Stream {
            flow,
            operator: origins[0].operator,
            origins,
            open: None,
            chain: Some(Rows::new()),
        }
    }
}

impl<C: Chain> Stream<C> {
    pub(crate) fn opened(flow: Handle, chain_number: u32, operator: u32, chain: C) -> Self {
        Stream {
            flow,
            origins: Vec::new(),
            open: Some(chain_number),
            operator,
            chain: Some(chain),
        }
    }

    /// Adds a function.
    fn then<S: Stage<In = C::Out>>(mut self, construct: &str, stage: impl FnOnce(u32) -> S) -> Stream<Then<C, S>> {
        let chain = self
            .chain
            .take()
            .expect("a stream has its chain until it becomes another");
        let (number, operator) = self.add_function(construct);
        let stage = stage(operator);
        Stream::opened(Rc::clone(&self.flow), number, operator, Then { chain, stage })
    }

    fn add_function(&self, construct: &str) -> (u32, u32) {
        let mut graph = self.flow.borrow_mut();
        match self.open {
            Some(number) => (number, graph.add_function(number, construct)),
            None => {
                let number = graph.open_chain(C::Out::fields(), wit::Head::Stateless);
                let operator = graph.add_function(number, construct);
                graph.connect(&self.origins, operator);
                (number, operator)
            }
        }
    }

    /// Ends the chain, if there is one, with a port.
    fn close<X: Extra<C::Out>>(&mut self, extra: X) -> Vec<Origin> {
        let chain = self
            .chain
            .take()
            .expect("a stream has its chain until it becomes another");
        let Some(number) = self.open else {
            return std::mem::take(&mut self.origins);
        };
        let mut graph = self.flow.borrow_mut();
        let port = wit::Port {
            operator: self.operator,
            side: None,
            schema: graph.schema(C::Out::fields()),
            computes_time: X::COMPUTES_TIME,
            computed_key: extra.key_fields().map(|fields| graph.schema(fields)),
        };
        let port = graph.add_port(number, port);
        let sides = std::mem::take(graph.sides(number));
        let exit = Port::<C::Out, X>::new(port, extra, C::FALLIBLE);
        graph.close_chain(number, Box::new(Closed::new(chain, exit, sides)));
        vec![Origin::forward(self.operator, port)]
    }

    /// Names the last operator, for people: in the UI, in errors, in metrics.
    pub fn name(self, name: &str) -> Self {
        self.flow.borrow_mut().operators[self.operator as usize].name = name.to_owned();
        self
    }

    /// Names the last operator's state, so that it is found again after an upgrade.
    pub fn uid(self, uid: &str) -> Self {
        self.flow.borrow_mut().operators[self.operator as usize].uid = Some(uid.to_owned());
        self
    }

    /// How many subtasks the last operator has, and with it all functions fused with it.
    pub fn parallelism(self, subtasks: u32) -> Self {
        self.flow.borrow_mut().operators[self.operator as usize].parallelism = Some(subtasks);
        self
    }

    /// Groups rows by a key.
    pub fn key_by<S: KeySelector<C::Out>>(mut self, key: S) -> KeyedStream<C::Out, S> {
        let selector = Rc::new(key);
        let flow = Rc::clone(&self.flow);
        let origins = match selector.columns() {
            Some(columns) => {
                let mut origins = self.close(NoExtra);
                for origin in &mut origins {
                    origin.partition = wit::Partition::HashFields(columns.clone());
                }
                origins
            }
            None if self.open.is_none() => self.then("key_by", Pass::new).close_with_key(&selector),
            None => self.close_with_key(&selector),
        };
        KeyedStream::new(flow, origins, selector)
    }

    fn close_with_key<S: KeySelector<C::Out>>(mut self, selector: &Rc<S>) -> Vec<Origin> {
        let extra = ComputedKey::new(Rc::clone(selector), self.operator);
        let mut origins = self.close(extra);
        for origin in &mut origins {
            origin.partition = wit::Partition::HashComputed;
        }
        origins
    }

    /// Gives the rows to a connector.
    pub fn sink(mut self, name: &str, connector: impl Sink) {
        let origins = self.close(NoExtra);
        let mut graph = self.flow.borrow_mut();
        let sink = wit::Sink {
            connector: connector.into_connector(),
        };
        let operator = graph.add_operator(name, wit::OperatorKind::Sink(sink));
        graph.connect(&origins, operator);
    }
}

/// A chain whose main output nobody takes runs all the same: for its side outputs, metrics and logs.
impl<C: Chain> Drop for Stream<C> {
    fn drop(&mut self) {
        if let (Some(chain), Some(number)) = (self.chain.take(), self.open) {
            let mut graph = self.flow.borrow_mut();
            let sides = std::mem::take(graph.sides(number));
            graph.close_chain(number, Box::new(Closed::new(chain, Nowhere, sides)));
        }
    }
}
