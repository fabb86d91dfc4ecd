//! Rolling aggregates: every row updates its key's value and goes on with it.

use crate::bindings::operators::CallError;
use crate::block::{Block, BlockWriter};
use crate::chain::Decoded;
use crate::chain::{Chain, Emit, Head, RowContext, Tail, Work, failure};
use crate::position;
use crate::state::codec::{read_values, write_values};
use crate::state::pages::Pages;
use crate::value::{FieldRef, Owned, Record};

/// What a rolling aggregate keeps for a key.
pub trait Kept: Sized + 'static {
    /// As it is stored.
    type Stored: Owned + Clone;
    /// For a key not seen before.
    fn create() -> Self;
    /// To be stored; none if there is nothing.
    fn to_stored(&self) -> Option<Self::Stored>;
    /// As it was stored.
    fn from_stored(stored: Option<Self::Stored>) -> Self;
}

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

impl<V: Owned + Clone> Kept for Option<V> {
    type Stored = V;
    fn create() -> Self {
        None
    }
    fn to_stored(&self) -> Option<V> {
        self.clone()
    }
    fn from_stored(stored: Option<V>) -> Self {
        stored
    }
}

/// A running total.
#[derive(Debug, Clone, Copy)]
pub struct Total<N>(N);

/// An aggregate that a row updates.
pub trait RollingFunction: 'static {
    /// Rows in.
    type In: Record;
    /// Rows out.
    type Out: Record;
    /// Per key.
    type Kept: Kept;
    /// Takes a row.
    fn row<E: Emit<Self::Out>>(
        &mut self,
        kept: &mut Self::Kept,
        row: <Self::In as crate::value::Value>::Of<'_>,
        cx: &mut RowContext,
        next: &mut E,
    );
}

/// The head of a chain that begins with a rolling aggregate.
#[derive(Debug)]
pub struct Rolling<R: RollingFunction> {
    function: R,
    operator: u32,
    pages: Pages<R::Kept>,
    given: u64,
}

impl<R: RollingFunction> Rolling<R> {
    pub(crate) fn new(function: R, operator: u32) -> Self {
        Rolling {
            function,
            operator,
            pages: Pages::new(),
            given: 0,
        }
    }
}

impl<R: RollingFunction> Chain for Rolling<R> {
    type Out = R::Out;
    const FALLIBLE: bool = false;

    #[inline(always)]
    fn run<E: Tail<R::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        let Work::Rows { block, slots } = work else {
            return Ok(());
        };
        let rows = Decoded::<R::In>::new(block, cx.time_in);
        if slots.len() != rows.count {
            return Err(failure(format!("{} slots for {} rows", slots.len(), rows.count)));
        }
        self.pages.ensure(slots, R::Kept::create);
        for (index, &slot) in slots.iter().enumerate() {
            position::set_entry(index as u32);
            position::enter(self.operator);
            rows.set_time(index, cx);
            let row = <R::In as crate::value::Value>::get(&rows.columns, index);
            self.function.row(self.pages.at(slot), row, cx, tail);
        }
        self.given += rows.count as u64;
        Ok(())
    }

    fn head(&mut self) -> &mut dyn Head {
        self
    }

    fn take_emitted(&mut self, emitted: &mut Vec<u64>) -> u64 {
        let given = std::mem::take(&mut self.given);
        emitted.push(given);
        given
    }
}

impl<R: RollingFunction> Head for Rolling<R> {
    fn export_state(&mut self, _state: u32, slots: &[u32]) -> Result<Block, CallError> {
        let stored = slots
            .iter()
            .map(|&slot| self.pages.get(slot).and_then(R::Kept::to_stored));
        let mut writer = BlockWriter::default();
        write_values(stored, &mut writer);
        Ok(writer.finish(slots.len()))
    }

    fn import_state(&mut self, _state: u32, slots: &[u32], values: &Block) -> Result<(), CallError> {
        self.pages.ensure(slots, R::Kept::create);
        for (&slot, stored) in slots.iter().zip(read_values(values)) {
            *self.pages.at(slot) = R::Kept::from_stored(stored);
        }
        Ok(())
    }

    fn drop_state(&mut self, slots: &[u32]) {
        for &slot in slots {
            if let Some(kept) = self.pages.get_mut(slot) {
                *kept = R::Kept::create();
            }
        }
    }

    fn take_touched(&mut self, _touched: &mut Vec<u8>, live_bytes: &mut Vec<i64>) {
        let grown = self.pages.take_grown_bytes();
        if grown != 0 {
            live_bytes.push(grown);
        }
    }
}

/// Numbers that can be summed. A sum that does not fit its type fails the job.
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

/// The row with a field replaced by its running sum.
pub struct Sum<T: Record, N: Number> {
    field: FieldRef<T, N>,
}

impl<T: Record, N: Number> std::fmt::Debug for Sum<T, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sum").field(&self.field.name()).finish()
    }
}

impl<T: Record, N: Number> Sum<T, N> {
    pub(crate) fn new(field: FieldRef<T, N>) -> Self {
        Sum { field }
    }
}

impl<T: Record, N: Number> RollingFunction for Sum<T, N> {
    type In = T;
    type Out = T;
    type Kept = Total<N>;

    #[inline(always)]
    fn row<E: Emit<T>>(&mut self, kept: &mut Total<N>, mut row: T::Of<'_>, cx: &mut RowContext, next: &mut E) {
        let value = self.field.get_mut(&mut row);
        match kept.0.plus(*value) {
            Some(sum) => kept.0 = sum,
            None => overflow(self.field.name()),
        }
        *value = kept.0;
        next.emit(row, cx);
    }
}

#[cold]
fn overflow(field: &str) -> ! {
    panic!("the sum of field `{field}` does not fit its type")
}
