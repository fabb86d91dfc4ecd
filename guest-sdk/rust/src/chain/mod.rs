//! Chains: functions fused into one, between which nothing is encoded.
//!
//! A [`Chain`] begins with a head, which takes a block apart into rows, and grows by stages:
//! [`Then`]`<Then<Rows<Event>, Map>, Filter>`. The rows travel the other way round, by [`Emit`]: the head
//! pushes each row into an emitter that is nested once per stage and ends in a port, which appends to
//! columns. All of it is one type, so the compiler sees one loop. A finished chain is boxed once
//! and called once per block.
//!
//! ```text
//!   block -> Rows --emit--> Link(Map) --emit--> Link(Filter) --emit--> Port -> block
//! ```

pub(crate) mod closed;
mod context;
pub(crate) mod exit;
mod rows;
pub(crate) mod sides;

use crate::Stream;
use crate::block::Block;
use crate::value::{Record, Value};

pub use context::RowContext;
pub(crate) use context::TimerAction;
pub(crate) use rows::Decoded;
pub use rows::Rows;

use crate::bindings::operators::{CallError, Candidates, CollectionWrites, Matches, RowConditions, TimerKind};

/// One call's rows, timers or windows.
#[derive(Debug, Clone, Copy)]
pub enum Work<'b> {
    /// Rows, with the slot of each one's key if the head is keyed or windowed.
    Rows {
        /// In the schema of the input, with `$time` if the stream has one.
        block: &'b Block,
        /// As many as rows, or none.
        slots: &'b [u32],
        /// Input of the chain.
        input: u32,
    },
    /// Timers that are due.
    Timers {
        /// Which clock.
        kind: TimerKind,
        /// Slot of each timer's key.
        slots: &'b [u32],
        /// When each was to fire.
        times: &'b [i64],
        /// In the key schema.
        keys: &'b Block,
    },
    /// Windows that fire.
    Windows {
        /// Slot of each window's accumulator.
        slots: &'b [u32],
        /// First ms of each.
        starts: &'b [i64],
        /// First ms after each.
        ends: &'b [i64],
        /// In the key schema.
        keys: &'b Block,
        /// Forget the accumulators afterwards.
        then_drop: bool,
    },
    /// Matches of a pattern that go out.
    Matches {
        /// Their rows, in the schema of the input.
        block: &'b Block,
        /// Which rows each has.
        matches: &'b Matches,
    },
    /// The chain ends.
    Close,
}

/// What takes rows one by one.
pub trait Emit<T: Value> {
    /// Takes a row.
    fn emit(&mut self, row: T::Of<'_>, cx: &mut RowContext);
}

/// An emitter with all that follows it, down to the port.
pub trait Tail<T: Value>: Emit<T> {
    /// Whether a function further on can refuse a row.
    const FALLIBLE: bool;
    /// A new entry begins; [`Tail::undo`] comes back to here.
    fn mark(&mut self);
    /// The entry was refused: as if it had never been.
    fn undo(&mut self);
}

/// A function inside a chain.
pub trait Stage: 'static {
    /// Rows that it takes.
    type In: Record;
    /// Rows that it gives.
    type Out: Record;
    /// Whether it can refuse a row.
    const FALLIBLE: bool = false;

    /// Takes a row and gives any number of rows to `next`.
    fn push<E: Emit<Self::Out>>(&mut self, row: <Self::In as Value>::Of<'_>, cx: &mut RowContext, next: &mut E);

    /// Rows given since it was last asked; none where that is the number of rows taken.
    fn take_emitted(&mut self) -> Option<u64> {
        None
    }

    /// Prepares, before the first row.
    fn open(&mut self, _cx: &crate::OpenContext) {}

    /// Ends, behind the last row.
    fn close(&mut self) {}

    /// Remembers the count of rows given.
    fn mark(&mut self) {}

    /// Goes back to the remembered count.
    fn undo(&mut self) {}
}

/// Functions fused into one.
pub trait Chain: 'static {
    /// Rows that it gives.
    type Out: Record;
    /// Whether one of its functions can refuse a row.
    const FALLIBLE: bool;

    /// What a function that can refuse rows is fused with: `X` where the head is stateless, else a new chain,
    /// since state cannot be taken back.
    type Refusing<X: Chain>: Chain<Out = X::Out>;

    /// The stream to which a function that can refuse rows is added.
    fn refusing<X: Chain>(stream: Stream<X>) -> Stream<Self::Refusing<X>>;

    /// Its last function alone, behind rows; the chain itself if its head is its only function.
    type Alone: Chain<Out = Self::Out>;

    /// The stream with the chain ended before its last function.
    fn alone(stream: Stream<Self>) -> Stream<Self::Alone>
    where
        Self: Sized;

    /// Runs a call, giving the rows to `tail`.
    fn run<E: Tail<Self::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError>;

    /// Prepares its functions, before the first row.
    fn open(&mut self, cx: &crate::OpenContext) {
        self.head().open(cx);
    }

    /// Ends its functions, behind the last row.
    fn close(&mut self) {
        self.head().close();
    }

    /// What the head keeps.
    fn head(&mut self) -> &mut dyn Head;

    /// Appends the rows given by each operator since it was last asked, and returns those of the last.
    fn take_emitted(&mut self, emitted: &mut Vec<u64>) -> u64;
}

/// Hands over how many rows a head has given since the last time: what its [`Chain::take_emitted`] does.
pub(crate) fn take_given(given: &mut u64, emitted: &mut Vec<u64>) -> u64 {
    let given = std::mem::take(given);
    emitted.push(given);
    given
}

/// What a head keeps between calls. The default is a head that keeps nothing.
pub trait Head {
    /// The chain is about to run.
    fn open(&mut self, _config: &crate::OpenContext) {}

    /// The chain has run.
    fn close(&mut self) {}

    /// Adds rows of an input to accumulators.
    fn accumulate(&mut self, _input: u32, _slots: &[u32], _rows: &Block, _time_in: bool) -> Result<(), CallError> {
        Err(failure("this chain has no window"))
    }

    /// Adds accumulators to others.
    fn merge(&mut self, _targets: &[u32], _sources: &[u32]) -> Result<(), CallError> {
        Err(failure("this chain has no window"))
    }

    /// Of each row the conditions of a pattern that hold of it, or may, and what it is ordered by.
    fn conditions(&mut self, _rows: &Block, _time_in: bool) -> Result<RowConditions, CallError> {
        Err(failure("this chain has no pattern"))
    }

    /// Whether conditions of a pattern hold that look at other rows.
    fn iterative_conditions(
        &mut self,
        _rows: &Block,
        _candidates: &Candidates,
        _time_in: bool,
    ) -> Result<Vec<bool>, CallError> {
        Err(failure("this chain has no pattern"))
    }

    /// Values of a state.
    fn export_state(&mut self, _state: u32, _slots: &[u32]) -> Result<Block, CallError> {
        Err(failure("this chain has no state"))
    }

    /// Sets values of a state.
    fn import_state(&mut self, _state: u32, _slots: &[u32], _values: &Block) -> Result<(), CallError> {
        Err(failure("this chain has no state"))
    }

    /// Values of a state from those of an earlier version.
    fn migrate_state(&mut self, state: u32, migration: u32, _old: &Block) -> Result<Block, CallError> {
        Err(failure(format!("state {state} has no migration {migration}")))
    }

    /// Forgets all states of these slots.
    fn drop_state(&mut self, _slots: &[u32]) {}

    /// Takes what happened to the states during the call: flags and change of live bytes.
    fn take_touched(&mut self, _touched: &mut Vec<u8>, _live_bytes: &mut Vec<i64>) {}

    /// Takes what the call did to large states.
    fn take_writes(&mut self) -> Vec<CollectionWrites> {
        Vec::new()
    }
}

/// A call error that knows no more than a message.
pub(crate) fn failure(message: impl Into<String>) -> CallError {
    CallError {
        operator: None,
        entry: None,
        message: message.into(),
    }
}

/// There is one slot for each row of the block.
pub(crate) fn check_slots(slots: &[u32], block: &Block) -> Result<(), CallError> {
    if slots.len() == block.rows() {
        Ok(())
    } else {
        Err(failure(format!(
            "{} slots came with {} rows",
            slots.len(),
            block.rows()
        )))
    }
}

/// A chain with one more function.
#[derive(Debug)]
pub struct Then<C, S> {
    pub(crate) chain: C,
    pub(crate) stage: S,
}

impl<C: Chain, S: Stage<In = C::Out>> Chain for Then<C, S> {
    type Out = S::Out;
    const FALLIBLE: bool = C::FALLIBLE || S::FALLIBLE;
    type Refusing<X: Chain> = C::Refusing<X>;

    fn refusing<X: Chain>(stream: Stream<X>) -> Stream<C::Refusing<X>> {
        C::refusing(stream)
    }

    type Alone = Then<Rows<C::Out>, S>;

    fn alone(stream: Stream<Self>) -> Stream<Self::Alone> {
        stream.split_last()
    }

    #[inline(always)]
    fn run<E: Tail<S::Out>>(&mut self, work: &Work<'_>, cx: &mut RowContext, tail: &mut E) -> Result<(), CallError> {
        let mut link = Link {
            stage: &mut self.stage,
            next: tail,
        };
        self.chain.run(work, cx, &mut link)
    }

    fn open(&mut self, cx: &crate::OpenContext) {
        self.chain.open(cx);
        self.stage.open(cx);
    }

    fn close(&mut self) {
        self.chain.close();
        self.stage.close();
    }

    fn head(&mut self) -> &mut dyn Head {
        self.chain.head()
    }

    fn take_emitted(&mut self, emitted: &mut Vec<u64>) -> u64 {
        let taken = self.chain.take_emitted(emitted);
        let given = self.stage.take_emitted().unwrap_or(taken);
        emitted.push(given);
        given
    }
}

/// A stage as an emitter.
struct Link<'l, S, E> {
    stage: &'l mut S,
    next: &'l mut E,
}

impl<S: Stage, E: Emit<S::Out>> Emit<S::In> for Link<'_, S, E> {
    #[inline(always)]
    fn emit(&mut self, row: <S::In as Value>::Of<'_>, cx: &mut RowContext) {
        self.stage.push(row, cx, self.next);
    }
}

impl<S: Stage, E: Tail<S::Out>> Tail<S::In> for Link<'_, S, E> {
    const FALLIBLE: bool = S::FALLIBLE || E::FALLIBLE;

    #[inline(always)]
    fn mark(&mut self) {
        self.stage.mark();
        self.next.mark();
    }

    fn undo(&mut self) {
        self.stage.undo();
        self.next.undo();
    }
}
