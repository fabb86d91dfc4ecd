//! Streams: how a dataflow is written down.

mod exchange;
mod lookup;
mod process;
mod requests;
mod stages;
mod stateless;
mod watermarks;

use std::rc::Rc;

use crate::bindings::dataflow as wit;
use crate::chain::closed::Closed;
use crate::chain::exit::{Extra, NoExtra, Nowhere, Port};
use crate::chain::{Chain, Rows, Stage, Then};
use crate::graph::{Handle, Origin};
use crate::schema::Field;
use crate::state::Ttl;
use crate::value::Record;

pub use exchange::SinkOperator;
pub use lookup::Keyed;
pub use process::{Process, ProcessSetup, Processed};
pub use requests::Ask;
pub use stages::{Filter, FlatMap, Inspect, Map, Pass, TryFlatMap, TryMap};
pub use stateless::Out;
pub use watermarks::{
    Behind, Generated, Ingestion, Millis, TimeSource, WatermarkGenerator, WatermarkSource, Watermarks, generator,
};

/// A stream of rows, and the functions since they last crossed an edge.
///
/// Every method takes the stream and gives a new one, whose type says which functions are fused: see
/// [`chain`](crate::chain). `Stream<Rows<T>>` has none, and can be cloned; [`Stream::share`] makes any
/// stream one of those. A function that takes or gives streams is best written with `Stream<Rows<T>>`, or
/// with `Stream<impl Chain<Out = T>>`.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Sale { shop: String, cents: i64 }
///
/// fn expensive(sales: Stream<impl Chain<Out = Sale>>) -> Stream<impl Chain<Out = Sale>> {
///     sales.filter(|sale| sale.cents > 100_00).name("expensive")
/// }
/// ```
pub struct Stream<C: Chain> {
    pub(crate) flow: Handle,
    /// Where the rows come from, as long as no function takes them.
    origins: Vec<Origin>,
    /// The chain that grows here.
    open: Option<u32>,
    /// The last operator.
    operator: u32,
    /// The last operator whose rows are to stay in their subtask.
    forwarded: Option<u32>,
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
    /// There is at least one origin.
    pub(crate) fn from_origins(flow: Handle, origins: Vec<Origin>) -> Self {
        Stream {
            flow,
            operator: origins[0].operator,
            origins,
            open: None,
            forwarded: None,
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
            forwarded: None,
            chain: Some(chain),
        }
    }

    /// The same after another one, whose functions it goes on with.
    fn behind<D: Chain>(self, before: &Stream<D>) -> Self {
        let mut stream = self;
        stream.forwarded = before.forwarded;
        stream
    }

    /// The last operator.
    pub(crate) fn operator(&self) -> u32 {
        self.operator
    }

    /// Adds a function.
    fn then<S: Stage<In = C::Out>>(mut self, construct: &str, stage: impl FnOnce(u32) -> S) -> Stream<Then<C, S>> {
        let chain = self.take_chain();
        let (number, operator) = self.add_function(construct);
        let stage = stage(operator);
        Stream::opened(Rc::clone(&self.flow), number, operator, Then { chain, stage }).behind(&self)
    }

    fn take_chain(&mut self) -> C {
        self.chain
            .take()
            .expect("a stream has its chain until it becomes another")
    }

    /// The chain that grows here.
    pub(crate) fn chain_mut(&mut self) -> Option<&mut C> {
        self.chain.as_mut()
    }

    /// Gives all states of the chain's head a time to live.
    pub(crate) fn declare_ttl(&self, ttl: Ttl) {
        if let Some(number) = self.open {
            self.flow.borrow_mut().set_ttl(number, ttl.declared());
        }
    }

    /// Declares a migration of the first state of the chain's head, from this schema; or why there can be none.
    pub(crate) fn declare_migration(&self, fields: Result<Vec<Field>, &str>) {
        let mut graph = self.flow.borrow_mut();
        match (fields, self.open) {
            (Ok(fields), Some(number)) => graph.add_migration(number, fields),
            (Ok(_), None) => {}
            (Err(why), _) => graph.error(format!("`migrate`: {why}")),
        }
    }

    fn add_function(&self, construct: &str) -> (u32, u32) {
        let mut graph = self.flow.borrow_mut();
        match self.open {
            Some(number) => (number, graph.add_function(number, construct)),
            None => {
                let number = graph.open_chain([C::Out::fields()], wit::Head::Stateless);
                let operator = graph.add_function(number, construct);
                graph.connect(&self.origins, operator, 0);
                (number, operator)
            }
        }
    }

    /// Ends the chain, if there is one, with a port.
    pub(crate) fn close<X: Extra<C::Out>>(&mut self, extra: X) -> Vec<Origin> {
        let chain = self.take_chain();
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
        let mut origin = Origin::forward(self.operator, port);
        if self.forwarded == Some(self.operator) {
            origin.partition = wit::Partition::SameSubtask;
        }
        vec![origin]
    }

    /// The last operator; a union has none, and no `what` either.
    fn named_operator(&self, what: &str) -> Option<u32> {
        if self.origins.len() > 1 {
            let message = format!("a union is no operator and has no {what}: give it to the operator before or after");
            self.flow.borrow_mut().error(message);
            return None;
        }
        Some(self.operator)
    }

    /// Names the last operator, for people: in the UI, in errors, in metrics.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn refunds(sales: Stream<Rows<Sale>>) {
    ///     sales.filter(|sale| sale.cents < 0).name("refunds").sink("out", Discard::new());
    /// }
    /// ```
    pub fn name(self, name: &str) -> Self {
        if let Some(operator) = self.named_operator("name") {
            self.flow.borrow_mut().operators[operator as usize].name = name.to_owned();
        }
        self
    }

    /// Names the last operator's state, so that it is found again after an upgrade. Uids differ.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn totals(sales: Stream<Rows<Sale>>) {
    ///     sales.key_by(Sale::FIELDS.shop).sum(Sale::FIELDS.cents).uid("totals").sink("out", Discard::new());
    /// }
    /// ```
    pub fn uid(self, uid: &str) -> Self {
        if let Some(operator) = self.named_operator("uid") {
            self.flow.borrow_mut().operators[operator as usize].uid = Some(uid.to_owned());
        }
        self
    }

    /// How many subtasks the last operator has, and with it all functions fused with it. Without this it has
    /// as many as the job says.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn refunds(sales: Stream<Rows<Sale>>) {
    ///     sales.filter(|sale| sale.cents < 0).parallelism(2).sink("out", Discard::new());
    /// }
    /// ```
    pub fn parallelism(self, subtasks: u32) -> Self {
        if let Some(operator) = self.named_operator("parallelism") {
            self.flow.borrow_mut().set_parallelism(operator, subtasks);
        }
        self
    }
}

impl<C: Chain, S: Stage<In = C::Out>> Stream<Then<C, S>> {
    /// Ends the chain before its last function, with which another one begins.
    pub(crate) fn split_last(mut self) -> Stream<Then<Rows<C::Out>, S>> {
        let Then { chain, stage } = self.take_chain();
        let (flow, last) = (Rc::clone(&self.flow), self.operator);
        let whole = self.open.expect("a function is in a chain");
        let before = flow.borrow_mut().split_last(whole);
        let number = match before {
            None => whole,
            Some(before) => {
                let mut rest = Stream::opened(Rc::clone(&flow), whole, before, chain).behind(&self);
                let origins = rest.close(NoExtra);
                flow.borrow_mut().begin_with(last, C::Out::fields(), &origins)
            }
        };
        let chain = Rows::new();
        Stream::opened(flow, number, last, Then { chain, stage }).behind(&self)
    }
}

/// A chain whose main output nobody takes runs all the same: for its side outputs, metrics and logs.
impl<C: Chain> Drop for Stream<C> {
    fn drop(&mut self) {
        if let (Some(chain), Some(number)) = (self.chain.take(), self.open) {
            let mut graph = self.flow.borrow_mut();
            // A stream that outlives `build` was an error already.
            if graph.has_chain(number) {
                let sides = std::mem::take(graph.sides(number));
                graph.close_chain(number, Box::new(Closed::new(chain, Nowhere, sides)));
            }
        }
    }
}
