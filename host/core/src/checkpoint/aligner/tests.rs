//! The aligner against tables, and against a model that keeps everything that ever came.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::testing::Random;
use CheckpointMode::{AtLeastOnce, ExactlyOnce};

enum Event {
    Barrier(usize, u64),
    End(usize),
    Announced(u64),
    Cancelled(u64),
}
use Event::*;

/// Each event with what it gives up, what it aligns, and the channels that are blocked then.
type Step<'a> = (Event, &'a [u64], &'a [u64], &'a [usize]);

fn check(mode: CheckpointMode, channels: usize, steps: &[Step<'_>]) {
    let mut aligner = Aligner::new(mode, channels);
    for (step, (event, given_up, aligned, blocked)) in steps.iter().enumerate() {
        let got = match *event {
            Barrier(channel, id) => aligner.handle_barrier(channel, CheckpointId(id)),
            End(channel) => aligner.handle_end(channel),
            Announced(id) => aligner.handle_announced(CheckpointId(id)),
            Cancelled(id) => {
                aligner.handle_cancelled(CheckpointId(id));
                Alignment::default()
            }
        };
        let ids = |ids: &[u64]| ids.iter().copied().map(CheckpointId).collect::<Vec<_>>();
        let expect = Alignment {
            given_up: ids(given_up),
            aligned: ids(aligned),
            ..Alignment::default()
        };
        assert_eq!(got, expect, "step {step}");
        let got: Vec<usize> = (0..channels).filter(|channel| aligner.is_blocked(*channel)).collect();
        assert_eq!(got, *blocked, "blocked after step {step}");
    }
}

#[test]
fn channels_wait_for_each_other_exactly_once() {
    check(
        ExactlyOnce,
        3,
        &[
            (Barrier(1, 1), &[], &[], &[1]),
            (Barrier(0, 1), &[], &[], &[0, 1]),
            (Barrier(2, 1), &[], &[1], &[]),
            (Barrier(2, 4), &[], &[], &[2]),
        ],
    );
}

#[test]
fn nothing_waits_at_least_once() {
    check(
        AtLeastOnce,
        2,
        &[
            (Barrier(0, 1), &[], &[], &[]),
            (Barrier(0, 2), &[], &[], &[]),
            (Barrier(1, 1), &[], &[1], &[]),
            (Barrier(1, 2), &[], &[2], &[]),
        ],
    );
}

#[test]
fn one_channel_or_none_is_always_aligned() {
    for mode in [ExactlyOnce, AtLeastOnce] {
        check(
            mode,
            1,
            &[
                (Announced(1), &[], &[], &[]),
                (Barrier(0, 1), &[], &[1], &[]),
                (Announced(1), &[], &[], &[]),
                (Barrier(0, 2), &[], &[2], &[]),
            ],
        );
        check(
            mode,
            0,
            &[
                (Announced(1), &[], &[1], &[]),
                (Announced(1), &[], &[], &[]),
                (Cancelled(2), &[], &[], &[]),
                (Announced(2), &[], &[], &[]),
                (Announced(3), &[], &[3], &[]),
            ],
        );
    }
}

#[test]
fn ended_channels_have_every_barrier() {
    check(
        ExactlyOnce,
        3,
        &[
            (Barrier(0, 1), &[], &[], &[0]),
            (End(1), &[], &[], &[0]),
            (End(2), &[], &[1], &[]),
            (End(2), &[], &[], &[]),
            (Barrier(0, 2), &[], &[2], &[]),
            (End(0), &[], &[], &[]),
            (Announced(3), &[], &[3], &[]),
        ],
    );
}

#[test]
fn an_end_can_stand_for_several_barriers() {
    check(
        AtLeastOnce,
        2,
        &[
            (Barrier(0, 1), &[], &[], &[]),
            (Barrier(0, 2), &[], &[], &[]),
            (End(1), &[], &[1, 2], &[]),
        ],
    );
}

/// All inputs end without a barrier, as they had ended before the checkpoint began.
#[test]
fn ends_align_what_was_announced() {
    check(
        ExactlyOnce,
        2,
        &[
            (End(0), &[], &[], &[]),
            (Announced(1), &[], &[], &[]),
            (End(1), &[], &[1], &[]),
        ],
    );
    check(
        ExactlyOnce,
        2,
        &[
            (Announced(1), &[], &[], &[]),
            (Announced(2), &[], &[], &[]),
            (Barrier(0, 1), &[], &[], &[0]),
            (End(1), &[], &[1], &[]),
            (End(0), &[], &[2], &[]),
        ],
    );
}

#[test]
fn newer_barriers_give_up_older_checkpoints() {
    check(
        ExactlyOnce,
        2,
        &[
            (Barrier(0, 1), &[], &[], &[0]),
            (Barrier(1, 2), &[1], &[], &[1]),
            (Barrier(0, 2), &[], &[2], &[]),
        ],
    );
    check(
        ExactlyOnce,
        3,
        &[
            (Barrier(0, 1), &[], &[], &[0]),
            (Barrier(1, 2), &[1], &[], &[1]),
            (Barrier(2, 1), &[], &[], &[1]),
            (Barrier(2, 2), &[], &[], &[1, 2]),
            (Barrier(0, 2), &[], &[2], &[]),
        ],
    );
}

/// An older barrier that nobody had heard of is declined once.
#[test]
fn older_barriers_are_given_up_once() {
    check(
        ExactlyOnce,
        3,
        &[
            (Barrier(0, 2), &[], &[], &[0]),
            (Barrier(1, 1), &[1], &[], &[0]),
            (Barrier(2, 1), &[], &[], &[0]),
            (Announced(1), &[], &[], &[0]),
            (Barrier(1, 2), &[], &[], &[0, 1]),
            (Barrier(2, 2), &[], &[2], &[]),
        ],
    );
}

#[test]
fn cancelled_checkpoints_are_ignored() {
    check(
        ExactlyOnce,
        2,
        &[
            (Barrier(0, 1), &[], &[], &[0]),
            (Cancelled(1), &[], &[], &[]),
            (Barrier(1, 1), &[], &[], &[]),
            (Cancelled(2), &[], &[], &[]),
            (Barrier(0, 2), &[], &[], &[]),
            (Announced(2), &[], &[], &[]),
            (Barrier(1, 3), &[], &[], &[1]),
            (Barrier(0, 3), &[], &[3], &[]),
        ],
    );
}

mod unaligned;

#[test]
#[should_panic(expected = "channel 0 is blocked")]
fn blocked_channels_are_not_read() {
    let mut aligner = Aligner::new(ExactlyOnce, 2);
    let _ = aligner.handle_barrier(0, CheckpointId(1));
    let _ = aligner.handle_barrier(0, CheckpointId(2));
}

#[test]
#[should_panic(expected = "came after")]
fn ids_increase() {
    let mut aligner = Aligner::new(AtLeastOnce, 2);
    let _ = aligner.handle_barrier(0, CheckpointId(2));
    let _ = aligner.handle_barrier(0, CheckpointId(1));
}

/// Remembers all that came and derives everything from it.
#[derive(Default)]
struct Model {
    channels: Vec<(BTreeSet<u64>, bool)>,
    known: BTreeSet<u64>,
    decided: BTreeMap<u64, &'static str>,
}

impl Model {
    fn has(&self, channel: usize, id: u64) -> bool {
        self.channels[channel].1 || self.channels[channel].0.contains(&id)
    }

    fn passed(&self, channel: usize, id: u64) -> bool {
        let (barriers, ended) = &self.channels[channel];
        !ended && !barriers.contains(&id) && barriers.last().is_some_and(|last| *last > id)
    }

    fn decide(&mut self) -> Alignment {
        let mut answer = Alignment::default();
        for id in self.known.clone() {
            if self.decided.contains_key(&id) {
                continue;
            }
            let all = 0..self.channels.len();
            if all.clone().any(|channel| self.passed(channel, id)) {
                self.decided.insert(id, "given up");
                answer.given_up.push(CheckpointId(id));
            } else if all.clone().all(|channel| self.has(channel, id)) {
                self.decided.insert(id, "aligned");
                answer.aligned.push(CheckpointId(id));
            }
        }
        answer
    }

    fn blocked(&self, channel: usize) -> bool {
        let pending = self.known.iter().filter(|id| !self.decided.contains_key(id));
        let mut pending = pending.copied();
        !self.channels[channel].1 && pending.any(|id| self.channels[channel].0.contains(&id))
    }
}

/// Barriers of some checkpoints on each channel, some skipped, in any order that keeps each channel's; the
/// coordinator announces in order and cancels after it announced.
#[test]
fn agrees_with_a_model_that_forgets_nothing() {
    for seed in 0..3_000 {
        let mut random = Random::new(seed);
        let channels = random.below(5) as usize;
        let mode = [ExactlyOnce, AtLeastOnce][random.below(2) as usize];
        let last = 1 + random.below(6);
        let skips = random.below(4);
        let announces = random.below(2) == 0;
        let mut next = vec![1; channels];
        let mut announced = 0;
        let mut aligner = Aligner::new(mode, channels);
        let mut model = Model {
            channels: vec![Default::default(); channels],
            ..Default::default()
        };
        for step in 0..60 {
            let (answer, expect) = match random.below(10) {
                0 if announces && announced < last => {
                    announced += 1;
                    // What all open channels have passed without it is none of this subtask's business.
                    let mut open = model.channels.iter().filter(|(_, ended)| !ended).peekable();
                    let late = open.peek().is_some()
                        && open.all(|(barriers, _)| barriers.last().is_some_and(|last| *last >= announced));
                    // Nor what is older than a decision.
                    if !late && model.decided.last_key_value().is_none_or(|(last, _)| *last < announced) {
                        model.known.insert(announced);
                    }
                    (aligner.handle_announced(CheckpointId(announced)), model.decide())
                }
                1 if random.below(3) == 0 && announced > 0 => {
                    let id = announced;
                    model.decided.entry(id).or_insert("cancelled");
                    aligner.handle_cancelled(CheckpointId(id));
                    (Alignment::default(), model.decide())
                }
                2 if random.below(4) == 0 && channels > 0 => {
                    let channel = random.below(channels as u64) as usize;
                    model.channels[channel].1 = true;
                    (aligner.handle_end(channel), model.decide())
                }
                _ if channels > 0 => {
                    let channel = random.below(channels as u64) as usize;
                    if model.channels[channel].1 || aligner.is_blocked(channel) || next[channel] > last {
                        continue;
                    }
                    let skipped = if skips == 1 { random.below(2) } else { 0 };
                    let id = (next[channel] + skipped).min(last);
                    next[channel] = id + 1;
                    model.channels[channel].0.insert(id);
                    model.known.insert(id);
                    (aligner.handle_barrier(channel, CheckpointId(id)), model.decide())
                }
                _ => continue,
            };
            assert_eq!(answer, expect, "seed {seed}, step {step}");
            for channel in 0..channels {
                let expect = mode == ExactlyOnce && model.blocked(channel);
                assert_eq!(
                    aligner.is_blocked(channel),
                    expect,
                    "seed {seed}, step {step}, channel {channel}"
                );
            }
            assert!(aligner.closed.len() <= last as usize && aligner.pending.len() <= last as usize);
        }
    }
}
