//! The stream after `window`.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use super::evictor::{Evictor, RowStore, WithEvictor};
use super::functions::{Aggregated, Collected, Folded, Most, Reduced, RowCount, Summed};
use super::head::WindowHead;
use super::process::{Finished, Processed, WindowProcess, WindowSetup};
use super::trigger::{Life, Trigger, TriggerStore, Triggered};
use super::{Aggregate, Window, WindowAssigner};
use crate::keyed::{KeyedStream, Number};
use crate::value::{FieldAt, FieldRef, Owned, Record, Value};
use crate::{Out, OutputTag, Stream};

/// Makes the trigger of windows that live so long.
pub(crate) type MakeTrigger<T> = Box<dyn FnOnce(Life) -> Box<dyn TriggerStore<T>>>;

/// The rows of each key, gathered in windows: what [`KeyedStream::window`] makes.
///
/// A window fires when the watermark reaches its end, or as its [trigger](WindowedStream::trigger) says; the rows that it
/// puts out have its last moment as their time.
pub struct WindowedStream<T: Record, K: Owned + Clone> {
    pub(super) keyed: KeyedStream<T, K>,
    pub(super) assigner: Rc<dyn WindowAssigner<T>>,
    pub(super) allowed_lateness: Duration,
    pub(super) late: Option<&'static str>,
    pub(super) trigger: Option<MakeTrigger<T>>,
    pub(super) evictor: Option<Box<dyn RowStore<T>>>,
    /// All rows in one subtask.
    pub(super) is_global: bool,
}

impl<T: Record, K: Owned + Clone> std::fmt::Debug for WindowedStream<T, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowedStream")
            .field("keyed", &self.keyed)
            .finish_non_exhaustive()
    }
}

/// Puts all rows of a window out.
type AllRows<T, K> = Collected<T, K, T, for<'r, 'x, 'o> fn(K, Window, &'r [T], &'x mut Out<'o, T>)>;

fn all_rows<T: Record + Owned + Clone, K>(_key: K, _window: Window, rows: &[T], out: &mut Out<'_, T>) {
    rows.iter().for_each(|row| out.push(row.clone()));
}

fn reduced<T: Clone, K>(_key: K, _window: Window, row: &T) -> T {
    row.clone()
}

impl<T: Record, K: Owned + Clone> WindowedStream<T, K> {
    pub(crate) fn new(keyed: KeyedStream<T, K>, assigner: impl WindowAssigner<T>) -> Self {
        WindowedStream {
            keyed,
            assigner: Rc::new(assigner),
            allowed_lateness: Duration::ZERO,
            late: None,
            trigger: None,
            evictor: None,
            is_global: false,
        }
    }

    /// All rows in one subtask.
    pub(crate) fn global(self) -> Self {
        WindowedStream {
            is_global: true,
            ..self
        }
    }

    /// Says when windows fire. It takes the place of the end of the window: a window that is to fire then as well needs a
    /// trigger that says so.
    ///
    /// [`Trigger`] has an example of one of your own. Beside those there are [`CountTrigger`](super::CountTrigger),
    /// [`ContinuousEventTimeTrigger`](super::ContinuousEventTimeTrigger),
    /// [`ContinuousProcessingTimeTrigger`](super::ContinuousProcessingTimeTrigger),
    /// [`DeltaTrigger`](super::DeltaTrigger), [`EventTimeTrigger`](super::EventTimeTrigger),
    /// [`ProcessingTimeTrigger`](super::ProcessingTimeTrigger), and
    /// [`PurgingTrigger`](super::PurgingTrigger), which makes one of them drop the rows of what has fired.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// /// The turnover of the hour so far, at every hundred sales and at its end.
    /// fn turnover(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(3600)))
    ///         .trigger(CountTrigger::of(100).or_at_end())
    ///         .sum(Sale::FIELDS.cents)
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn trigger<G: Trigger<T>>(self, trigger: G) -> Self {
        WindowedStream {
            trigger: Some(Box::new(|life| Box::new(Triggered::new(trigger, life)))),
            ..self
        }
    }

    /// Takes rows out of windows that fire. All rows of a window are kept for that, whatever its function is.
    ///
    /// [`Evictor`] has an example of one of your own. Beside those there are [`CountEvictor`](super::CountEvictor),
    /// [`TimeEvictor`](super::TimeEvictor) and [`DeltaEvictor`](super::DeltaEvictor). If no row is left the function is not
    /// called.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// /// The turnover of the last ten sales, at every sale.
    /// fn turnover(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(GlobalWindows)
    ///         .trigger(CountTrigger::of(1))
    ///         .evictor(CountEvictor::of(10))
    ///         .sum(Sale::FIELDS.cents)
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn evictor<V: Evictor<T>>(self, evictor: V) -> Self
    where
        T: Owned + Clone,
    {
        WindowedStream {
            evictor: Some(Box::new(WithEvictor::new(evictor))),
            ..self
        }
    }

    /// Keeps a window that long after it fired. Rows that come late, but within it, are added, and the window
    /// fires again.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn totals(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .allowed_lateness(Duration::from_secs(600))
    ///         .sum(Sale::FIELDS.cents)
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        WindowedStream {
            allowed_lateness: lateness,
            ..self
        }
    }

    /// Gives rows that come too late for all their windows to a side output, instead of dropping them.
    ///
    /// Those that are dropped are counted: in the column `late` of the report where windows are the host's, in the metric
    /// `late_rows_dropped` where they are the pipeline's.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// static LATE: OutputTag<Sale> = OutputTag::new("late");
    ///
    /// fn totals(sales: KeyedStream<Sale, String>) {
    ///     let totals = sales.window(Tumbling::of(Duration::from_secs(60))).late_output(&LATE).sum(Sale::FIELDS.cents);
    ///     totals.side_output(&LATE).sink("late", Stdout::ndjson());
    ///     totals.sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn late_output(self, tag: &OutputTag<T>) -> Self {
        WindowedStream {
            late: Some(tag.name()),
            ..self
        }
    }

    /// Aggregates the rows of each window. What is kept is an accumulator, not the rows.
    ///
    /// See [`Aggregate`] for an example.
    pub fn aggregate<A>(self, aggregate: A) -> Stream<WindowHead<Aggregated<A>>>
    where
        A: Aggregate<In = T, Key = K>,
    {
        self.head("window.aggregate", Aggregated(aggregate))
    }

    /// Aggregates the rows of each window by four functions: the accumulator of no rows, adding a row, adding
    /// another accumulator, and the result.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// #[derive(Record)]
    /// struct Mean { shop: String, cents: f64, until: Timestamp }
    ///
    /// fn means(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .aggregate_with(
    ///             || (0i64, 0i64),
    ///             |(cents, rows), sale| { *cents += sale.cents; *rows += 1 },
    ///             |(cents, rows), other| { *cents += other.0; *rows += other.1 },
    ///             |shop, window, &(cents, rows)| Mean { shop, cents: cents as f64 / rows as f64, until: window.end },
    ///         )
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn aggregate_with<A, U, C, D, M, F>(
        self,
        create: C,
        add: D,
        merge: M,
        finish: F,
    ) -> Stream<WindowHead<Aggregated<Folded<T, K, A, U, C, D, M, F>>>>
    where
        A: Owned + Clone,
        U: Record + Owned,
        C: Fn() -> A + 'static,
        D: for<'x, 'a> Fn(&'x mut A, <T as Value>::Of<'a>) + 'static,
        M: Fn(&mut A, &A) + 'static,
        F: Fn(K, Window, &A) -> U + 'static,
    {
        let folded = Folded {
            create,
            add,
            merge,
            finish,
            types: PhantomData,
        };
        self.head("window.aggregate", Aggregated(folded))
    }

    /// Merges the rows of each window into one, beginning with the first, and makes the result of it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// #[derive(Record)]
    /// struct Dearest { shop: String, cents: i64, until: Timestamp }
    ///
    /// fn dearest(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .reduce(
    ///             |dearest, sale| if sale.cents > dearest.cents { *dearest = sale },
    ///             |shop, window, dearest| Dearest { shop, cents: dearest.cents, until: window.end },
    ///         )
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn reduce<U, F, G>(self, reduce: F, finish: G) -> Stream<WindowHead<Reduced<T, K, U, F, G>>>
    where
        T: Owned + Clone,
        U: Record + Owned,
        F: Fn(&mut T, T) + 'static,
        G: Fn(K, Window, &T) -> U + 'static,
    {
        let reduced = Reduced {
            reduce,
            finish,
            types: PhantomData,
        };
        self.head("window.reduce", reduced)
    }

    /// Keeps all rows of each window and gives them to a function when it fires.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// #[derive(Record)]
    /// struct Median { shop: String, cents: i64 }
    ///
    /// fn medians(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .process(|shop, _window, sales, out: &mut Out<'_, Median>| {
    ///             let mut cents: Vec<i64> = sales.iter().map(|sale| sale.cents).collect();
    ///             cents.sort_unstable();
    ///             out.push(Median { shop, cents: cents[cents.len() / 2] });
    ///         })
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn process<U, F>(self, function: F) -> Stream<WindowHead<Collected<T, K, U, F>>>
    where
        T: Owned + Clone,
        Vec<T>: Owned,
        U: Record,
        F: for<'r, 'x, 'o> Fn(K, Window, &'r [T], &'x mut Out<'o, U>) + 'static,
    {
        let collected = Collected {
            function,
            types: PhantomData,
        };
        self.head("window.process", collected)
    }

    /// Aggregates the rows of each window, and gives the results to a function, which may put out any number of rows, and
    /// rows beside the main output.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// # #[derive(Record, Clone)]
    /// # struct Total { shop: String, cents: i64 }
    /// # struct Totals;
    /// # impl Aggregate for Totals {
    /// #     type In = Sale; type Key = String; type Acc = i64; type Out = Total;
    /// #     fn create(&self) -> i64 { 0 }
    /// #     fn add(&self, cents: &mut i64, sale: Sale) { *cents += sale.cents; }
    /// #     fn merge(&self, cents: &mut i64, other: &i64) { *cents += other; }
    /// #     fn finish(&self, shop: String, _window: Window, &cents: &i64) -> Total { Total { shop, cents } }
    /// # }
    /// static GREAT: OutputTag<Total> = OutputTag::new("great");
    ///
    /// fn totals(sales: KeyedStream<Sale, String>) {
    ///     let totals = sales.window(Tumbling::of(Duration::from_secs(60))).aggregate_process(
    ///         Totals,
    ///         |_shop, _window, total: &Total, out: &mut Out<'_, Total>| {
    ///             if total.cents > 1_000_00 {
    ///                 out.side(&GREAT, total.clone());
    ///             }
    ///             out.push(total.clone());
    ///         },
    ///     );
    ///     totals.side_output(&GREAT).sink("great", Stdout::ndjson());
    ///     totals.sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn aggregate_process<A, U, F>(
        self,
        aggregate: A,
        function: F,
    ) -> Stream<WindowHead<Finished<Aggregated<A>, U, F>>>
    where
        A: Aggregate<In = T, Key = K>,
        U: Record,
        F: for<'r, 'x, 'o> Fn(K, Window, &'r A::Out, &'x mut Out<'o, U>) + 'static,
    {
        let finished = Finished {
            before: Aggregated(aggregate),
            function,
            row: PhantomData,
        };
        self.head("window.aggregate_process", finished)
    }

    /// Merges the rows of each window into one, beginning with the first, and gives it to a function, which may put out any
    /// number of rows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn dearest(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .reduce_process(
    ///             |dearest, sale| if sale.cents > dearest.cents { *dearest = sale },
    ///             |_shop, _window, dearest: &Sale, out: &mut Out<'_, Sale>| {
    ///                 if dearest.cents > 1_00 {
    ///                     out.push(dearest.clone());
    ///                 }
    ///             },
    ///         )
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn reduce_process<U, R, F>(
        self,
        reduce: R,
        function: F,
    ) -> Stream<WindowHead<Finished<Reduced<T, K, T, R, fn(K, Window, &T) -> T>, U, F>>>
    where
        T: Owned + Clone,
        U: Record,
        R: Fn(&mut T, T) + 'static,
        F: for<'r, 'x, 'o> Fn(K, Window, &'r T, &'x mut Out<'o, U>) + 'static,
    {
        let before = Reduced {
            reduce,
            finish: reduced::<T, K> as fn(K, Window, &T) -> T,
            types: PhantomData,
        };
        let finished = Finished {
            before,
            function,
            row: PhantomData,
        };
        self.head("window.reduce_process", finished)
    }

    /// Keeps all rows of each window and gives them to a function with state when it fires. The function is made by `make`,
    /// which declares its states.
    ///
    /// See [`WindowProcess`] for an example.
    pub fn process_with<P, F>(self, make: F) -> Stream<WindowHead<Processed<AllRows<T, K>, P>>>
    where
        T: Owned + Clone,
        Vec<T>: Owned,
        P: WindowProcess<In = T, Key = K>,
        F: FnOnce(&mut WindowSetup) -> P,
    {
        let before: AllRows<T, K> = Collected {
            function: all_rows::<T, K>,
            types: PhantomData,
        };
        let processed = Processed::new(before, self.keyed.next_operator(), make);
        self.head("window.process", processed)
    }

    /// Aggregates the rows of each window and gives the results to a function with state.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// # #[derive(Record, Clone)]
    /// # struct Total { shop: String, cents: i64 }
    /// # struct Totals;
    /// # impl Aggregate for Totals {
    /// #     type In = Sale; type Key = String; type Acc = i64; type Out = Total;
    /// #     fn create(&self) -> i64 { 0 }
    /// #     fn add(&self, cents: &mut i64, sale: Sale) { *cents += sale.cents; }
    /// #     fn merge(&self, cents: &mut i64, other: &i64) { *cents += other; }
    /// #     fn finish(&self, shop: String, _window: Window, &cents: &i64) -> Total { Total { shop, cents } }
    /// # }
    /// /// Puts out totals that are greater than all before.
    /// struct Records { greatest: ValueState<i64> }
    ///
    /// impl WindowProcess for Records {
    ///     type In = Total;
    ///     type Key = String;
    ///     type Out = Total;
    ///
    ///     fn process(&mut self, totals: &[Total], cx: &mut WindowContext<'_, Self>) {
    ///         for total in totals {
    ///             if self.greatest.get().is_none_or(|greatest| total.cents > greatest) {
    ///                 self.greatest.set(total.cents);
    ///                 cx.push(total.clone());
    ///             }
    ///         }
    ///     }
    /// }
    ///
    /// fn records(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .aggregate_process_with(Totals, |setup| Records { greatest: setup.value_state("greatest") })
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn aggregate_process_with<A, P, F>(
        self,
        aggregate: A,
        make: F,
    ) -> Stream<WindowHead<Processed<Aggregated<A>, P>>>
    where
        A: Aggregate<In = T, Key = K>,
        P: WindowProcess<In = A::Out, Key = K>,
        F: FnOnce(&mut WindowSetup) -> P,
    {
        let processed = Processed::new(Aggregated(aggregate), self.keyed.next_operator(), make);
        self.head("window.aggregate_process", processed)
    }

    /// Counts the rows of each window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn rush(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .count()
    ///         .filter(|minute| minute.value > 100)
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn count(self) -> Stream<WindowHead<RowCount<T, K>>> {
        self.head("window.count", RowCount { types: PhantomData })
    }

    /// Sums up a field over the rows of each window. The example of [`KeyedStream::window`] does that.
    pub fn sum<N: Number, A>(self, field: FieldRef<T, N, A>) -> Stream<WindowHead<Summed<T, K, N, A>>>
    where
        A: FieldAt<Row = T, Field = N>,
    {
        self.head(
            "window.sum",
            Summed {
                field,
                key: PhantomData,
            },
        )
    }

    /// The least value of a field among the rows of each window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn cheapest(sales: KeyedStream<Sale, String>) {
    ///     sales.window(Tumbling::of(Duration::from_secs(60))).min(Sale::FIELDS.cents).sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn min<V, A>(self, field: FieldRef<T, V, A>) -> Stream<WindowHead<Most<T, K, V, A, false>>>
    where
        A: FieldAt<Row = T, Field = V>,
        V: Owned + Clone + PartialOrd,
    {
        self.head(
            "window.min",
            Most {
                field,
                key: PhantomData,
            },
        )
    }

    /// The greatest value of a field among the rows of each window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn dearest(sales: KeyedStream<Sale, String>) {
    ///     sales.window(Tumbling::of(Duration::from_secs(60))).max(Sale::FIELDS.cents).sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn max<V, A>(self, field: FieldRef<T, V, A>) -> Stream<WindowHead<Most<T, K, V, A, true>>>
    where
        A: FieldAt<Row = T, Field = V>,
        V: Owned + Clone + PartialOrd,
    {
        self.head(
            "window.max",
            Most {
                field,
                key: PhantomData,
            },
        )
    }
}
