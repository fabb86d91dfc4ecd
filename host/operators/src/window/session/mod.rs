//! Session windows: rows of a key less than a gap apart, or exactly a gap apart, share a window.
//!
//! A session whose rows are from `first` to `last` is the window [first, last + gap). Each key has a list of
//! its open sessions, newest first, for almost every row belongs to the newest (`store`). A block is
//! resolved row by row to sessions; a row that joins two makes one of them, and the guest is told once, by
//! one `merge` before the one `accumulate`, in which all rows have their final slots.
//!
//! A session waits for its end in a bucket by time. It is registered when it opens and not again when rows
//! move its end: when its bucket is due and it has not ended, it moves on to the bucket of its present end.

mod careful;
mod look_up;
mod restoring;
mod snapshot;
mod store;
mod tier;

use arrow_array::ArrayRef;
use arrow_schema::{Fields, SchemaRef};
use millrace_core::Result;
use millrace_core::block::{Block, Millis};
use millrace_core::function::{Slot, WindowFunction};

use self::snapshot::Tracking;
use self::store::{NONE, SessionId, SessionStore};
use self::tier::{EXPIRY, FIRING, Tiering};
use super::emission::{drop_slots, merge_slots};
use super::late::{Fate, split};
use super::{Context, SLOTS_PER_CALL};
use crate::key_table::{KeyBatch, KeyTable};
use crate::time_buckets::TimeBuckets;

#[derive(Debug)]
pub(super) struct SessionWindows {
    gap: Millis,
    keys: KeyTable,
    batch: KeyBatch,
    store: SessionStore,
    /// Sessions that have to fire, by last ms.
    unfired: TimeBuckets,
    /// Sessions that fired and take late rows still, by last ms + lateness.
    fired: TimeBuckets,
    /// Of the block at hand: session of each row, sessions opened, guest accumulators merged and slots
    /// to give back.
    rows: Vec<SessionId>,
    opened: Vec<SessionId>,
    merges: Merges,
    results: Results,
    slots: Vec<Slot>,
    fresh: Vec<Slot>,
    /// Keys whose last session was closed.
    gone: Vec<Slot>,
    /// The bucket that is being fired: its sessions, how many of them are done, its time.
    due: Vec<SessionId>,
    due_at: usize,
    due_time: Millis,
    /// The results gathered take no more rows and are dropped as they are put out.
    dropping: bool,
    /// If snapshots are taken.
    tracking: Option<Box<Tracking>>,
    /// If sessions may be elsewhere than in the guest.
    tiering: Option<Box<Tiering>>,
    /// What there is of a session in a lower tier.
    session_fields: Fields,
    schema: SchemaRef,
}

/// Sessions made one by a block.
#[derive(Debug, Default)]
pub(super) struct Merges {
    /// Accumulators that got those of `sources`.
    targets: Vec<Slot>,
    sources: Vec<Slot>,
    /// Slots that the guest has not seen.
    unused: Vec<Slot>,
    /// Sessions that are part of another now.
    gone: Vec<SessionId>,
}

/// Results waiting for a call.
#[derive(Debug, Default)]
struct Results {
    sessions: Vec<SessionId>,
    keys: Vec<Slot>,
    slots: Vec<Slot>,
    starts: Vec<Millis>,
    ends: Vec<Millis>,
}

impl SessionWindows {
    pub(super) fn new(schema: SchemaRef, gap: Millis) -> Result<Self> {
        Ok(SessionWindows {
            gap,
            keys: KeyTable::new(schema.clone(), 0)?,
            batch: KeyBatch::new(schema.clone())?,
            store: SessionStore::default(),
            unfired: TimeBuckets::new(),
            fired: TimeBuckets::new(),
            rows: Vec::new(),
            opened: Vec::new(),
            merges: Merges::default(),
            results: Results::default(),
            slots: Vec::new(),
            fresh: Vec::new(),
            gone: Vec::new(),
            due: Vec::new(),
            due_at: 0,
            due_time: store::NEVER,
            dropping: true,
            tracking: None,
            tiering: None,
            session_fields: Fields::empty(),
            schema,
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
        self.batch.load(key_columns)?;
        self.slots.clear();
        self.fresh.clear();
        self.keys
            .find_or_insert(&self.batch, 0..times.len(), &mut self.slots, &mut self.fresh);
        self.store.reserve_keys(self.keys.slot_bound());
        self.fetch_fresh(context, function)?;
        if let Some(tracking) = &mut self.tracking {
            tracking.export_among(&self.slots, &self.keys, &self.store, function)?;
            tracking.mark_dirty(&self.slots, self.keys.slot_bound());
        }
        self.store.touch(&self.slots);
        let late_count = self.resolve(context, times);
        self.apply_merges(context, function)?;
        if late_count == 0 {
            self.settle();
            function.accumulate(&self.slots, block)?;
        } else {
            let fate = |&session: &SessionId| if session == NONE { Fate::Late } else { Fate::Kept };
            let fates = self.rows.iter().map(fate).collect::<Vec<_>>();
            let kept = split(context, block, &fates, late)?;
            self.rows.retain(|&session| session != NONE);
            self.settle();
            if !self.slots.is_empty() {
                function.accumulate(&self.slots, &kept.block)?;
            }
            self.forget_keys()?;
        }
        for session in self.opened.drain(..) {
            self.store.session_mut(session).in_guest = true;
        }
        self.store.free(&mut self.merges.gone);
        if context.lateness > 0 {
            self.handle_touched(context, function)?;
        }
        self.send_excess_below(context, function)
    }

    /// Finds or opens the session of every row, `NONE` for late ones, and returns the number of these.
    /// Keys come in `self.slots`.
    fn resolve(&mut self, context: &mut Context, times: &[Millis]) -> usize {
        let keys = std::mem::take(&mut self.slots);
        let mut rows = std::mem::take(&mut self.rows);
        let mut late_count = 0;
        rows.clear();
        rows.extend(
            keys.iter()
                .zip(times)
                .map(|(&key, &time)| match self.store.find(key, time, self.gap) {
                    Ok(session) => {
                        self.store.extend(session, time, self.gap, &mut self.merges);
                        session
                    }
                    Err(_) if context.expired(store::last_ms(time, self.gap)) => {
                        late_count += 1;
                        NONE
                    }
                    Err(newer) => self.open(context, key, newer, time),
                }),
        );
        self.slots = keys;
        self.rows = rows;
        late_count
    }

    /// Opens a session of one row and has it wait for its end, or for its expiry if it has ended.
    fn open(&mut self, context: &mut Context, key: Slot, newer: SessionId, time: Millis) -> SessionId {
        let session = self.store.open(key, newer, time, context.slots.allocate());
        let last = store::last_ms(time, self.gap);
        self.opened.push(session);
        if context.ended(last) {
            self.await_expiry(context, session, last);
        } else {
            self.store.session_mut(session).unfired_at = last;
            self.unfired.push(last, session);
        }
        session
    }

    /// Merges accumulators in the guest and gives back what that leaves empty.
    fn apply_merges(&mut self, context: &mut Context, function: &mut dyn WindowFunction) -> Result<()> {
        let merges = &mut self.merges;
        if !merges.targets.is_empty() {
            merge_slots(function, &merges.targets, &merges.sources)?;
            drop_slots(function, &merges.sources)?;
        }
        context.slots.release(&merges.sources);
        context.slots.release(&merges.unused);
        merges.targets.clear();
        merges.sources.clear();
        merges.unused.clear();
        Ok(())
    }

    /// From sessions of rows to final slots, and to sessions that are still there.
    fn settle(&mut self) {
        let (store, merged) = (&self.store, !self.merges.gone.is_empty());
        if merged {
            self.rows
                .iter_mut()
                .for_each(|session| *session = store.survivor(*session));
            self.opened.retain(|&session| store.survivor(session) == session);
        }
        self.slots.clear();
        self.slots
            .extend(self.rows.iter().map(|&session| store.session(session).slot));
    }

    /// Forgets new keys of which all rows were late.
    fn forget_keys(&mut self) -> Result<()> {
        let store = &self.store;
        self.fresh.retain(|&key| !store.has_sessions(key));
        if let Some(tracking) = &mut self.tracking {
            tracking.forget(&self.fresh);
        }
        if let Some(tiering) = &mut self.tiering {
            tiering.delete(&self.keys, &self.fresh)?;
        }
        self.keys.remove_all(&self.fresh);
        Ok(())
    }

    /// With allowed lateness: sessions that rows of this block touched after they ended fire again, or wait
    /// for their end again if it moved past the watermark.
    fn handle_touched(&mut self, context: &mut Context, function: &mut dyn WindowFunction) -> Result<()> {
        let mut touched = std::mem::take(&mut self.rows);
        touched.sort_unstable();
        touched.dedup();
        for &id in &touched {
            let last = self.store.last_ms(id, self.gap);
            if context.ended(last) {
                self.results.push(&self.store, id, self.gap);
            } else if self.store.session(id).unfired_at == store::NEVER {
                self.store.session_mut(id).unfired_at = last;
                self.unfired.push(last, id);
            }
        }
        self.rows = touched;
        self.results.sort();
        self.emit(context, false, function)
    }

    /// One step of firing what the watermark ended; false: nothing is left.
    pub(super) fn fire(&mut self, context: &mut Context, function: &mut dyn WindowFunction) -> Result<bool> {
        let upto = self.fetched(FIRING, context.watermark);
        while self.results.slots.len() < SLOTS_PER_CALL {
            let Some(&id) = self.due.get(self.due_at) else {
                if self.next_bucket(upto) {
                    continue;
                }
                break;
            };
            self.due_at += 1;
            if self.store.session(id).unfired_at != self.due_time {
                continue;
            }
            let last = self.store.last_ms(id, self.gap);
            if last > self.due_time {
                self.store.session_mut(id).unfired_at = last;
                self.unfired.push(last, id);
                continue;
            }
            self.store.session_mut(id).unfired_at = store::NEVER;
            // Those that take no more rows are a prefix: they ended first.
            let expired = context.expired(last);
            if expired != self.dropping {
                self.emit(context, self.dropping, function)?;
                self.dropping = expired;
            }
            if !expired {
                self.await_expiry(context, id, last);
            }
            self.results.push(&self.store, id, self.gap);
        }
        if !self.results.slots.is_empty() {
            self.emit(context, self.dropping, function)?;
            self.send_excess_below(context, function)?;
            return Ok(true);
        }
        if self.fetch_due(FIRING, context, function)? {
            return Ok(true);
        }
        self.dropping = true;
        if self.drop_expired(context, function)? || self.fetch_due(EXPIRY, context, function)? {
            return Ok(true);
        }
        self.note_fired(context.watermark);
        Ok(false)
    }

    /// Takes the next bucket that is due up to a time.
    fn next_bucket(&mut self, upto: Millis) -> bool {
        self.due_at = 0;
        let time = self.unfired.take_first(upto, &mut self.due);
        if let Some(time) = time {
            self.due_time = time;
            self.store.warm(&self.due);
        }
        time.is_some()
    }

    /// Puts out the results gathered; with `then_drop` their sessions are over.
    fn emit(&mut self, context: &mut Context, then_drop: bool, function: &mut dyn WindowFunction) -> Result<()> {
        let mut results = std::mem::take(&mut self.results);
        if let Some(tracking) = &mut self.tracking {
            tracking.export_among(&results.keys, &self.keys, &self.store, function)?;
        }
        let mut start = 0;
        while start < results.slots.len() {
            let chunk = start..results.slots.len().min(start + SLOTS_PER_CALL);
            let keys = self.keys.key_columns(&results.keys[chunk.clone()])?;
            let slots = &results.slots[chunk.clone()];
            function.emit(
                slots,
                &results.starts[chunk.clone()],
                &results.ends[chunk.clone()],
                &keys,
                then_drop,
            )?;
            start = chunk.end;
        }
        if then_drop {
            self.close(context, &results.sessions, &results.slots)?;
        }
        results.clear();
        self.results = results;
        Ok(())
    }

    /// Forgets sessions whose accumulators are dropped.
    fn close(&mut self, context: &mut Context, sessions: &[SessionId], slots: &[Slot]) -> Result<()> {
        context.slots.release(slots);
        self.gone.clear();
        for &session in sessions {
            let key = self.store.close(session);
            if !self.store.has_sessions(key) {
                self.gone.push(key);
            }
        }
        if let Some(tracking) = &mut self.tracking {
            tracking.forget(&self.gone);
        }
        if let Some(tiering) = &mut self.tiering {
            tiering.delete(&self.keys, &self.gone)?;
        }
        self.keys.remove_all(&self.gone);
        Ok(())
    }

    fn await_expiry(&mut self, context: &Context, session: SessionId, last: Millis) {
        let expiry = last.saturating_add(context.lateness);
        self.store.session_mut(session).expiry_at = expiry;
        self.fired.push(expiry, session);
    }

    /// Drops sessions that fired and take no more rows, some thousand and those that expire with them; false:
    /// no more were left.
    fn drop_expired(&mut self, context: &mut Context, function: &mut dyn WindowFunction) -> Result<bool> {
        let mut due = std::mem::take(&mut self.due);
        let (mut sessions, mut slots) = (Vec::new(), Vec::new());
        let upto = self.fetched(EXPIRY, context.watermark);
        while slots.len() < SLOTS_PER_CALL
            && let Some(time) = self.fired.take_first(upto, &mut due)
        {
            for &id in &due {
                if self.store.session(id).expiry_at != time {
                    continue;
                }
                let last = self.store.last_ms(id, self.gap);
                if context.expired(last) {
                    self.store.session_mut(id).expiry_at = store::NEVER;
                    sessions.push(id);
                    slots.push(self.store.session(id).slot);
                } else {
                    self.await_expiry(context, id, last);
                }
            }
        }
        due.clear();
        self.due = due;
        if let Some(tracking) = &mut self.tracking {
            let keys = sessions
                .iter()
                .map(|&id| self.store.session(id).key)
                .collect::<Vec<_>>();
            tracking.export_among(&keys, &self.keys, &self.store, function)?;
        }
        drop_slots(function, &slots)?;
        self.close(context, &sessions, &slots)?;
        Ok(slots.len() >= SLOTS_PER_CALL)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let buckets = self.unfired.memory_bytes() + self.fired.memory_bytes();
        let tiering = self.tiering.as_ref().map_or(0, |tiering| tiering.memory_bytes());
        self.keys.memory_bytes() + self.store.memory_bytes() + buckets + tiering
    }

    /// Bytes that the table of keys will take more when it grows, if that is about to be.
    pub(super) fn growth_bytes_soon(&self) -> usize {
        self.keys.growth_bytes_soon()
    }
}

impl Results {
    fn push(&mut self, store: &SessionStore, id: SessionId, gap: Millis) {
        let session = store.session(id);
        self.sessions.push(id);
        self.keys.push(session.key);
        self.slots.push(session.slot);
        self.starts.push(session.first);
        self.ends.push(session.last.saturating_add(gap));
    }

    /// By end; sessions of one end stay in order.
    fn sort(&mut self) {
        if self.ends.is_sorted() {
            return;
        }
        let mut order = (0..self.ends.len()).collect::<Vec<_>>();
        order.sort_by_key(|&i| self.ends[i]);
        fn permuted<T: Copy>(values: &[T], order: &[usize]) -> Vec<T> {
            order.iter().map(|&i| values[i]).collect()
        }
        self.sessions = permuted(&self.sessions, &order);
        self.keys = permuted(&self.keys, &order);
        self.slots = permuted(&self.slots, &order);
        self.starts = permuted(&self.starts, &order);
        self.ends = permuted(&self.ends, &order);
    }

    fn clear(&mut self) {
        self.sessions.clear();
        self.keys.clear();
        self.slots.clear();
        self.starts.clear();
        self.ends.clear();
    }
}
