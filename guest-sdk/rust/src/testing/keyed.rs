//! The host's half of a keyed chain: keys to slots, timers, times to live, large states.
//!
//! A plain model of the real one: everything in sorted maps, nothing ahead of time, nothing in batches.

use std::collections::{BTreeMap, BTreeSet};

use super::collections::{self, Collection, Collections};
use super::datum::{Datum, Key};
use super::guest::{ChainInfo, Guest, Row};
use super::time::FIRST;
use crate::bindings::dataflow::{Head, Renewal};
use crate::bindings::operators::{CallResult, TimerKind};
use crate::chain::Work;

/// Timers of one key that set timers which are due at once: more than any catching up needs.
const REARMING_ROUNDS_MAX: usize = 1_000_000;

/// The action by which a broadcast row asks for every key.
const APPLY: u8 = 4;

const WRITTEN: u8 = 2;
const CLEARED: u8 = 4;
const READ: u8 = 1;

/// A timer of a key, which event-time ones of a time come before.
pub(crate) type KeyTimer = (bool, i64, Key);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Keyed {
    pub(crate) slots: BTreeMap<Key, u32>,
    free: Vec<u32>,
    /// Of processing time or not, time, key.
    pub(crate) timers: BTreeSet<KeyTimer>,
    /// How many a key has.
    timer_counts: BTreeMap<Key, usize>,
    /// States that hold something.
    present: BTreeSet<(Key, usize)>,
    /// When states expire that have a time to live.
    pub(crate) deadlines: BTreeMap<(Key, usize), i64>,
    pub(crate) collections: Collections,
    always_writes: bool,
    /// The key of all rows, where rows have none.
    pub(crate) own_key: Option<Key>,
}

impl Keyed {
    pub(crate) fn new(info: &ChainInfo, subtask: usize) -> Self {
        let always_writes = matches!(&info.chain.head, Head::Keyed(keyed) if keyed.always_writes);
        Keyed {
            slots: BTreeMap::new(),
            free: Vec::new(),
            timers: BTreeSet::new(),
            timer_counts: BTreeMap::new(),
            present: BTreeSet::new(),
            deadlines: BTreeMap::new(),
            collections: info.collections(),
            always_writes,
            own_key: info.is_unkeyed.then(|| vec![Datum::Integer(subtask as i128)]),
        }
    }

    /// The slot of a key.
    pub(crate) fn slot(&mut self, key: &Key) -> u32 {
        let next = (self.slots.len() + self.free.len()) as u32;
        let free = &mut self.free;
        *self
            .slots
            .entry(key.clone())
            .or_insert_with(|| free.pop().unwrap_or(next))
    }

    /// Rows of an input with their keys.
    pub(crate) fn rows(&mut self, guest: &mut Guest<'_>, input: u32, keys: &[Key], rows: &[Row]) {
        self.expire(guest);
        let slots: Vec<u32> = keys.iter().map(|key| self.slot(key)).collect();
        let now = guest.at.now;
        let result = self.call(keys, now, || guest.rows(input, &slots, rows));
        self.apply(guest, &result, keys);
    }

    /// Rows of an input, where rows have no key.
    pub(crate) fn own_rows(&mut self, guest: &mut Guest<'_>, input: u32, rows: &[Row]) {
        let key = self.own_key.clone().unwrap_or_default();
        self.rows(guest, input, &vec![key; rows.len()], rows);
    }

    /// The input has ended.
    pub(crate) fn end(&mut self, guest: &mut Guest<'_>) {
        let keys: Vec<Key> = self.own_key.clone().into_iter().collect();
        let now = guest.at.now;
        let result = self.call(&keys, now, || guest.call(&Work::Close, |_| String::new()));
        if let Some(key) = keys.first() {
            self.slot(key);
            self.apply(guest, &result, &keys);
        }
    }

    /// Rows of an input that every subtask gets.
    pub(crate) fn broadcast(&mut self, guest: &mut Guest<'_>, input: u32, rows: &[Row]) {
        let now = guest.at.now;
        for row in rows {
            let result = self.call(&[Key::new()], now, || {
                guest.rows(input, &[0], std::slice::from_ref(row))
            });
            assert!(
                result.timers.actions.iter().all(|action| *action == APPLY),
                "rows of a broadcast stream have no key"
            );
            self.write(&result);
            if !result.timers.actions.is_empty() {
                self.apply_to_all(guest);
            }
        }
    }

    /// A broadcast row has asked for every key.
    fn apply_to_all(&mut self, guest: &mut Guest<'_>) {
        self.expire(guest);
        let mut keys: BTreeSet<Key> = self.slots.keys().cloned().collect();
        for large in self.collections.values_mut().filter(|large| !large.is_broadcast()) {
            large.expire(guest.at.now);
            keys.extend(large.entries.keys().cloned());
        }
        let keys: Vec<Key> = keys.into_iter().collect();
        let slots: Vec<u32> = keys.iter().map(|key| self.slot(key)).collect();
        let block = guest.info.keys(&keys);
        let work = Work::Timers {
            kind: TimerKind::Applied,
            slots: &slots,
            times: &vec![guest.at.now; keys.len()],
            keys: &block,
        };
        let now = guest.at.now;
        let result = self.call(&keys, now, || guest.call(&work, |_| String::new()));
        self.apply(guest, &result, &keys);
    }

    /// Fires timers that are due, in the order of their times; a timer that one sets fires as well, if it is due.
    pub(crate) fn fire(&mut self, guest: &mut Guest<'_>, kind: TimerKind, upto: i64) {
        let is_processing = kind == TimerKind::ProcessingTime;
        for _ in 0..REARMING_ROUNDS_MAX {
            let (keys, times) = self.take_due(is_processing, upto);
            if keys.is_empty() {
                return;
            }
            self.expire(guest);
            let slots: Vec<u32> = keys.iter().map(|key| self.slot(key)).collect();
            let block = guest.info.keys(&keys);
            let work = Work::Timers {
                kind,
                slots: &slots,
                times: &times,
                keys: &block,
            };
            let now = guest.at.now;
            let result = self.call(&keys, now, || guest.call(&work, |_| String::new()));
            self.apply(guest, &result, &keys);
        }
        panic!("timers set timers that are due at once, {REARMING_ROUNDS_MAX} times in a row");
    }

    /// One timer of each key, its earliest.
    fn take_due(&mut self, is_processing: bool, upto: i64) -> (Vec<Key>, Vec<i64>) {
        let mut met = BTreeSet::new();
        let due = self
            .timers
            .iter()
            .filter(|(kind, time, _)| *kind == is_processing && *time <= upto);
        let due: Vec<KeyTimer> = due.filter(|(_, _, key)| met.insert((*key).clone())).cloned().collect();
        due.iter().for_each(|timer| self.delete_timer(timer));
        due.into_iter().map(|(_, time, key)| (key, time)).unzip()
    }

    pub(crate) fn set_timer(&mut self, timer: KeyTimer) {
        let key = timer.2.clone();
        if self.timers.insert(timer) {
            *self.timer_counts.entry(key).or_default() += 1;
        }
    }

    fn delete_timer(&mut self, timer: &KeyTimer) {
        if !self.timers.remove(timer) {
            return;
        }
        if let Some(count) = self.timer_counts.get_mut(&timer.2) {
            *count -= 1;
            if *count == 0 {
                self.timer_counts.remove(&timer.2);
            }
        }
    }

    /// When the next processing-time timer is due.
    pub(crate) fn next_time(&self) -> Option<i64> {
        let timers = self.timers.range((true, FIRST, Key::new())..);
        timers.map(|timer| timer.1).next()
    }

    fn call(&mut self, keys: &[Key], now: i64, call: impl FnOnce() -> CallResult) -> CallResult {
        let mut collections = std::mem::take(&mut self.collections);
        collections.values_mut().for_each(|of| of.begin_call(keys, now));
        collections::enter(collections);
        let result = call();
        self.collections = collections::leave();
        result
    }

    fn write(&mut self, result: &CallResult) {
        for writes in &result.collections {
            let collection = self.collections.get_mut(&writes.state);
            collection.expect("only large states are written so").apply(writes);
        }
        self.collections.values_mut().for_each(Collection::end_call);
    }

    /// Does what a call has asked for, and gives keys back that hold nothing.
    fn apply(&mut self, guest: &Guest<'_>, result: &CallResult, keys: &[Key]) {
        self.write(result);
        let timers = &result.timers;
        for ((&entry, &time), &action) in timers.entries.iter().zip(&timers.times).zip(&timers.actions) {
            let timer = (action >= 2, time.max(FIRST + 1), keys[entry as usize].clone());
            if action % 2 == 0 {
                self.set_timer(timer);
            } else {
                self.delete_timer(&timer);
            }
        }
        if self.always_writes {
            let states = keys
                .iter()
                .flat_map(|key| (0..guest.info.states.len()).map(move |state| (key.clone(), state)));
            self.present.extend(states);
            return;
        }
        let resident = (0..guest.info.states.len()).filter(|state| !guest.info.states[*state].is_large);
        for (flags, state) in result.touched.chunks(keys.len().max(1)).zip(resident) {
            for (&flags, key) in flags.iter().zip(keys) {
                self.touch(guest, key, state, flags);
            }
        }
        keys.iter().for_each(|key| self.free_if_empty(key));
    }

    fn touch(&mut self, guest: &Guest<'_>, key: &Key, state: usize, flags: u8) {
        let place = (key.clone(), state);
        let ttl = guest.info.states[state].declared.ttl;
        if flags & CLEARED != 0 {
            self.present.remove(&place);
            self.deadlines.remove(&place);
        } else if flags & WRITTEN != 0 {
            self.present.insert(place.clone());
        }
        let Some(ttl) = ttl else { return };
        let after = i64::try_from(ttl.after_ms).unwrap_or(i64::MAX);
        let renewed = guest.at.now.saturating_add(after);
        if flags & CLEARED == 0 && flags & WRITTEN != 0 {
            self.deadlines.insert(place.clone(), renewed);
        }
        let gain = (after / 20).max(1);
        if flags & READ != 0
            && ttl.renewed_by == Renewal::ReadOrWrite
            && let Some(deadline) = self.deadlines.get_mut(&place)
            && *deadline <= renewed - gain
        {
            *deadline = renewed;
        }
    }

    /// Clears what has expired.
    pub(crate) fn expire(&mut self, guest: &mut Guest<'_>) {
        let now = guest.at.now;
        self.collections.values_mut().for_each(|of| of.expire(now));
        let due = self.deadlines.iter().filter(|(_, deadline)| **deadline <= now);
        let due: Vec<(Key, usize)> = due.map(|(place, _)| place.clone()).collect();
        for place in due {
            let (key, state) = &place;
            let slot = self.slots[key];
            guest.import(*state, &[slot], &[Datum::Null]);
            self.deadlines.remove(&place);
            self.present.remove(&place);
            self.free_if_empty(key);
        }
    }

    fn free_if_empty(&mut self, key: &Key) {
        let states = (key.clone(), 0)..=(key.clone(), usize::MAX);
        let is_used = self.present.range(states).next().is_some() || self.timer_counts.contains_key(key);
        if !is_used && let Some(slot) = self.slots.remove(key) {
            self.free.push(slot);
        }
    }

    /// Values of a state of each key, where there are any.
    pub(crate) fn export(&self, guest: &mut Guest<'_>, state: usize) -> BTreeMap<Key, Datum> {
        let slots: Vec<u32> = self.slots.values().copied().collect();
        let values = guest.export(state, &slots);
        let values = self.slots.keys().cloned().zip(values);
        values.filter(|(_, value)| *value != Datum::Null).collect()
    }

    /// Sets the value of a state of a key.
    pub(crate) fn import(&mut self, guest: &mut Guest<'_>, state: usize, key: &Key, value: Datum) {
        let slot = self.slot(key);
        guest.import(state, &[slot], &[value]);
        self.present.insert((key.clone(), state));
    }
}
