//! One state of a process function: storage by slot, and what happened to it during the call.

use std::cell::RefCell;

use super::kept::{Kept, read_values, write_values};
use super::pages::Pages;
use crate::block::Block;
use crate::position;

/// Bits of `call-result.touched`.
pub(crate) const READ: u8 = 1;
pub(crate) const WRITTEN: u8 = 2;
const CLEARED: u8 = 4;

/// A state, shared by the user's handle and the head of the chain.
pub(crate) struct Cell<A> {
    pages: Pages<A>,
    /// One per entry of the call; empty until the state is touched.
    flags: Vec<u8>,
    /// Change of bytes outside the pages.
    heap_bytes: i64,
}

impl<A: Kept> Cell<A> {
    pub(crate) fn new() -> Self {
        Cell {
            pages: Pages::new(),
            flags: Vec::new(),
            heap_bytes: 0,
        }
    }

    /// The value of the entry's key, to be read; none if nothing was ever kept near it.
    #[inline(always)]
    pub(crate) fn read(&mut self) -> Option<&A> {
        *self.flag() |= READ;
        self.pages.get(position::slot())
    }

    /// The value of a slot, whatever the entry at hand.
    pub(crate) fn at(&self, slot: u32) -> Option<&A> {
        self.pages.get(slot)
    }

    /// The value of the entry's key, to be changed. `change` says what comes of the call and whether
    /// something is there afterwards.
    #[inline(always)]
    pub(crate) fn write<R>(&mut self, reads: bool, change: impl FnOnce(&mut A) -> (R, bool)) -> R {
        let slot = position::slot();
        self.pages.ensure_slot(slot, A::create);
        let kept = self.pages.at(slot);
        let before = kept.heap_bytes() as i64;
        let (result, present) = change(kept);
        self.heap_bytes += kept.heap_bytes() as i64 - before;
        let flag = self.flag();
        *flag = *flag & READ | if reads { READ } else { 0 } | if present { WRITTEN } else { CLEARED };
        result
    }

    /// Forgets the value of the entry's key.
    pub(crate) fn clear(&mut self) {
        let slot = position::slot();
        self.forget(slot);
        let flag = self.flag();
        *flag = *flag & READ | CLEARED;
    }

    fn forget(&mut self, slot: u32) {
        if let Some(kept) = self.pages.get_mut(slot) {
            self.heap_bytes -= kept.heap_bytes() as i64;
            *kept = A::create();
        }
    }

    #[inline(always)]
    fn flag(&mut self) -> &mut u8 {
        let entry = position::state_entry() as usize;
        if entry >= self.flags.len() {
            self.flags.resize(position::entries().max(entry + 1), 0);
        }
        &mut self.flags[entry]
    }
}

/// A state whose type is forgotten.
pub(crate) trait ErasedState {
    /// Takes the flags of the call; empty if the state was not touched.
    fn take_flags(&self) -> Vec<u8>;
    /// Takes the change of live bytes.
    fn take_live_bytes(&self) -> i64;
    fn export(&self, slots: &[u32]) -> Block;
    fn import(&self, slots: &[u32], values: &Block);
    fn drop_slots(&self, slots: &[u32]);
    /// Brings the values of these slots into the cache.
    fn warm(&self, slots: &[u32]);
}

impl<A: Kept> ErasedState for RefCell<Cell<A>> {
    fn take_flags(&self) -> Vec<u8> {
        std::mem::take(&mut self.borrow_mut().flags)
    }

    fn take_live_bytes(&self) -> i64 {
        let mut cell = self.borrow_mut();
        std::mem::take(&mut cell.heap_bytes) + cell.pages.take_grown_bytes()
    }

    fn export(&self, slots: &[u32]) -> Block {
        let cell = self.borrow();
        write_values(slots.iter().map(|&slot| cell.pages.get(slot).and_then(A::to_stored)))
    }

    fn import(&self, slots: &[u32], values: &Block) {
        let mut cell = self.borrow_mut();
        cell.pages.ensure(slots, A::create);
        for (&slot, stored) in slots.iter().zip(read_values(values)) {
            cell.forget(slot);
            let kept = A::from_stored(stored);
            cell.heap_bytes += kept.heap_bytes() as i64;
            *cell.pages.at(slot) = kept;
        }
    }

    fn drop_slots(&self, slots: &[u32]) {
        let mut cell = self.borrow_mut();
        for &slot in slots {
            cell.forget(slot);
        }
    }

    fn warm(&self, slots: &[u32]) {
        self.borrow().pages.warm(slots);
    }
}
