//! Random tables, stored in increments at one parallelism and restored at another: the same entries, each in
//! exactly one subtask, the one that owns its key group. Some checkpoints on the way are aborted, some discarded,
//! and the job restarts now and then, at another parallelism or the same.

use std::collections::BTreeMap;

use millrace_core::checkpoint::CheckpointId;
use millrace_core::key::KeyGroups;
use millrace_state::{Checkpoints, Depth, RestoredCheckpoint, Storage};

use crate::tables::{MAX_PARALLELISM, Table, counts, group_of, info, replay, run};
use crate::testing::Random;

const KEYS: u64 = 60;

fn parallelism(random: &mut Random) -> u32 {
    1 + random.below(u64::from(MAX_PARALLELISM)) as u32
}

/// Tables of all subtasks of a checkpoint at a parallelism, each key with its owner.
fn restore(restored: &RestoredCheckpoint, parallelism: u32) -> Vec<Table> {
    let operator = restored.metadata().operator("count").unwrap();
    let groups = KeyGroups::new(parallelism, MAX_PARALLELISM);
    let subtasks = 0..parallelism;
    subtasks
        .map(|subtask| {
            let mut entries = BTreeMap::new();
            let restore = restored.restore_task(operator, parallelism, subtask).unwrap();
            replay(&restore.batches, &mut entries);
            let owned = groups.groups_of(subtask);
            assert!(entries.keys().all(|key| owned.contains(&group_of(*key).0)));
            Table {
                entries,
                ..Table::default()
            }
        })
        .collect()
}

fn union(tables: &[Table]) -> BTreeMap<i64, i64> {
    let entries: Vec<(i64, i64)> = tables.iter().flat_map(|table| table.entries.clone()).collect();
    let union: BTreeMap<i64, i64> = entries.iter().copied().collect();
    assert_eq!(union.len(), entries.len(), "every entry is in one subtask");
    union
}

struct Job {
    checkpoints: Checkpoints,
    tables: Vec<Table>,
    /// By subtask: its next snapshot has to be full.
    full: Vec<bool>,
    next: u64,
    /// What the completed checkpoints hold.
    expected: BTreeMap<u64, BTreeMap<i64, i64>>,
}

impl Job {
    fn change(&mut self, random: &mut Random) {
        for _ in 0..random.below(40) {
            let key = random.below(KEYS) as i64;
            let owner = group_of(key).owner(self.tables.len() as u32, MAX_PARALLELISM);
            let value = (random.below(4) > 0).then(|| random.next() as i64);
            self.tables[owner as usize].set(key, value);
        }
    }

    fn checkpoint(&mut self, random: &mut Random) {
        let id = CheckpointId(self.next);
        self.next += 1;
        let all = random.below(6) == 0;
        let aborted = random.below(4) == 0;
        let mut deltas = Vec::new();
        for ((table, full), subtask) in self.tables.iter_mut().zip(&mut self.full).zip(0..) {
            // When it is aborted some have written, and the others never knew of it.
            if aborted && random.below(2) == 0 {
                continue;
            }
            let delta = table.snapshot(all || *full);
            *full = false;
            if aborted {
                self.checkpoints.write_layers(id, "count", subtask, &delta).unwrap();
            } else {
                deltas.push(delta);
            }
        }
        if aborted {
            self.checkpoints.abort(id).unwrap();
        } else {
            self.checkpoints.store(id, &info(), counts(deltas)).unwrap();
            self.expected.insert(id.0, union(&self.tables));
        }
    }

    fn restart(&mut self, storage: &Storage, random: &mut Random) {
        let (checkpoints, skipped) = Checkpoints::open(storage, &run(1).job, &run(1).run).unwrap();
        assert!(skipped.is_empty());
        let Some(restored) = storage.open_latest("a job/1", Depth::Contents).unwrap().found else {
            assert!(self.expected.is_empty());
            self.checkpoints = checkpoints;
            self.tables.iter_mut().for_each(|table| *table = Table::default());
            self.full.fill(true);
            return;
        };
        let metadata = restored.metadata();
        let before = metadata.operator("count").unwrap().parallelism;
        let now = if random.below(2) == 0 {
            before
        } else {
            parallelism(random)
        };
        self.tables = restore(&restored, now);
        assert_eq!(union(&self.tables), self.expected[&metadata.checkpoint.0]);
        self.full = vec![now != before; now as usize];
        if now == before {
            checkpoints.resume(metadata).unwrap();
        }
        self.checkpoints = checkpoints;
    }

    /// All that is kept can be restored at any parallelism.
    fn check(&self, storage: &Storage, random: &mut Random) {
        let completed: Vec<u64> = self.checkpoints.completed().iter().map(|id| id.0).collect();
        assert_eq!(completed, self.expected.keys().copied().collect::<Vec<_>>());
        for (id, expected) in &self.expected {
            let id = CheckpointId(*id);
            let restored = storage
                .open_checkpoint("a job/1", &run(1).run, id, Depth::Contents)
                .unwrap();
            assert_eq!(union(&restore(&restored, parallelism(random))), *expected);
        }
    }
}

#[test]
fn state_survives_restarts_and_rescaling() {
    for seed in 0..30 {
        let random = &mut Random::new(seed);
        let storage = Storage::open(&format!("memory://rescaling-{seed}")).unwrap();
        let subtasks = parallelism(random) as usize;
        let mut job = Job {
            checkpoints: Checkpoints::create(&storage, run(1)).unwrap(),
            tables: vec![Table::default(); subtasks],
            full: vec![true; subtasks],
            next: 1,
            expected: BTreeMap::new(),
        };
        for _ in 0..40 {
            match random.below(8) {
                0..=4 => {
                    job.change(random);
                    job.checkpoint(random);
                }
                5 => job.restart(&storage, random),
                6 if !job.expected.is_empty() => {
                    let at = random.below(job.expected.len() as u64) as usize;
                    let id = *job.expected.keys().nth(at).unwrap();
                    job.checkpoints.discard(CheckpointId(id)).unwrap();
                    job.expected.remove(&id);
                }
                _ => job.check(&storage, random),
            }
        }
        job.check(&storage, random);
    }
}
