//! Functions of windows that put out what they like: of all rows, or behind an aggregate, with state or without.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::marker::PhantomData;

use super::WindowedStream;
use crate::value::{Owned, Record};
use crate::window::functions::{Aggregated, Collected, Reduced};
use crate::window::process::{Finished, Processed, WindowProcess};
use crate::window::{Aggregate, Window, WindowHead, WindowSetup};
use crate::{Out, Stream};

/// Puts all rows of a window out.
type AllRows<T, K> = Collected<T, K, T, for<'r, 'x, 'o> fn(K, Window, &'r [T], &'x mut Out<'o, T>)>;

fn all_rows<T: Record + Owned + Clone, K>(_key: K, _window: Window, rows: &[T], out: &mut Out<'_, T>) {
    rows.iter().for_each(|row| out.push(row.clone()));
}

/// Puts out what all rows of a window were merged into.
type ReducedRows<T, K, R> = Reduced<T, K, T, R, fn(K, Window, &T) -> T>;

fn reduced<T: Clone, K, R>(reduce: R) -> ReducedRows<T, K, R> {
    Reduced::new(reduce, |_, _, row| row.clone())
}

impl<T: Record, K: Owned + Clone> WindowedStream<T, K> {
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

    /// The same as [`process`](WindowedStream::process), under the name that it has in Flink: `WindowFunction.apply(key, window,
    /// rows, out)`. Pipelines may change from one to the other: operator and state are the same.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn crowds(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .apply(|shop, window, sales, out: &mut Out<'_, (String, Timestamp, i64)>| {
    ///             if sales.len() > 100 {
    ///                 out.push((shop, window.end, sales.len() as i64));
    ///             }
    ///         })
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn apply<U, F>(self, function: F) -> Stream<WindowHead<Collected<T, K, U, F>>>
    where
        T: Owned + Clone,
        Vec<T>: Owned,
        U: Record,
        F: for<'r, 'x, 'o> Fn(K, Window, &'r [T], &'x mut Out<'o, U>) + 'static,
    {
        self.process(function)
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
    ) -> Stream<WindowHead<Finished<ReducedRows<T, K, R>, U, F>>>
    where
        T: Owned + Clone,
        U: Record,
        R: Fn(&mut T, T) + 'static,
        F: for<'r, 'x, 'o> Fn(K, Window, &'r T, &'x mut Out<'o, U>) + 'static,
    {
        let finished = Finished {
            before: reduced(reduce),
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
    /// Merges the rows of each window into one, beginning with the first, and gives it to a function with state: a slice of one
    /// row.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// /// Puts out the dearest sale of a window if it is dearer than that of the window before.
    /// struct Rising { before: ValueState<i64> }
    ///
    /// impl WindowProcess for Rising {
    ///     type In = Sale;
    ///     type Key = String;
    ///     type Out = Sale;
    ///
    ///     fn process(&mut self, dearest: &[Sale], cx: &mut WindowContext<'_, Self>) {
    ///         for sale in dearest {
    ///             if self.before.get().is_some_and(|before| sale.cents > before) {
    ///                 cx.push(sale.clone());
    ///             }
    ///             self.before.set(sale.cents);
    ///         }
    ///     }
    /// }
    ///
    /// fn rising(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .reduce_process_with(
    ///             |dearest, sale| if sale.cents > dearest.cents { *dearest = sale },
    ///             |setup| Rising { before: setup.value_state("before") },
    ///         )
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn reduce_process_with<R, P, F>(
        self,
        reduce: R,
        make: F,
    ) -> Stream<WindowHead<Processed<ReducedRows<T, K, R>, P>>>
    where
        T: Owned + Clone,
        R: Fn(&mut T, T) + 'static,
        P: WindowProcess<In = T, Key = K>,
        F: FnOnce(&mut WindowSetup) -> P,
    {
        let processed = Processed::new(reduced(reduce), self.keyed.next_operator(), make);
        self.head("window.reduce_process", processed)
    }
}
