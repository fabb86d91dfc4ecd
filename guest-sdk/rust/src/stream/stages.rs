//! The stateless functions as stages of a chain.

use std::fmt::Display;
use std::marker::PhantomData;

use super::Out;
use crate::chain::{Emit, RowContext, Stage};
use crate::position;
use crate::value::{Owned, Record, Value};

/// See [`Stream::map`](crate::Stream::map).
pub struct Map<T, U, F> {
    operator: u32,
    function: F,
    types: PhantomData<fn(T) -> U>,
}

/// See [`Stream::filter`](crate::Stream::filter).
pub struct Filter<T, F> {
    operator: u32,
    function: F,
    given: u64,
    marked: u64,
    types: PhantomData<fn(T)>,
}

/// See [`Stream::flat_map`](crate::Stream::flat_map).
pub struct FlatMap<T, U, F> {
    operator: u32,
    function: F,
    given: u64,
    marked: u64,
    types: PhantomData<fn(T) -> U>,
}

/// See [`Stream::try_map`](crate::Stream::try_map).
pub struct TryMap<T, U, X, F> {
    operator: u32,
    function: F,
    given: u64,
    marked: u64,
    types: PhantomData<fn(T) -> Result<U, X>>,
}

/// See [`Stream::try_flat_map`](crate::Stream::try_flat_map).
pub struct TryFlatMap<T, U, X, F> {
    operator: u32,
    function: F,
    given: u64,
    marked: u64,
    types: PhantomData<fn(T) -> Result<U, X>>,
}

/// See [`Stream::inspect`](crate::Stream::inspect).
pub struct Inspect<T, F> {
    operator: u32,
    function: F,
    types: PhantomData<fn(T)>,
}

/// Rows as they are: where the port alone has something to compute.
pub struct Pass<T> {
    types: PhantomData<fn(T)>,
}

macro_rules! stage {
    ($name:ident<$($parameter:ident),*> { $($counter:ident),* }) => {
        impl<$($parameter),*> $name<$($parameter),*> {
            pub(crate) fn new(operator: u32, function: F) -> Self {
                $name { operator, function, $($counter: 0,)* types: PhantomData }
            }
        }

        impl<$($parameter),*> std::fmt::Debug for $name<$($parameter),*> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("operator", &self.operator).finish_non_exhaustive()
            }
        }
    };
}
stage!(Map < T, U, F > {});
stage!(Filter<T, F> { given, marked });
stage!(FlatMap<T, U, F> { given, marked });
stage!(TryMap<T, U, X, F> { given, marked });
stage!(TryFlatMap<T, U, X, F> { given, marked });
stage!(Inspect < T, F > {});

/// The counter of a stage that gives another number of rows than it takes.
macro_rules! counted {
    () => {
        fn take_emitted(&mut self) -> Option<u64> {
            self.marked = 0;
            Some(std::mem::take(&mut self.given))
        }

        #[inline(always)]
        fn mark(&mut self) {
            self.marked = self.given;
        }

        fn undo(&mut self) {
            self.given = self.marked;
        }
    };
}

impl<T, U, F> Stage for Map<T, U, F>
where
    T: Record,
    U: Record + Owned,
    F: for<'a> Fn(T::Of<'a>) -> U + 'static,
{
    type In = T;
    type Out = U;

    #[inline(always)]
    fn push<E: Emit<U>>(&mut self, row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        position::enter(self.operator);
        let row = (self.function)(row);
        next.emit(row, cx);
    }
}

impl<T, F> Stage for Filter<T, F>
where
    T: Record,
    F: for<'r, 'a> Fn(&'r T::Of<'a>) -> bool + 'static,
{
    type In = T;
    type Out = T;

    #[inline(always)]
    fn push<E: Emit<T>>(&mut self, row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        position::enter(self.operator);
        if (self.function)(&row) {
            self.given += 1;
            next.emit(row, cx);
        }
    }

    counted!();
}

impl<T, U, F> Stage for FlatMap<T, U, F>
where
    T: Record,
    U: Record,
    F: for<'a, 'x, 'o> Fn(T::Of<'a>, &'x mut Out<'o, U>) + 'static,
{
    type In = T;
    type Out = U;

    #[inline(always)]
    fn push<E: Emit<U>>(&mut self, row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        position::enter(self.operator);
        let mut out = Out::new(self.operator, next, cx);
        (self.function)(row, &mut out);
        self.given += out.given();
    }

    counted!();
}

impl<T, U, X, F> Stage for TryMap<T, U, X, F>
where
    T: Record,
    U: Record + Owned,
    X: Display + 'static,
    F: for<'a> Fn(T::Of<'a>) -> Result<U, X> + 'static,
{
    type In = T;
    type Out = U;
    const FALLIBLE: bool = true;

    #[inline(always)]
    fn push<E: Emit<U>>(&mut self, row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        if cx.is_rejected() {
            return;
        }
        position::enter(self.operator);
        match (self.function)(row) {
            Ok(row) => {
                self.given += 1;
                next.emit(row, cx);
            }
            Err(cause) => cx.reject(self.operator, &cause),
        }
    }

    counted!();
}

impl<T, U, X, F> Stage for TryFlatMap<T, U, X, F>
where
    T: Record,
    U: Record,
    X: Display + 'static,
    F: for<'a, 'x, 'o> Fn(T::Of<'a>, &'x mut Out<'o, U>) -> Result<(), X> + 'static,
{
    type In = T;
    type Out = U;
    const FALLIBLE: bool = true;

    #[inline(always)]
    fn push<E: Emit<U>>(&mut self, row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        if cx.is_rejected() {
            return;
        }
        position::enter(self.operator);
        let mut out = Out::new(self.operator, next, cx);
        let outcome = (self.function)(row, &mut out);
        self.given += out.given();
        if let Err(cause) = outcome
            && !cx.is_rejected()
        {
            cx.reject(self.operator, &cause);
        }
    }

    counted!();
}

impl<T, F> Stage for Inspect<T, F>
where
    T: Record,
    F: for<'r, 'a> Fn(&'r T::Of<'a>) + 'static,
{
    type In = T;
    type Out = T;

    #[inline(always)]
    fn push<E: Emit<T>>(&mut self, row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        position::enter(self.operator);
        (self.function)(&row);
        next.emit(row, cx);
    }
}

impl<T> Pass<T> {
    pub(crate) fn new(_operator: u32) -> Self {
        Pass { types: PhantomData }
    }
}

impl<T> std::fmt::Debug for Pass<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pass")
    }
}

impl<T: Record> Stage for Pass<T> {
    type In = T;
    type Out = T;

    #[inline(always)]
    fn push<E: Emit<T>>(&mut self, row: <T as Value>::Of<'_>, cx: &mut RowContext, next: &mut E) {
        next.emit(row, cx);
    }
}
