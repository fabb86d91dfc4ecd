//! The stream after `window`.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::marker::PhantomData;
use std::time::Duration;

use super::functions::{Aggregated, Collected, Folded, Most, Reduced, RowCount, Summed};
use super::head::{WindowFunction, WindowHead};
use super::{Aggregate, Assigner, Window};
use crate::bindings::dataflow as wit;
use crate::keyed::{KeyedStream, Number};
use crate::state::kept::state_fields;
use crate::time::millis;
use crate::value::{FieldAt, FieldRef, Owned, Record, Value};
use crate::{Out, OutputTag, Stream};

/// The rows of each key, gathered in windows: what [`KeyedStream::window`] makes.
///
/// A window fires when the watermark reaches its end; the rows that it puts out have its last moment as
/// their time.
pub struct WindowedStream<T: Record, K: Owned + Clone> {
    keyed: KeyedStream<T, K>,
    assigner: Assigner,
    allowed_lateness: Duration,
    late: Option<&'static str>,
}

impl<T: Record, K: Owned + Clone> std::fmt::Debug for WindowedStream<T, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowedStream")
            .field("assigner", &self.assigner)
            .finish_non_exhaustive()
    }
}

impl<T: Record, K: Owned + Clone> WindowedStream<T, K> {
    pub(crate) fn new(keyed: KeyedStream<T, K>, assigner: Assigner) -> Self {
        WindowedStream {
            keyed,
            assigner,
            allowed_lateness: Duration::ZERO,
            late: None,
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

    fn head<W: WindowFunction<In = T, Key = K>>(self, construct: &str, function: W) -> Stream<WindowHead<W>> {
        let (chain, operator) = self.keyed.begin(construct, |graph, key_schema| {
            let accumulator = wit::StateDecl {
                // Sums are no counts, though both may be numbers.
                name: construct.trim_start_matches("window.").to_owned(),
                aliases: Vec::new(),
                kind: wit::StateKind::Accumulator,
                schema: graph.schema(state_fields::<W::Stored>()),
                migrations: Vec::new(),
                ttl: None,
            };
            let window = wit::Window {
                assigner: self.assigner.assigner,
                allowed_lateness_ms: millis(self.allowed_lateness),
                // The chain's first port.
                late_port: self.late.map(|_| 0),
            };
            wit::Head::Window(wit::KeyedWindow {
                key_schema,
                window,
                accumulator,
            })
        });
        let mut graph = self.keyed.flow.borrow_mut();
        if let Some(late) = self.late {
            let schema = graph.schema(T::fields());
            graph.add_side_port(chain, operator, late, schema);
        }
        if let Some(error) = self.assigner.error {
            graph.error(format!("`{construct}`: {error}"));
        }
        drop(graph);
        Stream::opened(self.keyed.flow, chain, operator, WindowHead::new(function, operator))
    }
}
