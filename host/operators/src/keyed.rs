//! Keyed functions: keys to slots, timers, and the end of keys that hold nothing.
//!
//! The operator resolves the keys of a block to slots, calls the function once, and applies what it did:
//! timers, and per state whether the slot now holds a value. A slot that holds no value and has no timer is
//! given back. Every state on it was reported cleared or never written, so the guest holds nothing under
//! that number and it can be given to another key without `drop_state`. A state with a time to live is cleared by the
//! operator when it has expired (`lifetimes`). Where rows have no key all of them have the subtask's (`unkeyed`); a broadcast row may
//! ask for every key (`applying`), and somebody from outside for one (`look_up`).

mod applying;
mod call;
mod careful;
mod collections;
mod lifetimes;
mod look_up;
mod restoring;
mod snapshot;
mod sweep;
mod tier;
mod unkeyed;

use std::cell::RefCell;
use std::rc::Rc;

use arrow_array::ArrayRef;
use arrow_schema::SchemaRef;
use millrace_core::backend::SortedTier;
use millrace_core::block::{Block, Millis, WATERMARK_MIN};
use millrace_core::checkpoint::TableDelta;
use millrace_core::collections::{CollectionSchema, Collections, SharedCollections};
use millrace_core::function::{Effects, KeyedFunction, Slot, TimerKind, TimerOperation, touched};
use millrace_core::{Error, Result};

use self::applying::Applying;
use self::call::misplaced;
use self::collections::HostCollections;
use self::lifetimes::Lifetimes;
use self::restoring::Restoring;
use self::snapshot::Tracking;
pub(crate) use self::snapshot::timer_fields;
use self::tier::Tiering;
use self::unkeyed::Unkeyed;
use crate::key_table::{KeyBatch, KeyTable};
use crate::present::Present;
use crate::slot_set::SlotSet;
use crate::timers::TimerService;

/// Timers per call.
const TIMERS_PER_CALL: usize = 4096;

/// Calls of one firing that may set timers which are due again. More than any catching up needs, and an
/// answer within seconds where it would never end.
const REARMING_ROUNDS_MAX: usize = 1_000_000;

/// States per chain: one bit each.
const STATES_MAX: usize = 64;

/// The host's half of a keyed chain.
///
/// Give it blocks with [`handle_block`](Self::handle_block), watermarks with
/// [`handle_watermark`](Self::handle_watermark), and processing time with
/// [`handle_time`](Self::handle_time) no earlier than
/// [`next_processing_timer`](Self::next_processing_timer). Where states have a time to live say before each what time it
/// is ([`set_now`](Self::set_now)). After either of the last two call
/// [`fire`](Self::fire) until nothing is due, and nothing else in between. After an error the operator is
/// unusable: the call that failed may have been applied in part.
#[derive(Debug)]
pub struct KeyedOperator {
    key_schema: SchemaRef,
    keys: KeyTable,
    batch: KeyBatch,
    timers: TimerService,
    state_count: usize,
    always_writes: bool,
    /// Which states hold a value. Not kept where every entry writes all states.
    present: Present,
    watermark: Millis,
    now: Millis,
    /// By [`TimerKind`]: its clock advanced, and not all that made due has fired.
    firing: [bool; 2],
    /// Calls of the firing under way that set timers which are due again.
    rearming_rounds: usize,
    slots: Vec<Slot>,
    fresh: Vec<Slot>,
    times: Vec<Millis>,
    /// If states have a time to live.
    lifetimes: Option<Box<Lifetimes>>,
    /// If snapshots are taken.
    tracking: Option<Box<Tracking>>,
    /// If entries may be elsewhere than in the guest.
    tiering: Option<Box<Tiering>>,
    /// If older layers are still to come.
    restoring: Option<Box<Restoring>>,
    /// If there are large states.
    collections: Option<Rc<RefCell<HostCollections>>>,
    /// Their part of the snapshot under way.
    collection_deltas: Vec<TableDelta>,
    /// If rows have no key.
    unkeyed: Option<Unkeyed>,
    /// If broadcast rows may ask for every key, number of key groups; else 0.
    max_parallelism: u32,
    /// If one has.
    applying: Option<Box<Applying>>,
}

impl KeyedOperator {
    /// For a chain with this key and number of states. `always_writes`: every entry writes all states, and
    /// calls report no flags.
    pub fn new(key_schema: SchemaRef, state_count: usize, always_writes: bool) -> Result<Self> {
        if state_count > STATES_MAX {
            return Err(Error::user(
                "KO0001",
                format!("a keyed operator has {state_count} states; up to {STATES_MAX} are supported"),
            ));
        }
        Ok(KeyedOperator {
            keys: KeyTable::new(key_schema.clone(), 0)?,
            batch: KeyBatch::new(key_schema.clone())?,
            key_schema,
            timers: TimerService::new(),
            state_count,
            always_writes,
            present: Present::new(state_count),
            watermark: WATERMARK_MIN,
            now: Millis::MIN,
            firing: [false; 2],
            rearming_rounds: 0,
            slots: Vec::new(),
            fresh: Vec::new(),
            times: Vec::new(),
            lifetimes: None,
            tracking: None,
            tiering: None,
            restoring: None,
            collections: None,
            collection_deltas: Vec::new(),
            unkeyed: None,
            max_parallelism: 0,
            applying: None,
        })
    }

    /// Broadcast rows may ask for every key.
    pub fn set_applies(&mut self, max_parallelism: u32) {
        self.max_parallelism = max_parallelism;
    }

    /// Gives the operator its large states, in the order in which they are declared, with a tier for each; what it
    /// returns is for the function to read from. Call it before the first row.
    pub fn set_collections(
        &mut self,
        states: Vec<(CollectionSchema, Box<dyn SortedTier>)>,
        max_parallelism: u32,
    ) -> Result<SharedCollections> {
        let collections = HostCollections::new(&self.key_schema, states, max_parallelism)?;
        let collections = Rc::new(RefCell::new(collections));
        collections.borrow_mut().track_changes(self.tracking.is_some());
        self.collections = Some(collections.clone());
        Ok(collections)
    }

    /// Entries of large maps and lists, about.
    pub fn collection_entries(&self) -> u64 {
        let collections = self.collections.as_ref();
        collections.map_or(0, |collections| collections.borrow().len())
    }

    /// Rows of an input, with the columns of their key.
    pub fn handle_block(
        &mut self,
        input: u32,
        key_columns: &[ArrayRef],
        block: &Block,
        function: &mut dyn KeyedFunction,
    ) -> Result<()> {
        self.batch.load(key_columns)?;
        if self.batch.row_count() != block.row_count() {
            return Err(Error::internal("a block and its keys differ in length"));
        }
        self.slots.clear();
        self.fresh.clear();
        let rows = 0..block.row_count();
        self.keys
            .find_or_insert(&self.batch, rows, &mut self.slots, &mut self.fresh);
        if self.slots.is_empty() {
            return Ok(());
        }
        self.fetch_fresh(function)?;
        self.export_before_touching(function)?;
        self.clear_expired(function)?;
        if let Some(collections) = &self.collections {
            collections.borrow_mut().begin_call(key_columns);
        }
        let effects = function.process(input, &self.slots, block)?;
        self.apply(&effects, false)?;
        if !effects.quarantined.is_empty() {
            self.forget_quarantined(&effects)?;
        }
        self.send_excess_below(function)
    }

    /// Rows of an input that every subtask gets: they have no key, and may write broadcast state alone.
    pub fn handle_broadcast(&mut self, input: u32, block: &Block, function: &mut dyn KeyedFunction) -> Result<()> {
        let rows = block.row_count();
        let (Some(collections), 1..) = (&self.collections, rows) else {
            return Ok(());
        };
        collections.borrow_mut().begin_broadcast_call(&self.key_schema, rows)?;
        // They mean nothing.
        let slots = vec![0; rows];
        let effects = function.process(input, &slots, block)?;
        if !effects.timers.is_empty() || effects.touched.iter().any(|flags| *flags != 0) {
            return Err(Error::pipeline(
                "KO0002",
                "the module set timers or touched keyed state for rows that have no key",
            ));
        }
        collections.borrow_mut().apply(&effects.collections)?;
        match effects.applies {
            true if self.max_parallelism > 0 => self.begin_applying(),
            true => Err(misplaced(
                "a broadcast row asked for every key, which the head does not declare",
            )),
            false => Ok(()),
        }
    }

    /// The watermark advanced: event-time timers up to it are due.
    pub fn handle_watermark(&mut self, watermark: Millis) {
        if watermark > self.watermark {
            self.watermark = watermark;
            self.firing[TimerKind::EventTime as usize] = true;
        }
    }

    /// Processing time advanced: processing-time timers up to it are due.
    pub fn handle_time(&mut self, now: Millis) {
        self.now = self.now.max(now);
        self.firing[TimerKind::ProcessingTime as usize] = true;
        if let Some(lifetimes) = &mut self.lifetimes {
            lifetimes.handle_time(now);
        }
        if let Some(collections) = &self.collections {
            collections.borrow_mut().handle_time(now);
        }
    }

    /// Fires due timers, as many as go into one call; false: none is due any more.
    pub fn fire(&mut self, function: &mut dyn KeyedFunction) -> Result<bool> {
        if self.applying.is_some() {
            return self.apply_some(function);
        }
        for (kind, upto) in [
            (TimerKind::EventTime, self.watermark),
            (TimerKind::ProcessingTime, self.now),
        ] {
            if self.firing[kind as usize] {
                self.firing[kind as usize] = self.fire_kind(kind, upto, function)?;
                return Ok(true);
            }
        }
        self.rearming_rounds = 0;
        self.sweep(function)
    }

    /// When [`handle_time`](Self::handle_time) is to be called: the next processing-time timer is due, or something may
    /// have expired.
    pub fn next_processing_timer(&mut self) -> Option<Millis> {
        let below = self.next_below(TimerKind::ProcessingTime);
        let sweep = self.lifetimes.as_ref().and_then(|lifetimes| lifetimes.next_sweep());
        let collections = self.collections.as_ref();
        let collections = collections.and_then(|collections| collections.borrow().next_sweep());
        let timers = self.timers.next_processing_time();
        timers.into_iter().chain(below).chain(sweep).chain(collections).min()
    }

    /// Number of keys that hold a value or a timer; about, with a lower tier.
    pub fn slot_count(&self) -> usize {
        let below = self.tiering.as_ref().map_or(0, |tiering| tiering.only_below());
        self.keys.len() + below as usize
    }

    /// Number of timers set, of entries in the guest.
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    /// Bytes of host memory held for keys and timers, about.
    pub fn memory_bytes(&self) -> usize {
        let tiering = self.tiering.as_ref().map_or(0, |tiering| tiering.memory_bytes());
        let lifetimes = self.lifetimes.as_ref().map_or(0, |lifetimes| lifetimes.memory_bytes());
        self.keys.memory_bytes() + self.timers.memory_bytes() + self.present.memory_bytes() + lifetimes + tiering
    }

    /// [`memory_bytes`](Self::memory_bytes) as it will be once the table of keys has grown, if it is about to.
    pub fn memory_bytes_soon(&self) -> usize {
        self.memory_bytes() + self.keys.growth_bytes_soon()
    }

    fn fire_kind(&mut self, kind: TimerKind, upto: Millis, function: &mut dyn KeyedFunction) -> Result<bool> {
        let all = upto;
        let upto = self.fetch_due(kind, upto, function)?;
        if function.keeps_timers() {
            return Ok(self.fire_kept(kind, upto, function)? || upto < all);
        }
        self.timers
            .poll_due(kind, upto, TIMERS_PER_CALL, &mut self.slots, &mut self.times);
        if self.slots.is_empty() {
            self.send_excess_below(function)?;
            return Ok(upto < all);
        }
        if self.rearming_rounds == REARMING_ROUNDS_MAX {
            return Err(Error::pipeline(
                "KO0003",
                format!(
                    "timers set timers that are due at once, {REARMING_ROUNDS_MAX} times in a row; at the end of \
                     input every event-time timer is due, so a timer that always sets the next one never ends"
                ),
            ));
        }
        self.export_before_firing(kind, function)?;
        self.clear_expired(function)?;
        let keys = self.keys.key_columns(&self.slots)?;
        if let Some(collections) = &self.collections {
            collections.borrow_mut().begin_call(&keys);
        }
        let effects = function.timers(kind, &self.slots, &self.times, &keys)?;
        let is_due = |timer: &TimerOperation| timer.set && timer.kind == kind && timer.time <= upto;
        self.rearming_rounds += usize::from(effects.timers.iter().any(is_due));
        self.apply(&effects, true)?;
        self.send_excess_below(function)?;
        Ok(true)
    }

    /// Fires some of the timers that the function keeps; false: none is due.
    fn fire_kept(&mut self, kind: TimerKind, upto: Millis, function: &mut dyn KeyedFunction) -> Result<bool> {
        self.slots.clear();
        function.take_due(kind, upto, TIMERS_PER_CALL, &mut self.slots);
        let fired = !self.slots.is_empty();
        if fired {
            self.export_before_touching(function)?;
            let effects = function.timers(kind, &self.slots, &[], &[])?;
            self.apply(&effects, false)?;
        }
        self.send_excess_below(function)?;
        Ok(fired)
    }

    /// Applies what a call over `self.slots` did. `fired`: it took a timer of each.
    fn apply(&mut self, effects: &Effects, fired: bool) -> Result<()> {
        let entries = self.slots.len();
        if effects.applies {
            return Err(misplaced(
                "only broadcast rows beside rows with a key ask for every key",
            ));
        }
        if let Some(collections) = &self.collections {
            collections.borrow_mut().apply(&effects.collections)?;
        }
        self.note_changes(effects, fired);
        for operation in &effects.timers {
            let Some(&slot) = self.slots.get(operation.entry as usize) else {
                let entry = operation.entry;
                return Err(Error::pipeline(
                    "KO0002",
                    format!("the module set a timer for entry {entry} of a call with {entries}"),
                ));
            };
            if operation.set {
                self.timers.set(slot, operation.kind, operation.time);
            } else {
                self.timers.delete(slot, operation.kind, operation.time);
            }
        }
        if self.always_writes && self.state_count > 0 {
            return Ok(());
        }
        self.present.cover(self.keys.slot_bound());
        if !effects.touched.is_empty() {
            self.check_flags(&effects.touched)?;
            self.present.mark(&effects.touched, &self.slots);
            self.renew(&effects.touched);
        }
        self.free_empty(fired)
    }

    fn check_flags(&self, flags: &[u8]) -> Result<()> {
        let (got, entries, states) = (flags.len(), self.slots.len(), self.state_count);
        if got == entries * states {
            return Ok(());
        }
        Err(Error::pipeline(
            "KO0002",
            format!("the module reported {got} state flags for {entries} entries and {states} states"),
        ))
    }

    /// Gives back the slots of the last call that hold nothing. `distinct`: it had none twice.
    fn free_empty(&mut self, distinct: bool) -> Result<()> {
        let (present, timers) = (&self.present, &self.timers);
        self.slots
            .retain(|&slot| present.is_empty(slot) && !timers.pending(slot));
        if !distinct {
            self.slots.sort_unstable();
            self.slots.dedup();
        }
        if let Some(tracking) = &mut self.tracking {
            tracking.forget(&self.slots, |slots| self.keys.key_columns(slots))?;
        }
        if let Some(tiering) = &mut self.tiering {
            tiering.delete(&self.keys, &self.slots)?;
        }
        match &mut self.restoring {
            None => self.keys.remove_all(&self.slots),
            Some(restoring) => self.slots.iter().for_each(|&slot| restoring.set_gone(slot)),
        }
        Ok(())
    }

    /// Which entries the next snapshot must hold, and which are not any more what they are below.
    fn note_changes(&mut self, effects: &Effects, fired: bool) {
        let all = fired || (self.always_writes && self.state_count > 0);
        let (slots, bound) = (&self.slots, self.keys.slot_bound());
        if let Some(tracking) = &mut self.tracking {
            add_changed(tracking.changes.dirty_mut(), effects, all, slots, bound);
        }
        if let Some(tiering) = &mut self.tiering {
            add_changed(tiering.newer_mut(), effects, all, slots, bound);
        }
    }
}

/// Adds the slots that a call changed: `all` of them, or those whose states or timers it did.
fn add_changed(changed: &mut SlotSet, effects: &Effects, all: bool, slots: &[Slot], bound: Slot) {
    if all {
        changed.insert_all(slots, bound);
        return;
    }
    const CHANGED: u8 = touched::WRITTEN | touched::CLEARED;
    for flags in effects.touched.chunks(slots.len()) {
        let flags = flags.iter().zip(slots);
        changed.insert_where(flags.map(|(flag, &slot)| (flag & CHANGED != 0, slot)), bound);
    }
    let timers = effects.timers.iter();
    let timers = timers.filter_map(|timer| slots.get(timer.entry as usize));
    changed.insert_where(timers.map(|&slot| (true, slot)), bound);
}

#[cfg(test)]
mod tests;
