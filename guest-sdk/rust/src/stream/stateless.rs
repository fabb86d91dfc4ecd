//! Functions without state: `map`, `filter`, `flat_map` and their relatives.

use std::fmt::Display;

use super::{Filter, FlatMap, Inspect, Map, Stream, TryFlatMap, TryMap};
use crate::chain::{Chain, Emit, RowContext, Then};
use crate::position;
use crate::value::{Owned, Record, Value};

/// Takes the rows that a function puts out.
pub struct Out<'o, U: Value> {
    operator: u32,
    next: &'o mut (dyn Emit<U> + 'o),
    cx: &'o mut RowContext,
    given: u64,
}

impl<U: Value> std::fmt::Debug for Out<'_, U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out")
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

impl<'o, U: Value> Out<'o, U> {
    #[inline(always)]
    pub(crate) fn new(operator: u32, next: &'o mut (dyn Emit<U> + 'o), cx: &'o mut RowContext) -> Self {
        Out {
            operator,
            next,
            cx,
            given: 0,
        }
    }

    /// Puts a row out. It may borrow from anything that lives until this returns.
    #[inline(always)]
    pub fn push(&mut self, row: U::Of<'_>) {
        self.given += 1;
        self.next.emit(row, self.cx);
        position::enter(self.operator);
    }

    pub(crate) fn given(&self) -> u64 {
        self.given
    }
}

impl<C: Chain> Stream<C> {
    /// Makes one row of each row.
    pub fn map<U, F>(self, function: F) -> Stream<Then<C, Map<C::Out, U, F>>>
    where
        U: Record + Owned,
        F: for<'a> Fn(<C::Out as Value>::Of<'a>) -> U + 'static,
    {
        self.then("map", |operator| Map::new(operator, function))
    }

    /// Keeps the rows for which the function says `true`.
    pub fn filter<F>(self, function: F) -> Stream<Then<C, Filter<C::Out, F>>>
    where
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) -> bool + 'static,
    {
        self.then("filter", |operator| Filter::new(operator, function))
    }

    /// Makes any number of rows of each row.
    pub fn flat_map<U, F>(self, function: F) -> Stream<Then<C, FlatMap<C::Out, U, F>>>
    where
        U: Record,
        F: for<'a, 'x, 'o> Fn(<C::Out as Value>::Of<'a>, &'x mut Out<'o, U>) + 'static,
    {
        self.then("flat_map", |operator| FlatMap::new(operator, function))
    }

    /// Looks at each row and lets it pass.
    pub fn inspect<F>(self, function: F) -> Stream<Then<C, Inspect<C::Out, F>>>
    where
        F: for<'r, 'a> Fn(&'r <C::Out as Value>::Of<'a>) + 'static,
    {
        self.then("inspect", |operator| Inspect::new(operator, function))
    }

    /// Makes one row of each row, or refuses it.
    pub fn try_map<U, X, F>(self, function: F) -> Stream<Then<C, TryMap<C::Out, U, X, F>>>
    where
        U: Record + Owned,
        X: Display + 'static,
        F: for<'a> Fn(<C::Out as Value>::Of<'a>) -> Result<U, X> + 'static,
    {
        self.then("try_map", |operator| TryMap::new(operator, function))
    }

    /// Makes any number of rows of each row, or refuses it.
    pub fn try_flat_map<U, X, F>(self, function: F) -> Stream<Then<C, TryFlatMap<C::Out, U, X, F>>>
    where
        U: Record,
        X: Display + 'static,
        F: for<'a, 'x, 'o> Fn(<C::Out as Value>::Of<'a>, &'x mut Out<'o, U>) -> Result<(), X> + 'static,
    {
        self.then("try_flat_map", |operator| TryFlatMap::new(operator, function))
    }
}
