//! Time to live against a map from key to values with their deadlines.
//!
//! Of three states one lives until it is cleared, one expires after its last write, one after its last use. The double of
//! the guest checks at every entry that it holds exactly what has not expired, and nothing of what has.

use arrow_array::StructArray;
use millrace_core::graph::{Renewal, TimeToLive};

use super::*;
use crate::keyed::lifetimes::FOREVER;

const TTLS: [Option<TimeToLive>; 3] = [
    None,
    Some(TimeToLive {
        after_ms: 40,
        renewed_by: Renewal::Write,
    }),
    Some(TimeToLive {
        after_ms: 200,
        renewed_by: Renewal::ReadOrWrite,
    }),
];

/// A read that makes a state live by less than this longer does not count.
const GAIN: Millis = 10;

/// Rounds rest for this long.
const REST: Millis = 1000;

fn fields() -> [FieldRef; 3] {
    ["lasting", "written", "used"].map(|name| Arc::new(Field::new(name, DataType::Int64, true)))
}

#[derive(Clone)]
struct Forgetful {
    random: Random,
    now: Millis,
    /// What the guest holds: (slot, state) to (key, value).
    held: BTreeMap<(Slot, usize), (i64, i64)>,
    /// What should be: (key, state) to value and deadline.
    expected: BTreeMap<(i64, usize), (i64, Millis)>,
    timers: BTreeMap<i64, BTreeSet<Millis>>,
    /// Entries that found something expired.
    expired: usize,
    idle: bool,
}

impl Forgetful {
    fn new(seed: u64) -> Self {
        Forgetful {
            random: Random::new(seed),
            now: 0,
            held: BTreeMap::new(),
            expected: BTreeMap::new(),
            timers: BTreeMap::new(),
            expired: 0,
            idle: false,
        }
    }

    fn forget_expired(&mut self) {
        let before = self.expected.len();
        self.expected.retain(|_, (_, deadline)| *deadline > self.now);
        self.expired += before - self.expected.len();
    }

    fn touch(&mut self, slot: Slot, key: i64, state: usize) -> u8 {
        let renewed = TTLS[state].map_or(FOREVER, |ttl| self.now + ttl.after_ms);
        match self.random.below(8) {
            0 | 1 => {
                let value = self.random.below(1000) as i64;
                self.held.insert((slot, state), (key, value));
                self.expected.insert((key, state), (value, renewed));
                touched::WRITTEN | touched::READ
            }
            2 => {
                self.held.remove(&(slot, state));
                self.expected.remove(&(key, state));
                touched::CLEARED
            }
            3..=5 => {
                let reads = TTLS[state].is_some_and(|ttl| ttl.renewed_by == Renewal::ReadOrWrite);
                if let Some((_, deadline)) = self.expected.get_mut(&(key, state))
                    && reads
                    && *deadline + GAIN <= renewed
                {
                    *deadline = renewed;
                }
                touched::READ
            }
            _ => 0,
        }
    }

    fn enter(&mut self, slots: &[Slot], keys: &[i64]) -> Effects {
        self.forget_expired();
        let mut effects = Effects::default();
        if !self.idle {
            effects.touched = vec![0; TTLS.len() * slots.len()];
        }
        for (entry, (&slot, &key)) in slots.iter().zip(keys).enumerate() {
            for state in 0..TTLS.len() {
                let held = self.held.get(&(slot, state)).copied();
                let expected = self.expected.get(&(key, state)).map(|&(value, _)| (key, value));
                assert_eq!(held, expected, "state {state} of key {key} at {}", self.now);
                if !self.idle {
                    effects.touched[state * slots.len() + entry] = self.touch(slot, key, state);
                }
            }
            if !self.idle && self.random.below(12) == 0 {
                let time = self.now + self.random.below(300) as Millis;
                self.timers.entry(key).or_default().insert(time);
                effects.timers.push(TimerOperation {
                    entry: entry as u32,
                    time,
                    kind: TimerKind::ProcessingTime,
                    set: true,
                });
            }
        }
        effects
    }

    /// Keys that hold something now, or have a timer.
    fn live_keys(&mut self) -> Vec<i64> {
        self.forget_expired();
        let timers = self.timers.iter().filter(|(_, times)| !times.is_empty());
        let keys = self.expected.keys().map(|&(key, _)| key);
        let keys = keys.chain(timers.map(|(&key, _)| key)).collect::<BTreeSet<_>>();
        keys.into_iter().collect()
    }
}

impl StateFunction for Forgetful {
    fn export_state(&mut self, state: u32, slots: &[Slot]) -> Result<ArrayRef> {
        let value = |slot: &Slot| self.held.get(&(*slot, state as usize));
        let value = |slot| value(slot).map(|(key, value)| key * 1000 + value);
        Ok(Arc::new(slots.iter().map(value).collect::<Int64Array>()))
    }

    fn import_state(&mut self, state: u32, slots: &[Slot], values: &ArrayRef) -> Result<()> {
        for (&slot, value) in slots.iter().zip(values.as_primitive::<Int64Type>()) {
            match value {
                Some(value) => self.held.insert((slot, state as usize), (value / 1000, value % 1000)),
                None => self.held.remove(&(slot, state as usize)),
            };
        }
        Ok(())
    }

    fn drop_state(&mut self, slots: &[Slot]) -> Result<()> {
        self.held.retain(|(slot, _), _| !slots.contains(slot));
        Ok(())
    }
}

impl KeyedFunction for Forgetful {
    fn process(&mut self, _: u32, slots: &[Slot], rows: &Block) -> Result<Effects> {
        let keys = rows.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        Ok(self.enter(slots, &keys))
    }

    fn timers(&mut self, _: TimerKind, slots: &[Slot], times: &[Millis], keys: &[ArrayRef]) -> Result<Effects> {
        let keys = keys[0].as_primitive::<Int64Type>().values().to_vec();
        for (key, &time) in keys.iter().zip(times) {
            let set = self.timers.get_mut(key).expect("a timer that was set");
            assert_eq!(set.pop_first(), Some(time));
        }
        Ok(self.enter(slots, &keys))
    }
}

struct Living {
    resident_max: Option<usize>,
    keeps: bool,
    operator: KeyedOperator,
    guest: Forgetful,
    layers: Vec<RecordBatch>,
    at_barrier: Option<Forgetful>,
}

impl Living {
    fn operator(resident_max: Option<usize>, keeps: bool) -> KeyedOperator {
        let mut operator = KeyedOperator::new(schema(), TTLS.len(), false).unwrap();
        operator.set_lifetimes(&fields(), &TTLS);
        operator.track_changes(&fields(), 128);
        if let Some(resident_max) = resident_max {
            let tier = Box::new(TreeTier::new(keeps));
            operator.set_lower_tier(tier, &fields(), 128, resident_max).unwrap();
        }
        operator
    }

    fn take_rows(&mut self, keys: &[i64]) {
        let block = block(keys);
        self.operator.set_now(self.guest.now);
        self.operator
            .handle_block(0, block.rows.columns(), &block, &mut self.guest)
            .unwrap();
    }

    /// What the engine does when time passes: as long as something is due.
    fn pass_time(&mut self, passed: Millis) {
        self.guest.now += passed;
        let mut calls = 0;
        while self
            .operator
            .next_processing_timer()
            .is_some_and(|next| next <= self.guest.now)
        {
            self.operator.set_now(self.guest.now);
            self.operator.handle_time(self.guest.now);
            fire_all(&mut self.operator, &mut self.guest).unwrap();
            calls += 1;
            assert!(calls < 10_000, "a round has an end");
        }
        let late = |times: &BTreeSet<Millis>| times.first().is_some_and(|time| *time <= self.guest.now);
        assert!(!self.guest.timers.values().any(late), "a timer has not fired");
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

    /// Has everything come up from below.
    fn fetch_all(&mut self) {
        let keys = self.guest.live_keys();
        self.operator.set_resident_max(usize::MAX - 1);
        self.guest.idle = true;
        self.take_rows(&keys);
        self.guest.idle = false;
    }

    /// Nothing is there but what has not expired.
    fn check_all(&mut self) {
        if self.resident_max.is_some() {
            self.fetch_all();
        }
        let keys = self.guest.live_keys();
        let held = self.guest.held.iter().map(|(&(_, state), &held)| (state, held));
        let expected = self.guest.expected.iter();
        let expected = expected.map(|(&(key, state), &(value, _))| (state, (key, value)));
        assert_eq!(held.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
        if !self.keeps {
            assert_eq!(self.operator.slot_count(), keys.len());
        }
        self.operator
            .set_resident_max(self.resident_max.unwrap_or(usize::MAX - 1));
        self.operator.send_excess_below(&mut self.guest).unwrap();
    }

    /// A fresh operator goes on from the barrier, some time later.
    fn restore(&mut self, later: Millis) {
        let mut guest = self.at_barrier.take().unwrap();
        guest.held.clear();
        guest.now = self.guest.now + later;
        let mut operator = Living::operator(self.resident_max, self.keeps);
        operator.set_now(guest.now);
        for layer in &self.layers {
            operator.restore(layer, &mut guest).unwrap();
        }
        (self.operator, self.guest) = (operator, guest);
        self.check_all();
    }
}

fn check(seeds: std::ops::Range<u64>, resident_max: Option<usize>, keeps: bool) {
    let (mut restores, mut expired) = (0, 0);
    let runs = seeds.end - seeds.start;
    for seed in seeds {
        let mut random = Random::new(seed + 2000);
        let mut run = Living {
            resident_max,
            keeps,
            operator: Living::operator(resident_max, keeps),
            guest: Forgetful::new(seed),
            layers: Vec::new(),
            at_barrier: None,
        };
        let key_count = 1 + random.below(150);
        for _ in 0..200 {
            let rows = random.below(20) as usize;
            let keys = (0..rows).map(|_| random.below(key_count) as i64).collect::<Vec<_>>();
            run.take_rows(&keys);
            match random.below(10) {
                0 => run.pass_time(random.below(300) as Millis),
                1..=6 => run.pass_time(random.below(12) as Millis),
                // Rows come before anybody looks at the clock.
                _ => run.guest.now += random.below(12) as Millis,
            }
            if run.at_barrier.is_none() && random.below(4) == 0 {
                run.operator.begin_snapshot(random.below(20) == 0).unwrap();
                run.at_barrier = Some(run.guest.clone());
            } else if run.at_barrier.is_some() {
                let limit = random.below(20) as usize;
                let _ = run.operator.export_some(limit, &mut run.guest).unwrap();
                if let Some(delta) = run.operator.finish_snapshot() {
                    run.take(delta);
                    if random.below(3) == 0 {
                        run.restore(random.below(100) as Millis);
                        restores += 1;
                    }
                    run.at_barrier = None;
                }
            }
        }
        // Nobody comes any more: in two rounds all that has expired is gone.
        run.pass_time(REST);
        run.pass_time(2 * REST);
        run.check_all();
        expired += run.guest.expired;
    }
    assert!(restores > runs * 2, "{restores}");
    assert!(expired > 100 * runs as usize, "{expired}");
}

#[test]
fn what_expired_is_never_seen_and_never_stays() {
    check(0..40, None, false);
}

#[test]
fn what_expired_below_does_not_come_up() {
    for keeps in [false, true] {
        check(40..50, Some(0), keeps);
        check(50..65, Some(20), keeps);
        check(65..75, Some(usize::MAX - 1), keeps);
    }
}

/// Rows go to one of two operators by key group; each has its part, and no more.
#[test]
fn deadlines_follow_their_keys_to_other_operators() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut run = Living {
            resident_max: None,
            keeps: false,
            operator: Living::operator(None, false),
            guest: Forgetful::new(seed),
            layers: Vec::new(),
            at_barrier: None,
        };
        for _ in 0..30 {
            let keys = (0..20).map(|_| random.below(100) as i64).collect::<Vec<_>>();
            run.take_rows(&keys);
            run.guest.now += random.below(12) as Millis;
        }
        run.operator.begin_snapshot(true).unwrap();
        while run.operator.export_some(20, &mut run.guest).unwrap() {}
        let delta = run.operator.finish_snapshot().unwrap();
        run.take(delta);
        let mut found = BTreeMap::new();
        for half in 0..2 {
            let mut guest = Forgetful::new(seed);
            guest.now = run.guest.now + 20;
            let mut operator = Living::operator(None, false);
            operator.set_now(guest.now);
            for layer in &run.layers {
                let groups = layer.column(0).as_primitive::<arrow_array::types::UInt32Type>();
                let own = groups.values().iter().map(|group| Some(group / 64 == half)).collect();
                let own = arrow_select::filter::filter_record_batch(layer, &own).unwrap();
                operator.restore(&own, &mut guest).unwrap();
            }
            let lifetimes = operator.lifetimes.as_ref().unwrap();
            for (&(slot, state), &(key, value)) in &guest.held {
                let lifetime = state.checked_sub(1).map(|at| &lifetimes.states[at]);
                let deadline = lifetime.map_or(FOREVER, |lifetime| lifetime.deadlines[slot as usize]);
                assert_eq!(found.insert((key, state), (value, deadline)), None);
            }
        }
        run.guest.now += 20;
        run.guest.forget_expired();
        assert_eq!(found, run.guest.expected);
        assert!(found.len() > 20);
    }
}

/// Rows of before there was a time to live: it begins with the restore, and is stored from then on.
#[test]
fn what_does_not_say_when_it_expires_begins_its_time() {
    let mut run = Living {
        resident_max: None,
        keeps: false,
        operator: Living::operator(None, false),
        guest: Forgetful::new(0),
        layers: Vec::new(),
        at_barrier: None,
    };
    let (operator, guest) = (&mut run.operator, &mut run.guest);
    guest.now = 1000;
    operator.set_now(1000);
    let table = operator.entry_fields(&fields());
    let times = StructArray::new(
        match table[3].data_type() {
            DataType::Struct(members) => members.clone(),
            other => panic!("{other}"),
        },
        vec![
            Arc::new(Int64Array::from(vec![None, Some(1000)])),
            Arc::new(Int64Array::from(vec![None, None])),
        ],
        None,
    );
    let value = |values: [Option<i64>; 2]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    let none = || arrow_array::new_null_array(table[4].data_type(), 2);
    let rows = crate::changes::TableSchema::new(&schema(), table.clone(), 128);
    let columns = vec![
        value([None, None]),
        value([Some(7_005), Some(8_005)]),
        value([Some(7_006), None]),
        Arc::new(times),
        none(),
        none(),
    ];
    let rows = rows.rows(vec![value([Some(7), Some(8)])], columns).unwrap();
    operator.restore(&rows, guest).unwrap();
    // Key 8 has expired at this very moment, and is not there.
    assert_eq!(operator.slot_count(), 1);
    guest.expected = BTreeMap::from([((7, 1), (5, 1040)), ((7, 2), (6, 1200))]);
    guest.idle = true;
    for now in [1000, 1039, 1040, 1199, 1200] {
        run.guest.now = now;
        run.take_rows(&[7, 8]);
    }
    assert_eq!(run.operator.slot_count(), 0);
}
