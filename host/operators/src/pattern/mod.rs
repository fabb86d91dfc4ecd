//! Patterns of events (CEP): the host's half.
//!
//! To a [`KeyedOperator`](crate::KeyedOperator) a pattern is a keyed function with one state, which happens to be
//! native and to keep its timers itself: [`PatternOperator`] takes rows by slot, keeps what belongs to each key, and gives it
//! out when it is asked to export a slot. So checkpoints, savepoints, lower tiers and other parallelisms need nothing of
//! their own.
//!
//! ```text
//!   rows ---> conditions (one call a block) ---> wait for the watermark, by time
//!                                                        | the watermark
//!                                                        v
//!                    select (one call) <--- matches <--- step, in the order of time
//! ```
//!
//! A row of which no condition holds is dropped before its key is looked up, if the pattern may pass over it. Conditions that
//! look at the rows of a partial match are asked when a row is matched, of all keys together, a row of each key at a
//! time. What a row does to what has begun of its key is `millrace_pattern`'s. Here `waiting` has the rows that the watermark has
//! not passed, `keys` what has begun of each key, `batches` the columns of rows, `stored` is what a key is in snapshots.

mod batches;
mod by_key;
mod calls;
mod keys;
mod stored;
mod waiting;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::SchemaRef;
use millrace_core::block::{Block, Millis, WATERMARK_MAX, WATERMARK_MIN};
use millrace_core::function::{Effects, KeyedFunction, PatternFunction, Slot, StateFunction, TimerKind, touched};
use millrace_core::graph::PatternDecl;
use millrace_core::pattern::{StoredFields, compile};
use millrace_core::{Error, Result};
use millrace_pattern::{Conditions, Incoming, Matcher, Place, Stored};

use self::batches::{Batches, Owner};
use self::calls::Gathered;
use self::keys::Keys;
use self::waiting::Waiting;

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

/// A row that is matched in a call.
#[derive(Debug, Clone, Copy)]
struct Turn {
    slot: Slot,
    row: Incoming,
}

/// A pattern and all that it keeps.
///
/// Show it each block with [`admit`](Self::admit) before a [`KeyedOperator`](crate::KeyedOperator) handles what is left of it.
#[derive(Debug)]
pub struct PatternOperator {
    matcher: Matcher,
    batches: Batches,
    waiting: Waiting,
    keys: Keys,
    gathered: Gathered,
    fields: StoredFields,
    schema: SchemaRef,
    late_port: Option<u32>,
    /// Rows of equal time are not matched as they came: so they wait, by the clock if they have no other time.
    orders_equal_times: bool,
    watermark: Millis,
    now: Millis,
    /// By which clock matches run out of time.
    clock: TimerKind,
    /// Where that has come to, of the call that was prepared last.
    upto: Millis,
    counters: PatternCounters,
    /// Conditions of the rows that were admitted last,
    admitted: Vec<Conditions>,
    /// and what those of equal time are ordered by.
    orders: Vec<Box<[u8]>>,
    turns: Vec<Turn>,
    /// Tells what is stored of this pattern from what is stored of others.
    fingerprint: i64,
    /// A key that is exported or imported.
    stored: Stored,
}

impl PatternOperator {
    /// For rows of this schema.
    pub fn new(pattern: &PatternDecl, schema: &SchemaRef) -> Result<Self> {
        let program = compile(pattern)?;
        Ok(PatternOperator {
            keys: Keys::new(&program),
            fingerprint: program.fingerprint(),
            matcher: Matcher::new(program),
            batches: Batches::new(schema.clone()),
            waiting: Waiting::new(pattern.orders_equal_times),
            orders_equal_times: pattern.orders_equal_times,
            gathered: Gathered::default(),
            fields: StoredFields::new(schema),
            schema: schema.clone(),
            late_port: pattern.late_port,
            watermark: WATERMARK_MIN,
            now: Millis::MIN,
            clock: TimerKind::EventTime,
            upto: Millis::MIN,
            counters: PatternCounters::default(),
            admitted: Vec::new(),
            orders: Vec::new(),
            turns: Vec::new(),
            stored: Stored::default(),
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
        let rows = self.batches.memory_bytes() + self.waiting.memory_bytes();
        rows + self.matcher.buffer.memory_bytes() + self.keys.memory_bytes()
    }

    /// When it has to be called for what processing time makes due.
    pub fn next_processing_time(&self) -> Option<Millis> {
        match self.clock {
            TimerKind::EventTime => None,
            TimerKind::ProcessingTime => {
                let waits = self.waiting.first_time().map(|time| time.saturating_add(1));
                self.keys.next_look().into_iter().chain(waits).min()
            }
        }
    }

    /// The rows of a block that have to be matched. Others are late, or nothing that the pattern cares about.
    pub fn admit(&mut self, block: &Block, guest: &mut dyn PatternFunction) -> Result<Block> {
        self.clock = match block.times {
            Some(_) => TimerKind::EventTime,
            None => TimerKind::ProcessingTime,
        };
        self.admitted.clear();
        self.orders.clear();
        let rows = self.in_time(block, guest)?;
        if rows.row_count() == 0 {
            return Ok(rows);
        }
        let conditions = guest.conditions(&rows)?;
        if conditions.holds.len() != rows.row_count() {
            return Err(Error::internal("there are not as many conditions as rows"));
        }
        if self.orders_equal_times {
            let orders = (0..rows.row_count()).map(|row| conditions.order_of(row).into());
            self.orders.extend(orders);
        }
        self.admitted = conditions.holds;
        let (aside, ignores_others) = (guest.take_set_aside(), self.matcher.program.ignores_others);
        if aside.is_empty() && (!ignores_others || self.admitted.iter().all(|conditions| *conditions != 0)) {
            return Ok(rows);
        }
        let is_wanted = |&row: &u32| {
            let matters = !ignores_others || self.admitted[row as usize] != 0;
            matters && aside.binary_search(&row).is_err()
        };
        let wanted = (0..rows.row_count() as u32).filter(is_wanted).collect::<Vec<_>>();
        self.admitted = wanted.iter().map(|&row| self.admitted[row as usize]).collect();
        if self.orders_equal_times {
            let orders = wanted.iter().map(|&row| std::mem::take(&mut self.orders[row as usize]));
            self.orders = orders.collect();
        }
        select(&rows, &wanted)
    }

    /// The rows that are not late.
    fn in_time(&mut self, rows: &Block, guest: &mut dyn PatternFunction) -> Result<Block> {
        let Some(times) = &rows.times else {
            return Ok(rows.clone());
        };
        if times.iter().all(|time| *time > self.watermark) {
            return Ok(rows.clone());
        }
        let is_late = |row: &u32| times[*row as usize] <= self.watermark;
        let (late, in_time): (Vec<u32>, Vec<u32>) = (0..rows.row_count() as u32).partition(is_late);
        self.counters.late_rows += late.len() as u64;
        match self.late_port {
            Some(port) => guest.put_out(
                port,
                Block {
                    keys: None,
                    ..select(rows, &late)?
                },
            ),
            None => self.counters.dropped_rows += late.len() as u64,
        }
        select(rows, &in_time)
    }

    fn process(&mut self, slots: &[Slot], rows: &Block, guest: &mut dyn PatternFunction) -> Result<Effects> {
        let conditions = std::mem::take(&mut self.admitted);
        if conditions.len() != slots.len() {
            return Err(Error::internal("rows of a pattern were not admitted"));
        }
        let (batch, kept) = (self.batches.next(), rows.rows.clone());
        let all = (0..).zip(&conditions).zip(slots);
        if rows.times.is_none() && !self.orders_equal_times {
            self.batches.add(kept, vec![Owner::Nobody; slots.len()]);
            let now = self.now;
            let turns = all.map(|((row, &may), &slot)| Turn {
                slot,
                row: Incoming::new(Place { batch, row }, now, may),
            });
            self.turns.extend(turns);
            return self.match_turns(slots, guest);
        }
        let times = rows.times.clone();
        let times = times.unwrap_or_else(|| vec![self.now; slots.len()].into());
        self.waiting.warm_keys(slots);
        let mut owners = Vec::with_capacity(slots.len());
        for (((row, &may), &slot), &time) in all.zip(times.iter()) {
            owners.push(Owner::Waiting(self.waiting.add(slot, time, may, Place { batch, row })));
        }
        for (owner, order) in owners.iter().zip(std::mem::take(&mut self.orders)) {
            self.order_waiting(*owner, order);
        }
        self.batches.add(kept, owners);
        Ok(Effects {
            touched: vec![touched::WRITTEN; slots.len()],
            ..Effects::default()
        })
    }

    /// Says what a row that waits is ordered by among those of equal time.
    fn order_waiting(&mut self, owner: Owner, order: Box<[u8]>) {
        if let Owner::Waiting(number) = owner {
            self.waiting.set_order(number, order);
        }
    }

    /// Chooses what the next call is for: rows first, then matches whose time is over.
    fn take_due(&mut self, kind: TimerKind, upto: Millis, limit: usize, slots: &mut Vec<Slot>) {
        self.upto = upto;
        // By the clock rows wait for the end of their millisecond, or of the input.
        let rows_upto = match (self.clock, kind) {
            (TimerKind::EventTime, TimerKind::EventTime) => Some(upto),
            (TimerKind::EventTime, TimerKind::ProcessingTime) => None,
            (TimerKind::ProcessingTime, TimerKind::EventTime) => (upto == WATERMARK_MAX).then_some(upto),
            (TimerKind::ProcessingTime, TimerKind::ProcessingTime) => Some(upto.saturating_sub(1)),
        };
        if let Some(rows_upto) = rows_upto {
            self.waiting.take_due(rows_upto, limit);
            slots.extend(self.waiting.due.iter().map(|&number| self.waiting.row(number).slot));
        }
        if slots.is_empty() && kind == self.clock {
            self.keys.take_due(upto, limit, &self.matcher, slots);
        }
    }

    fn timers(&mut self, slots: &[Slot], guest: &mut dyn PatternFunction) -> Result<Effects> {
        let due = std::mem::take(&mut self.waiting.due);
        self.waiting.warm_due(&due);
        for &number in &due {
            let row = self.waiting.remove(number);
            self.turns.push(Turn {
                slot: row.slot,
                row: Incoming::new(row.place, row.time, row.may),
            });
        }
        let ends = due.is_empty();
        self.waiting.due = due;
        self.waiting.due.clear();
        match ends {
            true => self.end_matches(slots, guest),
            false => self.match_turns(slots, guest),
        }
    }

    /// Ends matches of keys whose time is over.
    fn end_matches(&mut self, slots: &[Slot], guest: &mut dyn PatternFunction) -> Result<Effects> {
        for &slot in slots {
            self.matcher.advance(self.keys.at(slot), self.upto);
            self.keys.watch(slot, &self.matcher);
        }
        self.put_out_found(guest)?;
        self.release_freed()?;
        Ok(Effects {
            touched: slots.iter().map(|&slot| self.flag(slot)).collect(),
            ..Effects::default()
        })
    }

    /// Whether a key of a call holds anything now.
    #[inline]
    fn flag(&self, slot: Slot) -> u8 {
        match self.is_empty(slot) {
            true => touched::CLEARED,
            false => touched::WRITTEN,
        }
    }

    fn is_empty(&self, slot: Slot) -> bool {
        !self.waiting.has(slot) && self.keys.get(slot).is_none_or(|key| key.is_empty())
    }

    /// When something of a key is due next, for a snapshot.
    fn timers_of(&mut self, slot: Slot, kind: TimerKind, times: &mut Vec<Millis>) {
        let first = self.waiting.of_key(slot).first().copied();
        let first = first.map(|first| self.waiting.row(first).time);
        if kind != self.clock {
            // By the clock rows wait for the end of the input, too.
            let waits = first.is_some() && kind == TimerKind::EventTime;
            times.extend(waits.then_some(WATERMARK_MAX));
            return;
        }
        let key = self.keys.get(slot);
        let deadline = key.and_then(|key| self.matcher.deadline(key));
        times.extend(first.into_iter().chain(deadline));
        times.sort_unstable();
        times.dedup();
    }
}

/// Some rows of a block.
fn select(block: &Block, rows: &[u32]) -> Result<Block> {
    let indices = UInt32Array::from(rows.to_vec());
    let taken = arrow_select::take::take_record_batch(&block.rows, &indices).map_err(not_taken)?;
    let times = block.times.as_ref();
    let key = |key: &ArrayRef| arrow_select::take::take(key, &indices, None);
    let keys = block.keys.as_ref().map(|keys| keys.iter().map(key).collect());
    Ok(Block {
        rows: taken,
        times: times.map(|times| rows.iter().map(|&row| times[row as usize]).collect()),
        keys: keys.transpose().map_err(not_taken)?,
    })
}

fn not_taken(error: arrow_schema::ArrowError) -> Error {
    Error::internal(format!("rows of a pattern could not be taken: {error}"))
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

    fn timers(&mut self, _kind: TimerKind, slots: &[Slot], _times: &[Millis], _keys: &[ArrayRef]) -> Result<Effects> {
        self.pattern.timers(slots, self.guest)
    }

    fn keeps_timers(&self) -> bool {
        true
    }

    fn take_due(&mut self, kind: TimerKind, upto: Millis, limit: usize, slots: &mut Vec<Slot>) {
        self.pattern.take_due(kind, upto, limit, slots);
    }

    fn timers_of(&mut self, slot: Slot, kind: TimerKind, times: &mut Vec<Millis>) {
        self.pattern.timers_of(slot, kind, times);
    }

    fn resume_timers(&mut self, kind: TimerKind) {
        self.pattern.clock = kind;
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
        self.pattern.release_freed()
    }
}

#[cfg(test)]
mod tests;
