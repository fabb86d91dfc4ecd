//! Checkpoints that overtake rows: tables, and whole subtasks with queues against a cut that is taken by hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

fn ids(ids: &[u64]) -> Vec<CheckpointId> {
    ids.iter().copied().map(CheckpointId).collect()
}

/// What is overtaken, recorded and given up; nothing is aligned.
fn answer(overtaken: &[u64], recorded: &[u64], given_up: &[u64]) -> Alignment {
    Alignment {
        given_up: ids(given_up),
        aligned: Vec::new(),
        overtaken: ids(overtaken),
        recorded: ids(recorded),
    }
}

#[test]
fn what_is_not_waited_for_begins_at_once_and_is_complete_with_the_last_barrier() {
    let mut aligner = Aligner::new(ExactlyOnce, 3);
    assert!(aligner.handle_announced(CheckpointId(1)).is_empty());
    assert!(aligner.handle_barrier(0, CheckpointId(1)).is_empty());
    assert!(aligner.is_blocked(0));
    assert_eq!(aligner.handle_unaligned(CheckpointId(1)), answer(&[1], &[], &[]));
    assert!((0..3).all(|channel| !aligner.is_blocked(channel)));
    let recorded = |aligner: &Aligner| {
        (0..3)
            .map(|channel| aligner.is_recorded(channel, CheckpointId(1)))
            .collect()
    };
    let flags: Vec<bool> = recorded(&aligner);
    assert_eq!(flags, [false, true, true]);
    assert!(aligner.handle_sighted(1, CheckpointId(1), CheckpointId(1)).is_empty());
    let flags: Vec<bool> = recorded(&aligner);
    assert_eq!(flags, [false, false, true]);
    assert_eq!(aligner.handle_barrier(2, CheckpointId(1)), answer(&[], &[1], &[]));
    assert!(aligner.recording().next().is_none() && !aligner.is_aligning());
    assert!(aligner.closed.is_empty());
}

#[test]
fn one_channel_whose_barrier_has_come_is_aligned_all_the_same() {
    let mut aligner = Aligner::new(ExactlyOnce, 1);
    assert_eq!(aligner.handle_barrier(0, CheckpointId(1)).aligned, ids(&[1]));
    assert!(aligner.handle_announced(CheckpointId(1)).is_empty());
    assert!(aligner.handle_unaligned(CheckpointId(1)).is_empty());
}

#[test]
fn ends_complete_what_is_recorded() {
    let mut aligner = Aligner::new(ExactlyOnce, 2);
    let _ = aligner.handle_announced(CheckpointId(1));
    assert_eq!(aligner.handle_unaligned(CheckpointId(1)), answer(&[1], &[], &[]));
    assert!(aligner.handle_end_sighted(0, CheckpointId(1)).is_empty());
    assert!(!aligner.is_recorded(0, CheckpointId(1)));
    assert_eq!(aligner.handle_end(1), answer(&[], &[1], &[]));
    // It has not come, and may have to be copied from again.
    let _ = aligner.handle_announced(CheckpointId(2));
    assert_eq!(aligner.handle_unaligned(CheckpointId(2)), answer(&[2], &[], &[]));
    assert!(aligner.is_recorded(0, CheckpointId(2)) && !aligner.is_recorded(1, CheckpointId(2)));
    assert_eq!(aligner.handle_end_sighted(0, CheckpointId(2)), answer(&[], &[2], &[]));
}

#[test]
fn an_older_one_that_waits_is_not_overtaken_by_a_newer_one() {
    let mut aligner = Aligner::new(ExactlyOnce, 2);
    let _ = aligner.handle_announced(CheckpointId(1));
    let _ = aligner.handle_announced(CheckpointId(2));
    assert!(aligner.handle_unaligned(CheckpointId(2)).is_empty());
    assert!(aligner.handle_barrier(0, CheckpointId(1)).is_empty());
    let both = Alignment {
        aligned: ids(&[1]),
        ..answer(&[2], &[], &[])
    };
    assert_eq!(aligner.handle_barrier(1, CheckpointId(1)), both);
    assert_eq!(
        aligner.handle_sighted(0, CheckpointId(2), CheckpointId(2)),
        answer(&[], &[], &[])
    );
    assert_eq!(
        aligner.handle_sighted(1, CheckpointId(2), CheckpointId(2)),
        answer(&[], &[2], &[])
    );
}

#[test]
fn an_aligned_one_behind_an_unaligned_one_waits_as_ever() {
    let mut aligner = Aligner::new(ExactlyOnce, 2);
    let _ = aligner.handle_announced(CheckpointId(1));
    let _ = aligner.handle_unaligned(CheckpointId(1));
    let _ = aligner.handle_announced(CheckpointId(2));
    assert!(aligner.handle_barrier(0, CheckpointId(1)).is_empty());
    assert!(aligner.handle_barrier(0, CheckpointId(2)).is_empty());
    assert!(aligner.is_blocked(0) && !aligner.is_blocked(1));
    assert_eq!(aligner.handle_barrier(1, CheckpointId(1)), answer(&[], &[1], &[]));
    assert_eq!(aligner.handle_barrier(1, CheckpointId(2)).aligned, ids(&[2]));
}

#[test]
fn what_is_skipped_cancelled_or_older_is_never_complete() {
    let overtaken = || {
        let mut aligner = Aligner::new(ExactlyOnce, 2);
        let _ = aligner.handle_announced(CheckpointId(2));
        assert_eq!(aligner.handle_unaligned(CheckpointId(2)), answer(&[2], &[], &[]));
        aligner
    };
    let mut aligner = overtaken();
    assert_eq!(
        aligner.handle_sighted(0, CheckpointId(2), CheckpointId(3)),
        answer(&[], &[], &[2])
    );
    assert!(aligner.handle_barrier(1, CheckpointId(2)).is_empty());
    let mut aligner = overtaken();
    aligner.handle_cancelled(CheckpointId(2));
    assert!(aligner.handle_barrier(0, CheckpointId(2)).is_empty());
    assert!(aligner.handle_barrier(1, CheckpointId(2)).is_empty());
    assert!(aligner.closed.is_empty());
    let mut aligner = overtaken();
    assert_eq!(aligner.handle_barrier(0, CheckpointId(1)), answer(&[], &[], &[1]));
    assert!(aligner.handle_barrier(0, CheckpointId(2)).is_empty());
    assert_eq!(aligner.handle_end(1), answer(&[], &[2], &[]));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Row(u64),
    Barrier(u64),
    End,
}

/// A subtask as the driver has it: queues in front, rows taken, cuts under way and done.
struct Driver {
    aligner: Aligner,
    queues: Vec<VecDeque<Item>>,
    taken: BTreeSet<u64>,
    /// State and rows copied, by checkpoint.
    cuts: BTreeMap<u64, (BTreeSet<u64>, Vec<u64>)>,
    complete: BTreeSet<u64>,
    given_up: BTreeSet<u64>,
    overtook: usize,
}

impl Driver {
    fn follow(&mut self, answer: Alignment) {
        for id in answer.given_up {
            assert!(self.given_up.insert(id.0) && !self.complete.contains(&id.0));
        }
        for id in answer.aligned {
            assert!(self.cuts.insert(id.0, (self.taken.clone(), Vec::new())).is_none());
            self.complete.insert(id.0);
        }
        for id in answer.overtaken {
            self.overtook += 1;
            assert!(self.cuts.insert(id.0, (self.taken.clone(), Vec::new())).is_none());
        }
        assert!(answer.recorded.iter().all(|id| self.complete.insert(id.0)));
    }

    /// Looks into a queue for the barrier of a checkpoint that is recorded there.
    fn sight(&mut self, channel: usize, id: CheckpointId) {
        if !self.aligner.is_recorded(channel, id) {
            return;
        }
        let queue = &self.queues[channel];
        let is_next = |item: &Item| matches!(item, Item::End) || matches!(item, Item::Barrier(other) if *other >= id.0);
        let Some(at) = queue.iter().position(is_next) else {
            return;
        };
        let rows = queue.iter().take(at).filter_map(row);
        self.cuts.get_mut(&id.0).expect("it began").1.extend(rows);
        let found = queue[at];
        if found == Item::Barrier(id.0) {
            let is_older = |item: &Item| matches!(item, Item::Barrier(other) if *other <= id.0);
            self.queues[channel].retain(|item| !is_older(item));
        }
        let answer = match found {
            Item::Barrier(found) => self.aligner.handle_sighted(channel, id, CheckpointId(found)),
            Item::End | Item::Row(_) => self.aligner.handle_end_sighted(channel, id),
        };
        self.follow(answer);
    }

    fn take(&mut self, channel: usize) {
        if self.aligner.is_blocked(channel) {
            return;
        }
        match self.queues[channel].pop_front() {
            None => {}
            Some(Item::Row(row)) => {
                for id in self.aligner.recording().collect::<Vec<_>>() {
                    if self.aligner.is_recorded(channel, id) {
                        self.cuts.get_mut(&id.0).expect("it began").1.push(row);
                    }
                }
                self.taken.insert(row);
            }
            Some(Item::Barrier(id)) => {
                let answer = self.aligner.handle_barrier(channel, CheckpointId(id));
                self.follow(answer);
            }
            Some(Item::End) => {
                let answer = self.aligner.handle_end(channel);
                self.follow(answer);
            }
        }
    }
}

impl Driver {
    /// Compares what is complete with what was sent before its barriers; the number of rows copied.
    fn check(&self, id: u64, all: &[VecDeque<Item>], seed: u64) -> usize {
        assert!(
            !self.given_up.contains(&id),
            "seed {seed}: {id} is complete and given up"
        );
        let before = all.iter().flat_map(|sent| {
            let is_ahead = |item: &&Item| **item != Item::Barrier(id);
            sent.iter().take_while(is_ahead).filter_map(row)
        });
        let before: BTreeSet<u64> = before.collect();
        let (state, rows) = &self.cuts[&id];
        let in_flight: BTreeSet<u64> = rows.iter().copied().collect();
        assert_eq!(
            in_flight.len(),
            rows.len(),
            "seed {seed}: a row is copied twice for {id}"
        );
        assert!(state.is_disjoint(&in_flight), "seed {seed}: a row is in both for {id}");
        let both: BTreeSet<u64> = state.union(&in_flight).copied().collect();
        assert_eq!(both, before, "seed {seed}, checkpoint {id}");
        rows.len()
    }
}

fn row(item: &Item) -> Option<u64> {
    match item {
        Item::Row(row) => Some(*row),
        Item::Barrier(_) | Item::End => None,
    }
}

/// Rows and barriers, some skipped, and perhaps the end of each channel.
fn random_sends(random: &mut Random, channels: usize, last: u64) -> Vec<VecDeque<Item>> {
    let skips = random.below(4) == 0;
    let mut next_row = 0;
    let mut send = || {
        let mut sent = VecDeque::new();
        let ends_after = random.below(2 * last + 2);
        for id in 1..=last {
            for _ in 0..random.below(4) {
                sent.push_back(Item::Row(next_row));
                next_row += 1;
            }
            if id > ends_after {
                break;
            }
            if !skips || random.below(4) > 0 {
                sent.push_back(Item::Barrier(id));
            }
        }
        if ends_after <= last {
            sent.push_back(Item::End);
        }
        sent
    };
    (0..channels).map(|_| send()).collect()
}

/// Each channel sends rows and barriers, its end perhaps; the coordinator announces, hurries and cancels at any time.
/// Of every complete checkpoint each row before its barrier is in exactly one of state and copies, and no other is.
#[test]
fn each_row_before_a_barrier_is_in_state_or_copied_and_no_row_behind_it_is() {
    let (mut overtook, mut copied, mut complete) = (0, 0, 0);
    for seed in 0..4_000 {
        let mut random = Random::new(seed);
        let channels = 1 + random.below(4) as usize;
        let last = 1 + random.below(5);
        let mut sends = random_sends(&mut random, channels, last);
        let all = sends.clone();
        let mut driver = Driver {
            aligner: Aligner::new(ExactlyOnce, channels),
            queues: vec![VecDeque::new(); channels],
            taken: BTreeSet::new(),
            cuts: BTreeMap::new(),
            complete: BTreeSet::new(),
            given_up: BTreeSet::new(),
            overtook: 0,
        };
        let mut cancelled = BTreeSet::new();
        let mut announced = 0;
        for _ in 0..400 {
            let channel = random.below(channels as u64) as usize;
            match random.below(12) {
                0 if announced < last => {
                    announced += 1;
                    let answer = driver.aligner.handle_announced(CheckpointId(announced));
                    driver.follow(answer);
                }
                1 if announced > 0 => {
                    let id = 1 + random.below(announced);
                    let answer = driver.aligner.handle_unaligned(CheckpointId(id));
                    driver.follow(answer);
                }
                2 if announced > 0 && random.below(10) == 0 => {
                    cancelled.insert(announced);
                    driver.aligner.handle_cancelled(CheckpointId(announced));
                }
                3..=5 => driver.queues[channel].extend(sends[channel].pop_front()),
                6 | 7 => {
                    let recording: Vec<CheckpointId> = driver.aligner.recording().collect();
                    recording.into_iter().for_each(|id| driver.sight(channel, id));
                }
                _ => driver.take(channel),
            }
        }
        for id in driver.complete.iter().filter(|id| !cancelled.contains(id)) {
            copied += driver.check(*id, &all, seed);
            complete += 1;
        }
        overtook += driver.overtook;
        assert!(driver.aligner.closed.len() <= last as usize);
    }
    assert!(
        overtook > 1_000 && copied > 1_000 && complete > 4_000,
        "{overtook} {copied} {complete}"
    );
}
