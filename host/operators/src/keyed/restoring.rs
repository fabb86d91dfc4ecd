//! Restoring from the newest layer on, while rows of keys that have come are taken.
//!
//! Of each key the first row counts, and all later ones are older. A key whose first row says that it holds nothing keeps
//! its slot until the end, so that older rows of it are known to be old. A key that comes to hold nothing in the meantime
//! likewise. Large states come beside that by key group (`collections/restoring.rs`); of a key both have to be there.

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_select::filter::{filter, filter_record_batch};
use millrace_core::function::{KeyedFunction, Slot};
use millrace_core::{Error, Result};

use super::KeyedOperator;
use crate::changes::{TableRows, broken, tracked};
use crate::slot_set::SlotSet;

/// What there is to know until all layers have come.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    /// Slots of keys that hold nothing.
    gone: SlotSet,
    gone_slots: Vec<Slot>,
    /// Of the batch at hand: slots whose first row has not been met. Empty between batches.
    first: SlotSet,
}

impl KeyedOperator {
    /// Begins to restore from the newest layer on. Before the first row; up to so many entries are about to be resident.
    pub fn begin_restore(&mut self, entries: usize) -> Result<()> {
        self.expect_restored(entries)?;
        self.restoring = Some(Box::default());
        Ok(())
    }

    /// Restores what a batch says of keys that have not come yet. Of each layer the last batch comes first.
    pub fn restore_newest(&mut self, batch: &RecordBatch, function: &mut dyn KeyedFunction) -> Result<()> {
        let batch = &self.settled(batch)?;
        let rows = tracked(&mut self.tracking)?.table.read(batch)?;
        let count = batch.num_rows();
        self.batch.load(&rows.keys)?;
        self.slots.clear();
        self.fresh.clear();
        self.keys
            .find_or_insert(&self.batch, 0..count, &mut self.slots, &mut self.fresh);
        let slots = std::mem::take(&mut self.slots);
        let restored = self.take_up_fresh(&slots, rows, function);
        let changes = &mut tracked(&mut self.tracking)?.changes;
        let taken = restored?;
        changes.restored(&taken, count);
        if let Some(tiering) = &mut self.tiering {
            tiering.restored_here(&taken, self.keys.slot_bound());
        }
        self.slots = slots;
        Ok(())
    }

    /// Restores what a batch says of keys that were not among the newest to the lower tier, which is there. Behind all
    /// of the newest, from the oldest layer on.
    pub fn restore_older(&mut self, batch: &RecordBatch, function: &mut dyn KeyedFunction) -> Result<()> {
        let keys = tracked(&mut self.tracking)?.table.read(batch)?.keys;
        self.batch.load(&keys)?;
        let mut found = Vec::with_capacity(batch.num_rows());
        self.keys.find(&self.batch, 0..batch.num_rows(), &mut found);
        let unknown: BooleanArray = found.iter().map(|slot| Some(slot.is_none())).collect();
        let known = batch.num_rows() - unknown.true_count();
        tracked(&mut self.tracking)?.changes.restored(&[], known);
        if known == 0 {
            return self.restore(batch, function);
        }
        self.restore(&filter_record_batch(batch, &unknown).map_err(broken)?, function)
    }

    /// Takes up the last row of each slot that was just given; which of them hold something.
    fn take_up_fresh(
        &mut self,
        slots: &[Slot],
        rows: TableRows,
        function: &mut dyn KeyedFunction,
    ) -> Result<Vec<Slot>> {
        if self.fresh.is_empty() {
            return Ok(Vec::new());
        }
        if self.fresh.len() == slots.len() && rows.deleted.true_count() == 0 {
            self.take_up(slots, &rows.more, function)?;
            return Ok(slots.to_vec());
        }
        let restoring = self.restoring.as_mut().ok_or_else(not_begun)?;
        restoring.first.insert_all(&self.fresh, self.keys.slot_bound());
        let mut counts = restoring.first.take_last(slots);
        for ((&slot, counts), deleted) in slots.iter().zip(&mut counts).zip(rows.deleted.values()) {
            if *counts && deleted {
                restoring.set_gone(slot);
                *counts = false;
            }
        }
        let taken = slots.iter().zip(&counts).filter(|(_, counts)| **counts);
        let taken = taken.map(|(&slot, _)| slot).collect::<Vec<_>>();
        if taken.is_empty() {
            return Ok(taken);
        }
        let counts = BooleanArray::from(counts);
        let select = |column: &ArrayRef| filter(column, &counts).map_err(broken);
        let columns = rows.more.iter().map(select).collect::<Result<Vec<_>>>()?;
        self.take_up(&taken, &columns, function)?;
        Ok(taken)
    }

    /// Which rows with these keys may be taken now: what their keys hold has come.
    pub fn find_restored(&mut self, keys: &[ArrayRef]) -> Result<Vec<bool>> {
        self.batch.load(keys)?;
        let mut known = vec![true; self.batch.row_count()];
        if let Some(restoring) = &self.restoring {
            let mut found = Vec::with_capacity(known.len());
            self.keys.find(&self.batch, 0..known.len(), &mut found);
            let is_known = |slot: Option<Slot>| slot.is_some_and(|slot| !restoring.gone.contains(slot));
            known = found.into_iter().map(is_known).collect();
        }
        if let Some(collections) = &self.collections {
            collections.borrow().leave_come(keys, &mut known)?;
        }
        Ok(known)
    }

    /// Begins to restore large states by key group, with [`restore_collection`](Self::restore_collection). Before the
    /// first row; broadcast state may be there already.
    pub fn begin_restore_collections(&mut self) {
        if let Some(collections) = &self.collections {
            collections.borrow_mut().begin_restore();
        }
    }

    /// All entries of these key groups have been restored, of all large states.
    pub fn groups_have_come(&mut self, groups: &[u32]) {
        if let Some(collections) = &self.collections {
            collections.borrow_mut().groups_have_come(groups);
        }
    }

    /// The key group of the first of these keys whose large states have not come.
    pub fn missing_group(&self, keys: &[ArrayRef]) -> Result<Option<u32>> {
        match &self.collections {
            Some(collections) => collections.borrow().missing_group(keys),
            None => Ok(None),
        }
    }

    /// All key groups have come.
    pub fn end_restore_collections(&mut self) {
        if let Some(collections) = &self.collections {
            collections.borrow_mut().end_restore();
        }
    }

    /// All layers have come.
    pub fn end_restore(&mut self) {
        if let Some(restoring) = self.restoring.take() {
            self.keys.remove_all(&restoring.gone_slots);
        }
    }
}

impl Restoring {
    /// A key holds nothing, whatever older layers say.
    pub(super) fn set_gone(&mut self, slot: Slot) {
        self.gone.insert(slot);
        self.gone_slots.push(slot);
    }
}

fn not_begun() -> Error {
    Error::internal("nothing is being restored")
}
