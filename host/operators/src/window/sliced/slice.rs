//! The keys of a slice of time, and where their accumulators are.

use millrace_core::function::Slot;

use crate::key_table::KeyTable;
use crate::residents::Residents;
use crate::slot_set::SlotSet;
use crate::window::slots::SlotAllocator;

#[derive(Debug)]
pub(super) struct Slice {
    /// Numbers the keys that are here in the order in which they came; numbers of those that left are given again.
    pub(super) keys: KeyTable,
    /// Accumulator of each key that is here.
    pub(super) slots: Vec<Slot>,
    /// Keys whose accumulators changed since the last snapshot began, by number.
    pub(super) dirty: SlotSet,
    /// Keys that a snapshot under way has still to export.
    pub(super) marked: SlotSet,
    /// If accumulators may be in a lower tier.
    pub(super) tiered: Option<Box<Tiered>>,
}

/// What is kept of a slice whose accumulators may be in a lower tier.
#[derive(Debug)]
pub(super) struct Tiered {
    /// By number.
    pub(super) residents: Residents,
    /// Accumulators that are not here, about: rows of layers that were restored may be about the same one.
    pub(super) only_below: u64,
    /// Whether any was ever below.
    pub(super) ever_below: bool,
    /// The last block that had rows for it, by number.
    pub(super) written: u64,
}

impl Slice {
    pub(super) fn new(keys: KeyTable) -> Self {
        Slice {
            keys,
            slots: Vec::new(),
            dirty: SlotSet::default(),
            marked: SlotSet::default(),
            tiered: None,
        }
    }

    /// From now on accumulators may be elsewhere than here.
    pub(super) fn tier(&mut self) {
        self.tiered = Some(Box::new(Tiered {
            residents: Residents::new(SlotSet::below(self.keys.slot_bound())),
            only_below: 0,
            ever_below: false,
            written: 0,
        }));
    }

    /// Gives keys that are new here their accumulators.
    pub(super) fn allocate(&mut self, fresh: &[Slot], slots: &mut SlotAllocator) {
        if self.tiered.is_none() {
            self.slots.extend(fresh.iter().map(|_| slots.allocate()));
            return;
        }
        for &local in fresh {
            match self.slots.get_mut(local as usize) {
                Some(slot) => *slot = slots.allocate(),
                None => self.slots.push(slots.allocate()),
            }
        }
    }

    /// Whether all accumulators are here; then their keys are numbered without gaps.
    pub(super) fn is_whole(&self) -> bool {
        self.only_below() == 0
    }

    /// Accumulators that are not here, about.
    pub(super) fn only_below(&self) -> u64 {
        self.tiered.as_ref().map_or(0, |tiered| tiered.only_below)
    }

    /// The keys that are here, by number.
    pub(super) fn live(&self) -> SlotSet {
        match &self.tiered {
            None => SlotSet::below(self.keys.slot_bound()),
            Some(tiered) => tiered.residents.live().clone(),
        }
    }

    /// Up to `limit` of the keys that are here, from this number on.
    pub(super) fn live_from(&self, start: Slot, limit: usize) -> Vec<Slot> {
        let mut locals = Vec::new();
        match &self.tiered {
            None => locals.extend((start..self.keys.slot_bound()).take(limit)),
            Some(tiered) => tiered.residents.live().read_from(start, limit, &mut locals),
        }
        locals
    }

    /// The accumulators of these keys.
    pub(super) fn slots_of(&self, locals: &[Slot]) -> Vec<Slot> {
        locals.iter().map(|&local| self.slots[local as usize]).collect()
    }

    /// All accumulators that are here.
    pub(super) fn live_slots(&self) -> Vec<Slot> {
        match &self.tiered {
            None => self.slots.clone(),
            Some(_) => self.slots_of(&self.live_from(0, usize::MAX)),
        }
    }

    /// These keys are not here any more.
    pub(super) fn forget(&mut self, locals: &[Slot]) {
        self.dirty.remove_all(locals);
        self.keys.remove_all(locals);
        if let Some(tiered) = &mut self.tiered {
            tiered.residents.forget(locals);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let sets = self.dirty.memory_bytes() + self.marked.memory_bytes();
        let residents = self.tiered.as_ref().map_or(0, |tiered| tiered.residents.memory_bytes());
        self.keys.memory_bytes() + self.slots.capacity() * size_of::<Slot>() + sets + residents
    }
}
