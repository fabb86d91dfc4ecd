//! Patterns of events (CEP): the host's half.
//!
//! To a [`KeyedOperator`](crate::KeyedOperator) a pattern is a keyed function with one state and timers, which happens to be
//! native: [`PatternOperator`] takes rows by slot, keeps what belongs to each key, and gives it out when it is asked to
//! export a slot. So checkpoints, savepoints, lower tiers and other parallelisms need nothing of their own.
//!
//! ```text
//!   rows ---> conditions (one call a block) ---> wait for the watermark, by key
//!                                                        | a timer of the key
//!                                                        v
//!                    select (one call) <--- matches <--- step, in the order of time
//! ```
//!
//! A row of which no condition holds is not even kept, if the pattern may pass over it. Conditions that look at the rows
//! of a partial match are asked when a row is matched, of all keys together, a row of each key at a time. `matcher` steps
//! partial matches, `buffer` and `batches` keep the rows that they share, `stored` is what a key is in snapshots.

mod batches;
mod buffer;
mod calls;
mod keys;
mod matcher;
mod pending;
mod stored;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::SchemaRef;
use millrace_core::block::{Block, Millis, WATERMARK_MIN};
use millrace_core::function::{
    Effects, KeyedFunction, PatternFunction, Slot, StateFunction, TimerKind, TimerOperation, touched,
};
use millrace_core::graph::PatternDecl;
use millrace_core::pattern::{Program, StoredFields};
use millrace_core::{Error, Result};

use self::batches::Batches;
use self::buffer::Place;
use self::calls::Gathered;
use self::keys::Keys;
use self::matcher::Matcher;

/// What patterns did, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PatternCounters {
    /// Rows that came too late.
    pub late_rows: u64,
    /// Of these, such as were dropped.
    pub dropped_rows: u64,
    /// Partial matches that were given up, since a key had too many or the pattern is another than the one they are of.
    pub dropped_partials: u64,
}

/// The rows of a key that are matched in a call.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// Entry of the call.
    entry: u32,
    slot: Slot,
    /// Where its rows begin among those released, and how many there are.
    start: usize,
    rows: usize,
}

/// A pattern and all that it keeps.
#[derive(Debug)]
pub struct PatternOperator {
    matcher: Matcher,
    batches: Batches,
    keys: Keys,
    gathered: Gathered,
    fields: StoredFields,
    schema: SchemaRef,
    late_port: Option<u32>,
    watermark: Millis,
    now: Millis,
    counters: PatternCounters,
    turns: Vec<Turn>,
    /// Rows of the turns.
    released: Vec<u32>,
}

impl PatternOperator {
    /// For rows of this schema.
    pub fn new(pattern: &PatternDecl, schema: &SchemaRef) -> Result<Self> {
        Ok(PatternOperator {
            matcher: Matcher::new(Program::compile(pattern)?),
            batches: Batches::new(schema.clone()),
            keys: Keys::default(),
            gathered: Gathered::default(),
            fields: StoredFields::new(schema),
            schema: schema.clone(),
            late_port: pattern.late_port,
            watermark: WATERMARK_MIN,
            now: Millis::MIN,
            counters: PatternCounters::default(),
            turns: Vec::new(),
            released: Vec::new(),
        })
    }

    /// Says what time it is, before each call.
    pub fn set_moment(&mut self, watermark: Millis, now: Millis) {
        self.watermark = watermark;
        self.now = now;
    }

    /// As a keyed function, with the functions of the user.
    pub fn with<'p, G: PatternFunction>(&'p mut self, guest: &'p mut G) -> PatternCalls<'p, G> {
        PatternCalls { pattern: self, guest }
    }

    /// What it did so far.
    pub fn counters(&self) -> PatternCounters {
        PatternCounters {
            dropped_partials: self.matcher.dropped,
            ..self.counters
        }
    }

    /// Bytes of host memory held for rows and partial matches, about.
    pub fn memory_bytes(&self) -> usize {
        self.batches.memory_bytes() + self.matcher.buffer.memory_bytes() + self.keys.memory_bytes()
    }

    fn process(&mut self, slots: &[Slot], rows: &Block, guest: &mut dyn PatternFunction) -> Result<Effects> {
        let mut effects = Effects {
            touched: vec![0; slots.len()],
            ..Effects::default()
        };
        let (entries, rows) = self.in_time(rows, guest)?;
        if rows.row_count() == 0 {
            return Ok(effects);
        }
        let conditions = guest.conditions(&rows)?;
        if conditions.len() != rows.row_count() {
            return Err(Error::internal("there are not as many conditions as rows"));
        }
        let wanted = |conditions: &u64| *conditions != 0 || !self.matcher.program.ignores_others;
        let wanted = conditions.iter().map(wanted).collect::<Vec<_>>();
        let all = wanted.iter().all(|wanted| *wanted);
        let chosen = (0u32..).zip(&wanted).filter(|(_, wanted)| **wanted);
        let chosen = chosen.map(|(row, _)| row).collect::<Vec<_>>();
        let kept = if all { rows.clone() } else { select(&rows, &chosen)? };
        let batch = self.batches.next();
        let mut events = Vec::with_capacity(chosen.len());
        for (row, &from) in (0..).zip(&chosen) {
            let time = rows.times.as_ref().map_or(self.now, |times| times[from as usize]);
            let place = Place { batch, row };
            events.push(self.matcher.buffer.add_event(place, time, conditions[from as usize]));
        }
        let entry = |row: u32| entries.as_ref().map_or(row, |entries| entries[row as usize]);
        let chosen = chosen.iter().map(|&row| entry(row)).collect::<Vec<_>>();
        if rows.times.is_some() {
            self.wait(slots, &chosen, &events, &mut effects);
            self.batches.add(kept.rows, events);
        } else {
            self.batches.add(kept.rows, events.clone());
            self.take_turns_at_once(slots, &chosen, &events);
            self.match_released(None, guest)?;
            self.finish(TimerKind::ProcessingTime, slots, &chosen, &mut effects);
        }
        Ok(effects)
    }

    /// The rows that are not late, and their entries if these are not all.
    fn in_time(&mut self, rows: &Block, guest: &mut dyn PatternFunction) -> Result<(Option<Vec<u32>>, Block)> {
        let Some(times) = &rows.times else {
            return Ok((None, rows.clone()));
        };
        if times.iter().all(|time| *time > self.watermark) {
            return Ok((None, rows.clone()));
        }
        let is_late = |row: &u32| times[*row as usize] <= self.watermark;
        let (late, in_time): (Vec<u32>, Vec<u32>) = (0..rows.row_count() as u32).partition(is_late);
        self.counters.late_rows += late.len() as u64;
        match self.late_port {
            Some(port) => guest.put_out(port, select(rows, &late)?),
            None => self.counters.dropped_rows += late.len() as u64,
        }
        Ok((Some(in_time.clone()), select(rows, &in_time)?))
    }

    /// Rows wait for the watermark; the first of each key has a timer.
    fn wait(&mut self, slots: &[Slot], entries: &[u32], events: &[u32], effects: &mut Effects) {
        self.warm_slots(slots);
        let buffer = &self.matcher.buffer;
        for (&entry, &event) in entries.iter().zip(events) {
            let key = self.keys.at(slots[entry as usize]);
            let time = buffer.event(event).time;
            let first = key.pending.first().map(|first| buffer.event(first).time);
            key.pending.add(event, |other| buffer.event(other).time > time);
            if first.is_none_or(|first| time < first) {
                effects.timers.push(timer(TimerKind::EventTime, entry, time, true));
            }
            effects.touched[entry as usize] = touched::WRITTEN;
        }
    }

    /// Rows are matched as they come: each key has a turn.
    fn take_turns_at_once(&mut self, slots: &[Slot], entries: &[u32], events: &[u32]) {
        let mut order = (0..entries.len()).collect::<Vec<_>>();
        order.sort_by_key(|&index| slots[entries[index] as usize]);
        for index in order {
            let (entry, slot) = (entries[index], slots[entries[index] as usize]);
            let same = self.turns.last().is_some_and(|turn| turn.slot == slot);
            if !same {
                let start = self.released.len();
                self.turns.push(Turn {
                    entry,
                    slot,
                    start,
                    rows: 0,
                });
            }
            self.released.push(events[index]);
            if let Some(turn) = self.turns.last_mut() {
                turn.rows += 1;
            }
        }
    }

    fn timers(&mut self, kind: TimerKind, slots: &[Slot], guest: &mut dyn PatternFunction) -> Result<Effects> {
        let (by_event_time, upto) = match kind {
            TimerKind::EventTime => (true, self.watermark),
            TimerKind::ProcessingTime => (false, self.now),
        };
        self.warm_slots(slots);
        for (entry, &slot) in (0..).zip(slots) {
            let key = self.keys.at(slot);
            // It may have been that timer; setting it again does no harm.
            key.deadline_timer = None;
            let start = self.released.len();
            if by_event_time {
                let buffer = &self.matcher.buffer;
                let is_due = |event: u32| buffer.event(event).time <= upto;
                key.pending.take_due(is_due, &mut self.released);
            }
            let rows = self.released.len() - start;
            self.turns.push(Turn {
                entry,
                slot,
                start,
                rows,
            });
        }
        self.match_released(Some(upto), guest)?;
        let mut effects = Effects {
            touched: vec![0; slots.len()],
            ..Effects::default()
        };
        let entries = (0..slots.len() as u32).collect::<Vec<_>>();
        self.finish(kind, slots, &entries, &mut effects);
        Ok(effects)
    }

    /// Sets the timers of these entries' keys, whose rows were matched, and says whether they hold anything.
    fn finish(&mut self, kind: TimerKind, slots: &[Slot], entries: &[u32], effects: &mut Effects) {
        for &entry in entries {
            let key = self.keys.at(slots[entry as usize]);
            let is_empty = key.is_empty();
            let waits = key.pending.first().map(|event| self.matcher.buffer.event(event).time);
            effects.timers.extend(waits.map(|time| timer(kind, entry, time, true)));
            let deadline = key.deadline(&self.matcher.program);
            let is_set = key
                .deadline_timer
                .is_some_and(|timer| deadline.is_none_or(|deadline| timer <= deadline));
            if let (false, Some(deadline)) = (is_set, deadline) {
                effects.timers.push(timer(kind, entry, deadline, true));
                key.deadline_timer = Some(deadline);
            }
            if let (true, Some(time)) = (is_empty, key.deadline_timer.take_if(|_| is_empty)) {
                effects.timers.push(timer(kind, entry, time, false));
            }
            effects.touched[entry as usize] = match is_empty {
                true => touched::CLEARED,
                false => touched::WRITTEN,
            };
        }
    }
}

fn timer(kind: TimerKind, entry: u32, time: Millis, set: bool) -> TimerOperation {
    TimerOperation { entry, time, kind, set }
}

/// Some rows of a block.
fn select(block: &Block, rows: &[u32]) -> Result<Block> {
    let indices = UInt32Array::from(rows.to_vec());
    let taken = arrow_select::take::take_record_batch(&block.rows, &indices)
        .map_err(|error| Error::internal(format!("rows of a pattern could not be taken: {error}")))?;
    let times = block.times.as_ref();
    Ok(Block {
        rows: taken,
        times: times.map(|times| rows.iter().map(|&row| times[row as usize]).collect()),
        keys: None,
    })
}

/// A pattern together with the functions of the user: what a keyed operator calls.
#[derive(Debug)]
pub struct PatternCalls<'p, G> {
    pattern: &'p mut PatternOperator,
    guest: &'p mut G,
}

impl<G: PatternFunction> KeyedFunction for PatternCalls<'_, G> {
    fn process(&mut self, _input: u32, slots: &[Slot], rows: &Block) -> Result<Effects> {
        self.pattern.process(slots, rows, self.guest)
    }

    fn timers(&mut self, kind: TimerKind, slots: &[Slot], _times: &[Millis], _keys: &[ArrayRef]) -> Result<Effects> {
        self.pattern.timers(kind, slots, self.guest)
    }
}

impl<G: PatternFunction> StateFunction for PatternCalls<'_, G> {
    fn export_state(&mut self, _state: u32, slots: &[Slot]) -> Result<ArrayRef> {
        self.pattern.export(slots)
    }

    fn import_state(&mut self, _state: u32, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        self.pattern.import(slots, values, self.guest)
    }

    fn drop_state(&mut self, slots: &[Slot]) -> Result<()> {
        slots.iter().for_each(|&slot| self.pattern.forget(slot));
        self.pattern.batches.release_freed(&mut self.pattern.matcher.buffer)
    }
}

#[cfg(test)]
mod tests;
