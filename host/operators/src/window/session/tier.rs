//! The lower tier of sessions: which keys leave the guest with their sessions, and how they come back.
//!
//! An entry is a key with all its open sessions, for a row may join any of them. Keys leave by the clock algorithm
//! (`residents`) and come back when rows of them come, or when a session of theirs is due: the index has the earliest
//! end that has not fired and the earliest expiry of each key. A firing goes on to the next ends only when all that is
//! below has been fetched so far, so that windows fire in order of their end.
//!
//! Index entries may be stale: restoring lays rows over rows without looking what the earlier said. A stale one is
//! found out when its time comes.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_schema::{DataType, Field, FieldRef};
use millrace_core::Result;
use millrace_core::backend::{ByteRows, PartedTier};
use millrace_core::block::Millis;
use millrace_core::checkpoint::RowSource;
use millrace_core::function::{Slot, TimerKind, WindowFunction};

use super::SessionWindows;
use super::snapshot::{self, Sessions};
use super::store::{self, SessionStore};
use crate::changes::TableSchema;
use crate::entry_codec::EntryCodec;
use crate::frozen_rows::FrozenRows;
use crate::key_table::KeyTable;
use crate::residents::{LEAVING, Residents};
use crate::slot_set::SlotSet;
use crate::window::Context;
use crate::window::emission::drop_slots;

/// Keys fetched from below at a time, for they are due.
const FETCHED_KEYS: usize = if cfg!(test) { 5 } else { 4096 };

/// All entries are in one part.
const PART: i64 = 0;

/// The index has two kinds of times: of sessions that have to fire, and of those that fired and expire.
pub(super) const FIRING: TimerKind = TimerKind::EventTime;
pub(super) const EXPIRY: TimerKind = TimerKind::ProcessingTime;

/// Buckets may have this many entries more than there are sessions, twice over, before stale ones are taken out.
const STALE_MAX: usize = 1 << 16;

/// What sessions with a lower tier keep.
#[derive(Debug)]
pub(super) struct Tiering {
    tier: Box<dyn PartedTier>,
    codec: EntryCodec,
    table: TableSchema,
    /// More accumulators than this do not stay.
    resident_max: usize,
    residents: Residents,
    /// Keys that are below too, as they were.
    below: SlotSet,
    /// Keys and sessions that are below only, about.
    keys_below: u64,
    sessions_below: u64,
    lateness: Millis,
    gap: Millis,
    /// By kind: no time in the index is earlier; `None`: there is none.
    next: [Option<Millis>; 2],
    /// By kind: what is below and due up to here was fetched.
    fetched: [Millis; 2],
    keys: ByteRows,
    values: ByteRows,
    found: Vec<bool>,
    victims: Vec<Slot>,
}

impl SessionWindows {
    pub(in crate::window) fn set_lower_tier(
        &mut self,
        context: &Context,
        tier: Box<dyn PartedTier>,
        accumulator: &FieldRef,
        max_parallelism: u32,
        resident_max: usize,
    ) -> Result<()> {
        let fields = snapshot::session_fields(accumulator);
        let sessions = snapshot::sessions_field(&fields);
        // How many of the sessions fired: the oldest.
        let fired = Arc::new(Field::new("fired", DataType::UInt32, false));
        let columns = [sessions.clone(), fired];
        self.tiering = Some(Box::new(Tiering {
            tier,
            codec: EntryCodec::new(self.schema.clone(), &columns, max_parallelism, false)?,
            table: TableSchema::new(&self.schema, vec![sessions], max_parallelism),
            resident_max,
            residents: Residents::new(self.keys.live_slots()),
            below: SlotSet::default(),
            keys_below: 0,
            sessions_below: 0,
            lateness: context.lateness,
            gap: self.gap,
            next: [None; 2],
            fetched: [context.watermark; 2],
            keys: ByteRows::default(),
            values: ByteRows::default(),
            found: Vec::new(),
            victims: Vec::new(),
        }));
        self.session_fields = fields;
        Ok(())
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
        let tiering = self.tiering.as_ref().filter(|tiering| !tiering.tier.is_empty());
        tiering.map_or(0, |tiering| tiering.sessions_below)
    }

    /// Keys come in `self.slots`, those that are new here also in `self.fresh`: fetches the sessions of these.
    pub(super) fn fetch_fresh(&mut self, context: &mut Context, function: &mut dyn WindowFunction) -> Result<()> {
        let Some(mut tiering) = self.tiering.take() else {
            return Ok(());
        };
        let bound = self.keys.slot_bound();
        tiering.residents.touch(&self.slots, &self.fresh, bound);
        if let Some((keys, columns)) = tiering.look_up(&self.keys, &self.fresh)? {
            self.take_up(context, &keys, &columns, function)?;
            if tiering.is_done() {
                return Ok(());
            }
        }
        self.tiering = Some(tiering);
        Ok(())
    }

    /// Opens the sessions of keys that came up.
    fn take_up(
        &mut self,
        context: &mut Context,
        keys: &[Slot],
        columns: &[ArrayRef],
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        let sessions = Sessions::of(&columns[0]);
        let fired = columns[1].as_primitive::<UInt32Type>().values();
        let mut slots = Vec::with_capacity(sessions.firsts.len());
        for ((&key, &fired), span) in keys.iter().zip(fired).zip(sessions.spans()) {
            for (row, nth) in span.zip(0..) {
                let (first, last) = (sessions.firsts[row], sessions.lasts[row]);
                slots.push(self.open_again(context, key, first, last, nth < fired));
            }
        }
        function.import_state(0, &slots, &sessions.accumulators)
    }

    /// Whether this key, a row of the batch at hand, is here or below; it is here then.
    pub(super) fn fetch_key(
        &mut self,
        context: &mut Context,
        row: u32,
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        if self.tiering.is_none() {
            return Ok(());
        }
        self.fetch_rows(context, &[row], function)
    }

    /// Fetches the keys of these rows of the batch at hand, as far as they are below.
    fn fetch_rows(&mut self, context: &mut Context, rows: &[u32], function: &mut dyn WindowFunction) -> Result<()> {
        self.slots.clear();
        self.fresh.clear();
        self.keys
            .find_or_insert_at(&self.batch, rows, &mut self.slots, &mut self.fresh);
        self.store.reserve_keys(self.keys.slot_bound());
        self.fetch_fresh(context, function)?;
        self.forget_keys()
    }

    /// Up to when what is here may fire, or expire: nothing below is due before.
    pub(super) fn fetched(&self, kind: TimerKind, watermark: Millis) -> Millis {
        let tiering = self.tiering.as_ref();
        let waits = tiering.filter(|tiering| tiering.is_due(kind, watermark));
        waits.map_or(watermark, |tiering| tiering.fetched[kind as usize].min(watermark))
    }

    /// Fetches some of the keys with sessions that are due; false: there is none.
    pub(super) fn fetch_due(
        &mut self,
        kind: TimerKind,
        context: &mut Context,
        function: &mut dyn WindowFunction,
    ) -> Result<bool> {
        let due = |tiering: &mut Box<Tiering>| tiering.is_due(kind, context.watermark);
        let Some(mut tiering) = self.tiering.take_if(due) else {
            return Ok(false);
        };
        let entries = tiering.take_due(kind, context.watermark)?;
        let keys = entries.iter().map(|entry| EntryCodec::read_index(entry).1);
        self.batch.load(&tiering.codec.decode_part_keys(keys)?)?;
        self.tiering = Some(tiering);
        let rows = (0..entries.len() as u32).collect::<Vec<_>>();
        // Stale entries named keys that are not there.
        self.fetch_rows(context, &rows, function)?;
        Ok(true)
    }

    /// Everything that the watermark made due has fired.
    pub(super) fn note_fired(&mut self, watermark: Millis) {
        if let Some(tiering) = &mut self.tiering {
            tiering.fetched = [watermark; 2];
        }
    }

    /// Sends keys below until no more accumulators are resident than may be. Not while older rows of them may still go
    /// there.
    pub(super) fn send_excess_below(&mut self, context: &mut Context, function: &mut dyn WindowFunction) -> Result<()> {
        let used = context.slots.used();
        let too_many = |tiering: &mut Box<Tiering>| used > tiering.resident_max && !context.restoring;
        let Some(mut tiering) = self.tiering.take_if(too_many) else {
            return Ok(());
        };
        let mut victims = std::mem::take(&mut tiering.victims);
        while context.slots.used() > tiering.resident_max && !self.keys.is_empty() {
            let excess = context.slots.used() - tiering.resident_max;
            let count = excess.clamp(*LEAVING.start(), *LEAVING.end()).min(self.keys.len());
            let bound = self.keys.slot_bound();
            tiering.residents.choose_victims(count, bound, &mut victims);
            self.leave(context, &mut tiering, &victims, function)?;
        }
        tiering.victims = victims;
        self.tiering = Some(tiering);
        self.drop_stale();
        Ok(())
    }

    fn leave(
        &mut self,
        context: &mut Context,
        tiering: &mut Tiering,
        victims: &[Slot],
        function: &mut dyn WindowFunction,
    ) -> Result<()> {
        if let Some(tracking) = &mut self.tracking {
            tracking.export_among(victims, &self.keys, &self.store, function)?;
        }
        let keys = self.keys.key_columns(victims)?;
        let sessions = snapshot::sessions(victims, &self.store, &self.session_fields, function)?;
        let fired = victims.iter().map(|&key| fired_count(&self.store, key));
        let fired = Arc::new(UInt32Array::from_iter_values(fired)) as ArrayRef;
        tiering.put(&keys, &[sessions.clone(), fired])?;
        if let Some(tracking) = &mut self.tracking {
            tracking.depart(victims, keys, sessions)?;
        }
        let mut slots = Vec::new();
        for &key in victims {
            for id in self.store.sessions_of(key) {
                slots.push(self.store.session(id).slot);
                self.store.close(id);
            }
        }
        drop_slots(function, &slots)?;
        context.slots.release(&slots);
        tiering.forget(victims);
        self.keys.remove_all(victims);
        Ok(())
    }

    /// Buckets keep entries of sessions that left.
    fn drop_stale(&mut self) {
        let store = &self.store;
        let most = 2 * store.len() + STALE_MAX;
        if self.unfired.entry_count() > most {
            self.unfired.retain(|time, id| store.session(id).unfired_at == time);
        }
        if self.fired.entry_count() > most {
            self.fired.retain(|time, id| store.session(id).expiry_at == time);
        }
    }
}

/// How many sessions of a key have fired.
fn fired_count(store: &SessionStore, key: Slot) -> u32 {
    let sessions = store.sessions_of(key);
    let fired = sessions
        .iter()
        .filter(|&&id| store.session(id).unfired_at == store::NEVER);
    fired.count() as u32
}

impl Tiering {
    /// These keys, which have just been given their slots, were restored into the guest.
    pub(super) fn restored_here(&mut self, keys: &[Slot], bound: Slot) {
        self.residents.touch(keys, keys, bound);
    }

    fn is_due(&self, kind: TimerKind, watermark: Millis) -> bool {
        self.next[kind as usize].is_some_and(|next| next <= watermark)
    }

    /// The sessions of a key, if it is below. It stays there.
    pub(super) fn peek(&mut self, key: &[ArrayRef]) -> Result<Option<ArrayRef>> {
        if self.keys_below == 0 {
            return Ok(None);
        }
        self.codec.encode_part_keys(PART, key, &mut self.keys)?;
        self.tier.get(&self.keys, &mut self.found, &mut self.values)?;
        if self.found != [true] {
            return Ok(None);
        }
        let columns = self.codec.decode_values(self.values.iter())?;
        if !self.tier.keeps_what_was_got() {
            self.tier.put(&self.keys, &self.values)?;
        }
        Ok(columns.into_iter().next())
    }

    /// What is below of these keys: those found, and their columns. It comes up.
    fn look_up(&mut self, keys: &KeyTable, slots: &[Slot]) -> Result<Option<(Vec<Slot>, Vec<ArrayRef>)>> {
        if slots.is_empty() || self.keys_below == 0 {
            return Ok(None);
        }
        self.codec
            .encode_part_keys(PART, &keys.key_columns(slots)?, &mut self.keys)?;
        self.tier.get(&self.keys, &mut self.found, &mut self.values)?;
        let rows = (0..slots.len()).filter(|&row| self.found[row]);
        let found = rows.clone().map(|row| slots[row]).collect::<Vec<_>>();
        if found.is_empty() {
            return Ok(None);
        }
        let columns = self.codec.decode_values(rows.clone().map(|row| self.values.get(row)))?;
        let index = self.index_of(rows.map(|row| self.keys.get(row)), &columns);
        self.tier.change_index(&ByteRows::default(), &index)?;
        if self.tier.keeps_what_was_got() {
            found.iter().for_each(|&slot| self.below.insert(slot));
        }
        let sessions = Sessions::of(&columns[0]).firsts.len() as u64;
        self.keys_below = self.keys_below.saturating_sub(found.len() as u64);
        self.sessions_below = self.sessions_below.saturating_sub(sessions);
        Ok(Some((found, columns)))
    }

    /// Puts keys below with their sessions.
    fn put(&mut self, keys: &[ArrayRef], columns: &[ArrayRef]) -> Result<()> {
        self.codec.encode_part_keys(PART, keys, &mut self.keys)?;
        self.codec.encode_values(columns, None, &mut self.values)?;
        self.tier.put(&self.keys, &self.values)?;
        let index = self.index_of(self.keys.iter(), columns);
        for kind in [FIRING, EXPIRY] {
            let entries = index.iter().filter(|entry| entry[0] == EntryCodec::index_start(kind));
            let first = entries.map(|entry| EntryCodec::read_index(entry).0).min();
            let known = self.next[kind as usize];
            self.next[kind as usize] = known.into_iter().chain(first).min();
            if let Some(first) = first {
                // What leaves amid a firing may be due.
                let fetched = &mut self.fetched[kind as usize];
                *fetched = first.saturating_sub(1).min(*fetched);
            }
        }
        self.tier.change_index(&index, &ByteRows::default())?;
        self.keys_below += self.keys.len() as u64;
        self.sessions_below += Sessions::of(&columns[0]).firsts.len() as u64;
        Ok(())
    }

    /// Rows of a layer: keys with the sessions that are still open.
    pub(super) fn restore(&mut self, context: &Context, keys: &[ArrayRef], sessions: &ArrayRef) -> Result<()> {
        if sessions.is_empty() {
            return Ok(());
        }
        self.fetched = [context.watermark; 2];
        let open = Sessions::of(sessions);
        let ended = |row: &usize| context.ended(store::last_ms(open.lasts[*row], self.gap));
        let fired = open.spans().map(|span| span.filter(ended).count() as u32);
        let fired = Arc::new(UInt32Array::from_iter_values(fired)) as ArrayRef;
        self.put(keys, &[sessions.clone(), fired])?;
        Ok(())
    }

    /// Index entries of these keys with these sessions.
    fn index_of<'a>(&self, keys: impl Iterator<Item = &'a [u8]>, columns: &[ArrayRef]) -> ByteRows {
        let sessions = Sessions::of(&columns[0]);
        let fired = columns[1].as_primitive::<UInt32Type>().values();
        let mut index = ByteRows::default();
        for ((key, &fired), span) in keys.zip(fired).zip(sessions.spans()) {
            let ends = span.map(|row| store::last_ms(sessions.lasts[row], self.gap));
            // Both are in order of time.
            let (mut expiring, mut waiting) = (ends.clone(), ends.skip(fired as usize));
            if fired > 0
                && let Some(end) = expiring.next()
            {
                EntryCodec::push_index(EXPIRY, end.saturating_add(self.lateness), key, &mut index);
            }
            if let Some(end) = waiting.next() {
                EntryCodec::push_index(FIRING, end, key, &mut index);
            }
        }
        index
    }

    /// Takes index entries up to a time out, some of them.
    fn take_due(&mut self, kind: TimerKind, upto: Millis) -> Result<ByteRows> {
        let end = [EntryCodec::index_start(kind) + 1];
        let after = upto.checked_add(1).map(|after| EntryCodec::index_bound(kind, after));
        let to = after.as_ref().map_or(end.as_slice(), |after| after.as_slice());
        // Nothing is before, and a tier may be slow to see that where much was taken out.
        let from = EntryCodec::index_bound(kind, self.fetched[kind as usize]);
        let mut entries = ByteRows::default();
        self.tier.read_index(&from, to, FETCHED_KEYS, &mut entries)?;
        self.tier.change_index(&ByteRows::default(), &entries)?;
        let last = entries.len().checked_sub(1).map(|last| entries.get(last));
        let last = last.filter(|_| entries.len() == FETCHED_KEYS);
        let fetched = last.map_or(upto, |last| EntryCodec::read_index(last).0);
        self.fetched[kind as usize] = fetched;
        let mut next = ByteRows::default();
        let from = EntryCodec::index_bound(kind, fetched);
        self.tier.read_index(&from, &end, 1, &mut next)?;
        self.next[kind as usize] = next.iter().next().map(|entry| EntryCodec::read_index(entry).0);
        Ok(entries)
    }

    /// These keys have no session any more.
    pub(super) fn delete(&mut self, keys: &KeyTable, slots: &[Slot]) -> Result<()> {
        let below = slots.iter().copied().filter(|&slot| self.below.contains(slot));
        let below = below.collect::<Vec<_>>();
        if !below.is_empty() {
            self.codec
                .encode_part_keys(PART, &keys.key_columns(&below)?, &mut self.keys)?;
            self.tier.remove(&self.keys)?;
        }
        self.forget(slots);
        Ok(())
    }

    /// These slots are given back.
    fn forget(&mut self, slots: &[Slot]) {
        self.residents.forget(slots);
        self.below.remove_all(slots);
    }

    /// Whether all that was restored has come up, and nothing goes below.
    fn is_done(&self) -> bool {
        self.resident_max == usize::MAX && !self.tier.keeps_what_was_got() && self.tier.is_empty()
    }

    /// Keys that are below only, about.
    pub(super) fn keys_below(&self) -> u64 {
        self.keys_below.min(self.tier.len())
    }

    /// All keys that are below now.
    pub(super) fn freeze(&mut self) -> Result<Option<(Arc<dyn RowSource>, u64)>> {
        if self.tier.is_empty() {
            return Ok(None);
        }
        let rows = FrozenRows::new(self.tier.freeze()?, self.codec.try_clone()?, self.table.clone());
        let rows = rows.in_parts(|_, mut columns| {
            columns.truncate(1);
            columns
        });
        Ok(Some((Arc::new(rows), self.keys_below())))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let sets = self.residents.memory_bytes() + self.below.memory_bytes();
        self.tier.memory_bytes() + self.keys.memory_bytes() + self.values.memory_bytes() + sets
    }
}
