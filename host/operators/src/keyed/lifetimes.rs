//! Time to live: when the states of a slot expire.
//!
//! ```text
//!   call    what has expired among its slots is cleared in the guest --> process --> what it touched is renewed
//!   sweep   a hand goes round all slots, some at a time: keys that nobody sees again are given back
//! ```
//!
//! There is a deadline for each slot and state, [`FOREVER`] where the state holds nothing, so that one comparison tells
//! what is due. Operators without a time to live have none of this.
//!
//! The sweep goes in rounds. A round goes round the slots and then has the lower tier look at its entries, in steps that
//! are due at once but let rows through between them. Then it rests, until something may have expired, and for a part
//! of the time to live, so that it does not go round for every single key.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, StructArray, new_null_array};
use arrow_schema::{DataType, Field, FieldRef, Fields};
use arrow_select::nullif::nullif;
use millrace_core::Result;
use millrace_core::block::Millis;
use millrace_core::checkpoint::columns;
use millrace_core::function::{KeyedFunction, Slot, touched};
use millrace_core::graph::{Renewal, TimeToLive};

use super::KeyedOperator;
use super::sweep::Sweep;
use crate::changes::broken;

/// The deadline of what holds nothing.
pub(super) const FOREVER: Millis = Millis::MAX;

/// A read renews a state if this part of its time to live has passed.
pub(super) const READ_PART: Millis = 20;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Lifetimes {
    /// Of states that have a time to live.
    pub(super) states: Vec<Lifetime>,
    pub(super) now: Millis,
    pub(super) sweep: Sweep,
    due: Vec<Slot>,
}

/// One state with a time to live.
#[derive(Debug)]
pub(super) struct Lifetime {
    /// Number and field of the state.
    state: usize,
    field: FieldRef,
    after: Millis,
    /// How much later a read must make it expire to count; `None`: reads do not count.
    read_gain: Option<Millis>,
    /// By slot.
    pub(super) deadlines: Vec<Millis>,
}

impl KeyedOperator {
    /// Gives states a time to live: those of `ttls` that have one. The chain reports what its calls touch. Call it first.
    pub fn set_lifetimes(&mut self, states: &[FieldRef], ttls: &[Option<TimeToLive>]) {
        debug_assert!(!self.always_writes, "nothing would be renewed");
        let lifetimes = states.iter().zip(ttls).enumerate();
        let lifetimes = lifetimes.filter_map(|(state, (field, ttl))| {
            let ttl = ttl.as_ref()?;
            let gain = (ttl.after_ms / READ_PART).max(1);
            Some(Lifetime {
                state,
                field: field.clone(),
                after: ttl.after_ms,
                read_gain: (ttl.renewed_by == Renewal::ReadOrWrite).then_some(gain),
                deadlines: Vec::new(),
            })
        });
        let states: Vec<Lifetime> = lifetimes.collect();
        let Some(least) = states.iter().map(|lifetime| lifetime.after).min() else {
            return;
        };
        self.lifetimes = Some(Box::new(Lifetimes {
            states,
            now: Millis::MIN,
            sweep: Sweep::new(least),
            due: Vec::new(),
        }));
    }

    /// The longest time to live, if some state has one.
    pub fn longest_lifetime(&self) -> Option<Millis> {
        let lifetimes = self.lifetimes.as_ref()?;
        lifetimes.states.iter().map(|lifetime| lifetime.after).max()
    }

    /// It is this time to what follows: calls, and what is restored. Time does not go back.
    pub fn set_now(&mut self, now: Millis) {
        if let Some(lifetimes) = &mut self.lifetimes {
            lifetimes.now = lifetimes.now.max(now);
        }
        if let Some(collections) = &self.collections {
            collections.borrow_mut().set_now(now);
        }
    }

    /// The columns of an entry's row behind its key: of states, when they expire, and timers.
    pub(super) fn entry_fields(&self, states: &[FieldRef]) -> Vec<FieldRef> {
        let mut fields = states.to_vec();
        fields.extend(self.lifetimes.as_ref().map(|lifetimes| lifetimes.column_field()));
        fields.extend(super::snapshot::timer_fields());
        fields
    }

    /// Clears what has expired of the slots of the call that is about to be made.
    pub(super) fn clear_expired(&mut self, function: &mut dyn KeyedFunction) -> Result<()> {
        let Some(mut lifetimes) = self.lifetimes.take() else {
            return Ok(());
        };
        let cleared = self.clear_due(&mut lifetimes, function);
        self.lifetimes = Some(lifetimes);
        cleared
    }

    fn clear_due(&mut self, lifetimes: &mut Lifetimes, function: &mut dyn KeyedFunction) -> Result<()> {
        let (now, bound) = (lifetimes.now, self.keys.slot_bound());
        for lifetime in &mut lifetimes.states {
            let due = &mut lifetimes.due;
            lifetime.cover(bound);
            lifetime.take_due(&self.slots, now, due);
            if due.is_empty() {
                continue;
            }
            let nothing = new_null_array(lifetime.field.data_type(), due.len());
            function.import_state(lifetime.state as u32, due, &nothing)?;
            self.present.cover(bound);
            self.present.clear(lifetime.state, due);
            if let Some(tracking) = &mut self.tracking {
                tracking.changes.dirty_mut().insert_all(due, bound);
            }
            if let Some(tiering) = &mut self.tiering {
                tiering.newer_mut().insert_all(due, bound);
            }
        }
        Ok(())
    }

    /// Renews what a call over `self.slots` has touched, of which these are the flags.
    pub(super) fn renew(&mut self, flags: &[u8]) {
        let Some(lifetimes) = &mut self.lifetimes else { return };
        let (now, bound) = (lifetimes.now, self.keys.slot_bound());
        for lifetime in &mut lifetimes.states {
            lifetime.cover(bound);
            let renewed = now.saturating_add(lifetime.after);
            lifetimes.sweep.meet(renewed);
            let flags = &flags[lifetime.state * self.slots.len()..][..self.slots.len()];
            let by_reading = lifetime.renew(flags, &self.slots, renewed, &mut lifetimes.due);
            if !by_reading {
                continue;
            }
            if let Some(tracking) = &mut self.tracking {
                tracking.changes.dirty_mut().insert_all(&lifetimes.due, bound);
            }
            if let Some(tiering) = &mut self.tiering {
                tiering.newer_mut().insert_all(&lifetimes.due, bound);
            }
        }
    }
}

impl Lifetime {
    fn cover(&mut self, bound: Slot) {
        if self.deadlines.len() < bound as usize {
            self.deadlines.resize(bound as usize, FOREVER);
        }
    }

    /// Those of these slots whose time has come, once each. They hold nothing now.
    fn take_due(&mut self, slots: &[Slot], now: Millis, due: &mut Vec<Slot>) {
        due.clear();
        for &slot in slots {
            let deadline = &mut self.deadlines[slot as usize];
            if *deadline <= now {
                *deadline = FOREVER;
                due.push(slot);
            }
        }
    }

    /// What was written expires at `renewed`, and what was read if that counts; then it is `read`, and some is.
    fn renew(&mut self, flags: &[u8], slots: &[Slot], renewed: Millis, read: &mut Vec<Slot>) -> bool {
        for (&flags, &slot) in flags.iter().zip(slots) {
            let deadline = &mut self.deadlines[slot as usize];
            if flags & touched::CLEARED != 0 {
                *deadline = FOREVER;
            } else if flags & touched::WRITTEN != 0 {
                *deadline = renewed;
            }
        }
        let Some(gain) = self.read_gain else { return false };
        read.clear();
        for (&flags, &slot) in flags.iter().zip(slots) {
            let deadline = &mut self.deadlines[slot as usize];
            if flags & touched::READ != 0 && *deadline <= renewed - gain {
                *deadline = renewed;
                read.push(slot);
            }
        }
        !read.is_empty()
    }
}

impl Lifetimes {
    fn fields(&self) -> Fields {
        let names = self.states.iter().map(|lifetime| lifetime.field.name());
        names.map(|name| Field::new(name, DataType::Int64, true)).collect()
    }

    fn column_field(&self) -> FieldRef {
        Arc::new(Field::new(columns::EXPIRES, DataType::Struct(self.fields()), true))
    }

    /// When states of these slots expire; null where they hold nothing.
    pub(super) fn column(&self, slots: &[Slot]) -> Result<ArrayRef> {
        let times = self.states.iter().map(|lifetime| {
            let deadline = |&slot: &Slot| lifetime.deadlines.get(slot as usize).copied();
            let deadline = |slot| deadline(slot).filter(|deadline| *deadline != FOREVER);
            Arc::new(slots.iter().map(deadline).collect::<Int64Array>()) as ArrayRef
        });
        let column = StructArray::try_new(self.fields(), times.collect(), None).map_err(broken)?;
        Ok(Arc::new(column))
    }

    /// Takes up when states of slots expire. Those that have, and those that hold nothing, were [seen to](Self::settle).
    pub(super) fn take_up(&mut self, slots: &[Slot], column: &ArrayRef, bound: Slot) {
        let column = column.as_struct();
        for (lifetime, times) in self.states.iter_mut().zip(column.columns()) {
            lifetime.cover(bound);
            for (&slot, deadline) in slots.iter().zip(times.as_primitive::<Int64Type>()) {
                let deadline = deadline.unwrap_or(FOREVER);
                lifetime.deadlines[slot as usize] = deadline;
                self.sweep.meet(deadline);
            }
        }
    }

    /// These slots hold nothing any more.
    pub(super) fn forget(&mut self, slots: &[Slot]) {
        for lifetime in &mut self.states {
            for &slot in slots {
                if let Some(deadline) = lifetime.deadlines.get_mut(slot as usize) {
                    *deadline = FOREVER;
                }
            }
        }
    }

    /// The columns of stored entries as of now: what has expired is not there, and what does not say when it expires
    /// begins its time.
    pub(super) fn settle(&self, entries: &[ArrayRef], state_count: usize) -> Result<Vec<ArrayRef>> {
        let mut entries = entries.to_vec();
        let stored = entries[state_count].as_struct().clone();
        let mut times = Vec::with_capacity(self.states.len());
        for (lifetime, stored) in self.states.iter().zip(stored.columns()) {
            let values = &mut entries[lifetime.state];
            let stored = stored.as_primitive::<Int64Type>();
            let expired = |row: usize| stored.is_valid(row) && stored.value(row) <= self.now;
            let expired: BooleanArray = (0..stored.len()).map(|row| Some(expired(row))).collect();
            if expired.true_count() > 0 {
                *values = nullif(values, &expired).map_err(broken)?;
            }
            let begun = self.now.saturating_add(lifetime.after);
            let deadline = |row: usize| {
                let known = stored.is_valid(row).then(|| stored.value(row));
                values.is_valid(row).then(|| known.unwrap_or(begun))
            };
            times.push(Arc::new((0..stored.len()).map(deadline).collect::<Int64Array>()) as ArrayRef);
        }
        let column = StructArray::try_new(self.fields(), times, None).map_err(broken)?;
        entries[state_count] = Arc::new(column);
        Ok(entries)
    }

    /// From when on nothing of each of these entries counts.
    pub(super) fn expiries(&self, entries: &[ArrayRef], state_count: usize) -> Vec<Millis> {
        let (states, rest) = entries.split_at(state_count);
        let (times, timers) = (rest[0].as_struct(), &rest[1..]);
        let lasting = |state: &usize| self.states.iter().all(|lifetime| lifetime.state != *state);
        let lasting: Vec<usize> = (0..state_count).filter(lasting).collect();
        let expiry = |row: usize| {
            let timed = |lists: &ArrayRef| lists.as_list::<i32>().value_length(row) > 0;
            if timers.iter().any(timed) || lasting.iter().any(|&state| states[state].is_valid(row)) {
                return FOREVER;
            }
            let times = times.columns().iter().map(|times| times.as_primitive::<Int64Type>());
            let times = times.filter(|times| times.is_valid(row)).map(|times| times.value(row));
            times.max().unwrap_or(Millis::MIN)
        };
        (0..times.len()).map(expiry).collect()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let deadlines = self.states.iter().map(|lifetime| lifetime.deadlines.capacity());
        deadlines.sum::<usize>() * size_of::<Millis>()
    }
}
