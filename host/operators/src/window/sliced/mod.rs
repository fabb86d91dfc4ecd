//! Tumbling and sliding windows.
//!
//! A [`Slice`] holds the keys seen in it and a slot for each. A window that is one slice, or of which only
//! one slice has rows, emits the slice itself. Others are merged, key by key in order of time, into
//! temporary accumulators that are dropped with their emission. A slice lives until the last window it is
//! in takes no more rows.

mod below;
mod careful;
mod grid;
mod look_up;
mod restoring;
mod slice;
mod snapshot;
mod tier;

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::ArrayRef;
use arrow_schema::SchemaRef;
use millrace_core::block::{Block, Millis};
use millrace_core::function::{Slot, WindowFunction};
use millrace_core::{Error, Result};

use self::below::Below;
use self::slice::Slice;
use self::snapshot::Tracking;
use self::tier::Tiering;
use super::emission::{drop_slots, emit_window, merge_slots};
use super::late::{Fate, split};
use super::{Context, SLOTS_PER_CALL};
use crate::key_table::{KeyBatch, KeyTable};
pub(crate) use grid::Grid;

/// Emptied key tables kept for coming slices.
const SPARE_TABLES: usize = 4;

/// Tables up to this size are kept however few keys were in them.
const SPARE_BYTES_MIN: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct SlicedWindows {
    grid: Grid,
    schema: SchemaRef,
    slices: BTreeMap<i64, Slice>,
    /// Windows with rows that have not fired.
    unfired: BTreeSet<i64>,
    /// The window that is being fired.
    firing: Option<Firing>,
    batch: KeyBatch,
    spare: Vec<KeyTable>,
    groups: Vec<Group>,
    slots: Vec<Slot>,
    locals: Vec<Slot>,
    fresh: Vec<Slot>,
    /// If snapshots are taken.
    tracking: Option<Box<Tracking>>,
    /// If accumulators may be elsewhere than in the guest.
    tiering: Option<Box<Tiering>>,
}

/// Rows of a block that fall into one slice.
#[derive(Debug)]
struct Group {
    slice: i64,
    rows: Vec<u32>,
}

/// How far the firing of a window has come.
#[derive(Debug)]
struct Firing {
    window: i64,
    results: Results,
    /// Slice, and number of its accumulators, from which on they have to be merged still.
    merging: Option<(i64, usize)>,
    /// Results put out: those of keys below this number.
    emitted: Slot,
    then_drop: bool,
}

/// Where the accumulators of a window are.
#[derive(Debug)]
enum Results {
    /// Those of the only slice with rows.
    Slice(i64),
    /// Temporary ones.
    Merged { keys: KeyTable, slots: Vec<Slot> },
    /// Those of the slices, some of them in a lower tier.
    Below(Box<Below>),
}

/// Keys of a slice that late rows touched: numbers in the slice's key table, each once.
type Touched = BTreeMap<i64, Vec<Slot>>;

impl SlicedWindows {
    pub(super) fn new(schema: SchemaRef, grid: Grid) -> Result<Self> {
        Ok(SlicedWindows {
            grid,
            batch: KeyBatch::new(schema.clone())?,
            schema,
            slices: BTreeMap::new(),
            unfired: BTreeSet::new(),
            firing: None,
            spare: Vec::new(),
            groups: Vec::new(),
            slots: Vec::new(),
            locals: Vec::new(),
            fresh: Vec::new(),
            tracking: None,
            tiering: None,
        })
    }

    pub(super) fn handle_block(
        &mut self,
        context: &mut Context,
        key_columns: &[ArrayRef],
        times: &[Millis],
        block: &Block,
        function: &mut dyn WindowFunction,
        late: &mut Vec<Block>,
    ) -> Result<()> {
        let live_from = self.live_from(context);
        let all_live = live_from.is_some_and(|from| times.iter().all(|&time| time >= from));
        if all_live && !self.grid.has_gaps() {
            return self.accumulate(context, key_columns, times, block, function);
        }
        let fate = |&time: &Millis| match live_from {
            _ if self.grid.has_gaps() && self.grid.in_gap(time) => {
                if context.expired(time) {
                    Fate::Late
                } else {
                    Fate::Outside
                }
            }
            Some(from) if time >= from => Fate::Kept,
            _ => Fate::Late,
        };
        let fates = times.iter().map(fate).collect::<Vec<_>>();
        let kept = split(context, block, &fates, late)?;
        if kept.block.row_count() == 0 {
            return Ok(());
        }
        let (columns, times) = (kept.columns(key_columns)?, kept.times(times)?);
        self.accumulate(context, &columns, &times, &kept.block, function)
    }

    /// Rows from this time on are not late; `None`: all are.
    fn live_from(&self, context: &Context) -> Option<Millis> {
        // Never past: a watermark before all times, which no lateness takes further back.
        let Some(expired_to) = context.watermark.checked_sub(context.lateness) else {
            return Some(Millis::MIN);
        };
        match context.watermark {
            Millis::MIN => Some(Millis::MIN),
            Millis::MAX => None,
            _ => self
                .grid
                .first_window_after(expired_to)
                .map(|window| self.grid.window(window).start),
        }
    }

    /// Adds rows of which none is late.
    fn accumulate(
        &mut self,
        context: &mut Context,
        key_columns: &[ArrayRef],
        times: &[Millis],
        block: &Block,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        self.batch.load(key_columns)?;
        let mut touched = Touched::new();
        let slice = self.grid.slice_of(times[0]);
        let (first, last) = self.grid.slice_bounds(slice);
        self.slots.clear();
        if times.iter().all(|&time| first <= time && time <= last) {
            self.resolve(context, slice, None, &mut touched, function)?;
            std::mem::swap(&mut self.slots, &mut self.locals);
        } else {
            self.slots.resize(times.len(), 0);
            let mut groups = self.group(times);
            for group in &groups {
                self.resolve(context, group.slice, Some(&group.rows), &mut touched, function)?;
                for (&row, &slot) in group.rows.iter().zip(&self.locals) {
                    self.slots[row as usize] = slot;
                }
            }
            groups.iter_mut().for_each(|group| group.rows.clear());
            self.groups = groups;
        }
        function.accumulate(&self.slots, block)?;
        self.fire_touched(context, &touched, function)?;
        self.send_excess_below(context, function)
    }

    /// Rows by slice, in order of time; rows within a slice stay in order.
    fn group(&mut self, times: &[Millis]) -> Vec<Group> {
        let mut groups = std::mem::take(&mut self.groups);
        let mut index = BTreeMap::<i64, usize>::new();
        let (mut at, mut first, mut last) = (0, Millis::MAX, Millis::MIN);
        for (row, &time) in times.iter().enumerate() {
            if !(first <= time && time <= last) {
                let slice = self.grid.slice_of(time);
                (first, last) = self.grid.slice_bounds(slice);
                let next = index.len();
                at = *index.entry(slice).or_insert(next);
                if at == groups.len() {
                    groups.push(Group {
                        slice,
                        rows: Vec::new(),
                    });
                }
                groups[at].slice = slice;
            }
            groups[at].rows.push(row as u32);
        }
        groups.truncate(index.len());
        groups.sort_unstable_by_key(|group| group.slice);
        groups
    }

    /// Leaves the slots of a slice's rows (all rows of the batch, or these) in `self.locals`.
    fn resolve(
        &mut self,
        context: &mut Context,
        number: i64,
        rows: Option<&[u32]>,
        touched: &mut Touched,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        if !self.slices.contains_key(&number) {
            self.add_slice(context, number)?;
        }
        let slice = self.slices.get_mut(&number).expect("it was just added");
        self.locals.clear();
        self.fresh.clear();
        match rows {
            Some(rows) => slice
                .keys
                .find_or_insert_at(&self.batch, rows, &mut self.locals, &mut self.fresh),
            None => {
                let rows = 0..self.batch.row_count();
                slice
                    .keys
                    .find_or_insert(&self.batch, rows, &mut self.locals, &mut self.fresh);
            }
        }
        slice.allocate(&self.fresh, &mut context.slots);
        if let Some(tiering) = &mut self.tiering {
            tiering.fetch(slice, number, &self.locals, &self.fresh, function)?;
        }
        if let Some(tracking) = &mut self.tracking {
            tracking.touch(slice, number, &self.grid, &self.locals, function)?;
        }
        if context.lateness > 0 && context.ended(self.grid.window_last(*self.grid.windows_of(number).start())) {
            let mut keys = self.locals.clone();
            keys.sort_unstable();
            keys.dedup();
            touched.insert(number, keys);
        }
        let slots = slice.slots.as_slice();
        self.locals.iter_mut().for_each(|local| *local = slots[*local as usize]);
        Ok(())
    }

    fn add_slice(&mut self, context: &Context, number: i64) -> Result<()> {
        let mut slice = Slice::new(self.take_table()?);
        if self.tiering.is_some() {
            slice.tier();
        }
        self.slices.insert(number, slice);
        let windows = self.grid.windows_of(number);
        self.unfired
            .extend(windows.filter(|&window| !context.ended(self.grid.window_last(window))));
        Ok(())
    }

    /// One step of firing what the watermark ended; false: nothing is left.
    pub(super) fn fire(&mut self, context: &mut Context, function: &mut dyn WindowFunction) -> Result<bool> {
        if let Some(firing) = self.firing.take() {
            self.go_on(context, firing, function)?;
            return Ok(true);
        }
        match self.unfired.first() {
            Some(&window) if context.ended(self.grid.window_last(window)) => {
                self.unfired.pop_first();
                self.firing = self.begin(context, window)?;
                Ok(true)
            }
            _ => {
                self.drop_expired(context, i64::MAX, function)?;
                Ok(false)
            }
        }
    }

    /// A window with rows is due.
    fn begin(&mut self, context: &Context, window: i64) -> Result<Option<Firing>> {
        let slices = self.slices.range(self.grid.slices_of(window));
        let slices = slices.map(|(&number, _)| number).collect::<Vec<_>>();
        let Some(&number) = slices.first() else {
            return Ok(None);
        };
        let then_drop = match slices.len() {
            1 => {
                let last_window = *self.grid.windows_of(number).end();
                window == last_window && context.expired(self.grid.window_last(window))
            }
            _ => true,
        };
        let (results, merging) = if self.fires_by_piece(context, &slices) {
            (Results::Below(Box::new(Below::new(slices))), None)
        } else if slices.len() == 1 {
            debug_assert!(!self.slices[&number].slots.is_empty(), "a slice begins with a row");
            (Results::Slice(number), None)
        } else {
            let (keys, slots) = (self.take_table()?, Vec::new());
            (Results::Merged { keys, slots }, Some((number, 0)))
        };
        Ok(Some(Firing {
            window,
            results,
            merging,
            emitted: 0,
            then_drop,
        }))
    }

    /// Merges, or emits, up to [`SLOTS_PER_CALL`] accumulators.
    fn go_on(&mut self, context: &mut Context, mut firing: Firing, function: &mut dyn WindowFunction) -> Result<()> {
        if firing.merging.is_some() {
            self.merge_some(context, &mut firing, function)?;
            self.firing = Some(firing);
            return Ok(());
        }
        let (keys, locals, slots) = match &firing.results {
            Results::Below(_) => return self.fire_piece(context, firing, function),
            Results::Slice(number) => {
                let Some(slice) = self.slices.get_mut(number) else {
                    return Err(Error::internal("a window fires without rows"));
                };
                let locals = slice.live_from(firing.emitted, SLOTS_PER_CALL);
                // What is dropped as it is emitted may be part of a snapshot.
                if let Some(tracking) = self.tracking.as_mut().filter(|_| firing.then_drop) {
                    tracking.export_among(slice, *number, &self.grid, &locals, function)?;
                }
                let slots = slice.slots_of(&locals);
                (&slice.keys, locals, slots)
            }
            Results::Merged { keys, slots } => {
                let locals = (firing.emitted..slots.len() as Slot).take(SLOTS_PER_CALL);
                let locals = locals.collect::<Vec<_>>();
                let slots = locals.iter().map(|&local| slots[local as usize]).collect();
                (keys, locals, slots)
            }
        };
        let bounds = self.grid.window(firing.window);
        emit_window(function, keys, &locals, &slots, bounds, firing.then_drop)?;
        if let Some(&last) = locals.last().filter(|_| locals.len() == SLOTS_PER_CALL) {
            firing.emitted = last + 1;
            self.firing = Some(firing);
            return Ok(());
        }
        match firing.results {
            Results::Slice(number) if firing.then_drop => self.remove_slice(context, number)?,
            Results::Slice(_) | Results::Below(_) => {}
            Results::Merged { keys, slots } => {
                context.slots.release(&slots);
                self.give_table(keys);
            }
        }
        self.drop_expired(context, firing.window, function)
    }

    /// Merges up to [`SLOTS_PER_CALL`] accumulators of slices into those of the window.
    fn merge_some(
        &mut self,
        context: &mut Context,
        firing: &mut Firing,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let Results::Merged { keys, slots } = &mut firing.results else {
            return Err(Error::internal("a window of one slice has nothing to merge"));
        };
        let mut budget = SLOTS_PER_CALL;
        while let Some((number, start)) = firing.merging
            && budget > 0
        {
            let slice = &self.slices[&number];
            let end = slice.slots.len().min(start + budget);
            self.batch.load_from(&slice.keys, start as Slot..end as Slot);
            self.locals.clear();
            self.fresh.clear();
            keys.find_or_insert(&self.batch, 0..end - start, &mut self.locals, &mut self.fresh);
            slots.extend(self.fresh.iter().map(|_| context.slots.allocate()));
            self.locals.iter_mut().for_each(|local| *local = slots[*local as usize]);
            merge_slots(function, &self.locals, &slice.slots[start..end])?;
            budget -= end - start;
            firing.merging = if end < slice.slots.len() {
                Some((number, end))
            } else {
                let later = number + 1..self.grid.slices_of(firing.window).end;
                self.slices.range(later).next().map(|(&number, _)| (number, 0))
            };
        }
        Ok(())
    }

    /// Drops slices that are in no window after `window` and take no more rows.
    fn drop_expired(&mut self, context: &mut Context, window: i64, function: &mut dyn WindowFunction) -> Result<()> {
        while let Some(mut entry) = self.slices.first_entry() {
            let (number, slice) = (*entry.key(), entry.get_mut());
            let last_window = *self.grid.windows_of(number).end();
            if last_window > window || !context.expired(self.grid.window_last(last_window)) {
                break;
            }
            if let Some(tracking) = &mut self.tracking {
                tracking.export_rest(slice, number, &self.grid, function)?;
            }
            drop_slots(function, &slice.live_slots())?;
            self.remove_slice(context, number)?;
        }
        Ok(())
    }

    /// Forgets a slice whose accumulators are dropped.
    fn remove_slice(&mut self, context: &mut Context, number: i64) -> Result<()> {
        let Some(slice) = self.slices.remove(&number) else {
            return Ok(());
        };
        if let Some(tiering) = &mut self.tiering {
            tiering.forget(&slice, number)?;
        }
        context.slots.release(&slice.live_slots());
        self.give_table(slice.keys);
        Ok(())
    }

    /// Keeps an emptied table, unless it is far larger than what was in it: clearing it would cost more
    /// than a new one.
    fn give_table(&mut self, mut table: KeyTable) {
        if self.spare.len() < SPARE_TABLES && table.memory_bytes() <= SPARE_BYTES_MIN + table.len() * 256 {
            table.clear();
            self.spare.push(table);
        }
    }

    /// Emits temporary accumulators and drops them.
    fn emit_merged(
        &mut self,
        context: &mut Context,
        merged: KeyTable,
        slots: &[Slot],
        window: i64,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let keys = (0..slots.len() as Slot).collect::<Vec<_>>();
        emit_window(function, &merged, &keys, slots, self.grid.window(window), true)?;
        context.slots.release(slots);
        self.give_table(merged);
        Ok(())
    }

    fn take_table(&mut self) -> Result<KeyTable> {
        match self.spare.pop() {
            Some(table) => Ok(table),
            None => KeyTable::new(self.schema.clone(), 0),
        }
    }

    /// Fires windows again for keys that rows within the allowed lateness touched.
    fn fire_touched(
        &mut self,
        context: &mut Context,
        touched: &Touched,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let windows = touched.keys().flat_map(|&slice| self.grid.windows_of(slice));
        let again = |window: &i64| {
            let last = self.grid.window_last(*window);
            context.ended(last) && !context.expired(last)
        };
        for window in windows.filter(again).collect::<BTreeSet<_>>() {
            if self.grid.tumbling() {
                self.fire_slice_again(window, touched, function)?;
            } else {
                self.fire_merged_again(context, window, touched, function)?;
            }
        }
        Ok(())
    }

    fn fire_slice_again(&self, window: i64, touched: &Touched, function: &mut dyn WindowFunction) -> Result<()> {
        let number = self.grid.slices_of(window).start;
        let (Some(slice), Some(keys)) = (self.slices.get(&number), touched.get(&number)) else {
            return Err(Error::internal("a window fires again without rows"));
        };
        let slots = keys.iter().map(|&key| slice.slots[key as usize]).collect::<Vec<_>>();
        emit_window(function, &slice.keys, keys, &slots, self.grid.window(window), false)
    }

    fn fire_merged_again(
        &mut self,
        context: &mut Context,
        window: i64,
        touched: &Touched,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let mut merged = self.take_table()?;
        self.fresh.clear();
        for (number, keys) in touched.range(self.grid.slices_of(window)) {
            self.locals.clear();
            self.batch.load_from(&self.slices[number].keys, keys.iter().copied());
            merged.find_or_insert(&self.batch, 0..keys.len(), &mut self.locals, &mut self.fresh);
        }
        let targets = self.fresh.iter().map(|_| context.slots.allocate()).collect::<Vec<_>>();
        self.batch.load_from(&merged, 0..targets.len() as Slot);
        let slices = self.slices.range(self.grid.slices_of(window));
        let mut found = Vec::new();
        for number in slices.map(|(&number, _)| number).collect::<Vec<_>>() {
            found.clear();
            let mut slice = &self.slices[&number];
            slice.keys.find(&self.batch, 0..targets.len(), &mut found);
            if !slice.is_whole() {
                let missing = (0..).zip(&found).filter(|(_, local)| local.is_none());
                let missing = missing.map(|(row, _)| row).collect::<Vec<u32>>();
                let columns = merged.key_columns(&missing)?;
                self.fetch_missing(context, number, &missing, &columns, function)?;
                found.clear();
                slice = &self.slices[&number];
                slice.keys.find(&self.batch, 0..targets.len(), &mut found);
            }
            let pairs = targets.iter().zip(&found);
            let pairs = pairs.filter_map(|(&target, &local)| Some((target, slice.slots[local? as usize])));
            let (targets, sources) = pairs.unzip::<_, _, Vec<_>, Vec<_>>();
            if !sources.is_empty() {
                merge_slots(function, &targets, &sources)?;
            }
        }
        self.emit_merged(context, merged, &targets, window, function)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let slices = self.slices.values().map(Slice::memory_bytes);
        let tiering = self.tiering.as_ref().map_or(0, |tiering| tiering.memory_bytes());
        slices
            .chain(self.spare.iter().map(KeyTable::memory_bytes))
            .sum::<usize>()
            + tiering
    }

    /// Bytes that tables of keys will take more when they grow, as far as that is about to be.
    pub(super) fn growth_bytes_soon(&self) -> usize {
        self.slices.values().map(|slice| slice.keys.growth_bytes_soon()).sum()
    }
}
