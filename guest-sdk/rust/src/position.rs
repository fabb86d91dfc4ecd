//! Where user code is: operator, entry of the call, slot of its key.
//!
//! The head of a chain stores the entry before each row, every function its operator before it enters user
//! code. The panic hook reads both, states read the slot. On wasm these are plain stores to statics.
//! While the host examines a failure (`open-config.careful`) each store is reported as well.

use std::cell::Cell;

use crate::abi::host;

/// Stands for "no operator" and "no entry".
const NONE: u32 = u32::MAX;

thread_local! {
    static OPERATOR: Cell<u32> = const { Cell::new(NONE) };
    static ENTRY: Cell<u32> = const { Cell::new(NONE) };
    static SLOT: Cell<u32> = const { Cell::new(0) };
    static ENTRIES: Cell<u32> = const { Cell::new(0) };
    static CHAIN: Cell<u32> = const { Cell::new(0) };
    static CAREFUL: Cell<bool> = const { Cell::new(false) };
}

/// Slot of an entry that has no key.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// Whether positions are reported to the host from now on.
pub(crate) fn set_careful(careful: bool) {
    CAREFUL.set(careful);
}

/// A function of this operator is about to run.
#[inline(always)]
pub(crate) fn enter(operator: u32) {
    OPERATOR.set(operator);
    if CAREFUL.get() {
        report();
    }
}

/// The head of a chain goes on to this entry.
#[inline(always)]
pub(crate) fn set_entry(entry: u32) {
    ENTRY.set(entry);
}

/// The head of a keyed chain goes on to this entry, whose key has this slot.
#[inline(always)]
pub(crate) fn set_keyed_entry(entry: u32, slot: u32) {
    ENTRY.set(entry);
    SLOT.set(slot);
}

/// A call of this chain begins.
pub(crate) fn set_chain(chain: u32) {
    CHAIN.set(chain);
}

/// The chain that was called last.
#[cfg(target_arch = "wasm32")]
pub(crate) fn chain() -> u32 {
    CHAIN.get()
}

/// Nothing of the user's runs.
pub(crate) fn leave() {
    OPERATOR.set(NONE);
    ENTRY.set(NONE);
}

/// A call with that many entries begins.
pub(crate) fn set_entries(entries: usize) {
    ENTRIES.set(entries as u32);
}

/// How many entries the call has.
pub(crate) fn entries() -> usize {
    ENTRIES.get() as usize
}

/// Entry of the call, 0 outside of one.
#[inline(always)]
pub(crate) fn entry() -> u32 {
    let entry = ENTRY.get();
    if entry == NONE { 0 } else { entry }
}

/// Entry of the call in which a state is used.
#[inline(always)]
pub(crate) fn state_entry() -> u32 {
    let entry = ENTRY.get();
    assert!(
        entry != NONE,
        "state belongs to a key: it can be used in `process` and `on_timer` alone"
    );
    entry
}

/// Slot of the entry's key.
#[inline(always)]
pub(crate) fn slot() -> u32 {
    SLOT.get()
}

/// Operator and entry, where known.
pub(crate) fn current() -> (Option<u32>, Option<u32>) {
    let known = |value: u32| (value != NONE).then_some(value);
    (known(OPERATOR.get()), known(ENTRY.get()))
}

#[cold]
fn report() {
    host::position(OPERATOR.get(), entry());
}
