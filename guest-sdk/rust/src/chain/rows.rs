//! The head without a function: takes a block apart into rows.

use std::marker::PhantomData;

use super::{Chain, Head, RowContext, Tail, Work};
use crate::Stream;
use crate::bindings::operators::CallError;
use crate::block::Block;
use crate::position;
use crate::value::{Record, Value};

/// The chain without functions: rows as they come over an edge.
///
/// `Stream<Rows<Event>>` is what sources give, and what [`Stream::share`](crate::Stream::share) makes of any
/// stream.
pub struct Rows<T> {
    /// Rows of this call that were not refused.
    taken: u64,
    record: PhantomData<fn() -> T>,
}

impl<T> Rows<T> {
    pub(crate) fn new() -> Self {
        Rows {
            taken: 0,
            record: PhantomData,
        }
    }
}

impl<T> std::fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

impl<T: Record> Chain for Rows<T> {
    type Out = T;
    const FALLIBLE: bool = false;
    type Refusing<X: Chain> = X;

    fn refusing<X: Chain>(stream: Stream<X>) -> Stream<X> {
        stream
    }

    type Alone = Self;

    fn alone(stream: Stream<Self>) -> Stream<Self> {
        stream
    }

    #[inline(always)]
    fn run<E: Tail<T>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        let Work::Rows { block, .. } = work else {
            return Ok(());
        };
        let rows = Decoded::<T>::new(block, cx.time_in);
        self.taken += rows.count as u64;
        for index in 0..rows.count {
            position::set_entry(index as u32);
            rows.set_time(index, cx);
            if E::FALLIBLE {
                tail.mark();
                cx.mark();
            }
            tail.emit(T::get(&rows.columns, index), cx);
            if E::FALLIBLE && cx.undo_if_rejected() {
                tail.undo();
                self.taken -= 1;
            }
        }
        Ok(())
    }

    fn head(&mut self) -> &mut dyn Head {
        self
    }

    fn take_emitted(&mut self, _emitted: &mut Vec<u64>) -> u64 {
        std::mem::take(&mut self.taken)
    }
}

impl<T> Head for Rows<T> {}

/// A block's columns, with `$time` beside them.
pub(crate) struct Decoded<'b, T: Record> {
    pub(crate) count: usize,
    pub(crate) columns: T::Column<'b>,
    /// Empty if the stream has no time.
    times: &'b [i64],
}

impl<'b, T: Record> Decoded<'b, T> {
    pub(crate) fn new(block: &'b Block, time_in: bool) -> Self {
        let count = block.rows();
        let mut buffers = block.buffers();
        let columns = T::column(&mut buffers, count);
        let times = if time_in {
            <i64 as Value>::column(&mut buffers, count)
        } else {
            &[]
        };
        Decoded { count, columns, times }
    }

    #[inline(always)]
    pub(crate) fn set_time(&self, index: usize, cx: &mut RowContext) {
        if let Some(&time) = self.times.get(index) {
            cx.time = time;
        }
    }
}
