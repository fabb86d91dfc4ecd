//! Joins with tables: `lookup_join` and `left_lookup_join`.
#![allow(
    clippy::type_complexity,
    reason = "the type of a stream says which functions are fused"
)]

use std::marker::PhantomData;
use std::rc::Rc;

use super::{Map, Stream};
use crate::bindings::dataflow as wit;
use crate::chain::exit::NoExtra;
use crate::chain::{Chain, Emit, RowContext, Rows, Stage, Then};
use crate::graph::Origin;
use crate::lookup::LookupTable;
use crate::position;
use crate::value::{Owned, Record, Value};

/// Says the key of a row.
pub struct Keyed<T, K, Q, F> {
    operator: u32,
    function: F,
    types: PhantomData<fn(T) -> (K, Q)>,
}

impl<T, K, Q, F> std::fmt::Debug for Keyed<T, K, Q, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyed")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl<T, K, Q, F> Stage for Keyed<T, K, Q, F>
where
    T: Record,
    K: Owned,
    Q: Into<Option<K>> + 'static,
    F: for<'r, 'a> Fn(&'r T::Of<'a>) -> Q + 'static,
{
    type In = T;
    type Out = (T, Option<K>);

    #[inline(always)]
    fn push<E: Emit<(T, Option<K>)>>(&mut self, row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        position::enter(self.operator);
        let key = (self.function)(&row).into();
        next.emit((row, key), cx);
    }
}

/// A closure over rows of any lifetime.
fn over<T: Value, R, F: for<'a> Fn(T::Of<'a>) -> R + 'static>(function: F) -> F {
    function
}

impl<C: Chain> Stream<C> {
    /// Joins each row with the rows of a table that have its key, as the table is when the row passes. A row without any is
    /// dropped.
    ///
    /// The first function says the key of a row, of the type of the table's, or an `Option` of one; the second makes a
    /// result of the row and a row of the table. Results keep the row's event time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Order { product: i64, pieces: i64 }
    /// # #[derive(Record)]
    /// # struct Product { id: i64, name: String, cents: i64 }
    /// # #[derive(Record)]
    /// # struct Sale { name: String, cents: i64 }
    /// fn sales(orders: Stream<Rows<Order>>) {
    ///     let products = LookupTable::full(Files::csv::<Product>("products.csv"), Product::FIELDS.id);
    ///     orders
    ///         .lookup_join(
    ///             products,
    ///             |order| order.product,
    ///             |order, product| Sale { name: product.name, cents: order.pieces * product.cents },
    ///         )
    ///         .sink("sales", Stdout::ndjson());
    /// }
    /// ```
    ///
    /// [`lookup`](crate::lookup) says which tables there are, and what happens when they change.
    pub fn lookup_join<L, K, A, Q, U, F, G>(
        self,
        table: LookupTable<L, K, A>,
        key: F,
        function: G,
    ) -> Stream<impl Chain<Out = U>>
    where
        L: Record,
        K: Owned,
        Q: Into<Option<K>> + 'static,
        U: Record + Owned,
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) -> Q + 'static,
        G: for<'a> Fn(<C::Out as Value>::Of<'a>, L::Of<'a>) -> U + 'static,
    {
        let function = over::<(C::Out, L), U, _>(move |(row, found)| function(row, found));
        let found: Stream<Rows<(C::Out, L)>> = self.look_up("lookup_join", table, key, false);
        found.then_after_lookup("lookup_join", |operator| Map::new(operator, function))
    }

    /// [`lookup_join`](Self::lookup_join) that keeps rows without any in the table: of them the second function gets `None`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record, Clone)]
    /// # struct Order { product: i64, pieces: i64 }
    /// # #[derive(Record)]
    /// # struct Product { id: i64, name: String, cents: i64 }
    /// # #[derive(Record)]
    /// # struct Sale { name: Option<String>, pieces: i64 }
    /// fn sales(orders: Stream<Rows<Order>>) {
    ///     let products = LookupTable::cached(Sqlite::table::<Product>("shop.db", "products"), Product::FIELDS.id, 10_000);
    ///     orders
    ///         .left_lookup_join(
    ///             products,
    ///             |order| order.product,
    ///             |order, product| Sale { name: product.map(|product| product.name), pieces: order.pieces },
    ///         )
    ///         .sink("sales", Stdout::ndjson());
    /// }
    /// ```
    pub fn left_lookup_join<L, K, A, Q, U, F, G>(
        self,
        table: LookupTable<L, K, A>,
        key: F,
        function: G,
    ) -> Stream<impl Chain<Out = U>>
    where
        L: Record,
        K: Owned,
        Q: Into<Option<K>> + 'static,
        U: Record + Owned,
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) -> Q + 'static,
        G: for<'a> Fn(<C::Out as Value>::Of<'a>, Option<L::Of<'a>>) -> U + 'static,
    {
        let function = over::<(C::Out, Option<L>), U, _>(move |(row, found)| function(row, found));
        let found: Stream<Rows<(C::Out, Option<L>)>> = self.look_up("left_lookup_join", table, key, true);
        found.then_after_lookup("left_lookup_join", |operator| Map::new(operator, function))
    }

    /// The stream of rows with what was found for them, from an operator of the host.
    fn look_up<L, K, A, Q, F, O>(
        self,
        construct: &str,
        table: LookupTable<L, K, A>,
        key: F,
        outer: bool,
    ) -> Stream<Rows<O>>
    where
        L: Record,
        K: Owned,
        O: Record,
        Q: Into<Option<K>> + 'static,
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) -> Q + 'static,
    {
        let flow = Rc::clone(&self.flow);
        let mut keyed: Stream<Then<C, Keyed<C::Out, K, Q, F>>> =
            self.then(&format!("{construct}.key"), |operator| Keyed {
                operator,
                function: key,
                types: PhantomData,
            });
        let origins = keyed.close(NoExtra);
        let mut graph = flow.borrow_mut();
        let is_computed = table.is_computed();
        let (rows, schema) = (graph.schema(L::fields()), graph.schema(O::fields()));
        let kind = wit::OperatorKind::Lookup(table.into_contract(rows, schema, outer));
        let operator = graph.add_operator("lookup", kind);
        graph.connect(&origins, operator, 0);
        if is_computed {
            let error = "the key of a table is a field of its rows, or a tuple of fields, and not a closure";
            graph.error_of(operator, error);
        }
        drop(graph);
        Stream::from_origins(flow, vec![Origin::forward(operator, 0)])
    }
}

impl<O: Record> Stream<Rows<O>> {
    /// The function behind a lookup, which is called after it.
    fn then_after_lookup<S: Stage<In = O>>(
        self,
        construct: &str,
        stage: impl FnOnce(u32) -> S,
    ) -> Stream<Then<Rows<O>, S>> {
        let (flow, lookup) = (Rc::clone(&self.flow), self.operator);
        let joined = self.then(construct, stage);
        flow.borrow_mut().helper_of(lookup, joined.operator, "lookup");
        joined
    }
}
