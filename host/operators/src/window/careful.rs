//! Rows of windows one by one: first the calls that a row means, then what the row changes here.
//!
//! A row opens slices and sessions, or moves the end of one, before the guest hears of it. Where the guest may trap that
//! order would leave windows behind that no row is in. So the calls are found out without changing anything, and made;
//! if they return, the row goes the usual way, with functions that know that these calls were made already.

use arrow_array::{Array, ArrayRef};
use millrace_core::block::{Block, Millis};
use millrace_core::function::{Slot, StateFunction, TriedFunction, WindowFunction};
use millrace_core::{Error, Result};

use super::{WindowOperator, Windows};
use crate::careful::CarefulCalls;

impl WindowOperator {
    /// As [`handle_block`](Self::handle_block); rows whose calls trap are set aside and change nothing.
    pub fn handle_block_carefully<F: TriedFunction + WindowFunction>(
        &mut self,
        key_columns: &[ArrayRef],
        times: &[Millis],
        block: &Block,
        function: &mut CarefulCalls<'_, F>,
        late: &mut Vec<Block>,
    ) -> Result<()> {
        if !function.is_by_entry() {
            return self.handle_block(key_columns, times, block, function, late);
        }
        for row in 0..block.row_count() {
            let one = block.slice(row, 1);
            let keys = key_columns.iter().map(|column| column.slice(row, 1));
            let keys = keys.collect::<Vec<_>>();
            let calls = match &mut self.windows {
                Windows::Sliced(windows) => windows.calls_of_row(&mut self.context, &keys, times[row], function)?,
                Windows::Session(windows) => windows.calls_of_row(&mut self.context, &keys, times[row], function)?,
            };
            let mut after = After {
                function: &mut *function,
                waiting_for: None,
            };
            if let Some(calls) = calls {
                if !after.function.row(calls, &one)? {
                    continue;
                }
                after.waiting_for = Some(calls.slot);
            }
            self.handle_block(&keys, &times[row..=row], &one, &mut after, late)?;
            if after.waiting_for.is_some() {
                return Err(Error::internal("a row that was added to a window did not get into it"));
            }
        }
        Ok(())
    }
}

/// Functions of which some calls were made already: up to that which adds the row to this slot.
struct After<'a, F: ?Sized> {
    function: &'a mut F,
    waiting_for: Option<Slot>,
}

impl<F: WindowFunction + ?Sized> StateFunction for After<'_, F> {
    fn export_state(&mut self, state: u32, slots: &[Slot]) -> Result<ArrayRef> {
        if self.waiting_for.is_some() {
            // It would be exported as the row has left it.
            return Err(Error::internal("a snapshot lacks a window that a row has changed"));
        }
        self.function.export_state(state, slots)
    }

    fn import_state(&mut self, state: u32, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        self.function.import_state(state, slots, values)
    }

    fn drop_state(&mut self, slots: &[Slot]) -> Result<()> {
        match self.waiting_for {
            Some(_) => Ok(()),
            None => self.function.drop_state(slots),
        }
    }
}

impl<F: WindowFunction + ?Sized> WindowFunction for After<'_, F> {
    fn accumulate(&mut self, slots: &[Slot], rows: &Block) -> Result<()> {
        match self.waiting_for.take() {
            Some(slot) if slots == [slot] => Ok(()),
            Some(slot) => Err(Error::internal(format!(
                "a row was added to slot {slot} and belongs into {slots:?}"
            ))),
            None => self.function.accumulate(slots, rows),
        }
    }

    fn merge(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<()> {
        match self.waiting_for {
            Some(_) => Ok(()),
            None => self.function.merge(targets, sources),
        }
    }

    fn emit(
        &mut self,
        slots: &[Slot],
        starts: &[Millis],
        ends: &[Millis],
        keys: &[ArrayRef],
        then_drop: bool,
    ) -> Result<()> {
        self.function.emit(slots, starts, ends, keys, then_drop)
    }
}
