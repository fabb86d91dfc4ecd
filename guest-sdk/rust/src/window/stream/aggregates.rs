//! Aggregates of windows: what is kept of a window is an accumulator, not its rows.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::marker::PhantomData;

use super::WindowedStream;
use crate::Stream;
use crate::keyed::Number;
use crate::value::{FieldAt, FieldRef, Owned, Record, Value};
use crate::window::functions::{Aggregated, Folded, Most, MostBy, Reduced, RowCount, Summed};
use crate::window::{Aggregate, Window, WindowHead};

impl<T: Record, K: Owned + Clone> WindowedStream<T, K> {
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
        let folded = Folded::new(create, add, merge, finish);
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
        self.head("window.reduce", Reduced::new(reduce, finish))
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

    /// Sums up a field over the rows of each window. The example of [`KeyedStream::window`](crate::KeyedStream::window) does
    /// that.
    pub fn sum<N: Number, A>(self, field: FieldRef<T, N, A>) -> Stream<WindowHead<Summed<T, K, N, A>>>
    where
        A: FieldAt<Row = T, Field = N>,
    {
        let key = PhantomData;
        self.head("window.sum", Summed { field, key })
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
        let key = PhantomData;
        self.head("window.min", Most { field, key })
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
        let key = PhantomData;
        self.head("window.max", Most { field, key })
    }

    /// The row with the least value in a field among the rows of each window, whole.
    ///
    /// Of rows with equal values it is the first that came, as in Flink; but the one of the earlier slice where
    /// [sliding windows](crate::window::Sliding) have no trigger and so are made of slices, and any of them where sessions
    /// became one.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn cheapest(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .min_by(Sale::FIELDS.cents)
    ///         .map(|cheapest| cheapest.value)
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn min_by<V, A>(self, field: FieldRef<T, V, A>) -> Stream<WindowHead<MostBy<T, K, V, A, false>>>
    where
        T: Owned + Clone,
        A: FieldAt<Row = T, Field = V>,
        V: Owned + PartialOrd,
    {
        let key = PhantomData;
        self.head("window.min_by", MostBy { field, key })
    }

    /// The row with the greatest value in a field among the rows of each window, whole; of equals as
    /// [`min_by`](WindowedStream::min_by).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Sale { shop: String, cents: i64, at: Timestamp }
    /// fn dearest(sales: KeyedStream<Sale, String>) {
    ///     sales
    ///         .window(Tumbling::of(Duration::from_secs(60)))
    ///         .max_by(Sale::FIELDS.cents)
    ///         .map(|dearest| (dearest.value, dearest.end))
    ///         .sink("out", Stdout::ndjson());
    /// }
    /// ```
    pub fn max_by<V, A>(self, field: FieldRef<T, V, A>) -> Stream<WindowHead<MostBy<T, K, V, A, true>>>
    where
        T: Owned + Clone,
        A: FieldAt<Row = T, Field = V>,
        V: Owned + PartialOrd,
    {
        let key = PhantomData;
        self.head("window.max_by", MostBy { field, key })
    }
}
