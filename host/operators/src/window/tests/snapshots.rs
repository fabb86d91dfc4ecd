//! Snapshots taken piece by piece while rows go on, and what is restored from them, against the model as it
//! was at the barrier; with and without a lower tier that holds what is too much for the guest.

use millrace_core::checkpoint::TableDelta;

use super::*;
use crate::tree_tier::TreeTier;

struct Run {
    decl: WindowDecl,
    operator: WindowOperator,
    guest: Guest,
    model: Model,
    layers: Vec<RecordBatch>,
    next_row: i64,
    base: Millis,
    /// Rows per step at most, number of keys, spread of times.
    rows: u64,
    key_count: u64,
    spread: u64,
    /// Most accumulators that may stay in the guest.
    resident_max: usize,
    /// Blocks after which some were in a lower tier.
    below: usize,
    /// Rows taken before all was restored.
    taken_early: usize,
}

fn accumulator() -> FieldRef {
    let item = Arc::new(Field::new_list_field(DataType::Int64, true));
    Arc::new(Field::new("rows", DataType::List(item), true))
}

fn operator(decl: &WindowDecl) -> WindowOperator {
    let mut operator = WindowOperator::new(key_schema(false), decl).unwrap();
    operator.track_changes(&accumulator(), 128);
    operator
}

impl Run {
    fn step(&mut self, random: &mut Random) {
        let count = random.below(self.rows) as usize;
        let keys = (0..count)
            .map(|_| random.below(self.key_count) as i64)
            .collect::<Vec<_>>();
        let times = (0..count)
            .map(|_| self.base + random.below(self.spread) as Millis)
            .collect::<Vec<_>>();
        self.take_block(&keys, &times);
        self.base += random.below(30) as Millis;
        if random.below(3) == 0 {
            self.watermark(self.base + random.below(self.spread) as Millis - 20);
        }
        self.check_residents();
    }

    fn check_residents(&mut self) {
        assert_eq!(self.operator.resident_count(), self.guest.accumulators.len());
        if self.operator.has_lower_tier() {
            self.below += usize::from(self.operator.slot_count() > self.operator.resident_count());
        } else {
            assert_eq!(self.operator.slot_count(), self.operator.resident_count());
        }
    }

    /// Puts a lower tier under the operator, where there may be one.
    fn put_tier(&mut self, random: &mut Random) {
        if self.resident_max == usize::MAX || random.below(3) == 0 {
            return;
        }
        // What is restored to a tier may all come up again.
        let unlimited = random.below(3) == 0;
        let resident_max = if unlimited { usize::MAX } else { self.resident_max };
        let tier = Box::new(TreeTier::new(random.below(2) == 0));
        self.operator
            .set_lower_tier(tier, &accumulator(), 128, resident_max)
            .unwrap();
    }

    fn watermark(&mut self, watermark: Millis) {
        advance(&mut self.operator, watermark, &mut self.guest);
        self.model.watermark(watermark);
        compare(&mut self.guest, &mut self.model, "a watermark");
    }

    fn take(&mut self, delta: TableDelta) {
        if delta.full {
            self.layers.clear();
        }
        if let Some(cold) = &delta.cold {
            let mut read = |batch| {
                self.layers.push(batch);
                Ok(())
            };
            cold.read(&mut read).unwrap();
        }
        self.layers.extend(delta.batches);
    }

    /// Goes on from the snapshot: as things were at the barrier.
    fn restore(&mut self, at_barrier: Model, random: &mut Random) {
        self.operator = operator(&self.decl);
        self.operator.restore_watermark(at_barrier.watermark);
        self.put_tier(random);
        self.guest.accumulators.clear();
        self.model = at_barrier;
        if random.below(2) == 0 {
            self.restore_newest_first(random);
        } else {
            for layer in &self.layers {
                self.operator.restore(layer, &mut self.guest).unwrap();
            }
        }
        self.check_residents();
    }

    /// Restores with rows in between: those whose entries have come are taken, others wait. With a lower tier it gets
    /// the rest after some layers.
    fn restore_newest_first(&mut self, random: &mut Random) {
        self.operator.begin_restore();
        let below = match self.operator.has_lower_tier() {
            true => random.below(self.layers.len() as u64 + 1) as usize,
            false => 0,
        };
        let mut waiting = Vec::new();
        for at in (below..self.layers.len()).rev() {
            let layer = self.layers[at].clone();
            self.operator.restore_newest(&layer, &mut self.guest).unwrap();
            self.take_restored(&mut waiting, random);
        }
        for at in 0..below {
            let layer = self.layers[at].clone();
            self.operator.restore_older(&layer).unwrap();
            self.take_restored(&mut waiting, random);
        }
        self.operator.end_restore();
        self.take_rows(&waiting);
    }

    fn take_restored(&mut self, waiting: &mut Vec<(i64, Millis)>, random: &mut Random) {
        let spread = self.spread;
        let row = |random: &mut Random, base| (random.below(40) as i64, base + random.below(spread) as Millis);
        waiting.extend((0..random.below(6)).map(|_| row(random, self.base)));
        let (keys, times) = waiting.iter().copied().unzip::<_, _, Vec<_>, Vec<_>>();
        let known = self
            .operator
            .find_restored(&[key_column(false, &keys)], &times)
            .unwrap();
        let mut known = known.into_iter();
        let taken = waiting.extract_if(.., |_| known.next().unwrap()).collect::<Vec<_>>();
        self.taken_early += taken.len();
        self.take_rows(&taken);
    }

    fn take_rows(&mut self, taken: &[(i64, Millis)]) {
        let (keys, times) = taken.iter().copied().unzip::<_, _, Vec<_>, Vec<_>>();
        self.take_block(&keys, &times);
    }

    fn take_block(&mut self, keys: &[i64], times: &[Millis]) {
        let rows = (self.next_row..self.next_row + keys.len() as i64).collect::<Vec<_>>();
        self.next_row += keys.len() as i64;
        self.guest.keys.extend(rows.iter().copied().zip(keys.iter().copied()));
        let (columns, block) = ([key_column(false, keys)], block(times, &rows));
        self.operator
            .handle_block(&columns, times, &block, &mut self.guest, &mut Vec::new())
            .unwrap();
        self.model.block(keys, times, &rows);
        compare(&mut self.guest, &mut self.model, "a step");
    }
}

/// What a run had in it.
struct Ran {
    restores: usize,
    /// Blocks after which accumulators were below.
    below: usize,
    /// Rows taken before all was restored.
    taken_early: usize,
}

fn run(decl: &WindowDecl, seed: u64, resident_max: usize) -> Ran {
    let mut random = Random::new(seed);
    let model = Model {
        decl: decl.clone(),
        watermark: Millis::MIN,
        windows: BTreeMap::new(),
        emitted: Vec::new(),
        late: Vec::new(),
        outside: 0,
    };
    let mut run = Run {
        decl: decl.clone(),
        operator: operator(decl),
        guest: Guest::default(),
        model,
        layers: Vec::new(),
        next_row: 0,
        base: random.below(400) as Millis - 300,
        rows: 1 + random.below(30),
        key_count: 1 + random.below(40),
        spread: 1 + random.below(120),
        resident_max,
        below: 0,
        taken_early: 0,
    };
    run.put_tier(&mut random);
    let mut restores = 0;
    let mut at_barrier = None;
    for _ in 0..80 {
        run.step(&mut random);
        if run.operator.has_lower_tier() && random.below(10) == 0 {
            run.operator
                .set_resident_max(random.below(2 * resident_max as u64 + 1) as usize);
        } else if !run.operator.has_lower_tier() && random.below(10) == 0 {
            run.put_tier(&mut random);
        }
        match at_barrier.take() {
            None if random.below(3) == 0 => {
                run.operator.begin_snapshot(random.below(20) == 0).unwrap();
                at_barrier = Some(run.model.clone());
            }
            None => {}
            Some(model) => {
                let limit = 1 + random.below(30) as usize;
                let more = run.operator.export_some(limit, &mut run.guest).unwrap();
                let delta = run.operator.finish_snapshot();
                assert_eq!(delta.is_none(), more);
                match delta {
                    None => at_barrier = Some(model),
                    Some(delta) => {
                        run.take(delta);
                        if random.below(2) == 0 {
                            run.restore(model, &mut random);
                            restores += 1;
                        }
                    }
                }
            }
        }
    }
    run.watermark(WATERMARK_MAX);
    while run.operator.export_some(1000, &mut run.guest).unwrap() {
        assert!(
            run.operator.resident_count() > 0,
            "what is gone was exported before it went"
        );
    }
    assert_eq!(run.operator.slot_count(), 0, "{decl:?} seed {seed}");
    assert!(run.guest.accumulators.is_empty(), "{decl:?} seed {seed}");
    Ran {
        restores,
        below: run.below,
        taken_early: run.taken_early,
    }
}

fn assigners() -> [WindowAssigner; 5] {
    [
        WindowAssigner::Tumbling {
            size_ms: 25,
            offset_ms: 7,
        },
        WindowAssigner::Sliding {
            size_ms: 60,
            slide_ms: 25,
            offset_ms: -3,
        },
        WindowAssigner::Sliding {
            size_ms: 10,
            slide_ms: 30,
            offset_ms: 0,
        },
        WindowAssigner::Session { gap_ms: 20 },
        WindowAssigner::Session { gap_ms: 3 },
    ]
}

#[test]
fn snapshots_hold_what_was_at_the_barrier() {
    let (mut restores, mut taken_early) = (0, 0);
    for decl in assigners().into_iter().flat_map(decls) {
        for seed in 0..10 {
            let ran = run(&decl, seed, usize::MAX);
            restores += ran.restores;
            taken_early += ran.taken_early;
        }
    }
    assert!(restores > 500 && taken_early > 500, "{restores} {taken_early}");
}

#[test]
fn a_lower_tier_changes_nothing() {
    for assigner in assigners() {
        let (mut restores, mut below, mut taken_early) = (0, 0, 0);
        for decl in decls(assigner) {
            for seed in 0..32 {
                let resident_max = [0, 2, 5, 20][seed as usize % 4];
                let ran = run(&decl, seed, resident_max);
                restores += ran.restores;
                below += ran.below;
                taken_early += ran.taken_early;
            }
        }
        assert!(
            restores > 500 && below > 1000 && taken_early > 100,
            "{assigner:?}: {restores} {below} {taken_early}"
        );
    }
}
