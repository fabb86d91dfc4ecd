//! The lower tier of sliced windows: which accumulators leave the guest, and how they come back.
//!
//! ```text
//!   block --> slices --> keys to slots --keys new here--> look up below --> import --> accumulate
//!                                                              ^                           |
//!      more accumulators than may be resident: export, put below, drop <-------------------+
//! ```
//!
//! An entry is a key in a slice; each slice is a part of the tier, which goes as a whole when the slice is over. What
//! leaves is of the slice that was not written to for longest; within it the clock algorithm decides (`residents`).
//! An accumulator comes back because rows are added to it, so that what is below of one that is here is never
//! the newer. A slice of which nothing is below is looked up in no more.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array};
use arrow_schema::FieldRef;
use millrace_core::backend::{ByteRows, PartedTier};
use millrace_core::checkpoint::RowSource;
use millrace_core::function::{Slot, WindowFunction};
use millrace_core::{Error, Result};

use super::slice::Slice;
use super::{Grid, SlicedWindows};
use crate::changes::TableSchema;
use crate::entry_codec::EntryCodec;
use crate::frozen_rows::FrozenRows;
use crate::residents::LEAVING;
use crate::window::Context;
use crate::window::emission::drop_slots;

/// What windows with a lower tier keep.
#[derive(Debug)]
pub(super) struct Tiering {
    pub(super) tier: Box<dyn PartedTier>,
    pub(super) codec: EntryCodec,
    table: TableSchema,
    /// More accumulators than this do not stay.
    pub(super) resident_max: usize,
    /// Blocks so far.
    blocks: u64,
    /// Accumulators that are not in the guest, about.
    only_below: u64,
    keys: ByteRows,
    values: ByteRows,
    found: Vec<bool>,
}

impl SlicedWindows {
    pub(in crate::window) fn set_lower_tier(
        &mut self,
        tier: Box<dyn PartedTier>,
        accumulator: &FieldRef,
        max_parallelism: u32,
        resident_max: usize,
    ) -> Result<()> {
        let accumulators = std::slice::from_ref(accumulator);
        self.tiering = Some(Box::new(Tiering {
            tier,
            codec: EntryCodec::new(self.schema.clone(), accumulators, max_parallelism, false)?,
            table: super::snapshot::table(&self.schema, accumulator, max_parallelism),
            resident_max,
            blocks: 0,
            only_below: 0,
            keys: ByteRows::default(),
            values: ByteRows::default(),
            found: Vec::new(),
        }));
        self.slices.values_mut().for_each(Slice::tier);
        Ok(())
    }

    pub(in crate::window) fn merges_slices(&self) -> bool {
        !self.grid.tumbling()
    }

    pub(in crate::window) fn has_lower_tier(&self) -> bool {
        self.tiering.is_some()
    }

    pub(in crate::window) fn set_resident_max(&mut self, resident_max: usize) {
        if let Some(tiering) = &mut self.tiering {
            tiering.resident_max = resident_max;
        }
    }

    /// Accumulators that are below only, about.
    pub(in crate::window) fn only_below(&self) -> u64 {
        self.tiering.as_ref().map_or(0, |tiering| tiering.only_below)
    }

    /// Fetches accumulators of these keys, rows of the batch at hand that are not in the slice, as far as they are below.
    pub(super) fn fetch_missing(
        &mut self,
        context: &mut Context,
        number: i64,
        rows: &[u32],
        columns: &[ArrayRef],
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let (Some(tiering), Some(slice)) = (&mut self.tiering, self.slices.get_mut(&number)) else {
            return Ok(());
        };
        let Some((found, accumulators)) = tiering.look_up(slice, number, columns)? else {
            return Ok(());
        };
        let rows = found.iter().map(|&row| rows[row]).collect::<Vec<_>>();
        let (mut locals, mut fresh) = (Vec::new(), Vec::new());
        slice
            .keys
            .find_or_insert_at(&self.batch, &rows, &mut locals, &mut fresh);
        slice.allocate(&fresh, &mut context.slots);
        let bound = slice.keys.slot_bound();
        if let Some(tiered) = &mut slice.tiered {
            tiered.residents.touch(&locals, &fresh, bound);
        }
        function.import_state(0, &slice.slots_of(&locals), &accumulators)
    }

    /// After a block: sends accumulators below until no more are resident than may be. Not while older rows of them may
    /// still go there.
    pub(super) fn send_excess_below(&mut self, context: &mut Context, function: &mut dyn WindowFunction) -> Result<()> {
        let Some(tiering) = self.tiering.as_mut().filter(|_| !context.restoring) else {
            return Ok(());
        };
        tiering.blocks += 1;
        if tiering.is_done() {
            self.tiering = None;
            self.slices.values_mut().for_each(|slice| slice.tiered = None);
            return Ok(());
        }
        let resident_max = tiering.resident_max;
        let mut victims = Vec::new();
        while context.slots.used() > resident_max {
            let count = (context.slots.used() - resident_max).clamp(*LEAVING.start(), *LEAVING.end());
            let number = self.coldest()?;
            if let Some(slice) = self.slices.get_mut(&number)
                && let Some(tiered) = &mut slice.tiered
            {
                let count = count.min(slice.keys.len());
                let bound = slice.keys.slot_bound();
                tiered.residents.choose_victims(count, bound, &mut victims);
            }
            self.leave(context, number, &victims, function)?;
        }
        Ok(())
    }

    /// The slice with residents that was not written to for longest.
    fn coldest(&self) -> Result<i64> {
        let occupied = self.slices.iter().filter(|(_, slice)| !slice.keys.is_empty());
        let written = |slice: &Slice| slice.tiered.as_ref().map(|tiered| tiered.written);
        let coldest = occupied.min_by_key(|(number, slice)| (written(slice), **number));
        let none = || Error::internal("accumulators are in no slice");
        coldest.map(|(&number, _)| number).ok_or_else(none)
    }

    /// Sends accumulators of a slice below.
    pub(super) fn leave(
        &mut self,
        context: &mut Context,
        number: i64,
        locals: &[Slot],
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let (Some(tiering), Some(slice)) = (&mut self.tiering, self.slices.get_mut(&number)) else {
            return Err(Error::internal("accumulators leave for no tier"));
        };
        if let Some(tracking) = &mut self.tracking {
            tracking.export_among(slice, number, &self.grid, locals, function)?;
        }
        let slots = slice.slots_of(locals);
        let keys = slice.keys.key_columns(locals)?;
        let accumulators = function.export_state(0, &slots)?;
        tiering.put(slice, number, &keys, &accumulators)?;
        if let Some(tracking) = &mut self.tracking {
            tracking.depart(slice, number, &self.grid, locals, keys, accumulators)?;
        }
        drop_slots(function, &slots)?;
        context.slots.release(&slots);
        slice.forget(locals);
        Ok(())
    }
}

impl Tiering {
    /// A slice gets rows of these keys, of which some are new here: fetches those that are below.
    pub(super) fn fetch(
        &mut self,
        slice: &mut Slice,
        number: i64,
        locals: &[Slot],
        fresh: &[Slot],
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let bound = slice.keys.slot_bound();
        if let Some(tiered) = &mut slice.tiered {
            tiered.residents.touch(locals, fresh, bound);
            tiered.written = self.blocks;
        }
        if fresh.is_empty() || slice.is_whole() {
            return Ok(());
        }
        let columns = slice.keys.key_columns(fresh)?;
        let Some((found, accumulators)) = self.look_up(slice, number, &columns)? else {
            return Ok(());
        };
        let found = found.iter().map(|&row| fresh[row]).collect::<Vec<_>>();
        function.import_state(0, &slice.slots_of(&found), &accumulators)
    }

    /// The accumulator of a key in a slice, if it is below. It stays there.
    pub(super) fn peek(&mut self, number: i64, key: &[ArrayRef]) -> Result<Option<ArrayRef>> {
        self.codec.encode_part_keys(number, key, &mut self.keys)?;
        self.tier.get(&self.keys, &mut self.found, &mut self.values)?;
        if self.found != [true] {
            return Ok(None);
        }
        let accumulator = self.decode(self.values.iter())?;
        if !self.tier.keeps_what_was_got() {
            self.tier.put(&self.keys, &self.values)?;
        }
        Ok(Some(accumulator))
    }

    /// Which of these keys are below, and their accumulators, which come up.
    fn look_up(
        &mut self,
        slice: &mut Slice,
        number: i64,
        columns: &[ArrayRef],
    ) -> Result<Option<(Vec<usize>, ArrayRef)>> {
        self.codec.encode_part_keys(number, columns, &mut self.keys)?;
        self.tier.get(&self.keys, &mut self.found, &mut self.values)?;
        let rows = (0..self.found.len()).filter(|&row| self.found[row]);
        let rows = rows.collect::<Vec<_>>();
        if rows.is_empty() {
            return Ok(None);
        }
        let values = rows.iter().map(|&row| self.values.get(row));
        let accumulators = self.decode(values)?;
        let count = rows.len() as u64;
        self.only_below = self.only_below.saturating_sub(count);
        if let Some(tiered) = &mut slice.tiered {
            tiered.only_below = tiered.only_below.saturating_sub(count);
        }
        Ok(Some((rows, accumulators)))
    }

    /// Accumulators from their bytes.
    pub(super) fn decode<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Result<ArrayRef> {
        let mut columns = self.codec.decode_values(values)?;
        let none = || Error::internal("an entry of a window has no accumulator");
        columns.pop().ok_or_else(none)
    }

    /// Puts accumulators of a slice below that are not there, or not as they are now.
    pub(super) fn put(
        &mut self,
        slice: &mut Slice,
        number: i64,
        keys: &[ArrayRef],
        accumulators: &ArrayRef,
    ) -> Result<()> {
        self.codec.encode_part_keys(number, keys, &mut self.keys)?;
        self.codec
            .encode_values(std::slice::from_ref(accumulators), None, &mut self.values)?;
        self.tier.put(&self.keys, &self.values)?;
        let count = accumulators.len() as u64;
        self.only_below += count;
        if let Some(tiered) = &mut slice.tiered {
            tiered.only_below += count;
            tiered.ever_below = true;
        }
        Ok(())
    }

    /// Accumulators that are not in the guest, about.
    pub(super) fn only_below(&self) -> u64 {
        self.only_below
    }

    /// A slice is over.
    pub(super) fn forget(&mut self, slice: &Slice, number: i64) -> Result<()> {
        let Some(tiered) = slice.tiered.as_ref().filter(|tiered| tiered.ever_below) else {
            return Ok(());
        };
        self.only_below -= tiered.only_below.min(self.only_below);
        self.tier.remove_part(EntryCodec::part(number))
    }

    /// Whether all that was restored has come up, and nothing goes below.
    fn is_done(&self) -> bool {
        self.resident_max == usize::MAX && !self.tier.keeps_what_was_got() && self.tier.is_empty()
    }

    /// All accumulators that are below now.
    pub(super) fn freeze(&mut self, grid: Grid) -> Result<Option<(Arc<dyn RowSource>, u64)>> {
        if self.tier.is_empty() {
            return Ok(None);
        }
        let rows = FrozenRows::new(self.tier.freeze()?, self.codec.try_clone()?, self.table.clone());
        let rows = rows.in_parts(move |slices, mut columns| {
            let starts = slices.iter().map(|&slice| grid.slice_bounds(slice).0);
            columns.insert(0, Arc::new(Int64Array::from_iter_values(starts)));
            columns
        });
        Ok(Some((Arc::new(rows), self.only_below)))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.tier.memory_bytes() + self.keys.memory_bytes() + self.values.memory_bytes()
    }
}
