//! Careful mode: a call that traps takes one row, timer or window with it and nothing else.
//!
//! [`CarefulCalls`] stands between an operator and the functions of the guest. It makes one call per entry and copies
//! the states that the call changed to the chain's [`Shadow`]. When a call traps, what it put out is dropped, the instance
//! is replaced by a fresh one that gets the states of *all* chains of the slot from their shadows, the entry is set aside
//! as [`Quarantined`], and the next entry's turn comes. The operator never hears of it: an entry that was set aside looks
//! to it like one that did nothing.
//!
//! A pattern has its state in the host, where no trap reaches it, and its chain no other (`patterns`): there is nothing to copy.
//!
//! Where an operator changes something of its own before the guest's call, that has to be put off until the call has
//! been made: windows ask first which calls a row means ([`RowCalls`]), make them, and do their own part after.
//!
//! A slot has one instance for all its chains, and nothing in an instance can be relied on after a trap. So all chains of
//! a careful slot keep a shadow. Those that have not trapped keep their blocks whole ([`Careful::whole`]); should one of
//! them trap, the job restarts with that one careful too.

mod calls;
mod patterns;
mod shadow;

use std::collections::BTreeMap;
use std::rc::Rc;

use arrow_array::ArrayRef;
use millrace_core::Result;
use millrace_core::block::{Block, Millis};
use millrace_core::collections::SharedCollections;
use millrace_core::function::{CallFault, Slot, TimerKind};

pub use self::calls::CarefulCalls;
pub use self::shadow::{Shadow, SharedShadow};

/// Replaces the instance that the chains of a slot share.
pub trait Instances {
    /// Puts a fresh instance in the place of the one that trapped, with the states that the shadows of its chains hold.
    fn replace(&self) -> Result<()>;
}

/// An entry that was set aside, and why.
#[derive(Debug)]
pub struct Quarantined {
    /// What it was.
    pub entry: Entry,
    /// What its call ended with.
    pub fault: CallFault,
}

/// What a call can be about.
#[derive(Debug)]
pub enum Entry {
    /// A block of one row.
    Row(Block),
    /// A timer. It does not fire again.
    Timer {
        /// Its clock.
        kind: TimerKind,
        /// Its time.
        time: Millis,
        /// Key columns of one row.
        keys: Vec<ArrayRef>,
    },
    /// A window that was to put out its result, or to be put together for that.
    Window {
        /// Its first ms.
        start: Millis,
        /// The ms after its last.
        end: Millis,
        /// Key columns of one row.
        keys: Vec<ArrayRef>,
    },
    /// A match of a pattern that was to be put out.
    Match {
        /// Its rows.
        rows: Block,
        /// When it was complete, or its time was over.
        time: Millis,
    },
}

/// The calls that a row of a windowed chain means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowCalls {
    /// The row joins two sessions: the accumulator of the first slot gets that of the second, which is dropped.
    pub(crate) merge: Option<(Slot, Slot)>,
    /// It is added to the accumulator of this slot.
    pub(crate) slot: Slot,
}

/// What a chain of a careful slot keeps; see the module's documentation.
pub struct Careful {
    instances: Rc<dyn Instances>,
    shadow: SharedShadow,
    by_entry: bool,
    always_writes: bool,
    /// Accumulators of windows that could not be put together.
    poisoned: BTreeMap<Slot, CallFault>,
    quarantined: Vec<Quarantined>,
    /// Rows of the last call for conditions that were.
    rows_aside: Vec<u32>,
    /// What calls write to large states is applied after each one.
    collections: Option<SharedCollections>,
}

impl Careful {
    /// For a chain that trapped. `always_writes`: its calls report no flags, for every entry writes all states.
    pub fn by_entry(instances: Rc<dyn Instances>, shadow: SharedShadow, always_writes: bool) -> Self {
        Careful {
            instances,
            shadow,
            by_entry: true,
            always_writes,
            poisoned: BTreeMap::new(),
            quarantined: Vec::new(),
            rows_aside: Vec::new(),
            collections: None,
        }
    }

    /// The large states of the chain, which are the host's and stay when an instance goes.
    pub fn set_collections(&mut self, collections: SharedCollections) {
        self.collections = Some(collections);
    }

    /// For a chain that did not trap, beside one that did.
    pub fn whole(instances: Rc<dyn Instances>, shadow: SharedShadow, always_writes: bool) -> Self {
        Careful {
            by_entry: false,
            ..Self::by_entry(instances, shadow, always_writes)
        }
    }

    /// Whether a trap is put down to an entry.
    pub fn is_by_entry(&self) -> bool {
        self.by_entry
    }

    /// The functions of the chain, carefully.
    pub fn calls<'a, F>(&'a mut self, function: &'a mut F) -> CarefulCalls<'a, F> {
        CarefulCalls::new(self, function)
    }

    /// Takes what was set aside since the last time.
    pub fn take_quarantined(&mut self) -> Vec<Quarantined> {
        std::mem::take(&mut self.quarantined)
    }

    /// Whether careful mode can end: no window is half put together.
    pub fn can_end(&self) -> bool {
        self.poisoned.is_empty()
    }

    /// Bytes of memory that the shadow holds.
    pub fn memory_bytes(&self) -> usize {
        self.shadow.borrow().memory_bytes()
    }
}

#[cfg(test)]
mod tests;
