//! The lower tier of keyed state: which entries leave the guest, and how they come back.
//!
//! ```text
//!   block --> keys to slots --fresh slots--> look up below --> import into the guest --> process
//!                                                 ^                                          |
//!   more keys than may be resident: those not touched for long: export, put below, drop <---+
//! ```
//!
//! What leaves is chosen by the clock algorithm (`residents`). An entry that is below, was not changed since and has no
//! timer is just dropped. Timers of entries below are in an index in order of time; entries whose timers become due are
//! fetched first, some at a time.
//!
//! Index entries may be stale: restoring lays rows over rows without looking what timers the earlier had. A
//! stale one is found out when its time comes.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::FieldRef;
use arrow_select::filter::filter_record_batch;
use millrace_core::Result;
use millrace_core::backend::{ByteRows, LowerTier};
use millrace_core::block::Millis;
use millrace_core::checkpoint::RowSource;
use millrace_core::function::{KeyedFunction, Slot, StateFunction, TimerKind, touched};

use super::KeyedOperator;
use super::snapshot::{TIMER_COLUMNS, timer_columns};
use crate::changes::{TableSchema, broken};
use crate::entry_codec::EntryCodec;
use crate::frozen_rows::FrozenRows;
use crate::key_table::KeyTable;
use crate::residents::{LEAVING, Residents};
use crate::slot_set::SlotSet;

/// Timers fetched from below at a time.
const FETCHED_TIMERS: usize = if cfg!(test) { 5 } else { 4096 };

/// What an operator with a lower tier keeps.
#[derive(Debug)]
pub(super) struct Tiering {
    tier: Box<dyn LowerTier>,
    codec: EntryCodec,
    table: TableSchema,
    /// More entries than this do not stay.
    resident_max: usize,
    residents: Residents,
    /// Those that changed since they were below, or never were.
    newer: SlotSet,
    /// Those that are below too.
    below: SlotSet,
    below_count: usize,
    /// By [`TimerKind`]: no timer in the index is earlier; `None`: there is none.
    next: [Option<Millis>; 2],
    keys: ByteRows,
    values: ByteRows,
    found: Vec<bool>,
    victims: Vec<Slot>,
}

impl KeyedOperator {
    /// Puts a lower tier under the operator, whose states these fields are. Up to `resident_max` entries stay in the
    /// guest between blocks. Entries that the operator has go on; call it before restoring, so that what is restored
    /// goes below and comes up when it is needed.
    pub fn set_lower_tier(
        &mut self,
        tier: Box<dyn LowerTier>,
        states: &[FieldRef],
        max_parallelism: u32,
        resident_max: usize,
    ) -> Result<()> {
        let fields = self.entry_fields(states);
        let expires = self.lifetimes.is_some();
        let live = self.keys.live_slots();
        self.tiering = Some(Box::new(Tiering {
            tier,
            codec: EntryCodec::new(self.key_schema.clone(), &fields, max_parallelism, expires)?,
            table: TableSchema::new(&self.key_schema, fields, max_parallelism),
            resident_max,
            newer: live.clone(),
            residents: Residents::new(live),
            below: SlotSet::default(),
            below_count: 0,
            next: [None; 2],
            keys: ByteRows::default(),
            values: ByteRows::default(),
            found: Vec::new(),
            victims: Vec::new(),
        }));
        Ok(())
    }

    /// Whether there is a lower tier.
    pub fn has_lower_tier(&self) -> bool {
        self.tiering.is_some()
    }

    /// Changes how many entries stay in the guest; more leave with the next block.
    pub fn set_resident_max(&mut self, resident_max: usize) {
        if let Some(tiering) = &mut self.tiering {
            tiering.resident_max = resident_max;
        }
    }

    /// Entries in the guest.
    pub fn resident_count(&self) -> usize {
        self.keys.len()
    }

    /// Fetches entries whose slots have just been given. Those that are not below stay in `fresh`.
    pub(super) fn fetch_fresh(&mut self, function: &mut dyn KeyedFunction) -> Result<()> {
        let Some(mut tiering) = self.tiering.take() else {
            return Ok(());
        };
        let bound = self.keys.slot_bound();
        tiering.residents.touch(&self.slots, &self.fresh, bound);
        let found = tiering.look_up(&self.keys, &self.fresh)?;
        if let Some((slots, mut columns)) = found {
            if let Some(lifetimes) = &self.lifetimes {
                columns = lifetimes.settle(&columns, self.state_count)?;
            }
            self.take_up(&slots, &columns, function)?;
            if let Some(tracking) = &mut self.tracking {
                tracking.changes.came_back(&slots);
            }
            // Both are in the order in which keys first occurred.
            let mut found = slots.iter().peekable();
            self.fresh.retain(|slot| found.next_if_eq(&slot).is_none());
            if tiering.is_done() {
                return Ok(());
            }
        }
        self.tiering = Some(tiering);
        Ok(())
    }

    /// Fetches entries with timers that are due at `upto`, some of them; up to when all have been fetched.
    pub(super) fn fetch_due(
        &mut self,
        kind: TimerKind,
        upto: Millis,
        function: &mut dyn KeyedFunction,
    ) -> Result<Millis> {
        let due = |tiering: &Tiering| tiering.next[kind as usize].is_some_and(|next| next <= upto);
        let Some(mut tiering) = self.tiering.take_if(|tiering| due(tiering)) else {
            return Ok(upto);
        };
        let (entries, complete) = tiering.take_due(kind, upto)?;
        self.slots.clear();
        self.fresh.clear();
        if !entries.is_empty() {
            let keys = entries.iter().map(|entry| EntryCodec::read_index(entry).1);
            self.batch.load(&tiering.codec.decode_keys(keys)?)?;
            let rows = 0..entries.len();
            self.keys
                .find_or_insert(&self.batch, rows, &mut self.slots, &mut self.fresh);
        }
        self.tiering = Some(tiering);
        self.fetch_fresh(function)?;
        // Stale entries named keys that are not there, or hold nothing but what has expired.
        self.present.cover(self.keys.slot_bound());
        if !self.always_writes || self.state_count == 0 {
            self.free_empty(false)?;
        }
        let last = entries.len().checked_sub(1).filter(|_| !complete);
        Ok(last.map_or(upto, |last| EntryCodec::read_index(entries.get(last)).0))
    }

    /// When the next timer of a kind that is below may be due.
    pub(super) fn next_below(&self, kind: TimerKind) -> Option<Millis> {
        self.tiering.as_ref()?.next[kind as usize]
    }

    /// Sends entries below until no more are resident than may be. Not while older rows of them may still go there.
    pub(super) fn send_excess_below(&mut self, function: &mut dyn KeyedFunction) -> Result<()> {
        if self.restoring.is_some() {
            return Ok(());
        }
        let too_many = |tiering: &Tiering, keys: &KeyTable| keys.len() > tiering.resident_max;
        while let Some(mut tiering) = self.tiering.take_if(|tiering| too_many(tiering, &self.keys)) {
            let excess = self.keys.len() - tiering.resident_max;
            let count = excess.clamp(*LEAVING.start(), *LEAVING.end()).min(self.keys.len());
            let mut victims = std::mem::take(&mut tiering.victims);
            tiering
                .residents
                .choose_victims(count, self.keys.slot_bound(), &mut victims);
            self.send_below(&mut tiering, &victims, function)?;
            tiering.victims = victims;
            self.tiering = Some(tiering);
        }
        Ok(())
    }

    fn send_below(&mut self, tiering: &mut Tiering, victims: &[Slot], function: &mut dyn KeyedFunction) -> Result<()> {
        self.export_marked_among(victims, function)?;
        // The index does not name what is in the guest: an entry with timers goes back to it, changed or not.
        let kept = function.keeps_timers();
        let goes = |slot| tiering.newer.contains(slot) || kept || self.timers.pending(slot);
        let newer = victims.iter().copied().filter(|&slot| goes(slot));
        let newer = newer.collect::<Vec<_>>();
        if !newer.is_empty() {
            let keys = self.keys.key_columns(&newer)?;
            let columns = self.entry_columns(&newer, function)?;
            tiering.put(&keys, &columns, self.expiries(&columns).as_deref())?;
            if let Some(tracking) = &mut self.tracking {
                let rows = tiering.table.rows(keys, columns)?;
                let dirty = tracking.changes.are_dirty(&newer);
                let rows = filter_record_batch(&rows, &dirty).map_err(broken)?;
                tracking.changes.depart(rows);
            }
        }
        if let Some(tracking) = &mut self.tracking {
            tracking.changes.forget_silently(victims);
        }
        StateFunction::drop_state(function, victims)?;
        if !self.timers.is_empty() {
            for &slot in victims {
                self.timers.clear(slot);
            }
        }
        self.forget_present(victims);
        tiering.forget(victims);
        self.keys.remove_all(victims);
        Ok(())
    }

    /// Notes that no state of these slots holds a value.
    pub(super) fn forget_present(&mut self, slots: &[Slot]) {
        if !(self.always_writes && self.state_count > 0) {
            self.present.cover(self.keys.slot_bound());
            self.present
                .mark(&vec![touched::CLEARED; self.state_count * slots.len()], slots);
        }
        if let Some(lifetimes) = &mut self.lifetimes {
            lifetimes.forget(slots);
        }
    }

    /// From when on nothing of entries with these columns counts, if states have a time to live.
    pub(super) fn expiries(&mut self, columns: &[ArrayRef]) -> Option<Vec<Millis>> {
        let lifetimes = self.lifetimes.as_mut()?;
        let expiries = lifetimes.expiries(columns, self.state_count);
        expiries.iter().for_each(|&expiry| lifetimes.sweep.meet(expiry));
        Some(expiries)
    }
}

impl Tiering {
    /// Goes through the keys of all entries that are below.
    pub(super) fn each_key(&mut self, limit: usize, each: &mut dyn FnMut(&ByteRows)) -> Result<()> {
        if self.tier.is_empty() {
            return Ok(());
        }
        self.tier.freeze()?.scan(limit, &mut |keys, _| {
            each(keys);
            Ok(())
        })
    }

    /// What is below of a key: its columns. It stays there.
    pub(super) fn peek(&mut self, key: &[ArrayRef]) -> Result<Option<Vec<ArrayRef>>> {
        if self.tier.is_empty() {
            return Ok(None);
        }
        self.codec.encode_keys(key, &mut self.keys)?;
        self.tier.get(&self.keys, &mut self.found, &mut self.values)?;
        if self.found != [true] {
            return Ok(None);
        }
        let columns = self.codec.decode_values(self.values.iter())?;
        if !self.tier.keeps_what_was_got() {
            self.tier.put(&self.keys, &self.values)?;
        }
        Ok(Some(columns))
    }

    /// What is below of these slots: those found, and their columns.
    fn look_up(&mut self, keys: &KeyTable, slots: &[Slot]) -> Result<Option<(Vec<Slot>, Vec<ArrayRef>)>> {
        if slots.is_empty() || self.tier.is_empty() {
            return Ok(None);
        }
        self.codec.encode_keys(&keys.key_columns(slots)?, &mut self.keys)?;
        self.tier.get(&self.keys, &mut self.found, &mut self.values)?;
        let found = (0..slots.len()).filter(|&row| self.found[row]);
        let slots = found.clone().map(|row| slots[row]).collect::<Vec<_>>();
        if slots.is_empty() {
            return Ok(None);
        }
        let columns = self
            .codec
            .decode_values(found.clone().map(|row| self.values.get(row)))?;
        let came_up = found.map(|row| self.keys.get(row));
        let index = index_of(came_up, timer_columns(&columns));
        if !index.is_empty() {
            self.tier.change_index(&ByteRows::default(), &index)?;
        }
        if self.tier.keeps_what_was_got() {
            for &slot in &slots {
                self.below.insert(slot);
            }
            self.below_count += slots.len();
        } else {
            self.newer.insert_all(&slots, keys.slot_bound());
        }
        Ok(Some((slots, columns)))
    }

    /// Whether all that was restored has come up, and nothing goes below.
    fn is_done(&self) -> bool {
        self.resident_max == usize::MAX && !self.tier.keeps_what_was_got() && self.tier.is_empty()
    }

    /// Takes index entries up to a time out; whether those were all.
    fn take_due(&mut self, kind: TimerKind, upto: Millis) -> Result<(ByteRows, bool)> {
        let from = [EntryCodec::index_start(kind)];
        let end = [EntryCodec::index_start(kind) + 1];
        let after = upto.checked_add(1).map(|after| EntryCodec::index_bound(kind, after));
        let to = after.as_ref().map_or(end.as_slice(), |after| after.as_slice());
        let mut entries = ByteRows::default();
        self.tier.read_index(&from, to, FETCHED_TIMERS, &mut entries)?;
        self.tier.change_index(&ByteRows::default(), &entries)?;
        let complete = entries.len() < FETCHED_TIMERS;
        let mut next = ByteRows::default();
        self.tier.read_index(&from, &end, 1, &mut next)?;
        self.next[kind as usize] = next.iter().next().map(|entry| EntryCodec::read_index(entry).0);
        Ok((entries, complete))
    }

    /// Puts entries below, which expire then if they may. The last columns are their timers.
    fn put(&mut self, keys: &[ArrayRef], columns: &[ArrayRef], expiries: Option<&[Millis]>) -> Result<()> {
        self.codec.encode_keys(keys, &mut self.keys)?;
        self.codec.encode_values(columns, expiries, &mut self.values)?;
        self.tier.put(&self.keys, &self.values)?;
        let timers = timer_columns(columns);
        for ((_, kind), lists) in TIMER_COLUMNS.into_iter().zip(timers) {
            let times = lists.as_list::<i32>().values().as_primitive::<Int64Type>();
            let first = times.values().iter().min().copied();
            let known = self.next[kind as usize];
            self.next[kind as usize] = known.into_iter().chain(first).min();
        }
        let index = index_of(self.keys.iter(), timers);
        if !index.is_empty() {
            self.tier.change_index(&index, &ByteRows::default())?;
        }
        Ok(())
    }

    /// These entries, whose slots have just been given, were restored into the guest.
    pub(super) fn restored_here(&mut self, slots: &[Slot], bound: Slot) {
        self.residents.touch(slots, slots, bound);
        self.newer.insert_all(slots, bound);
    }

    /// Rows of a layer: entries that are there.
    pub(super) fn restore(
        &mut self,
        keys: &[ArrayRef],
        columns: &[ArrayRef],
        expiries: Option<&[Millis]>,
    ) -> Result<()> {
        if keys[0].is_empty() {
            return Ok(());
        }
        self.put(keys, columns, expiries)
    }

    /// Rows of a layer: entries that are there no more.
    pub(super) fn restore_deletions(&mut self, keys: &[ArrayRef]) -> Result<()> {
        self.codec.encode_keys(keys, &mut self.keys)?;
        self.tier.remove(&self.keys)
    }

    /// These entries hold nothing any more.
    pub(super) fn delete(&mut self, keys: &KeyTable, slots: &[Slot]) -> Result<()> {
        let below = slots.iter().copied().filter(|&slot| self.below.contains(slot));
        let below = below.collect::<Vec<_>>();
        if !below.is_empty() {
            self.codec.encode_keys(&keys.key_columns(&below)?, &mut self.keys)?;
            self.tier.remove(&self.keys)?;
        }
        self.forget(slots);
        Ok(())
    }

    /// These slots are given back.
    fn forget(&mut self, slots: &[Slot]) {
        self.residents.forget(slots);
        self.newer.remove_all(slots);
        for &slot in slots {
            self.below_count -= usize::from(self.below.remove(slot));
        }
    }

    /// Slots of entries that changed, to be added to.
    pub(super) fn newer_mut(&mut self) -> &mut SlotSet {
        &mut self.newer
    }

    /// Slots of entries that are below as they are here.
    pub(super) fn same_below(&self) -> SlotSet {
        let mut same = self.below.clone();
        same.subtract(&self.newer);
        same
    }

    /// Slots of entries of which what is below is not the whole truth.
    pub(super) fn only_here(&self) -> SlotSet {
        let mut only_here = self.residents.live().clone();
        only_here.subtract(&self.same_below());
        only_here
    }

    /// Entries below that are not resident, about.
    pub(super) fn only_below(&self) -> u64 {
        self.tier.len().saturating_sub(self.below_count as u64)
    }

    /// Has what has expired go; when to ask again, at once if there is more to be looked at.
    pub(super) fn expire(&mut self, now: Millis) -> Result<Option<Millis>> {
        self.tier.expire(now)
    }

    /// All entries that are below now. Where entries expire it is this time: those that have are left out.
    pub(super) fn freeze(&mut self, now: Option<Millis>) -> Result<Option<(Arc<dyn RowSource>, u64)>> {
        if self.tier.is_empty() {
            return Ok(None);
        }
        let rows = FrozenRows::new(self.tier.freeze()?, self.codec.try_clone()?, self.table.clone()).living_at(now);
        Ok(Some((Arc::new(rows), self.tier.len())))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let sets = self.residents.memory_bytes() + self.newer.memory_bytes() + self.below.memory_bytes();
        self.tier.memory_bytes() + sets
    }
}

/// Index entries of the timers in these columns, of these keys.
fn index_of<'a>(keys: impl Iterator<Item = &'a [u8]> + Clone, timers: &[ArrayRef]) -> ByteRows {
    let mut index = ByteRows::default();
    for ((_, kind), lists) in TIMER_COLUMNS.into_iter().zip(timers) {
        let lists = lists.as_list::<i32>();
        let times = lists.values().as_primitive::<Int64Type>().values();
        if times.is_empty() {
            continue;
        }
        for (key, span) in keys.clone().zip(lists.value_offsets().windows(2)) {
            for &time in &times[span[0] as usize..span[1] as usize] {
                EntryCodec::push_index(kind, time, key, &mut index);
            }
        }
    }
    index
}
