//! Functions of two inputs without state.

use std::marker::PhantomData;

use super::CoFunction;
use crate::Out;
use crate::chain::{Emit, RowContext};
use crate::value::{Owned, Record};

/// See [`ConnectedStreams::map`](super::ConnectedStreams::map).
pub struct CoMap<T, U, O, F, G> {
    first: F,
    second: G,
    types: PhantomData<fn(T, U) -> O>,
}

/// See [`ConnectedStreams::flat_map`](super::ConnectedStreams::flat_map).
pub struct CoFlatMap<T, U, O, F, G> {
    first: F,
    second: G,
    types: PhantomData<fn(T, U) -> O>,
}

impl<T, U, O, F, G> CoMap<T, U, O, F, G> {
    pub(crate) fn new(first: F, second: G) -> Self {
        CoMap {
            first,
            second,
            types: PhantomData,
        }
    }
}

impl<T, U, O, F, G> CoFlatMap<T, U, O, F, G> {
    pub(crate) fn new(first: F, second: G) -> Self {
        CoFlatMap {
            first,
            second,
            types: PhantomData,
        }
    }
}

impl<T, U, O, F, G> CoFunction for CoMap<T, U, O, F, G>
where
    T: Record,
    U: Record,
    O: Record + Owned,
    F: for<'a> Fn(T::Of<'a>) -> O + 'static,
    G: for<'a> Fn(U::Of<'a>) -> O + 'static,
{
    type First = T;
    type Second = U;
    type Out = O;

    #[inline(always)]
    fn first<E: Emit<O>>(&self, row: T::Of<'_>, _operator: u32, cx: &mut RowContext, next: &mut E) -> u64 {
        next.emit((self.first)(row), cx);
        1
    }

    #[inline(always)]
    fn second<E: Emit<O>>(&self, row: U::Of<'_>, _operator: u32, cx: &mut RowContext, next: &mut E) -> u64 {
        next.emit((self.second)(row), cx);
        1
    }
}

impl<T, U, O, F, G> CoFunction for CoFlatMap<T, U, O, F, G>
where
    T: Record,
    U: Record,
    O: Record,
    F: for<'a, 'x, 'o> Fn(T::Of<'a>, &'x mut Out<'o, O>) + 'static,
    G: for<'a, 'x, 'o> Fn(U::Of<'a>, &'x mut Out<'o, O>) + 'static,
{
    type First = T;
    type Second = U;
    type Out = O;

    #[inline(always)]
    fn first<E: Emit<O>>(&self, row: T::Of<'_>, operator: u32, cx: &mut RowContext, next: &mut E) -> u64 {
        let mut out = Out::new(operator, next, cx);
        (self.first)(row, &mut out);
        out.given()
    }

    #[inline(always)]
    fn second<E: Emit<O>>(&self, row: U::Of<'_>, operator: u32, cx: &mut RowContext, next: &mut E) -> u64 {
        let mut out = Out::new(operator, next, cx);
        (self.second)(row, &mut out);
        out.given()
    }
}
