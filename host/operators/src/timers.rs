//! Timers of slots, in event time and in processing time.
//!
//! A slot has at most one timer per kind and time. Its earliest is kept beside the slot, where almost every
//! key of almost every job has its only one; later ones are in an overflow map. Due timers are found by
//! buckets of equal time. Deleting a timer leaves its bucket alone; the entry is seen to be stale when its
//! time comes, or before, when more than half of all entries are stale.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use millrace_core::block::Millis;
use millrace_core::function::{Slot, TimerKind};

use crate::time_buckets::TimeBuckets;

/// No timer. A timer at this time is set one ms later, which no clock can tell.
const NEVER: Millis = Millis::MIN;

/// Stale entries up to this number are not worth looking for.
const STALE_MIN: usize = 4096;

/// A poll ends early once this many due timers, and twice as many as it found, wait for another timer of their
/// slot: a few keys with very many timers each would otherwise be gone through in full by every poll.
const WAITING_MIN: usize = 16;

/// Timers of all slots of an operator.
///
/// To fire: call [`poll_due`](Self::poll_due), fire and apply what that does, and repeat until none is due.
#[derive(Debug, Default)]
pub struct TimerService {
    event_time: Timers,
    processing_time: Timers,
}

impl TimerService {
    /// Without timers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a timer. No effect if it is set.
    #[inline]
    pub fn set(&mut self, slot: Slot, kind: TimerKind, time: Millis) {
        self.kind(kind).set(slot, time.max(NEVER + 1));
    }

    /// Deletes a timer. No effect if it is not set.
    pub fn delete(&mut self, slot: Slot, kind: TimerKind, time: Millis) {
        self.kind(kind).delete(slot, time.max(NEVER + 1));
    }

    /// Takes timers that are due at `upto`, in order of time, at most one per slot (its earliest) and at
    /// most `limit`, but at least one if any is due. Timers come in place of what `slots` and `times` held; none: nothing is due.
    pub fn poll_due(
        &mut self,
        kind: TimerKind,
        upto: Millis,
        limit: usize,
        slots: &mut Vec<Slot>,
        times: &mut Vec<Millis>,
    ) {
        slots.clear();
        times.clear();
        self.kind(kind).poll_due(upto, limit, slots, times);
    }

    /// Appends the times of a slot's timers of a kind, in order.
    pub(crate) fn times_of(&self, slot: Slot, kind: TimerKind, times: &mut Vec<Millis>) {
        let timers = self.of_kind(kind);
        let earliest = timers.earliest(slot);
        if earliest != NEVER {
            times.push(earliest);
            times.extend(timers.later.get(&slot).into_iter().flatten());
        }
    }

    /// Whether no timer of a kind is set.
    pub(crate) fn has_none(&self, kind: TimerKind) -> bool {
        self.of_kind(kind).count == 0
    }

    /// Deletes all timers of a slot.
    pub(crate) fn clear(&mut self, slot: Slot) {
        for kind in [TimerKind::EventTime, TimerKind::ProcessingTime] {
            let mut times = Vec::new();
            self.times_of(slot, kind, &mut times);
            for time in times {
                self.delete(slot, kind, time);
            }
        }
    }

    /// Whether the slot has any timer.
    #[inline]
    pub fn pending(&self, slot: Slot) -> bool {
        self.event_time.earliest(slot) != NEVER || self.processing_time.earliest(slot) != NEVER
    }

    /// When the earliest processing-time timer is due.
    pub fn next_processing_time(&mut self) -> Option<Millis> {
        self.processing_time.next_time()
    }

    /// Number of timers set.
    pub fn len(&self) -> usize {
        self.event_time.count + self.processing_time.count
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held, about.
    pub fn memory_bytes(&self) -> usize {
        self.event_time.memory_bytes() + self.processing_time.memory_bytes()
    }

    fn of_kind(&self, kind: TimerKind) -> &Timers {
        match kind {
            TimerKind::EventTime => &self.event_time,
            TimerKind::ProcessingTime => &self.processing_time,
        }
    }

    fn kind(&mut self, kind: TimerKind) -> &mut Timers {
        match kind {
            TimerKind::EventTime => &mut self.event_time,
            TimerKind::ProcessingTime => &mut self.processing_time,
        }
    }
}

/// Timers of one kind.
#[derive(Debug)]
struct Timers {
    slots: Vec<SlotTimers>,
    /// Timers of a slot after its earliest.
    later: HashMap<Slot, BTreeSet<Millis>, BuildHasherDefault<SlotHasher>>,
    buckets: TimeBuckets,
    /// A bucket that polls are going through, taken out of `buckets`; done up to `current_at`.
    current: Vec<Slot>,
    current_at: usize,
    current_time: Millis,
    count: usize,
    round: u32,
}

#[derive(Debug, Clone, Copy)]
struct SlotTimers {
    earliest: Millis,
    /// The poll that last gave one of its timers.
    round: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Timers {
            slots: Vec::new(),
            later: HashMap::default(),
            buckets: TimeBuckets::new(),
            current: Vec::new(),
            current_at: 0,
            current_time: NEVER,
            count: 0,
            round: 0,
        }
    }
}

impl Timers {
    #[inline]
    fn earliest(&self, slot: Slot) -> Millis {
        self.slots.get(slot as usize).map_or(NEVER, |timers| timers.earliest)
    }

    #[inline]
    fn set(&mut self, slot: Slot, time: Millis) {
        if self.slots.len() <= slot as usize {
            let none = SlotTimers {
                earliest: NEVER,
                round: 0,
            };
            self.slots.resize((slot as usize + 1).next_power_of_two(), none);
        }
        let earliest = &mut self.slots[slot as usize].earliest;
        if *earliest == time {
            return;
        }
        let later = match *earliest {
            NEVER => {
                *earliest = time;
                None
            }
            before if before < time => Some(time),
            after => {
                *earliest = time;
                Some(after)
            }
        };
        if let Some(later) = later
            && !self.later.entry(slot).or_default().insert(later)
        {
            return;
        }
        self.count += 1;
        self.buckets.push(time, slot);
    }

    fn delete(&mut self, slot: Slot, time: Millis) {
        let deleted = match self.earliest(slot) {
            NEVER => false,
            earliest if earliest == time => {
                self.take_earliest(slot);
                true
            }
            _ => self.take_later(slot, |times| times.remove(&time)),
        };
        if deleted {
            self.count -= 1;
            let entries = self.buckets.entry_count() + self.current.len() - self.current_at;
            let stale = entries.saturating_sub(self.count);
            if stale > STALE_MIN && stale > self.count {
                self.drop_stale();
            }
        }
    }

    /// The next timer of the slot becomes its earliest.
    #[inline]
    fn take_earliest(&mut self, slot: Slot) {
        let next = if self.later.is_empty() {
            None
        } else {
            self.take_later(slot, BTreeSet::pop_first)
        };
        self.slots[slot as usize].earliest = next.unwrap_or(NEVER);
    }

    /// Takes from the later timers of a slot, if it has any.
    fn take_later<T: Default>(&mut self, slot: Slot, take: impl FnOnce(&mut BTreeSet<Millis>) -> T) -> T {
        let Some(times) = self.later.get_mut(&slot) else {
            return T::default();
        };
        let taken = take(times);
        if times.is_empty() {
            self.later.remove(&slot);
        }
        taken
    }

    fn is_set(&self, slot: Slot, time: Millis) -> bool {
        let earliest = self.earliest(slot);
        earliest == time
            || (earliest != NEVER
                && earliest < time
                && self.later.get(&slot).is_some_and(|times| times.contains(&time)))
    }

    fn poll_due(&mut self, upto: Millis, limit: usize, slots: &mut Vec<Slot>, times: &mut Vec<Millis>) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.slots.iter_mut().for_each(|timers| timers.round = 0);
            self.round = 1;
        }
        // Due timers of slots that gave one in this round already; put back at the end, so as not to meet
        // them again.
        let mut waiting = Vec::new();
        let goes_on = |found: usize, waiting: usize| found < limit && waiting < WAITING_MIN.max(2 * found);
        while goes_on(slots.len(), waiting.len()) && self.next_bucket(upto) {
            let time = self.current_time;
            while goes_on(slots.len(), waiting.len()) && self.current_at < self.current.len() {
                let slot = self.current[self.current_at];
                self.current_at += 1;
                if self.earliest(slot) == time && self.slots[slot as usize].round != self.round {
                    self.slots[slot as usize].round = self.round;
                    self.take_earliest(slot);
                    self.count -= 1;
                    slots.push(slot);
                    times.push(time);
                } else if self.is_set(slot, time) {
                    waiting.push((time, slot));
                }
            }
        }
        for (time, slot) in waiting {
            self.buckets.push(time, slot);
        }
    }

    /// Makes the earliest bucket the current one; false: it is not due. An unfinished bucket goes on unless
    /// an earlier one appeared since.
    fn next_bucket(&mut self, upto: Millis) -> bool {
        if self.current_at < self.current.len() {
            let earlier = self.buckets.first().is_some_and(|(time, _)| time < self.current_time);
            if !earlier {
                return self.current_time <= upto;
            }
            self.put_current_back();
        }
        self.current_at = 0;
        self.current.clear();
        match self.buckets.take_first(upto, &mut self.current) {
            Some(time) => self.current_time = time,
            None => return false,
        }
        // Into the cache, all at once.
        let warmed = self.current.iter().fold(0, |sum, &slot| sum ^ self.earliest(slot));
        std::hint::black_box(warmed);
        true
    }

    fn put_current_back(&mut self) {
        for &slot in &self.current[self.current_at..] {
            self.buckets.push(self.current_time, slot);
        }
        self.current.clear();
        self.current_at = 0;
    }

    fn next_time(&mut self) -> Option<Millis> {
        self.put_current_back();
        while let Some((time, entries)) = self.buckets.first() {
            if entries.iter().any(|&slot| self.is_set(slot, time)) {
                return Some(time);
            }
            self.buckets.take_first(time, &mut self.current);
            self.current.clear();
        }
        None
    }

    fn drop_stale(&mut self) {
        self.put_current_back();
        let mut buckets = std::mem::replace(&mut self.buckets, TimeBuckets::new());
        buckets.retain(|time, slot| self.is_set(slot, time));
        self.buckets = buckets;
    }

    fn memory_bytes(&self) -> usize {
        let later = self.later.values().map(|times| 64 + times.len() * 16);
        self.slots.capacity() * size_of::<SlotTimers>() + later.sum::<usize>() + self.buckets.memory_bytes()
    }
}

/// Slots are dense and ours: one multiplication spreads them.
#[derive(Debug, Default)]
struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, slot: u32) {
        self.0 = (self.0 ^ u64::from(slot))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(26);
    }
}

#[cfg(test)]
mod tests;
