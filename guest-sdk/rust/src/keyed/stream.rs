//! The stream after `key_by`.

use std::marker::PhantomData;

use super::aggregates::{Count, Extreme, ExtremeBy, Number, Reduce, Sum};
use super::rolling::{Rolling, RollingFunction};
use super::selector::SharedKey;
use crate::Stream;
use crate::bindings::dataflow as wit;
use crate::connected::ConnectedKeyedStreams;
use crate::graph::{GraphBuilder, Handle, Input, Origin};
use crate::pattern::{Pattern, PatternStream};
use crate::process::{KeyedProcess, OneInput, Processing, Setup, begin_process};
use crate::state::Kept;
use crate::state::kept::state_fields;
use crate::value::{FieldAt, FieldRef, Owned, Record};
use crate::window::{CountEvictor, CountTrigger, GlobalWindows, PurgingTrigger, WindowAssigner, WindowedStream};

/// Rows grouped by a key: what [`Stream::key_by`] makes.
///
/// All rows of a key go to the same subtask, which keeps state for it. `T` is the type of rows, `K` that of the
/// key.
pub struct KeyedStream<T: Record, K: Owned + Clone> {
    pub(crate) flow: Handle,
    pub(crate) origins: Vec<Origin>,
    pub(crate) selector: SharedKey<T, K>,
    record: PhantomData<fn() -> T>,
}

impl<T: Record, K: Owned + Clone> std::fmt::Debug for KeyedStream<T, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedStream")
            .field("origins", &self.origins)
            .finish_non_exhaustive()
    }
}

/// Several things can be computed per key.
impl<T: Record, K: Owned + Clone> Clone for KeyedStream<T, K> {
    fn clone(&self) -> Self {
        KeyedStream {
            flow: self.flow.clone(),
            origins: self.origins.clone(),
            selector: self.selector.clone(),
            record: PhantomData,
        }
    }
}

impl<T: Record, K: Owned + Clone> KeyedStream<T, K> {
    pub(crate) fn new(flow: Handle, origins: Vec<Origin>, selector: SharedKey<T, K>) -> Self {
        KeyedStream {
            flow,
            origins,
            selector,
            record: PhantomData,
        }
    }

    /// Each row, with a field replaced by the sum of that field over all rows of the key so far.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// #[derive(Record)]
    /// struct Sale { shop: String, cents: i64 }
    ///
    /// fn totals(sales: Stream<Rows<Sale>>) {
    ///     sales.key_by(Sale::FIELDS.shop).sum(Sale::FIELDS.cents).uid("totals").sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn sum<N: Number, A>(self, field: FieldRef<T, N, A>) -> Stream<Rolling<Sum<T, N, A>>>
    where
        A: FieldAt<Row = T, Field = N>,
    {
        self.rolling("sum", |_| Sum { field })
    }

    /// Each row, with a field replaced by the least value of that field among all rows of the key so far.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn cheapest(sales: Stream<Rows<Sale>>) {
    ///     sales.key_by(Sale::FIELDS.shop).min(Sale::FIELDS.cents).uid("cheapest").sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn min<V, A>(self, field: FieldRef<T, V, A>) -> Stream<Rolling<Extreme<T, V, A, false>>>
    where
        A: FieldAt<Row = T, Field = V>,
        V: Owned + Clone + PartialOrd,
    {
        self.rolling("min", |_| Extreme { field })
    }

    /// Each row, with a field replaced by the greatest value of that field among all rows of the key so far.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn dearest(sales: Stream<Rows<Sale>>) {
    ///     sales.key_by(Sale::FIELDS.shop).max(Sale::FIELDS.cents).uid("dearest").sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn max<V, A>(self, field: FieldRef<T, V, A>) -> Stream<Rolling<Extreme<T, V, A, true>>>
    where
        A: FieldAt<Row = T, Field = V>,
        V: Owned + Clone + PartialOrd,
    {
        self.rolling("max", |_| Extreme { field })
    }

    /// For each row, the row of its key so far that has the least value in a field; the first of equals.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn cheapest(sales: Stream<Rows<Sale>>) {
    ///     sales.key_by(Sale::FIELDS.shop).min_by(Sale::FIELDS.cents).uid("cheapest").sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn min_by<V, A>(self, field: FieldRef<T, V, A>) -> Stream<Rolling<ExtremeBy<T, V, A, false>>>
    where
        T: Owned + Clone,
        A: FieldAt<Row = T, Field = V>,
        V: Owned + PartialOrd,
    {
        self.rolling("min_by", |_| ExtremeBy { field })
    }

    /// For each row, the row of its key so far that has the greatest value in a field; the first of equals.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn dearest(sales: Stream<Rows<Sale>>) {
    ///     sales.key_by(Sale::FIELDS.shop).max_by(Sale::FIELDS.cents).uid("dearest").sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn max_by<V, A>(self, field: FieldRef<T, V, A>) -> Stream<Rolling<ExtremeBy<T, V, A, true>>>
    where
        T: Owned + Clone,
        A: FieldAt<Row = T, Field = V>,
        V: Owned + PartialOrd,
    {
        self.rolling("max_by", |_| ExtremeBy { field })
    }

    /// Merges each row into the rows of its key so far, beginning with the first, and puts out the result.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn totals(sales: Stream<Rows<Sale>>) {
    ///     sales
    ///         .key_by(Sale::FIELDS.shop)
    ///         .reduce(|total, sale| total.cents += sale.cents)
    ///         .uid("totals")
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn reduce<F>(self, function: F) -> Stream<Rolling<Reduce<T, F>>>
    where
        T: Owned + Clone,
        F: Fn(&mut T, T) + 'static,
    {
        self.rolling("reduce", |_| Reduce {
            function,
            record: PhantomData,
        })
    }

    /// For each row, its key and the number of rows of that key so far.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn sales_of_each(sales: Stream<Rows<Sale>>) {
    ///     sales.key_by(Sale::FIELDS.shop).count().uid("sales").sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn count(self) -> Stream<Rolling<Count<T, K>>> {
        self.rolling("count", |selector| Count { selector })
    }

    /// Runs a function with state and timers. It is made by `make`, which declares its states.
    ///
    /// See [`KeyedProcess`] for an example.
    pub fn process<P, F>(self, make: F) -> Stream<Processing<OneInput<P>>>
    where
        P: KeyedProcess<In = T, Key = K>,
        F: FnOnce(&mut Setup) -> P,
    {
        let (flow, selector) = (self.flow.clone(), self.selector.clone());
        begin_process(
            &flow,
            "process",
            selector.key_fields(),
            vec![self.into_input()],
            |setup| OneInput::new(make(setup), selector),
        )
    }

    /// Connects two streams with keys of one type: functions then take rows of both, and share state and timers of the
    /// key.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Order { id: i64, cents: i64 }
    /// # #[derive(Record, Clone)]
    /// # struct Payment { order: i64, cents: i64 }
    /// fn balance(orders: Stream<Rows<Order>>, payments: Stream<Rows<Payment>>) {
    ///     orders
    ///         .key_by(Order::FIELDS.id)
    ///         .connect(payments.key_by(Payment::FIELDS.order))
    ///         .map(|order| (order.id, order.cents), |payment| (payment.order, -payment.cents))
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn connect<U: Record>(self, other: KeyedStream<U, K>) -> ConnectedKeyedStreams<T, U, K> {
        ConnectedKeyedStreams::new(self, other)
    }

    /// Gathers the rows of each key in windows: [`Tumbling`](crate::window::Tumbling),
    /// [`Sliding`](crate::window::Sliding), [`Session`](crate::window::Session),
    /// [`GlobalWindows`], or of a [`WindowAssigner`] of your own.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn sales_per_hour(sales: Stream<Rows<Sale>>) {
    ///     sales
    ///         .watermarks(Watermarks::bounded(Sale::FIELDS.at, Duration::from_secs(5)))
    ///         .key_by(Sale::FIELDS.shop)
    ///         .window(Tumbling::of(Duration::from_secs(3600)))
    ///         .sum(Sale::FIELDS.cents)
    ///         .uid("sales-per-hour")
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn window(self, assigner: impl WindowAssigner<T>) -> WindowedStream<T, K> {
        WindowedStream::new(self, assigner)
    }

    /// Gathers the rows of each key in windows of so many rows, one after the other. What is less than that at the end is
    /// not put out.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn hundreds(sales: KeyedStream<Sale, String>) {
    ///     sales.count_window(100).sum(Sale::FIELDS.cents).uid("hundreds").sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn count_window(self, rows: u64) -> WindowedStream<T, K> {
        self.window(GlobalWindows)
            .trigger(PurgingTrigger::of(CountTrigger::of(rows)))
    }

    /// Gathers the last `size` rows of each key, at every `slide` rows. The first windows are shorter. All `size` rows are
    /// kept.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn last_hundred(sales: KeyedStream<Sale, String>) {
    ///     sales.sliding_count_window(100, 10).sum(Sale::FIELDS.cents).sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn sliding_count_window(self, size: u64, slide: u64) -> WindowedStream<T, K>
    where
        T: Owned + Clone,
    {
        self.window(GlobalWindows)
            .trigger(CountTrigger::of(slide))
            .evictor(CountEvictor::of(size))
    }

    /// Looks for a pattern of events in the rows of each key.
    ///
    /// See [`pattern`](crate::pattern) for an example.
    pub fn pattern(self, pattern: Pattern<T>) -> PatternStream<T, K> {
        PatternStream::new(self, pattern)
    }

    fn rolling<R: RollingFunction<In = T>>(
        self,
        construct: &str,
        function: impl FnOnce(SharedKey<T, K>) -> R,
    ) -> Stream<Rolling<R>> {
        let function = function(self.selector.clone());
        let (chain, operator) = self.begin(construct, |graph, key_schema| {
            let state = wit::StateDecl {
                name: construct.to_owned(),
                aliases: Vec::new(),
                kind: wit::StateKind::Value,
                schema: graph.schema(state_fields::<<R::Kept as Kept>::Stored>()),
                migrations: Vec::new(),
                ttl: None,
            };
            wit::Head::Keyed(wit::Keyed {
                key_schema,
                states: vec![state],
                always_writes: true,
                applies: false,
                windows: None,
            })
        });
        Stream::opened(self.flow, chain, operator, Rolling::new(function, operator))
    }

    /// As an input of a chain.
    pub(crate) fn into_input(self) -> Input {
        Input {
            fields: T::fields(),
            origins: self.origins,
        }
    }

    /// Number of the operator that [`KeyedStream::begin`] will make.
    pub(crate) fn next_operator(&self) -> u32 {
        self.flow.borrow().operators.len() as u32
    }

    /// Declares a chain with a keyed head and its first operator.
    pub(crate) fn begin(&self, construct: &str, head: impl FnOnce(&mut GraphBuilder, u32) -> wit::Head) -> (u32, u32) {
        let mut graph = self.flow.borrow_mut();
        let key_schema = graph.schema(self.selector.key_fields());
        let head = head(&mut graph, key_schema);
        let chain = graph.open_chain([T::fields()], head);
        let operator = graph.add_function(chain, construct);
        graph.connect(&self.origins, operator, 0);
        (chain, operator)
    }
}
