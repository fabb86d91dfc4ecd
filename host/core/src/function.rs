//! What user code looks like to the host-side operators.
//!
//! The operators (crate `millrace-operators`) own keys, windows and timers and decide which slots a row
//! belongs to; an implementor runs the guest's block-wise calls and keeps what they put out. The contract of
//! each call is that of `wit/operators.wit`; an implementor collects outputs, counters and rejections
//! itself and hands back only what the operators must apply.

use arrow_array::ArrayRef;

use crate::block::{Block, Millis};
use crate::collections::CollectionWrites;
use crate::error::{Error, Result};

/// A state slot: small dense number by which the guest keeps values.
pub type Slot = u32;

/// Which clock a timer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKind {
    /// Fires when the watermark reaches its time.
    EventTime,
    /// Fires when processing time reaches its time.
    ProcessingTime,
}

/// A timer set or deleted by a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerOperation {
    /// Entry of the call (row or timer) whose key it belongs to.
    pub entry: u32,
    /// When it fires.
    pub time: Millis,
    /// Which clock.
    pub kind: TimerKind,
    /// Set it, or delete it.
    pub set: bool,
}

/// Bits of [`Effects::touched`].
pub mod touched {
    /// The state was read at this entry.
    pub const READ: u8 = 1;
    /// The state was written and is present after this entry.
    pub const WRITTEN: u8 = 2;
    /// The state was cleared and is absent after this entry.
    pub const CLEARED: u8 = 4;
}

/// What the operators must apply after a keyed call.
#[derive(Debug, Clone, Default)]
pub struct Effects {
    /// In order.
    pub timers: Vec<TimerOperation>,
    /// `touched[state * entries + entry]`, see [`touched`]; empty: nothing was touched.
    pub touched: Vec<u8>,
    /// What was done to large maps and lists, in order.
    pub collections: Vec<CollectionWrites>,
    /// Entries that were set aside and had no effect at all, in order; only in careful mode.
    pub quarantined: Vec<u32>,
    /// A broadcast row has asked for every key.
    pub applies: bool,
}

/// Why a call failed that an entry of the call may be to blame for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFault {
    /// Index of the operator in the graph, where it is known.
    pub operator: Option<u32>,
    /// What happened, with its stable code, for people.
    pub cause: String,
}

/// The values that user code keeps by slot. The states of a keyed chain are numbered as declared, large ones left out; a
/// windowed chain's accumulator is state 0.
pub trait StateFunction {
    /// Values of a state, one row per slot, null where absent. Changes nothing.
    fn export_state(&mut self, state: u32, slots: &[Slot]) -> Result<ArrayRef>;

    /// Sets the values of a state: the inverse of `export_state`.
    fn import_state(&mut self, state: u32, slots: &[Slot], values: &ArrayRef) -> Result<()>;

    /// Forgets all states of these slots.
    fn drop_state(&mut self, slots: &[Slot]) -> Result<()>;
}

/// A function whose calls can be tried: what a failed one did is undone.
pub trait TriedFunction: StateFunction {
    /// Outputs so far stay, whatever becomes of the calls that follow.
    fn mark(&mut self);

    /// Drops what calls have put out since [`mark`](Self::mark).
    fn undo(&mut self);

    /// Why the last failed call failed, if an entry of it may be to blame: user code trapped, ran too long, or took more
    /// than one entry should. Other failures come back however the entries are cut.
    fn take_fault(&mut self) -> Option<CallFault>;
}

/// The functions of a keyed chain.
pub trait KeyedFunction: StateFunction {
    /// Rows of an input; `slots[i]` is the slot of row i's key.
    fn process(&mut self, input: u32, slots: &[Slot], rows: &Block) -> Result<Effects>;

    /// Due timers: at most one per slot. `keys` are the key columns, one row per timer.
    fn timers(&mut self, kind: TimerKind, slots: &[Slot], times: &[Millis], keys: &[ArrayRef]) -> Result<Effects>;

    /// Whether the function keeps its timers itself. Then no call sets any, and the operator asks the function what is due.
    /// As long as a key has a timer, a state of it holds a value.
    fn keeps_timers(&self) -> bool {
        false
    }

    /// Of a function that keeps its timers: of which slots something is due at `upto`, of as much as the next call of
    /// [`timers`](Self::timers) is to do, up to `limit`. That call gets these slots, which may repeat, and neither times nor
    /// keys.
    fn take_due(&mut self, kind: TimerKind, upto: Millis, limit: usize, slots: &mut Vec<Slot>) {
        let _ = (kind, upto, limit, slots);
    }

    /// Of a function that keeps its timers: those of a slot, in order.
    fn timers_of(&mut self, slot: Slot, kind: TimerKind, times: &mut Vec<Millis>) {
        let _ = (slot, kind, times);
    }

    /// Of a function that keeps its timers: states that were imported had timers of this kind.
    fn resume_timers(&mut self, kind: TimerKind) {
        let _ = kind;
    }

    /// Keys that have their turn because a broadcast row has asked for all of them, each once.
    fn apply(&mut self, slots: &[Slot], keys: &[ArrayRef]) -> Result<Effects> {
        let _ = (slots, keys);
        Err(Error::internal("a function that cannot be applied to every key was"))
    }
}

/// Stages of matches, complete or not, one after the other. Columns `members` and `stages` are of equal length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MatchPaths {
    /// Rows of the call's block, of each match in order.
    pub members: Vec<u32>,
    /// The stage that took each, as the pattern's stages are counted.
    pub stages: Vec<u32>,
    /// Where each match ends among these.
    pub ends: Vec<u32>,
}

/// Matches that are put out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matches {
    /// Their rows.
    pub paths: MatchPaths,
    /// When each was complete, or its time was over.
    pub times: Vec<Millis>,
    /// Whether its time was over before it was complete.
    pub timed_out: Vec<bool>,
}

/// Rows beside the partial matches that they may join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// The row in question, of the call's block.
    pub rows: Vec<u32>,
    /// The condition in question.
    pub conditions: Vec<u32>,
    /// What the partial match has.
    pub paths: MatchPaths,
}

/// What a pattern has to know of the rows of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowConditions {
    /// Of each row the conditions that hold of it; of those that look at other rows: that may hold.
    pub holds: Vec<u64>,
    /// What rows of equal time are ordered by, byte by byte, of all rows; empty, if the pattern does not order them.
    pub order: Vec<u8>,
    /// Where the bytes of each row end; empty as well.
    pub order_ends: Vec<u32>,
}

impl RowConditions {
    /// What a row is ordered by among those of equal time; nothing, if they are not ordered.
    pub fn order_of(&self, row: usize) -> &[u8] {
        let end = |row: usize| self.order_ends.get(row).map(|end| *end as usize);
        let start = row.checked_sub(1).map_or(Some(0), end);
        let range = start.zip(end(row)).map(|(start, end)| start..end);
        range.and_then(|range| self.order.get(range)).unwrap_or_default()
    }
}

/// The functions of a chain that begins with a pattern.
pub trait PatternFunction {
    /// What the pattern has to know of each row.
    fn conditions(&mut self, rows: &Block) -> Result<RowConditions>;

    /// Whether each condition holds that looks at other rows.
    fn iterative_conditions(&mut self, rows: &Block, candidates: &Candidates) -> Result<Vec<bool>>;

    /// Puts out what is made of matches.
    fn select(&mut self, rows: &Block, matches: &Matches) -> Result<()>;

    /// Puts rows out at a port as they are.
    fn put_out(&mut self, port: u32, rows: Block);

    /// Rows of the block of the last call for conditions that were set aside, in order: they never were, whatever was answered
    /// of them. Only in careful mode.
    fn take_set_aside(&mut self) -> Vec<u32> {
        Vec::new()
    }
}

/// The accumulators of a windowed chain.
pub trait WindowFunction: StateFunction {
    /// Adds row i to the accumulator of `slots[i]`. Which input rows are of is between the implementor and whoever gives
    /// the operator its blocks: the operator treats all alike.
    fn accumulate(&mut self, slots: &[Slot], rows: &Block) -> Result<()>;

    /// Adds the accumulator of `sources[i]` to that of `targets[i]`, in order; sources stay as they are.
    fn merge(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<()>;

    /// Puts out the windows' results: `slots[i]`, key row i of `keys`, [starts\[i\], ends\[i\]).
    fn emit(
        &mut self,
        slots: &[Slot],
        starts: &[Millis],
        ends: &[Millis],
        keys: &[ArrayRef],
        then_drop: bool,
    ) -> Result<()>;
}
