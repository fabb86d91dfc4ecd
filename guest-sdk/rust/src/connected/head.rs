//! The head of a chain that begins with a function of two inputs.

use crate::Stream;
use crate::bindings::operators::CallError;
use crate::block::Block;
use crate::chain::{Chain, Decoded, Emit, Head, RowContext, Tail, Work, failure, take_given};
use crate::position;
use crate::value::{Record, Value};

/// A function without state, of the rows of two inputs.
pub trait CoFunction: 'static {
    /// Rows of the first.
    type First: Record;
    /// Rows of the second.
    type Second: Record;
    /// Rows that it puts out.
    type Out: Record;

    /// Takes a row of the first input, and says how many rows it has given for it.
    fn first<E: Emit<Self::Out>>(
        &self,
        row: <Self::First as Value>::Of<'_>,
        operator: u32,
        cx: &mut RowContext,
        next: &mut E,
    ) -> u64;

    /// The same of the second.
    fn second<E: Emit<Self::Out>>(
        &self,
        row: <Self::Second as Value>::Of<'_>,
        operator: u32,
        cx: &mut RowContext,
        next: &mut E,
    ) -> u64;
}

/// The head of a chain that begins with a function of two inputs.
pub struct CoRows<W> {
    function: W,
    operator: u32,
    given: u64,
}

impl<W> std::fmt::Debug for CoRows<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoRows")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl<W: CoFunction> CoRows<W> {
    pub(crate) fn new(function: W, operator: u32) -> Self {
        CoRows {
            function,
            operator,
            given: 0,
        }
    }

    /// Hands each row to the function; what it has given for refused ones is taken back.
    #[inline(always)]
    fn each<T: Record, E: Tail<W::Out>>(
        &mut self,
        block: &Block,
        cx: &mut RowContext,
        tail: &mut E,
        take: impl for<'a> Fn(&W, T::Of<'a>, u32, &mut RowContext, &mut E) -> u64,
    ) {
        let rows = Decoded::<T>::new(block, cx.time_in);
        for index in 0..rows.count {
            position::set_entry(index as u32);
            position::enter(self.operator);
            rows.set_time(index, cx);
            if E::FALLIBLE {
                tail.mark();
                cx.mark();
            }
            let given = take(&self.function, T::get(&rows.columns, index), self.operator, cx, tail);
            if E::FALLIBLE && cx.undo_if_rejected() {
                tail.undo();
            } else {
                self.given += given;
            }
        }
    }
}

impl<W: CoFunction> Chain for CoRows<W> {
    type Out = W::Out;
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
    fn run<E: Tail<W::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        match *work {
            Work::Rows { block, input: 0, .. } => self.each::<W::First, E>(block, cx, tail, W::first),
            Work::Rows { block, input: 1, .. } => self.each::<W::Second, E>(block, cx, tail, W::second),
            Work::Rows { input, .. } => return Err(failure(format!("this chain has no input {input}"))),
            Work::Timers { .. } | Work::Windows { .. } | Work::Matches { .. } | Work::Close => {}
        }
        Ok(())
    }

    fn head(&mut self) -> &mut dyn Head {
        self
    }

    fn take_emitted(&mut self, emitted: &mut Vec<u64>) -> u64 {
        take_given(&mut self.given, emitted)
    }
}

impl<W> Head for CoRows<W> {}
