//! A job as a test sees it: rows in, time on, rows out.

use std::rc::Rc;
use std::time::Duration;

use super::convert::check;
use super::datum::{Datum, columns, read_rows, write_rows};
use super::guest::Row;
use super::options::Options;
use super::plan::Kind;
use super::runner::{Build, Runner, Settings};
use super::snapshot::Snapshot;
use crate::Flow;
use crate::abi::Outcome;
use crate::bindings::dataflow::OperatorKind;
use crate::block::BlockWriter;
use crate::contract::to_contract;
use crate::harness::read;
use crate::stream::Millis;
use crate::time::millis;
use crate::value::{Builder, Owned, Record, Value};
use crate::values::Timestamp;

pub(super) fn erased<O: Outcome>(build: impl Fn(&Flow) -> O + 'static) -> Rc<Build> {
    Rc::new(move |flow: &Flow| build(flow).into_result())
}

/// Rows of a record, as the columns have them.
fn datums<T: Record + Value<Of<'static> = T>>(schema: &[super::datum::Column], rows: Vec<T>) -> Vec<Vec<Datum>> {
    let (mut builder, count) = (T::Builder::default(), rows.len());
    rows.into_iter().for_each(|row| T::push(&mut builder, row));
    let mut writer = BlockWriter::default();
    builder.finish(&mut writer);
    read_rows(schema, &writer.finish(count))
}

/// A pipeline that runs in a test: see [the module](super).
pub struct Job {
    pub(super) runner: Runner,
    settings: Settings,
    build: Rc<Build>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("pipeline", &self.runner.graph.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// Begins a job with the default [`Options`].
    ///
    /// # Panics
    /// If the pipeline cannot be built.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # fn pipeline(flow: &Flow) {}
    /// let job = millrace::testing::Job::new(pipeline);
    /// ```
    pub fn new<O: Outcome>(build: impl Fn(&Flow) -> O + 'static) -> Job {
        Options::new().start(build)
    }

    /// Begins a job where another was: see [`Options::restore`].
    ///
    /// # Panics
    /// If the pipeline cannot be built, or cannot go on from there.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # fn pipeline(flow: &Flow) {}
    /// # use millrace::testing::Job;
    /// let snapshot = Job::new(pipeline).snapshot();
    /// let job = Job::restore(&snapshot, pipeline);
    /// ```
    pub fn restore<O: Outcome>(snapshot: &Snapshot, build: impl Fn(&Flow) -> O + 'static) -> Job {
        Options::new().restore(snapshot, build)
    }

    pub(super) fn begin(settings: Settings, build: Rc<Build>, snapshot: Option<&Snapshot>) -> Job {
        let runner = Runner::new(&*build, &settings).unwrap_or_else(|error| panic!("the pipeline: {error}"));
        let mut job = Job {
            runner,
            settings,
            build,
        };
        if let Some(snapshot) = snapshot {
            let given = job.runner.entered(|runner| snapshot.give(runner));
            given.unwrap_or_else(|error| panic!("the job cannot go on from there: {error}"));
        }
        job.runner.end_sources();
        job.runner.run(None);
        job
    }

    /// Everything that the job needs to go on, as a checkpoint or savepoint has it. What is under way arrives first.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # fn pipeline(flow: &Flow) {}
    /// let snapshot = millrace::testing::Job::new(pipeline).snapshot();
    /// ```
    pub fn snapshot(&mut self) -> Snapshot {
        self.settle();
        self.runner.entered(Snapshot::take)
    }

    /// Has the job fail, and go on in new instances from a snapshot taken at this moment. What sinks have got stays.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # fn pipeline(flow: &Flow) {}
    /// let mut job = millrace::testing::Job::new(pipeline);
    /// job.restart();
    /// ```
    pub fn restart(&mut self) {
        let snapshot = self.snapshot();
        let settings = Settings {
            now: self.runner.now,
            attempt: self.settings.attempt + 1,
            // Another seed, that still follows from the first.
            seed: self.settings.seed.map(|seed| seed.wrapping_add(1)),
            ..self.settings.clone()
        };
        let next = Job::begin(settings, Rc::clone(&self.build), Some(&snapshot));
        let before = std::mem::replace(self, next);
        self.runner.written = before.runner.written;
        self.runner.tables = before.runner.tables;
        self.runner.refused = before.runner.refused;
    }

    /// Gives a source a row.
    ///
    /// # Panics
    /// If there is no such source, or it gives other rows; and if the pipeline does.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// # let mut job = millrace::testing::Job::new(|flow| {
    /// #     flow.source("clicks", Files::csv::<Click>("clicks.csv")).sink("out", Discard::new());
    /// # });
    /// job.push("clicks", Click { user: 7 });
    /// ```
    pub fn push<T: Record + Value<Of<'static> = T>>(&mut self, source: &str, row: T) {
        self.push_all(source, [row]);
    }

    /// Gives a source rows, all at once: they are one block, whose watermark comes behind the last of them.
    ///
    /// # Panics
    /// As [`push`](Self::push).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// # let mut job = millrace::testing::Job::new(|flow| {
    /// #     flow.source("clicks", Files::csv::<Click>("clicks.csv")).sink("out", Discard::new());
    /// # });
    /// job.push_all("clicks", [Click { user: 7 }, Click { user: 8 }]);
    /// ```
    pub fn push_all<T: Record + Value<Of<'static> = T>>(&mut self, source: &str, rows: impl IntoIterator<Item = T>) {
        self.push_split(source, 0, rows);
    }

    /// Gives rows to one of the [splits](Options::splits) of a source.
    ///
    /// # Panics
    /// As [`push`](Self::push).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// # fn pipeline(flow: &Flow) {
    /// #     flow.source("clicks", Files::csv::<Click>("clicks.csv")).sink("out", Discard::new());
    /// # }
    /// let mut job = millrace::testing::Options::new().splits("clicks", 2).start(pipeline);
    /// job.push_split("clicks", 1, [Click { user: 7 }]);
    /// ```
    pub fn push_split<T: Record + Value<Of<'static> = T>>(
        &mut self,
        source: &str,
        split: usize,
        rows: impl IntoIterator<Item = T>,
    ) {
        let rows = rows.into_iter().map(|row| (i64::MIN, row));
        self.feed(source, split, rows.collect());
    }

    /// Gives a test's own [`source`](super::source) a row with its event time.
    ///
    /// # Panics
    /// As [`push`](Self::push); and if the source is another.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::testing;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// # let mut job = testing::Job::new(|flow| {
    /// #     testing::source::<Click>(flow, "clicks").sink("out", Discard::new());
    /// # });
    /// job.push_at("clicks", 1_000, Click { user: 7 });
    /// ```
    pub fn push_at<T: Record + Value<Of<'static> = T>>(&mut self, source: &str, time: impl Millis, row: T) {
        let task = self.source(source);
        let is_given = self.runner.is_given(task);
        assert!(
            is_given,
            "the times of `{source}` are made by the pipeline: use `testing::source`"
        );
        self.feed(source, 0, vec![(time.millis(), row)]);
    }

    fn feed<T: Record + Value<Of<'static> = T>>(&mut self, source: &str, split: usize, timed: Vec<(i64, T)>) {
        let task = self.source(source);
        let operator = &self.runner.graph.operators[self.runner.plan.tasks[task].operator as usize];
        let OperatorKind::Source(declared) = &operator.kind else {
            unreachable!("it was found among the sources");
        };
        let schema = columns(&self.runner.graph.schemas[declared.schema as usize]);
        let own = columns(&to_contract(&T::fields()));
        check(&format!("a row of `{source}`"), &schema, &own);
        let (times, rows): (Vec<i64>, Vec<T>) = timed.into_iter().unzip();
        let rows = datums(&schema, rows).into_iter().zip(times);
        let row = |(values, time): (Vec<Datum>, i64)| Row {
            values,
            time,
            key: Vec::new(),
        };
        let mut rows: Vec<Row> = rows.map(row).collect();
        while !rows.is_empty() {
            let count = self.runner.draw(rows.len()).map_or(rows.len(), |drawn| drawn + 1);
            let rest = rows.split_off(count);
            self.runner.feed(task, split, std::mem::replace(&mut rows, rest));
            let steps = self.runner.draw(20);
            self.runner.run(steps);
        }
    }

    /// Says which rows the table has in which an operator looks rows up, from now on: those of an earlier call are gone, as when a
    /// table was refreshed. The operator has the name of the [`lookup_join`](crate::Stream::lookup_join). After
    /// [`restart`](Self::restart) they are the same.
    ///
    /// # Panics
    /// If there is no such operator, or its table has other rows.
    ///
    /// ```
    /// use millrace::prelude::*;
    ///
    /// # #[derive(Record, Clone)]
    /// # struct Order { product: i64, pieces: i64 }
    /// # #[derive(Record, Clone)]
    /// # struct Product { id: i64, cents: i64 }
    /// # #[derive(Record, Debug, PartialEq)]
    /// # struct Sale { cents: i64 }
    /// let mut job = millrace::testing::Job::new(|flow| {
    ///     let products = LookupTable::full(Files::csv::<Product>("products.csv"), Product::FIELDS.id);
    ///     flow.source("orders", Stdin::ndjson::<Order>())
    ///         .lookup_join(products, |order| order.product, |order, product| Sale { cents: order.pieces * product.cents })
    ///         .name("priced")
    ///         .sink("sales", Discard::new());
    /// });
    /// job.table("priced", [Product { id: 1, cents: 20 }]);
    /// job.push_all("orders", [Order { product: 1, pieces: 3 }, Order { product: 2, pieces: 1 }]);
    /// job.table("priced", [Product { id: 1, cents: 25 }]);
    /// job.push("orders", Order { product: 1, pieces: 1 });
    /// assert_eq!(job.rows::<Sale>("sales"), [Sale { cents: 60 }, Sale { cents: 25 }]);
    /// ```
    pub fn table<T: Record + Value<Of<'static> = T>>(&mut self, operator: &str, rows: impl IntoIterator<Item = T>) {
        self.settle();
        let named = format!("{operator} lookup");
        let mut operators = (0..).zip(&self.runner.graph.operators);
        let found = operators.find_map(|(index, other)| match &other.kind {
            OperatorKind::Lookup(lookup) if other.name == named => Some((index, lookup.table)),
            _ => None,
        });
        let Some((index, table)) = found else {
            panic!("no operator `{operator}` looks rows up in a table");
        };
        let schema = columns(&self.runner.graph.schemas[table as usize]);
        let own = columns(&to_contract(&T::fields()));
        check(&format!("a row of the table of `{operator}`"), &schema, &own);
        let rows = datums(&schema, rows.into_iter().collect());
        self.runner.tables.set(index, rows);
    }

    /// Says that no earlier rows come from a source: for a test's own [`source`](super::source), and to move event
    /// time on without rows.
    ///
    /// # Panics
    /// If there is no such source, or its rows have no event time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::testing;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// # let mut job = testing::Job::new(|flow| {
    /// #     testing::source::<Click>(flow, "clicks").sink("out", Discard::new());
    /// # });
    /// job.watermark("clicks", 1_000);
    /// ```
    pub fn watermark(&mut self, source: &str, watermark: impl Millis) {
        let watermark = watermark.millis();
        self.change_splits(source, |split| {
            let Some(generator) = &mut split.generator else {
                panic!("no watermarks follow `{source}` directly");
            };
            generator.is_idle = false;
            generator.raise(watermark);
        });
    }

    /// Says that a source gives nothing for now and holds no watermark back.
    ///
    /// # Panics
    /// If there is no such source, or its rows have no event time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::testing;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// # let mut job = testing::Job::new(|flow| {
    /// #     testing::source::<Click>(flow, "clicks").sink("out", Discard::new());
    /// # });
    /// job.idle("clicks");
    /// ```
    pub fn idle(&mut self, source: &str) {
        self.change_splits(source, |split| {
            let generator = split.generator.as_mut();
            generator.expect("event time is made there").is_idle = true;
        });
    }

    /// Ends a source.
    ///
    /// # Panics
    /// If there is no such source.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Click { user: i64 }
    /// # let mut job = millrace::testing::Job::new(|flow| {
    /// #     flow.source("clicks", Files::csv::<Click>("clicks.csv")).sink("out", Discard::new());
    /// # });
    /// job.end("clicks");
    /// ```
    pub fn end(&mut self, source: &str) {
        self.change_splits(source, |split| split.has_ended = true);
    }

    /// Ends all sources: what is open fires.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # fn pipeline(flow: &Flow) {}
    /// millrace::testing::Job::new(pipeline).finish();
    /// ```
    pub fn finish(&mut self) {
        for task in self.sources() {
            let operator = self.runner.plan.tasks[task].operator;
            let name = self.runner.graph.operators[operator as usize].name.clone();
            self.end(&name);
        }
        self.settle();
    }

    fn change_splits(&mut self, source: &str, mut change: impl FnMut(&mut super::operator::Split)) {
        let task = self.source(source);
        self.settle();
        for split in 0..self.settings.splits.get(source).copied().unwrap_or(1) {
            self.runner.change_split(task, split, &mut change);
        }
        let steps = self.runner.draw(20);
        self.runner.run(steps);
    }

    /// Has everything arrive that is under way.
    pub(super) fn settle(&mut self) {
        self.runner.run(None);
    }

    /// Moves processing time on: timers fire, and inputs fall idle, one after the other as if the time had passed.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # fn pipeline(flow: &Flow) {}
    /// let mut job = millrace::testing::Job::new(pipeline);
    /// job.advance_processing_time(Duration::from_secs(60));
    /// assert_eq!(job.processing_time().millis(), 60_000);
    /// ```
    pub fn advance_processing_time(&mut self, by: Duration) {
        let until = self.runner.now.saturating_add(millis(by) as i64);
        self.settle();
        while let Some(next) = self.runner.next_time().filter(|next| *next <= until) {
            self.runner.now = self.runner.now.max(next);
            self.runner.tick();
            self.settle();
        }
        self.runner.now = until;
    }

    /// What time it is.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # fn pipeline(flow: &Flow) {}
    /// assert_eq!(millrace::testing::Job::new(pipeline).processing_time().millis(), 0);
    /// ```
    pub fn processing_time(&self) -> Timestamp {
        Timestamp::from_millis(self.runner.now)
    }

    /// Rows that a sink has got so far.
    ///
    /// Rows that borrow are read by an owned record with the same fields.
    ///
    /// # Panics
    /// If there is no such sink, or it gets other rows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone, Debug, PartialEq)]
    /// # struct Click { user: i64 }
    /// # let mut job = millrace::testing::Job::new(|flow| {
    /// #     flow.source("clicks", Files::csv::<Click>("clicks.csv")).sink("out", Discard::new());
    /// # });
    /// job.push("clicks", Click { user: 7 });
    /// assert_eq!(job.rows::<Click>("out"), [Click { user: 7 }]);
    /// ```
    pub fn rows<T: Record + Owned>(&mut self, sink: &str) -> Vec<T> {
        self.timed_rows(sink).into_iter().map(|(_, row)| row).collect()
    }

    /// Rows that a sink has got so far, and takes them away: what comes next is new.
    ///
    /// # Panics
    /// As [`rows`](Self::rows).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone, Debug, PartialEq)]
    /// # struct Click { user: i64 }
    /// # let mut job = millrace::testing::Job::new(|flow| {
    /// #     flow.source("clicks", Files::csv::<Click>("clicks.csv")).sink("out", Discard::new());
    /// # });
    /// job.push("clicks", Click { user: 7 });
    /// assert_eq!(job.take::<Click>("out").len(), 1);
    /// assert_eq!(job.take::<Click>("out").len(), 0);
    /// ```
    pub fn take<T: Record + Owned>(&mut self, sink: &str) -> Vec<T> {
        let rows = self.rows(sink);
        let task = self.sink(sink);
        let operator = self.runner.plan.tasks[task].operator;
        self.runner.written.remove(&operator);
        rows
    }

    /// Rows that a sink has got so far with their event times, where they have any.
    ///
    /// # Panics
    /// As [`rows`](Self::rows).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::testing;
    /// # #[derive(Record, Clone, Debug, PartialEq)]
    /// # struct Click { user: i64 }
    /// # let mut job = testing::Job::new(|flow| {
    /// #     testing::source::<Click>(flow, "clicks").sink("out", Discard::new());
    /// # });
    /// job.push_at("clicks", 5, Click { user: 7 });
    /// assert_eq!(job.timed_rows::<Click>("out")[0].0, Some(Timestamp::from_millis(5)));
    /// ```
    pub fn timed_rows<T: Record + Owned>(&mut self, sink: &str) -> Vec<(Option<Timestamp>, T)> {
        self.settle();
        let task = self.sink(sink);
        let schema = self.runner.columns_into(task);
        let own = columns(&to_contract(&T::fields()));
        check(&format!("a row of `{sink}`"), &schema, &own);
        let operator = self.runner.plan.tasks[task].operator;
        let Some(rows) = self.runner.written.get(&operator) else {
            return Vec::new();
        };
        let block = write_rows(&schema, rows.iter().map(|row| row.values.as_slice()));
        let times = rows.iter().map(|row| row.time);
        let times = times.map(|time| (time != i64::MIN).then(|| Timestamp::from_millis(time)));
        times.zip(read::<T>(&block)).collect()
    }

    /// Names and values, as text, of the fields of rows that a sink has got.
    #[doc(hidden)]
    pub fn texts(&mut self, sink: &str) -> Vec<Vec<(String, String)>> {
        self.settle();
        let task = self.sink(sink);
        let schema = self.runner.columns_into(task);
        let operator = self.runner.plan.tasks[task].operator;
        let rows = self.runner.written.get(&operator).into_iter().flatten();
        let rows = rows.map(|row| {
            let fields = schema.iter().zip(&row.values);
            let fields = fields.map(|(column, value)| (column.field.name.clone(), column.show(value)));
            fields.collect()
        });
        rows.collect()
    }

    /// Names of all sinks.
    #[doc(hidden)]
    pub fn sinks(&self) -> Vec<String> {
        let tasks = self.runner.plan.tasks.iter().filter(|task| task.kind == Kind::Sink);
        let name = |operator: u32| self.runner.graph.operators[operator as usize].name.clone();
        tasks.map(|task| name(task.operator)).collect()
    }

    fn sources(&self) -> Vec<usize> {
        let tasks = self.runner.plan.tasks.iter().enumerate();
        let sources = tasks.filter(|(_, task)| task.kind == Kind::Source);
        sources.map(|(task, _)| task).collect()
    }

    fn source(&self, name: &str) -> usize {
        self.named(name, "source", Kind::Source)
    }

    fn sink(&self, name: &str) -> usize {
        self.named(name, "sink", Kind::Sink)
    }

    fn named(&self, name: &str, what: &str, kind: Kind) -> usize {
        let tasks = self.runner.plan.tasks.iter().enumerate();
        let tasks = tasks.filter(|(_, task)| task.kind == kind);
        let name_of = |operator: u32| self.runner.graph.operators[operator as usize].name.as_str();
        let named: Vec<(usize, &str)> = tasks.map(|(index, task)| (index, name_of(task.operator))).collect();
        let mut found = named.iter().filter(|(_, known)| *known == name);
        match (found.next(), found.next()) {
            (Some((task, _)), None) => *task,
            (None, _) => {
                let names: Vec<&str> = named.iter().map(|(_, name)| *name).collect();
                panic!("no {what} is named `{name}`; there are: {}", names.join(", "))
            }
            (Some(_), Some(_)) => panic!("more than one {what} is named `{name}`"),
        }
    }
}
