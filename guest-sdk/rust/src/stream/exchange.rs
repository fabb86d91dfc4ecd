//! Where chains end: fan-out, unions, exchanges, event time, side outputs, sinks.

use std::rc::Rc;

use super::{Pass, Stream, TimeSource, WatermarkSource, Watermarks};
use crate::OutputTag;
use crate::bindings::dataflow as wit;
use crate::chain::exit::{ComputedKey, ComputedTime, ComputedWatermark, NoExtra};
use crate::chain::{Chain, Rows};
use crate::connect::{Reject, Sink};
use crate::graph::{Handle, Origin};
use crate::keyed::{KeySelector, KeyedStream, unfit_for_key};
use crate::schema::Field;
use crate::time::{check_some, millis};
use crate::value::{Record, Value};
use crate::window::{WindowAssigner, WindowedStream};

impl<C: Chain> Stream<C> {
    /// Ends the chain here, so that several streams can take its rows: the result can be cloned.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn both(sales: Stream<Rows<Sale>>) {
    ///     let real = sales.filter(|sale| sale.cents != 0).share();
    ///     real.clone().filter(|sale| sale.cents < 0).sink("refunds", Stdout::ndjson());
    ///     real.sink("all", Discard::new());
    /// }
    /// ```
    pub fn share(mut self) -> Stream<Rows<C::Out>> {
        let origins = self.close(NoExtra);
        Stream::from_origins(Rc::clone(&self.flow), origins)
    }

    /// The rows of both streams, in any order.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn all(here: Stream<Rows<Sale>>, there: Stream<Rows<Sale>>) {
    ///     here.union(there.filter(|sale| sale.cents > 0)).sink("out", Discard::new());
    /// }
    /// ```
    pub fn union<D: Chain<Out = C::Out>>(mut self, mut other: Stream<D>) -> Stream<Rows<C::Out>> {
        let mut origins = self.close(NoExtra);
        origins.extend(other.close(NoExtra));
        Stream::from_origins(Rc::clone(&self.flow), origins)
    }

    /// Has the rows stay in their subtask: subtask i of what comes next gets those of subtask i. That is so without saying
    /// it where the parallelism is the same, and functions that are fused have no other way; but where it differs, rows would
    /// be spread evenly. With this the job is refused then, so that an order of rows, or a share of them, that is counted on
    /// cannot be lost by a change of parallelism.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn in_order(sales: Stream<Rows<Sale>>) {
    ///     let real = sales.filter(|sale| sale.cents > 0).parallelism(2).share();
    ///     real.clone().forward().sink("in order", Stdout::ndjson()).parallelism(2);
    ///     real.sink("all", Discard::new());
    /// }
    /// ```
    pub fn forward(mut self) -> Self {
        self.forwarded = Some(self.operator);
        for origin in &mut self.origins {
            origin.partition = wit::Partition::SameSubtask;
        }
        self
    }

    /// Spreads the rows evenly over the subtasks of what comes next, block by block. A subtask that cannot keep up is passed
    /// over until it can.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn spread(sales: Stream<Rows<Sale>>) {
    ///     sales.rebalance().filter(|sale| sale.shop.len() > 3).parallelism(8).sink("out", Discard::new());
    /// }
    /// ```
    pub fn rebalance(self) -> Stream<Rows<C::Out>> {
        self.repartition(&wit::Partition::Rebalance)
    }

    /// Spreads the rows, block by block, over a part of the subtasks of what comes next: where there are more of them, each
    /// sender has its own, and where there are fewer, some senders share one. Fewer connections than
    /// [`rebalance`](Stream::rebalance) has, but what is uneven among the senders stays uneven.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn spread(sales: Stream<Rows<Sale>>) {
    ///     sales.rescale().filter(|sale| sale.shop.len() > 3).parallelism(8).sink("out", Discard::new());
    /// }
    /// ```
    pub fn rescale(self) -> Stream<Rows<C::Out>> {
        self.repartition(&wit::Partition::Rescale)
    }

    /// Gives every row to a subtask of what comes next that is drawn by lot. Unlike [`rebalance`](Stream::rebalance), which
    /// moves blocks, it tears rows apart that came one after the other.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn mixed(sales: Stream<Rows<Sale>>) {
    ///     sales.shuffle().filter(|sale| sale.cents > 0).sink("out", Discard::new());
    /// }
    /// ```
    pub fn shuffle(self) -> Stream<Rows<C::Out>> {
        self.repartition(&wit::Partition::Shuffle)
    }

    /// Gives each row to the subtask of what comes next with the number that a function says; from the number of subtasks on
    /// they are counted anew from 0.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, region: u32, cents: i64 }
    /// fn by_region(sales: Stream<Rows<Sale>>) {
    ///     sales.partition_custom(|sale: &Sale| sale.region).filter(|sale| sale.cents > 0).sink("out", Discard::new());
    /// }
    /// ```
    ///
    /// What comes next has no state of keys: for that there is [`key_by`](Stream::key_by).
    pub fn partition_custom<F>(mut self, subtask: F) -> Stream<Rows<C::Out>>
    where
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) -> u32 + 'static,
    {
        let (flow, selector) = (Rc::clone(&self.flow), Rc::new(subtask));
        let origins = if self.open.is_none() {
            self.then("partition_custom", Pass::new).close_numbered(&selector)
        } else {
            self.close_numbered(&selector)
        };
        Stream::from_origins(flow, origins)
    }

    fn close_numbered<S: KeySelector<C::Out>>(&mut self, selector: &Rc<S>) -> Vec<Origin> {
        let extra = ComputedKey::new(Rc::clone(selector), self.operator);
        partitioned(self.close(extra), &wit::Partition::Numbered)
    }

    /// Ends the chain of fused functions here: the next one begins a chain of its own, with its own numbers in the summary and,
    /// if it is given one, its own [`parallelism`](Stream::parallelism). Rows are encoded in between, so a chain runs faster in
    /// one piece.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn apart(sales: Stream<Rows<Sale>>) {
    ///     sales
    ///         .filter(|sale| sale.cents > 0)
    ///         .start_new_chain()
    ///         .filter(|sale| sale.shop.len() > 3)
    ///         .sink("out", Discard::new());
    /// }
    /// ```
    pub fn start_new_chain(self) -> Stream<Rows<C::Out>> {
        self.share()
    }

    /// Has operators in a chain of their own, fused neither with what is before them nor with what comes behind. In Flink
    /// this is said behind an operator; here the operators are given, since what is fused is decided when they are compiled.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn alone(sales: Stream<Rows<Sale>>) {
    ///     sales
    ///         .filter(|sale| sale.cents > 0)
    ///         .disable_chaining(|sales| sales.filter(|sale| sale.shop.len() > 3).name("long names"))
    ///         .filter(|sale| sale.cents < 100)
    ///         .sink("out", Discard::new());
    /// }
    /// ```
    pub fn disable_chaining<D: Chain>(
        self,
        operators: impl FnOnce(Stream<Rows<C::Out>>) -> Stream<D>,
    ) -> Stream<Rows<D::Out>> {
        operators(self.start_new_chain()).start_new_chain()
    }

    /// Has the last operator run in the slots of this group. A slot is a thread with an instance of the pipeline; operators
    /// share slots with those of their group and with no others, so that what is slow, or needs much memory, holds up
    /// nobody else. What follows is in the same group until another one is named; where streams of different groups meet,
    /// and where none was named, it is in the group `default`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// # fn is_likely(sale: &Sale) -> bool { sale.cents < 1_000_00 }
    /// fn checked(sales: Stream<Rows<Sale>>) {
    ///     sales
    ///         .filter(|sale| sale.cents > 0)
    ///         .filter(|sale| is_likely(sale)) // takes long
    ///         .parallelism(8)
    ///         .slot_sharing_group("models")
    ///         .key_by(Sale::FIELDS.shop)
    ///         .sum(Sale::FIELDS.cents)
    ///         .slot_sharing_group("default")
    ///         .sink("out", Discard::new());
    /// }
    /// ```
    ///
    /// Functions of different groups are not fused: one that is given a group begins a chain, as if
    /// [`start_new_chain`](Stream::start_new_chain) stood before it, and rows go to it through a queue. A group has as many
    /// slots as its most parallel operator has subtasks, and a job as many as its groups together. State does not depend on
    /// groups: a job goes on from a savepoint that was taken with others.
    pub fn slot_sharing_group(self, name: &str) -> Stream<C::Alone> {
        if let Some(operator) = self.named_operator("slot-sharing group") {
            self.flow.borrow_mut().set_slot_sharing_group(operator, name);
        }
        C::alone(self)
    }

    /// Gives every row to every subtask of what comes next.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Rule { text: String }
    /// fn to_all(rules: Stream<Rows<Rule>>) {
    ///     rules.broadcast().inspect(|rule| info!("new rule: {}", rule.text)).sink("out", Discard::new());
    /// }
    /// ```
    pub fn broadcast(self) -> Stream<Rows<C::Out>> {
        self.repartition(&wit::Partition::Broadcast)
    }

    /// Gives all rows to one subtask of what comes next.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn one_file(sales: Stream<Rows<Sale>>) {
    ///     sales.global().sink("out", Files::to_csv("out"));
    /// }
    /// ```
    pub fn global(self) -> Stream<Rows<C::Out>> {
        self.repartition(&wit::Partition::Global)
    }

    fn repartition(mut self, partition: &wit::Partition) -> Stream<Rows<C::Out>> {
        let origins = partitioned(self.close(NoExtra), partition);
        Stream::from_origins(Rc::clone(&self.flow), origins)
    }

    /// Gives each row its event time and says how far event time has come. Windows and event-time timers need
    /// it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn timed(sales: Stream<Rows<Sale>>) -> Stream<Rows<Sale>> {
    ///     sales.watermarks(Watermarks::bounded(Sale::FIELDS.at, Duration::from_secs(5)))
    /// }
    /// ```
    pub fn watermarks<A, W>(mut self, watermarks: Watermarks<C::Out, A, W>) -> Stream<Rows<C::Out>>
    where
        A: TimeSource<C::Out>,
        W: WatermarkSource<C::Out>,
    {
        let flow = Rc::clone(&self.flow);
        let (time, source) = (watermarks.time.event_time(), watermarks.source.declared());
        let (idle_after_ms, alignment) = (watermarks.idle_after.map(millis), watermarks.alignment);
        let is_computed = A::COMPUTED || W::COMPUTED;
        let origins = if !is_computed {
            self.close(NoExtra)
        } else if self.open.is_none() {
            let passed = self.then("timestamps", Pass::new);
            passed.close_with_times(watermarks.time, watermarks.source)
        } else {
            self.close_with_times(watermarks.time, watermarks.source)
        };
        let mut graph = flow.borrow_mut();
        let idle = watermarks
            .idle_after
            .map_or(Ok(()), |after| check_some("the time to idleness", after));
        let mut errors: Vec<String> = idle.err().into_iter().collect();
        let time = time.unwrap_or_else(|error| {
            errors.push(error);
            wit::EventTime::Computed
        });
        let source = source.unwrap_or_else(|error| {
            errors.push(error);
            wit::WatermarkSource::Computed
        });
        if let Some((group, _)) = &alignment {
            let why = match source {
                _ if is_computed => Some("are computed: sources are aligned by fields"),
                wit::WatermarkSource::Clock(_) => Some("follow the clock: none is ever ahead of others"),
                _ => None,
            };
            errors.extend(why.map(|why| format!("they are to be aligned in the group `{group}`, and {why}")));
        }
        let kind = wit::OperatorKind::Watermarks(wit::Watermarks {
            time,
            source,
            idle_after_ms,
            alignment: alignment.map(|(group, max_drift)| wit::WatermarkAlignment {
                group,
                max_drift_ms: millis(max_drift),
            }),
        });
        let operator = graph.add_operator("watermarks", kind);
        graph.connect(&origins, operator, 0);
        errors.into_iter().for_each(|error| graph.error_of(operator, error));
        drop(graph);
        Stream::from_origins(flow, vec![Origin::forward(operator, 0)])
    }

    fn close_with_times<A, W>(mut self, time: A, source: W) -> Vec<Origin>
    where
        A: TimeSource<C::Out>,
        W: WatermarkSource<C::Out>,
    {
        let operator = self.operator;
        match W::COMPUTED {
            true => self.close(ComputedWatermark::new(time, source, operator)),
            false => self.close(ComputedTime { time, operator }),
        }
    }

    /// Groups rows by a key: a field, a tuple of fields, or a function of the row.
    ///
    /// Fields are read by the host, at no cost to the pipeline. A function's result travels beside the row.
    /// A key has no floats and no maps in it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, product: String, cents: i64 }
    /// fn totals(sales: Stream<Rows<Sale>>) {
    ///     let by_shop = sales.clone().key_by(Sale::FIELDS.shop);
    ///     let by_both = sales.clone().key_by((Sale::FIELDS.shop, Sale::FIELDS.product));
    ///     let by_initial = sales.key_by(|sale: &Sale| sale.shop.chars().next().map_or(0, u32::from));
    ///     by_shop.count().sink("shops", Discard::new());
    ///     by_both.count().sink("products", Discard::new());
    ///     by_initial.count().sink("initials", Discard::new());
    /// }
    /// ```
    pub fn key_by<S: KeySelector<C::Out>>(mut self, key: S) -> KeyedStream<C::Out, S::Key> {
        let flow = Rc::clone(&self.flow);
        if let Some((name, why)) = unfit_for_key(&key.fields()) {
            let message = format!("`key_by`: `{name}` is {why}, and rows cannot be keyed by that");
            flow.borrow_mut().error(message);
        }
        let selector = Rc::new(key);
        let origins = if !S::COMPUTED {
            partitioned(self.close(NoExtra), &wit::Partition::HashFields(selector.columns()))
        } else if self.open.is_none() {
            self.then("key_by", Pass::new).close_with_key(&selector)
        } else {
            self.close_with_key(&selector)
        };
        KeyedStream::new(flow, origins, selector)
    }

    /// Gathers all rows in windows, without regard to a key: in one subtask, and under the key 0.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn turnover(sales: Stream<Rows<Sale>>) {
    ///     sales
    ///         .watermarks(Watermarks::monotonic(Sale::FIELDS.at))
    ///         .window_all(Tumbling::of(Duration::from_secs(60)))
    ///         .sum(Sale::FIELDS.cents)
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    ///
    /// What can be computed in parts is better computed for some key first, and then for all.
    pub fn window_all(self, assigner: impl WindowAssigner<C::Out>) -> WindowedStream<C::Out, u8> {
        self.key_by(Everything).window(assigner).global()
    }

    /// Gathers all rows in windows of so many, without regard to a key: see [`Stream::window_all`] and
    /// [`KeyedStream::count_window`].
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn thousands(sales: Stream<Rows<Sale>>) {
    ///     sales.count_window_all(1_000).sum(Sale::FIELDS.cents).sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn count_window_all(self, rows: u64) -> WindowedStream<C::Out, u8> {
        self.key_by(Everything).count_window(rows).global()
    }

    fn close_with_key<S: KeySelector<C::Out>>(mut self, selector: &Rc<S>) -> Vec<Origin> {
        let extra = ComputedKey::new(Rc::clone(selector), self.operator);
        partitioned(self.close(extra), &wit::Partition::HashComputed)
    }

    /// The rows that the last function, or one fused with it before it, puts out under this tag.
    ///
    /// See [`OutputTag`] for an example.
    pub fn side_output<U: Record>(&self, tag: &OutputTag<U>) -> Stream<Rows<U>> {
        let mut graph = self.flow.borrow_mut();
        let origin = graph.side_output::<U>(self.operator, tag.name());
        drop(graph);
        let origin = origin.unwrap_or_else(|| Origin::forward(self.operator, 0));
        Stream::from_origins(Rc::clone(&self.flow), vec![origin])
    }

    /// What happens to rows that the last operator refuses: a source that cannot read them, `try_map` or
    /// `try_flat_map`. Without this the job fails.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Line { text: String }
    /// # #[derive(Record)]
    /// # struct Number { value: i64 }
    /// fn numbers(lines: Stream<Rows<Line>>) {
    ///     lines
    ///         .try_map(|line| line.text.parse().map(|value| Number { value }))
    ///         .on_reject(Reject::dead_letter("bad-lines.ndjson"))
    ///         .sink("out", Discard::new());
    /// }
    /// ```
    pub fn on_reject(self, reject: Reject) -> Self {
        if let Some(operator) = self.named_operator("a policy for refused rows") {
            self.flow.borrow_mut().on_reject(operator, reject.into_contract());
        }
        self
    }

    /// Gives the rows to a connector.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64 }
    /// fn write(sales: Stream<Rows<Sale>>) {
    ///     sales.sink("sales", Files::to_parquet("sales")).parallelism(1);
    /// }
    /// ```
    pub fn sink(mut self, name: &str, connector: impl Sink) -> SinkOperator {
        let origins = self.close(NoExtra);
        let flow = Rc::clone(&self.flow);
        let mut graph = flow.borrow_mut();
        let connector = connector.into_connector();
        let operator = graph.add_operator(name, wit::OperatorKind::Sink(wit::Sink { connector }));
        graph.connect(&origins, operator, 0);
        drop(graph);
        SinkOperator { flow, operator }
    }
}

/// One key for all rows.
struct Everything;

impl<T: Record> KeySelector<T> for Everything {
    type Key = u8;
    const COMPUTED: bool = true;

    fn columns(&self) -> Vec<u32> {
        Vec::new()
    }

    fn fields(&self) -> Vec<Field> {
        vec![u8::field("key")]
    }

    fn key(&self, _row: &T::Of<'_>) -> u8 {
        0
    }
}

fn partitioned(mut origins: Vec<Origin>, partition: &wit::Partition) -> Vec<Origin> {
    for origin in &mut origins {
        origin.partition = partition.clone();
    }
    origins
}

/// A sink that was declared, to be configured further.
pub struct SinkOperator {
    flow: Handle,
    operator: u32,
}

impl std::fmt::Debug for SinkOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkOperator")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl SinkOperator {
    /// Names the sink's state, so that it is found again after an upgrade.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn write(rows: Stream<Rows<(i64,)>>) {
    ///     rows.sink("rows", Files::to_csv("out")).uid("rows-out");
    /// }
    /// ```
    pub fn uid(self, uid: &str) -> Self {
        self.flow.borrow_mut().operators[self.operator as usize].uid = Some(uid.to_owned());
        self
    }

    /// How many subtasks it has.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn write(rows: Stream<Rows<(i64,)>>) {
    ///     rows.sink("rows", Files::to_csv("out")).parallelism(1);
    /// }
    /// ```
    pub fn parallelism(self, subtasks: u32) -> Self {
        self.flow.borrow_mut().set_parallelism(self.operator, subtasks);
        self
    }

    /// Has it run in the slots of this group; without that, in those of what writes to it. See
    /// [`Stream::slot_sharing_group`].
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn write(rows: Stream<Rows<(i64,)>>) {
    ///     rows.sink("rows", Files::to_csv("out")).slot_sharing_group("writers");
    /// }
    /// ```
    pub fn slot_sharing_group(self, name: &str) -> Self {
        self.flow.borrow_mut().set_slot_sharing_group(self.operator, name);
        self
    }
}
