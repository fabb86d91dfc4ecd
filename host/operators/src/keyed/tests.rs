//! The keyed operator against a map from key to values and timers.
//!
//! The double of the guest keeps values by slot, does to each entry what a random script says, and fails
//! the test when a slot it is given holds what belongs to another key.

/// Guests that keep nothing.
macro_rules! stateless {
    ($guest:ty) => {
        impl StateFunction for $guest {
            fn export_state(&mut self, _: u32, _: &[Slot]) -> Result<ArrayRef> {
                unreachable!("no snapshot is taken")
            }

            fn import_state(&mut self, _: u32, _: &[Slot], _: &ArrayRef) -> Result<()> {
                unreachable!("nothing is restored")
            }

            fn drop_state(&mut self, _: &[Slot]) -> Result<()> {
                unreachable!("slots are given back empty")
            }
        }
    };
}

mod asked;
mod collections;
mod lifetimes;
mod sorted_tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Schema};
use millrace_core::checkpoint::TableDelta;
use millrace_core::function::{StateFunction, TimerOperation, touched};

use super::*;
use crate::testing::Random;
use crate::tree_tier::TreeTier;

const STATES: usize = 2;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false)]))
}

fn block(keys: &[i64]) -> Block {
    Block::new(RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(keys.to_vec()))]).unwrap())
}

#[derive(Clone)]
struct Guest {
    random: Random,
    /// What the guest holds: (slot, state) to (key, value).
    values: BTreeMap<(Slot, usize), (i64, i64)>,
    /// What should be: (key, state) to value, and timers per key and kind.
    expected: BTreeMap<(i64, usize), i64>,
    timers: BTreeMap<(i64, TimerKind), BTreeSet<Millis>>,
    fired: Vec<(i64, TimerKind, Millis)>,
    base_time: Millis,
    /// Only looks.
    idle: bool,
}

impl Guest {
    /// Nothing has happened yet.
    fn new(seed: u64) -> Self {
        Guest {
            random: Random::new(seed),
            values: BTreeMap::new(),
            expected: BTreeMap::new(),
            timers: BTreeMap::new(),
            fired: Vec::new(),
            base_time: 0,
            idle: false,
        }
    }

    fn enter(&mut self, slots: &[Slot], keys: &[i64]) -> Effects {
        let mut effects = Effects::default();
        if !self.idle && self.random.below(10) > 0 {
            effects.touched = vec![0; STATES * slots.len()];
        }
        for (entry, (&slot, &key)) in slots.iter().zip(keys).enumerate() {
            for state in 0..STATES {
                let held = self.values.get(&(slot, state)).copied();
                let expected = self.expected.get(&(key, state)).map(|&value| (key, value));
                assert_eq!(held, expected, "slot {slot} of key {key}");
                let Some(flag) = effects.touched.get_mut(state * slots.len() + entry) else {
                    continue;
                };
                match self.random.below(6) {
                    0..=1 => {
                        *flag = touched::READ | touched::WRITTEN;
                        let value = self.random.below(1000) as i64;
                        self.values.insert((slot, state), (key, value));
                        self.expected.insert((key, state), value);
                    }
                    2..=3 => {
                        *flag = touched::CLEARED;
                        self.values.remove(&(slot, state));
                        self.expected.remove(&(key, state));
                    }
                    4 => *flag = touched::READ,
                    _ => {}
                }
            }
            for _ in 0..if self.idle { 0 } else { self.random.below(3) } {
                let kind = [TimerKind::EventTime, TimerKind::ProcessingTime][self.random.below(2) as usize];
                let time = self.base_time + self.random.below(100) as Millis;
                let set = self.random.below(3) > 0;
                let entry = entry as u32;
                effects.timers.push(TimerOperation { entry, time, kind, set });
                let times = self.timers.entry((key, kind)).or_default();
                if set {
                    times.insert(time);
                } else {
                    times.remove(&time);
                }
            }
        }
        effects
    }

    fn live_keys(&self) -> usize {
        let timers = self
            .timers
            .iter()
            .filter(|(_, times)| !times.is_empty())
            .map(|(&(key, _), _)| key);
        self.expected
            .keys()
            .map(|&(key, _)| key)
            .chain(timers)
            .collect::<BTreeSet<_>>()
            .len()
    }
}

/// Values are exported with their key, so that it is known after an import.
impl StateFunction for Guest {
    fn export_state(&mut self, state: u32, slots: &[Slot]) -> Result<ArrayRef> {
        let value = |slot: &Slot| self.values.get(&(*slot, state as usize));
        let value = |slot| value(slot).map(|(key, value)| key * 1000 + value);
        Ok(Arc::new(slots.iter().map(value).collect::<Int64Array>()))
    }

    fn import_state(&mut self, state: u32, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        for (&slot, value) in slots.iter().zip(values.as_primitive::<Int64Type>()) {
            match value {
                Some(value) => self.values.insert((slot, state as usize), (value / 1000, value % 1000)),
                None => self.values.remove(&(slot, state as usize)),
            };
        }
        Ok(())
    }

    fn drop_state(&mut self, slots: &[Slot]) -> Result<()> {
        self.values.retain(|(slot, _), _| !slots.contains(slot));
        Ok(())
    }
}

stateless!(Fixed);
stateless!(Periodic);

impl KeyedFunction for Guest {
    fn process(&mut self, input: u32, slots: &[Slot], rows: &Block) -> Result<Effects> {
        assert_eq!(input, 3);
        let keys = rows.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        Ok(self.enter(slots, &keys))
    }

    fn timers(&mut self, kind: TimerKind, slots: &[Slot], times: &[Millis], keys: &[ArrayRef]) -> Result<Effects> {
        let keys = keys[0].as_primitive::<Int64Type>().values().to_vec();
        for (&key, &time) in keys.iter().zip(times) {
            let set = self.timers.get_mut(&(key, kind)).expect("a timer that was set");
            assert_eq!(set.pop_first(), Some(time));
            self.fired.push((key, kind, time));
        }
        Ok(self.enter(slots, &keys))
    }

    fn apply(&mut self, slots: &[Slot], keys: &[ArrayRef]) -> Result<Effects> {
        let keys = keys[0].as_primitive::<Int64Type>().values().to_vec();
        let turns = keys.iter().map(|&key| (key, TimerKind::EventTime, asked::TURN));
        self.fired.extend(turns);
        Ok(self.enter(slots, &keys))
    }
}

fn fire_all(operator: &mut KeyedOperator, guest: &mut dyn KeyedFunction) -> Result<()> {
    while operator.fire(guest)? {}
    Ok(())
}

#[test]
fn agrees_with_a_map() {
    for seed in 0..20 {
        let mut guest = Guest::new(seed);
        let mut random = Random::new(seed + 1000);
        let mut operator = KeyedOperator::new(schema(), STATES, false).unwrap();
        let key_count = 1 + random.below(200);
        for step in 0..150 {
            guest.base_time = step * 20;
            let rows = random.below(50) as usize;
            let keys = (0..rows).map(|_| random.below(key_count) as i64).collect::<Vec<_>>();
            let block = block(&keys);
            operator
                .handle_block(3, block.rows.columns(), &block, &mut guest)
                .unwrap();
            // Timers a firing sets are after it, or the rounds would never end.
            guest.base_time = step * 20 + 30;
            match random.below(3) {
                0 => operator.handle_watermark(step * 20),
                1 => operator.handle_time(step * 20),
                _ => {}
            }
            fire_all(&mut operator, &mut guest).unwrap();
            assert_eq!(operator.slot_count(), guest.live_keys());
            let processing = guest
                .timers
                .iter()
                .filter(|((_, kind), _)| *kind == TimerKind::ProcessingTime);
            let next = processing.filter_map(|(_, times)| times.first()).min().copied();
            assert_eq!(operator.next_processing_timer(), next);
        }
        assert!(!guest.fired.is_empty());
        assert!(operator.memory_bytes() > 0);
    }
}

/// Answers every call with the same effects.
struct Fixed(Effects);

impl KeyedFunction for Fixed {
    fn process(&mut self, _: u32, _: &[Slot], _: &Block) -> Result<Effects> {
        Ok(self.0.clone())
    }

    fn timers(&mut self, _: TimerKind, _: &[Slot], _: &[Millis], _: &[ArrayRef]) -> Result<Effects> {
        Ok(Effects::default())
    }
}

fn slots_after(states: usize, always_writes: bool, effects: Effects) -> Result<usize> {
    let mut operator = KeyedOperator::new(schema(), states, always_writes)?;
    let block = block(&[1, 2, 1]);
    operator.handle_block(0, block.rows.columns(), &block, &mut Fixed(effects))?;
    Ok(operator.slot_count())
}

#[test]
fn keys_that_hold_nothing_are_forgotten() {
    let flags = |touched: &[u8]| Effects {
        touched: touched.to_vec(),
        ..Effects::default()
    };
    let timer = TimerOperation {
        entry: 2,
        time: 5,
        kind: TimerKind::EventTime,
        set: true,
    };
    for (states, always_writes, effects, expect) in [
        (1, false, Effects::default(), 0),
        (1, true, Effects::default(), 2),
        (0, true, Effects::default(), 0),
        (1, false, flags(&[touched::WRITTEN, touched::READ, touched::CLEARED]), 0),
        (1, false, flags(&[touched::CLEARED, 0, touched::WRITTEN]), 1),
        (2, false, flags(&[touched::CLEARED, 0, 0, 0, touched::WRITTEN, 0]), 1),
        (
            0,
            false,
            Effects {
                timers: vec![timer],
                ..Effects::default()
            },
            1,
        ),
    ] {
        assert_eq!(
            slots_after(states, always_writes, effects.clone()).unwrap(),
            expect,
            "{effects:?}"
        );
    }
}

#[test]
fn broken_effects_are_refused() {
    let timer = TimerOperation {
        entry: 3,
        time: 5,
        kind: TimerKind::EventTime,
        set: true,
    };
    let effects = Effects {
        timers: vec![timer],
        ..Effects::default()
    };
    assert_eq!(slots_after(1, false, effects).unwrap_err().code(), "KO0002");
    let effects = Effects {
        touched: vec![0; 4],
        ..Effects::default()
    };
    assert_eq!(slots_after(1, false, effects).unwrap_err().code(), "KO0002");
    assert_eq!(slots_after(65, false, Effects::default()).unwrap_err().code(), "KO0001");
}

/// A guest whose timers set the next one, a ms later, each time.
struct Periodic {
    rounds: usize,
    stop_after: usize,
}

impl KeyedFunction for Periodic {
    fn process(&mut self, _input: u32, _slots: &[Slot], _rows: &Block) -> Result<Effects> {
        Ok(Effects {
            timers: vec![TimerOperation {
                entry: 0,
                time: 0,
                kind: TimerKind::EventTime,
                set: true,
            }],
            touched: Vec::new(),
            ..Effects::default()
        })
    }

    fn timers(&mut self, kind: TimerKind, _slots: &[Slot], times: &[Millis], _keys: &[ArrayRef]) -> Result<Effects> {
        self.rounds += 1;
        let next = TimerOperation {
            entry: 0,
            time: times[0] + 1,
            kind,
            set: true,
        };
        let timers = if self.rounds < self.stop_after {
            vec![next]
        } else {
            Vec::new()
        };
        Ok(Effects {
            timers,
            touched: Vec::new(),
            ..Effects::default()
        })
    }
}

#[test]
fn timers_that_never_end_are_an_error_and_those_that_end_are_not() {
    for (stop_after, fails) in [(100_000, false), (usize::MAX, true)] {
        let mut operator = KeyedOperator::new(schema(), 0, false).unwrap();
        let mut guest = Periodic { rounds: 0, stop_after };
        let rows = block(&[1]);
        operator
            .handle_block(0, rows.rows.columns(), &rows, &mut guest)
            .unwrap();
        operator.handle_watermark(Millis::MAX);
        let result = fire_all(&mut operator, &mut guest);
        assert_eq!(result.err().map(|error| error.code()), fails.then_some("KO0003"));
    }
}

fn states() -> [FieldRef; 2] {
    ["a", "b"].map(|name| Arc::new(Field::new(name, DataType::Int64, true)))
}

/// An operator, its guest, and the layers of its snapshots.
struct Run {
    resident_max: Option<usize>,
    keeps: bool,
    operator: KeyedOperator,
    guest: Guest,
    layers: Vec<RecordBatch>,
    /// What the guest expected at the barrier of the snapshot under way.
    at_barrier: Option<Guest>,
}

impl Run {
    /// Nothing has happened yet.
    fn new(seed: u64, resident_max: Option<usize>, keeps: bool) -> Self {
        Run {
            resident_max,
            keeps,
            operator: Run::tracked(resident_max, keeps),
            guest: Guest::new(seed),
            layers: Vec::new(),
            at_barrier: None,
        }
    }

    /// With a lower tier that leaves so many entries in the guest.
    fn tracked(resident_max: Option<usize>, keeps: bool) -> KeyedOperator {
        let mut operator = KeyedOperator::new(schema(), STATES, false).unwrap();
        operator.track_changes(&states(), 128);
        if let Some(resident_max) = resident_max {
            let tier = Box::new(TreeTier::new(keeps));
            operator.set_lower_tier(tier, &states(), 128, resident_max).unwrap();
        }
        operator
    }

    fn step(&mut self, random: &mut Random, step: i64, key_count: u64) {
        self.guest.base_time = step * 20;
        let rows = random.below(30) as usize;
        let keys = (0..rows).map(|_| random.below(key_count) as i64).collect::<Vec<_>>();
        let block = block(&keys);
        let Run { operator, guest, .. } = self;
        operator.handle_block(3, block.rows.columns(), &block, guest).unwrap();
        guest.base_time = step * 20 + 30;
        let kind = match random.below(3) {
            0 => {
                operator.handle_watermark(step * 20);
                TimerKind::EventTime
            }
            1 => {
                operator.handle_time(step * 20);
                TimerKind::ProcessingTime
            }
            _ => return,
        };
        fire_all(operator, guest).unwrap();
        let late = |((_, other), times): (&(i64, TimerKind), &BTreeSet<Millis>)| {
            *other == kind && times.first().is_some_and(|time| *time <= step * 20)
        };
        assert!(!guest.timers.iter().any(late), "a timer has not fired");
    }

    fn take(&mut self, delta: TableDelta) {
        if delta.full {
            self.layers.clear();
        }
        if let Some(cold) = delta.cold {
            let mut read = |batch| {
                self.layers.push(batch);
                Ok(())
            };
            cold.read(&mut read).unwrap();
        }
        self.layers.extend(delta.batches);
    }

    /// Has everything come up from below, by firing nothing and touching every key.
    fn fetch_all(&mut self) {
        let keys = self.guest.expected.keys().map(|&(key, _)| key).collect::<BTreeSet<_>>();
        let timers = self.guest.timers.iter().filter(|(_, times)| !times.is_empty());
        let keys = keys.into_iter().chain(timers.map(|(&(key, _), _)| key));
        let keys = keys.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
        // Not without limit: then the tier would be given up.
        self.operator.set_resident_max(usize::MAX - 1);
        let block = block(&keys);
        let Run { operator, guest, .. } = self;
        guest.idle = true;
        operator.handle_block(3, block.rows.columns(), &block, guest).unwrap();
        guest.idle = false;
        operator.set_resident_max(self.resident_max.unwrap_or(usize::MAX));
    }

    /// A fresh operator and guest as they were at the barrier. `random`: from the newest layer on, with rows in between.
    fn restore(&mut self, random: Option<&mut Random>) {
        let mut guest = self.at_barrier.take().unwrap();
        guest.values.clear();
        let mut operator = Run::tracked(self.resident_max, self.keeps);
        operator.restore_watermark(self.operator.watermark);
        match random {
            Some(random) => restore_newest_first(&self.layers, &mut operator, &mut guest, random),
            None => {
                for layer in &self.layers {
                    operator.restore(layer, &mut guest).unwrap();
                }
            }
        }
        (self.operator, self.guest) = (operator, guest);
        if self.resident_max.is_some() {
            self.fetch_all();
        }
        let Run { operator, guest, .. } = self;
        assert_eq!(operator.slot_count(), guest.live_keys());
        assert_eq!(operator.timer_count(), guest.timers.values().map(BTreeSet::len).sum());
        let expected = guest.expected.iter().map(|(&(key, state), &value)| (state, key, value));
        let held = guest
            .values
            .iter()
            .map(|(&(_, state), &(key, value))| (state, key, value));
        assert_eq!(held.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
        operator.send_excess_below(guest).unwrap();
    }
}

/// Restores with rows in between: those whose keys have come are taken, others wait. With a lower tier it gets the rest
/// after some layers.
fn restore_newest_first(layers: &[RecordBatch], operator: &mut KeyedOperator, guest: &mut Guest, random: &mut Random) {
    operator.begin_restore(random.below(100) as usize).unwrap();
    let below = match operator.has_lower_tier() {
        true => random.below(layers.len() as u64 + 1) as usize,
        false => 0,
    };
    let (older, newest) = layers.split_at(below);
    let in_order = newest.iter().rev().map(|layer| (layer, true));
    let in_order = in_order.chain(older.iter().map(|layer| (layer, false)));
    let mut waiting = Vec::new();
    for (layer, newest) in in_order {
        match newest {
            true => operator.restore_newest(layer, guest).unwrap(),
            false => operator.restore_older(layer, guest).unwrap(),
        }
        waiting.extend((0..random.below(4)).map(|_| random.below(300) as i64));
        let known = operator.find_restored(block(&waiting).rows.columns()).unwrap();
        let mut known = known.into_iter();
        let taken = waiting.extract_if(.., |_| known.next().unwrap()).collect::<Vec<_>>();
        let block = block(&taken);
        operator.handle_block(3, block.rows.columns(), &block, guest).unwrap();
    }
    operator.end_restore();
    let block = block(&waiting);
    operator.handle_block(3, block.rows.columns(), &block, guest).unwrap();
}

#[test]
fn snapshots_hold_what_was_at_the_barrier() {
    check_snapshots(0..40, None, false);
}

#[test]
fn entries_below_are_as_good_as_in_the_guest() {
    for keeps in [false, true] {
        check_snapshots(40..60, Some(0), keeps);
        check_snapshots(60..100, Some(20), keeps);
        check_snapshots(100..120, Some(150), keeps);
        // Restored state goes below and only comes up.
        check_snapshots(120..140, Some(usize::MAX), keeps);
    }
}

fn check_snapshots(seeds: std::ops::Range<u64>, resident_max: Option<usize>, keeps: bool) {
    let (mut restores, mut below) = (0, 0);
    let runs = seeds.end - seeds.start;
    for seed in seeds {
        let mut random = Random::new(seed + 2000);
        let mut run = Run::new(seed, resident_max, keeps);
        let key_count = 1 + random.below(300);
        for step in 0..200 {
            run.step(&mut random, step, key_count);
            if let Some(resident_max) = resident_max {
                assert!(run.operator.resident_count() <= resident_max);
                below += run.operator.slot_count() - run.operator.resident_count();
            }
            if run.at_barrier.is_none() && random.below(4) == 0 {
                run.operator.begin_snapshot(random.below(20) == 0).unwrap();
                run.at_barrier = Some(run.guest.clone());
            } else if run.at_barrier.is_some() {
                let _ = run
                    .operator
                    .export_some(random.below(20) as usize, &mut run.guest)
                    .unwrap();
                if let Some(delta) = run.operator.finish_snapshot() {
                    run.take(delta);
                    if random.below(3) == 0 {
                        let newest_first = random.below(2) == 0;
                        run.restore(newest_first.then_some(&mut random));
                        restores += 1;
                    }
                    run.at_barrier = None;
                }
            }
        }
    }
    assert!(restores > runs * 2, "{restores}");
    let some_below = resident_max.is_some_and(|resident_max| resident_max < usize::MAX);
    assert_eq!(below > 0, some_below, "{below}");
}
