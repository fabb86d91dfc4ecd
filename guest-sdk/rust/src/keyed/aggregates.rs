//! The rolling aggregates: sums, counts, extremes, reductions.

use std::marker::PhantomData;

use super::SharedKey;
use super::rolling::RollingFunction;
use crate::chain::{Emit, RowContext};
use crate::results::Counted;
use crate::state::Kept;
use crate::value::{FieldAt, FieldRef, Owned, Record};

/// Numbers that can be summed. A sum that does not fit its type fails the job.
///
/// ```
/// use millrace::keyed::Number;
/// assert_eq!(100i8.plus(100), None);
/// ```
pub trait Number: Owned + Copy + PartialOrd {
    /// The empty sum.
    const ZERO: Self;
    /// The sum, if it fits.
    fn plus(self, other: Self) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Number for $type {
            const ZERO: Self = 0;
            #[inline(always)]
            fn plus(self, other: Self) -> Option<Self> {
                self.checked_add(other)
            }
        }
    )*};
}
integers!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! floats {
    ($($type:ty),*) => {$(
        impl Number for $type {
            const ZERO: Self = 0.0;
            #[inline(always)]
            fn plus(self, other: Self) -> Option<Self> {
                Some(self + other)
            }
        }
    )*};
}
floats!(f32, f64);

/// A running total. A total of nothing is zero, so that a row needs no question whether there is one.
#[derive(Debug, Clone, Copy)]
pub struct Total<N>(N);

impl<N: Number> Kept for Total<N> {
    type Stored = N;

    fn create() -> Self {
        Total(N::ZERO)
    }

    fn to_stored(&self) -> Option<N> {
        Some(self.0)
    }

    fn from_stored(stored: Option<N>) -> Self {
        Total(stored.unwrap_or(N::ZERO))
    }
}

impl<N: Number> Total<N> {
    #[inline(always)]
    pub(crate) fn get(self) -> N {
        self.0
    }

    /// Adds a field's value.
    #[inline(always)]
    pub(crate) fn add(&mut self, value: N, field: &'static str) -> N {
        match self.0.plus(value) {
            Some(sum) => self.0 = sum,
            None => overflow(field),
        }
        self.0
    }
}

#[cold]
fn overflow(field: &str) -> ! {
    panic!("the sum of field `{field}` does not fit its type")
}

/// See [`KeyedStream::sum`](crate::KeyedStream::sum).
pub struct Sum<T, N, A> {
    pub(crate) field: FieldRef<T, N, A>,
}

impl<T: Record, N: Number, A: FieldAt<Row = T, Field = N>> RollingFunction for Sum<T, N, A> {
    type In = T;
    type Out = T;
    type Kept = Total<N>;

    #[inline(always)]
    fn row<E: Emit<T>>(&mut self, kept: &mut Total<N>, mut row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        let value = self.field.get_mut(&mut row);
        *value = kept.add(*value, self.field.name());
        next.emit(row, cx);
    }
}

/// See [`KeyedStream::min`](crate::KeyedStream::min) and [`KeyedStream::max`](crate::KeyedStream::max).
pub struct Extreme<T, V, A, const MAX: bool> {
    pub(crate) field: FieldRef<T, V, A>,
}

/// Whether a value takes the place of the extreme so far. What cannot be compared (NaN) never stays.
#[inline(always)]
pub(crate) fn replaces<V: PartialOrd, const MAX: bool>(value: &V, kept: &V) -> bool {
    let better = if MAX { value > kept } else { value < kept };
    better || kept.partial_cmp(kept).is_none()
}

impl<T, V, A, const MAX: bool> RollingFunction for Extreme<T, V, A, MAX>
where
    T: Record,
    A: FieldAt<Row = T, Field = V>,
    V: Owned + Clone + PartialOrd,
{
    type In = T;
    type Out = T;
    type Kept = Option<V>;

    #[inline(always)]
    fn row<E: Emit<T>>(&mut self, kept: &mut Option<V>, mut row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        let value: &mut V = self.field.get_mut(&mut row);
        match kept {
            Some(kept) if !replaces::<V, MAX>(value, kept) => *value = kept.clone(),
            Some(_) | None => *kept = Some(value.clone()),
        }
        next.emit(row, cx);
    }
}

/// See [`KeyedStream::min_by`](crate::KeyedStream::min_by) and
/// [`KeyedStream::max_by`](crate::KeyedStream::max_by).
pub struct ExtremeBy<T, V, A, const MAX: bool> {
    pub(crate) field: FieldRef<T, V, A>,
}

impl<T, V, A, const MAX: bool> RollingFunction for ExtremeBy<T, V, A, MAX>
where
    T: Record + Owned + Clone,
    A: FieldAt<Row = T, Field = V>,
    V: Owned + PartialOrd,
{
    type In = T;
    type Out = T;
    type Kept = Option<T>;

    #[inline(always)]
    fn row<E: Emit<T>>(&mut self, kept: &mut Option<T>, row: T, cx: &mut RowContext, next: &mut E) {
        match kept {
            Some(kept) if !replaces::<V, MAX>(self.field.get(&row), self.field.get(kept)) => {
                next.emit(kept.clone(), cx);
            }
            Some(_) | None => {
                *kept = Some(row.clone());
                next.emit(row, cx);
            }
        }
    }
}

/// See [`KeyedStream::reduce`](crate::KeyedStream::reduce).
pub struct Reduce<T, F> {
    pub(crate) function: F,
    pub(crate) record: PhantomData<fn(T)>,
}

impl<T, F> RollingFunction for Reduce<T, F>
where
    T: Record + Owned + Clone,
    F: Fn(&mut T, T) + 'static,
{
    type In = T;
    type Out = T;
    type Kept = Option<T>;

    #[inline(always)]
    fn row<E: Emit<T>>(&mut self, kept: &mut Option<T>, row: T, cx: &mut RowContext, next: &mut E) {
        let reduced = match kept {
            Some(kept) => {
                (self.function)(kept, row);
                kept.clone()
            }
            None => {
                *kept = Some(row.clone());
                row
            }
        };
        next.emit(reduced, cx);
    }
}

/// See [`KeyedStream::count`](crate::KeyedStream::count).
pub struct Count<T, K> {
    pub(crate) selector: SharedKey<T, K>,
}

impl<T: Record, K: Owned + Clone> RollingFunction for Count<T, K> {
    type In = T;
    type Out = Counted<K>;
    type Kept = Total<i64>;

    #[inline(always)]
    fn row<E: Emit<Counted<K>>>(&mut self, kept: &mut Total<i64>, row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        let counted = Counted {
            key: self.selector.key_of(&row),
            count: kept.add(1, "count"),
        };
        next.emit(counted, cx);
    }
}
