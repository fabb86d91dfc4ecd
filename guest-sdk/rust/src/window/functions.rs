//! The functions of windows: aggregates, reductions, collected rows, ready-made results.

use std::marker::PhantomData;

use super::head::{Fired, WindowFunction};
use super::{Aggregate, Window};
use crate::Out;
use crate::chain::{Emit, RowContext};
use crate::keyed::{Number, Total};
use crate::results::Windowed;
use crate::state::Kept;
use crate::value::{FieldAt, FieldRef, Owned, Record, Value};

/// See [`WindowedStream::aggregate`](crate::WindowedStream::aggregate).
#[derive(Debug)]
pub struct Aggregated<A>(pub(crate) A);

impl<A: Aggregate> WindowFunction for Aggregated<A> {
    type In = A::In;
    type Key = A::Key;
    type Kept = A::Acc;
    type Stored = A::Acc;
    type Out = A::Out;

    fn create(&self) -> A::Acc {
        self.0.create()
    }

    #[inline(always)]
    fn add(&self, kept: &mut A::Acc, row: <A::In as Value>::Of<'_>) {
        self.0.add(kept, row);
    }

    fn merge(&self, kept: &mut A::Acc, other: &A::Acc) {
        self.0.merge(kept, other);
    }

    fn to_stored(kept: &A::Acc) -> Option<A::Acc> {
        Some(kept.clone())
    }

    fn revived(stored: A::Acc) -> A::Acc {
        stored
    }

    #[inline(always)]
    fn finish<E: Emit<A::Out>>(&self, fired: Fired<'_, A::Key, A::Acc>, cx: &mut RowContext, next: &mut E) -> u64 {
        let row = self.0.finish(fired.key, fired.window, fired.kept);
        next.emit(row, cx);
        1
    }
}

/// See [`WindowedStream::aggregate_with`](crate::WindowedStream::aggregate_with).
pub struct Folded<T, K, A, U, C, D, M, F> {
    create: C,
    add: D,
    merge: M,
    finish: F,
    types: PhantomData<fn(T, K, A) -> U>,
}

impl<T, K, A, U, C, D, M, F> Folded<T, K, A, U, C, D, M, F> {
    pub(crate) fn new(create: C, add: D, merge: M, finish: F) -> Self {
        Folded {
            create,
            add,
            merge,
            finish,
            types: PhantomData,
        }
    }
}

impl<T, K, A, U, C, D, M, F> Aggregate for Folded<T, K, A, U, C, D, M, F>
where
    T: Record,
    K: Owned + Clone,
    A: Owned + Clone,
    U: Record + Owned,
    C: Fn() -> A + 'static,
    D: for<'x, 'a> Fn(&'x mut A, T::Of<'a>) + 'static,
    M: Fn(&mut A, &A) + 'static,
    F: Fn(K, Window, &A) -> U + 'static,
{
    type In = T;
    type Key = K;
    type Acc = A;
    type Out = U;

    fn create(&self) -> A {
        (self.create)()
    }

    #[inline(always)]
    fn add(&self, acc: &mut A, row: T::Of<'_>) {
        (self.add)(acc, row);
    }

    fn merge(&self, acc: &mut A, other: &A) {
        (self.merge)(acc, other);
    }

    fn finish(&self, key: K, window: Window, acc: &A) -> U {
        (self.finish)(key, window, acc)
    }
}

/// See [`WindowedStream::reduce`](crate::WindowedStream::reduce).
pub struct Reduced<T, K, U, F, G> {
    reduce: F,
    finish: G,
    types: PhantomData<fn(T, K) -> U>,
}

impl<T, K, U, F, G> Reduced<T, K, U, F, G> {
    pub(crate) fn new(reduce: F, finish: G) -> Self {
        Reduced {
            reduce,
            finish,
            types: PhantomData,
        }
    }
}

impl<T, K, U, F, G> WindowFunction for Reduced<T, K, U, F, G>
where
    T: Record + Owned + Clone,
    K: Owned + Clone,
    U: Record + Owned,
    F: Fn(&mut T, T) + 'static,
    G: Fn(K, Window, &T) -> U + 'static,
{
    type In = T;
    type Key = K;
    type Kept = Option<T>;
    type Stored = T;
    type Out = U;

    fn create(&self) -> Option<T> {
        None
    }

    #[inline(always)]
    fn add(&self, kept: &mut Option<T>, row: T) {
        match kept {
            Some(kept) => (self.reduce)(kept, row),
            None => *kept = Some(row),
        }
    }

    fn merge(&self, kept: &mut Option<T>, other: &Option<T>) {
        if let Some(other) = other {
            self.add(kept, other.clone());
        }
    }

    fn to_stored(kept: &Option<T>) -> Option<T> {
        kept.clone()
    }

    fn revived(stored: T) -> Option<T> {
        Some(stored)
    }

    fn finish<E: Emit<U>>(&self, fired: Fired<'_, K, Option<T>>, cx: &mut RowContext, next: &mut E) -> u64 {
        let Some(kept) = fired.kept else {
            return 0;
        };
        let row = (self.finish)(fired.key, fired.window, kept);
        next.emit(row, cx);
        1
    }
}

/// See [`WindowedStream::process`](crate::WindowedStream::process).
pub struct Collected<T, K, U, F> {
    pub(crate) function: F,
    pub(crate) types: PhantomData<fn(T, K) -> U>,
}

impl<T, K, U, F> WindowFunction for Collected<T, K, U, F>
where
    T: Record + Owned + Clone,
    Vec<T>: Owned,
    K: Owned + Clone,
    U: Record,
    F: for<'r, 'x, 'o> Fn(K, Window, &'r [T], &'x mut Out<'o, U>) + 'static,
{
    type In = T;
    type Key = K;
    type Kept = Vec<T>;
    type Stored = Vec<T>;
    type Out = U;

    fn create(&self) -> Vec<T> {
        Vec::new()
    }

    #[inline(always)]
    fn add(&self, kept: &mut Vec<T>, row: T) {
        kept.push(row);
    }

    fn merge(&self, kept: &mut Vec<T>, other: &Vec<T>) {
        kept.extend_from_slice(other);
    }

    fn to_stored(kept: &Vec<T>) -> Option<Vec<T>> {
        kept.to_stored()
    }

    fn revived(stored: Vec<T>) -> Vec<T> {
        stored
    }

    fn heap_bytes(kept: &Vec<T>) -> usize {
        kept.heap_bytes()
    }

    fn finish<E: Emit<U>>(&self, fired: Fired<'_, K, Vec<T>>, cx: &mut RowContext, next: &mut E) -> u64 {
        let mut out = Out::new(fired.operator, next, cx);
        (self.function)(fired.key, fired.window, fired.kept, &mut out);
        out.given()
    }
}

/// Puts a ready-made result out.
#[inline(always)]
fn put<K: Owned, V: Owned, A, E: Emit<Windowed<K, V>>>(
    fired: Fired<'_, K, A>,
    value: V,
    cx: &mut RowContext,
    next: &mut E,
) -> u64 {
    let Window { start, end } = fired.window;
    let key = fired.key;
    next.emit(Windowed { key, start, end, value }, cx);
    1
}

/// See [`WindowedStream::count`](crate::WindowedStream::count).
#[derive(Debug)]
pub struct RowCount<T, K> {
    pub(crate) types: PhantomData<fn(T, K)>,
}

impl<T: Record, K: Owned + Clone> WindowFunction for RowCount<T, K> {
    type In = T;
    type Key = K;
    type Kept = i64;
    type Stored = i64;
    type Out = Windowed<K, i64>;

    fn create(&self) -> i64 {
        0
    }

    #[inline(always)]
    fn add(&self, kept: &mut i64, _row: T::Of<'_>) {
        *kept += 1;
    }

    fn merge(&self, kept: &mut i64, other: &i64) {
        *kept += other;
    }

    fn to_stored(kept: &i64) -> Option<i64> {
        Some(*kept)
    }

    fn revived(stored: i64) -> i64 {
        stored
    }

    fn finish<E: Emit<Self::Out>>(&self, fired: Fired<'_, K, i64>, cx: &mut RowContext, next: &mut E) -> u64 {
        let count = *fired.kept;
        put(fired, count, cx, next)
    }
}

/// See [`WindowedStream::sum`](crate::WindowedStream::sum).
pub struct Summed<T, K, N, A> {
    pub(crate) field: FieldRef<T, N, A>,
    pub(crate) key: PhantomData<fn(K)>,
}

impl<T, K, N, A> WindowFunction for Summed<T, K, N, A>
where
    T: Record,
    K: Owned + Clone,
    N: Number,
    A: FieldAt<Row = T, Field = N>,
{
    type In = T;
    type Key = K;
    type Kept = Total<N>;
    type Stored = N;
    type Out = Windowed<K, N>;

    fn create(&self) -> Total<N> {
        Total::create()
    }

    #[inline(always)]
    fn add(&self, kept: &mut Total<N>, row: T::Of<'_>) {
        kept.add(*self.field.get(&row), self.field.name());
    }

    fn merge(&self, kept: &mut Total<N>, other: &Total<N>) {
        kept.add(other.get(), self.field.name());
    }

    fn to_stored(kept: &Total<N>) -> Option<N> {
        kept.to_stored()
    }

    fn revived(stored: N) -> Total<N> {
        Total::from_stored(Some(stored))
    }

    fn finish<E: Emit<Self::Out>>(&self, fired: Fired<'_, K, Total<N>>, cx: &mut RowContext, next: &mut E) -> u64 {
        let sum = fired.kept.get();
        put(fired, sum, cx, next)
    }
}

/// See [`WindowedStream::min`](crate::WindowedStream::min) and
/// [`WindowedStream::max`](crate::WindowedStream::max).
pub struct Most<T, K, V, A, const MAX: bool> {
    pub(crate) field: FieldRef<T, V, A>,
    pub(crate) key: PhantomData<fn(K)>,
}

impl<T, K, V: Clone + PartialOrd, A, const MAX: bool> Most<T, K, V, A, MAX> {
    #[inline(always)]
    fn take(kept: &mut Option<V>, value: &V) {
        match kept {
            Some(kept) if !crate::keyed::replaces::<V, MAX>(value, kept) => {}
            Some(_) | None => *kept = Some(value.clone()),
        }
    }
}

impl<T, K, V, A, const MAX: bool> WindowFunction for Most<T, K, V, A, MAX>
where
    T: Record,
    A: FieldAt<Row = T, Field = V>,
    K: Owned + Clone,
    V: Owned + Clone + PartialOrd,
{
    type In = T;
    type Key = K;
    type Kept = Option<V>;
    type Stored = V;
    type Out = Windowed<K, V>;

    fn create(&self) -> Option<V> {
        None
    }

    #[inline(always)]
    fn add(&self, kept: &mut Option<V>, row: T::Of<'_>) {
        Self::take(kept, self.field.get(&row));
    }

    fn merge(&self, kept: &mut Option<V>, other: &Option<V>) {
        if let Some(other) = other {
            Self::take(kept, other);
        }
    }

    fn to_stored(kept: &Option<V>) -> Option<V> {
        kept.clone()
    }

    fn revived(stored: V) -> Option<V> {
        Some(stored)
    }

    fn finish<E: Emit<Self::Out>>(&self, fired: Fired<'_, K, Option<V>>, cx: &mut RowContext, next: &mut E) -> u64 {
        match fired.kept.clone() {
            Some(value) => put(fired, value, cx, next),
            None => 0,
        }
    }
}

/// See [`WindowedStream::min_by`](crate::WindowedStream::min_by) and
/// [`WindowedStream::max_by`](crate::WindowedStream::max_by).
pub struct MostBy<T, K, V, A, const MAX: bool> {
    pub(crate) field: FieldRef<T, V, A>,
    pub(crate) key: PhantomData<fn(K)>,
}

impl<T, K, V, A, const MAX: bool> WindowFunction for MostBy<T, K, V, A, MAX>
where
    T: Record + Owned + Clone,
    A: FieldAt<Row = T, Field = V>,
    K: Owned + Clone,
    V: Owned + PartialOrd,
{
    type In = T;
    type Key = K;
    type Kept = Option<T>;
    type Stored = T;
    type Out = Windowed<K, T>;

    fn create(&self) -> Option<T> {
        None
    }

    #[inline(always)]
    fn add(&self, kept: &mut Option<T>, row: T) {
        match kept {
            Some(kept) if !crate::keyed::replaces::<V, MAX>(self.field.get(&row), self.field.get(kept)) => {}
            Some(_) | None => *kept = Some(row),
        }
    }

    fn merge(&self, kept: &mut Option<T>, other: &Option<T>) {
        if let Some(other) = other {
            self.add(kept, other.clone());
        }
    }

    fn to_stored(kept: &Option<T>) -> Option<T> {
        kept.clone()
    }

    fn revived(stored: T) -> Option<T> {
        Some(stored)
    }

    fn finish<E: Emit<Self::Out>>(&self, fired: Fired<'_, K, Option<T>>, cx: &mut RowContext, next: &mut E) -> u64 {
        match fired.kept.clone() {
            Some(row) => put(fired, row, cx, next),
            None => 0,
        }
    }
}
