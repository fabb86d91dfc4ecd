//! The account against a model that remembers every delta and works out anew, after each step, what is needed.

use super::*;
use crate::testing::Random;

fn owner(subtask: u32) -> Owner {
    Owner {
        state: None,
        operator: "count".to_owned(),
        subtask,
    }
}

fn layer(id: u64, subtask: u32) -> Layer {
    Layer {
        file: format!("{id}-count-{subtask}"),
        rows: 1,
        bytes: 1,
        checksum: String::new(),
        groups: [0, 0],
    }
}

/// Names without the operator.
fn files(layers: &[Layer]) -> Vec<&str> {
    layers.iter().map(|layer| layer.file.as_str()).collect()
}

#[test]
fn increments_need_the_layers_of_aborted_checkpoints() {
    let mut accounting = Accounting::default();
    let add =
        |accounting: &mut Accounting, id, full| accounting.add(CheckpointId(id), owner(0), full, vec![layer(id, 0)], 1);
    assert!(add(&mut accounting, 1, true).is_empty());
    assert!(accounting.complete(CheckpointId(1)).is_empty());
    assert!(add(&mut accounting, 2, false).is_empty());
    assert!(accounting.abort(CheckpointId(2)).is_empty());
    assert!(add(&mut accounting, 3, false).is_empty());
    let written = accounting.written(CheckpointId(3), &owner(0)).unwrap();
    assert_eq!(files(&written.layers), ["1-count-0", "2-count-0", "3-count-0"]);
    assert!(accounting.complete(CheckpointId(3)).is_empty());
    assert!(accounting.discard(CheckpointId(1)).is_empty());
    // The next full one frees what no checkpoint has: nothing, until the third is discarded.
    assert!(add(&mut accounting, 4, true).is_empty());
    assert_eq!(
        accounting.discard(CheckpointId(3)),
        ["1-count-0", "2-count-0", "3-count-0"]
    );
    assert!(accounting.needs("4-count-0"));
}

#[test]
fn what_only_aborted_checkpoints_had_goes_with_the_next_full_one() {
    let mut accounting = Accounting::default();
    accounting.add(CheckpointId(1), owner(0), true, vec![layer(1, 0)], 1);
    accounting.abort(CheckpointId(1));
    assert_eq!(
        accounting.add(CheckpointId(2), owner(0), true, vec![layer(2, 0)], 1),
        ["1-count-0"]
    );
}

#[test]
fn what_lies_on_nothing_is_refused() {
    let mut accounting = Accounting::default();
    let check = |accounting: &Accounting, id, full| accounting.check(CheckpointId(id), &owner(0), full);
    assert_eq!(check(&accounting, 1, false), Err(Refusal::NoBase));
    // A first one that is lost is no base either.
    accounting.lose(CheckpointId(1), &owner(0));
    assert_eq!(check(&accounting, 2, false), Err(Refusal::NoBase));
    accounting.add(CheckpointId(2), owner(0), true, Vec::new(), 0);
    assert_eq!(accounting.stack(&owner(0)), Some(&[][..]));
    for full in [false, true] {
        assert_eq!(check(&accounting, 2, full), Err(Refusal::OutOfOrder(CheckpointId(2))));
    }
    assert_eq!(check(&accounting, 3, false), Ok(()));
    accounting.lose(CheckpointId(3), &owner(0));
    accounting.lose(CheckpointId(4), &owner(0));
    assert_eq!(accounting.stack(&owner(0)), None);
    assert_eq!(check(&accounting, 3, false), Ok(()), "the lost one may come again");
    assert_eq!(check(&accounting, 4, false), Err(Refusal::Lost(CheckpointId(3))));
    assert_eq!(check(&accounting, 4, true), Ok(()));
    accounting.add(CheckpointId(4), owner(0), true, Vec::new(), 0);
    assert_eq!(check(&accounting, 5, false), Ok(()));
}

#[test]
fn what_comes_late_of_an_earlier_attempt_is_refused() {
    let mut accounting = Accounting::default();
    accounting.add(CheckpointId(1), owner(0), true, vec![layer(1, 0)], 1);
    accounting.complete(CheckpointId(1));
    // Checkpoint 2 and 3 were under way when the job failed.
    accounting.resume(CheckpointId(3), [(owner(0), vec![layer(1, 0)])]);
    for (subtask, full) in [(0, false), (0, true), (1, true)] {
        let check = |id| accounting.check(CheckpointId(id), &owner(subtask), full);
        assert_eq!(check(3), Err(Refusal::OutOfOrder(CheckpointId(3))));
        assert_eq!(check(4), Ok(()));
    }
    assert!(accounting.is_stale(CheckpointId(3)) && !accounting.is_stale(CheckpointId(4)));
}

#[test]
fn a_subtask_that_has_no_table_any_more_lets_go() {
    let mut accounting = Accounting::default();
    for subtask in 0..2 {
        accounting.add(CheckpointId(1), owner(subtask), true, vec![layer(1, subtask)], 1);
    }
    accounting.complete(CheckpointId(1));
    accounting.add(CheckpointId(2), owner(0), false, Vec::new(), 1);
    // Subtask 1 is a checkpoint ahead: it stays.
    accounting.add(CheckpointId(3), owner(1), true, vec![layer(3, 1)], 1);
    assert!(accounting.complete(CheckpointId(2)).is_empty());
    assert_eq!(accounting.discard(CheckpointId(1)), ["1-count-1"]);
    assert!(accounting.stack(&owner(1)).is_some());
    accounting.complete(CheckpointId(3));
    assert!(accounting.stack(&owner(0)).is_none());
    assert_eq!(accounting.discard(CheckpointId(2)), ["1-count-0"]);
}

/// Everything that ever happened, and who still wants what.
#[derive(Default)]
struct Model {
    exists: BTreeSet<String>,
    /// Per subtask its live stack; per pending checkpoint and subtask a stack; per completed one its files.
    stacks: BTreeMap<u32, (u64, Vec<String>)>,
    pending: BTreeMap<u64, BTreeMap<u32, Vec<String>>>,
    completed: BTreeMap<u64, BTreeMap<u32, Vec<String>>>,
}

impl Model {
    fn needed(&self) -> BTreeSet<String> {
        let stacks = self.stacks.values().map(|(_, stack)| stack);
        let checkpoints = self.pending.values().chain(self.completed.values());
        let all = stacks.chain(checkpoints.flat_map(BTreeMap::values));
        all.flatten().cloned().collect()
    }

    fn freed(&mut self, freed: Vec<String>, step: &str) {
        for file in freed {
            assert!(self.exists.remove(&file), "{step}: {file} is freed once");
        }
        assert_eq!(self.exists, self.needed(), "{step}");
    }
}

const SUBTASKS: u64 = 3;

fn write(accounting: &mut Accounting, model: &mut Model, random: &mut Random, id: u64, subtask: u32) -> String {
    let full = !model.stacks.contains_key(&subtask) || random.below(4) == 0;
    let layer = (random.below(4) > 0).then(|| layer(id, subtask));
    let (_, mut stack) = model.stacks.remove(&subtask).unwrap_or_default();
    if full {
        stack.clear();
    }
    stack.extend(layer.iter().map(|layer| layer.file.clone()));
    model.exists.extend(layer.iter().map(|layer| layer.file.clone()));
    model.stacks.insert(subtask, (id, stack.clone()));
    model.pending.entry(id).or_default().insert(subtask, stack.clone());
    let freed = accounting.add(CheckpointId(id), owner(subtask), full, layer.into_iter().collect(), 0);
    let written = accounting.written(CheckpointId(id), &owner(subtask)).unwrap();
    assert_eq!(files(&written.layers), stack);
    let step = format!("write {id} {subtask} {full}");
    model.freed(freed, &step);
    step
}

fn resume(accounting: &mut Accounting, model: &mut Model, id: u64, last: u64) {
    let stacks = model.completed[&id].clone();
    let of_checkpoint = stacks.iter().map(|(subtask, stack)| {
        let layers = stack.iter().map(|file| Layer {
            file: file.clone(),
            ..layer(0, 0)
        });
        (owner(*subtask), layers.collect())
    });
    let freed = accounting.resume(CheckpointId(last), of_checkpoint.collect::<Vec<_>>());
    model.stacks = stacks
        .into_iter()
        .map(|(subtask, stack)| (subtask, (id, stack)))
        .collect();
    model.pending.clear();
    model.freed(freed, &format!("resume {id}"));
}

/// One of the keys.
fn any<T>(random: &mut Random, map: &BTreeMap<u64, T>) -> Option<u64> {
    let at = random.below(map.len().max(1) as u64) as usize;
    map.keys().nth(at).copied()
}

#[test]
fn exactly_what_nobody_needs_is_freed() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let (mut accounting, mut model, mut last) = (Accounting::default(), Model::default(), 0);
        for _ in 0..200 {
            match random.below(9) {
                8 => {
                    let Some(id) = any(&mut random, &model.pending) else {
                        continue;
                    };
                    let written = model.pending.remove(&id).unwrap_or_default();
                    model.completed.insert(id, written);
                    let freed = accounting.hold(CheckpointId(id));
                    model.freed(freed, &format!("seed {seed}: hold {id}"));
                }
                0..=3 => {
                    // At a checkpoint that is under way or a new one; subtasks may be ahead of each other.
                    let subtask = random.below(SUBTASKS) as u32;
                    let written = model.stacks.get(&subtask).map_or(0, |(id, _)| *id);
                    let under_way = model
                        .pending
                        .keys()
                        .copied()
                        .find(|id| *id > written && random.below(3) > 0);
                    let id = under_way.unwrap_or(last + 1);
                    last = last.max(id);
                    write(&mut accounting, &mut model, &mut random, id, subtask);
                }
                4 => {
                    let Some(id) = any(&mut random, &model.pending) else {
                        continue;
                    };
                    let written = model.pending.remove(&id).unwrap_or_default();
                    model
                        .stacks
                        .retain(|subtask, (at, _)| *at >= id || written.contains_key(subtask));
                    model.completed.insert(id, written);
                    model.pending = model.pending.split_off(&id);
                    let freed = accounting.complete(CheckpointId(id));
                    model.freed(freed, &format!("seed {seed}: complete {id}"));
                }
                5 => {
                    let Some(id) = any(&mut random, &model.pending) else {
                        continue;
                    };
                    model.pending.remove(&id);
                    let freed = accounting.abort(CheckpointId(id));
                    model.freed(freed, &format!("seed {seed}: abort {id}"));
                }
                6 => {
                    let Some(id) = any(&mut random, &model.completed) else {
                        continue;
                    };
                    model.completed.remove(&id);
                    let freed = accounting.discard(CheckpointId(id));
                    model.freed(freed, &format!("seed {seed}: discard {id}"));
                }
                _ => {
                    let Some(id) = any(&mut random, &model.completed) else {
                        continue;
                    };
                    if random.below(3) == 0 {
                        resume(&mut accounting, &mut model, id, last);
                    }
                }
            }
            let completed: Vec<u64> = accounting.completed().map(|id| id.0).collect();
            assert_eq!(completed, model.completed.keys().copied().collect::<Vec<_>>());
        }
    }
}
