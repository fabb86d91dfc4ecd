//! Random events, whose answers must obey the rules whatever comes.

use super::*;
use crate::testing::Random;

/// Keeps a record of all actions and asserts what must hold between them.
#[derive(Default)]
struct Ledger {
    kinds: BTreeMap<CheckpointId, CheckpointKind>,
    triggered_at: BTreeMap<CheckpointId, Duration>,
    acked: BTreeMap<CheckpointId, BTreeSet<u32>>,
    storing: BTreeSet<CheckpointId>,
    unaligned: BTreeSet<CheckpointId>,
    durable: BTreeSet<CheckpointId>,
    done: BTreeMap<CheckpointId, bool>,
    discarded: BTreeSet<CheckpointId>,
    kept: Vec<CheckpointId>,
    committed: Option<CheckpointId>,
    ended_at: Option<Duration>,
    ended: bool,
    participants: u32,
    failing: bool,
}

impl Ledger {
    fn under_way(&self) -> usize {
        self.kinds.len() - self.done.len()
    }

    fn unalign(&mut self, id: CheckpointId, config: &CheckpointConfig, now: Duration) {
        let waited = config.aligned_timeout.expect("unaligned ones are asked for");
        assert!(now >= self.triggered_at[&id] + waited && self.kinds[&id] == Periodic);
        assert!(!self.done.contains_key(&id) && !self.storing.contains(&id));
        assert!(self.unaligned.insert(id), "said once");
    }

    fn record(&mut self, config: &CheckpointConfig, actions: &[Action], now: Duration) {
        for action in actions {
            match action {
                Action::Trigger { id, kind } => {
                    assert!(!self.failing && !self.ended, "nothing begins in a failing or ended job");
                    assert!(self.kinds.last_key_value().is_none_or(|(last, _)| last < id));
                    assert!(self.under_way() < config.max_concurrent as usize);
                    if *kind == Periodic {
                        let last = self
                            .triggered_at
                            .iter()
                            .rev()
                            .find(|(id, _)| self.kinds[id] == Periodic);
                        assert!(last.is_none_or(|(_, last)| now - *last >= config.interval.unwrap_or_default()));
                        assert!(self.ended_at.is_none_or(|ended| now >= ended + config.min_pause));
                    }
                    self.kinds.insert(*id, *kind);
                    self.triggered_at.insert(*id, now);
                }
                Action::Unalign { id } => self.unalign(*id, config, now),
                Action::Store { id, .. } => {
                    assert!(!self.done.contains_key(id));
                    assert_eq!(
                        self.acked[id].len(),
                        self.participants as usize,
                        "all have acknowledged"
                    );
                    assert!(self.storing.insert(*id));
                }
                Action::Complete { id, kind } => {
                    assert!(self.durable.contains(id), "complete before it was stored");
                    assert!(self.done.insert(*id, true).is_none());
                    self.ended_at = Some(now);
                    if kind.commits() {
                        assert!(self.committed < Some(*id), "commits ascend");
                        self.committed = Some(*id);
                        for (other, kind) in self.kinds.range(..id) {
                            assert!(self.done.contains_key(other) || !kind.commits(), "subsumed");
                        }
                    }
                    self.ended |= matches!(kind, Stop | Final);
                    if !kind.is_savepoint() {
                        self.kept.push(*id);
                    }
                }
                Action::Abort { id, reason } => {
                    assert!(!self.done.contains_key(id), "aborted once, and not when complete");
                    self.kinds.entry(*id).or_insert(Savepoint);
                    self.done.insert(*id, false);
                    if !matches!(reason, AbortReason::Subsumed(_) | AbortReason::JobFailed) {
                        self.ended_at = Some(now);
                    }
                }
                Action::Discard { id } => {
                    assert!(self.discarded.insert(*id), "discarded once");
                    let completed = self.done[id];
                    if completed {
                        assert_eq!(self.kept.remove(0), *id, "oldest first, no savepoints");
                        assert!(self.kept.len() >= config.retained as usize);
                        assert!(self.committed > Some(*id));
                    }
                }
                Action::FailJob { .. } => self.failing = true,
            }
        }
        assert!(self.kept.len() <= config.retained as usize);
    }
}

#[test]
fn random_events_obey_the_rules() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let max_concurrent = 1 + random.below(3) as u32;
        let config = CheckpointConfig {
            interval: (random.below(4) > 0).then(|| at(1 + random.below(10))),
            min_pause: at(if max_concurrent == 1 { random.below(8) } else { 0 }),
            timeout: at(5 + random.below(40)),
            tolerable_failures: random.below(4) as u32,
            max_concurrent,
            retained: 1 + random.below(3) as u32,
            aligned_timeout: (max_concurrent == 1 && random.below(2) == 0).then(|| at(random.below(6))),
            ..Default::default()
        };
        run_random(&mut random, &config);
    }
}

/// Every answer arrives, sooner or later, repeated, or after it mattered.
fn run_random(random: &mut Random, config: &CheckpointConfig) {
    let mut coordinator = Coordinator::new(config.clone(), id(1)).unwrap();
    let mut ledger = Ledger::default();
    let mut now = Duration::ZERO;
    let mut running = false;
    for _ in 0..400 {
        now += Duration::from_millis(random.below(1500));
        if !running && ledger.storing.is_empty() {
            ledger.participants = 1 + random.below(4) as u32;
            ledger.failing = false;
            ledger.record(config, &coordinator.handle_running(ledger.participants, now), now);
            running = true;
            continue;
        }
        let some = CheckpointId(1 + random.below(ledger.kinds.len() as u64 + 2));
        let actions = match random.below(40) {
            0 if running => {
                running = false;
                coordinator.handle_failed(now)
            }
            1 => {
                let kind = [Savepoint, Savepoint, Savepoint, Savepoint, Stop, Final][random.below(6) as usize];
                match coordinator.trigger(kind, now) {
                    Ok((_, actions)) => actions,
                    Err(_) => coordinator.handle_time(now),
                }
            }
            2 if running => {
                let reason = [DeclineReason::Superseded, DeclineReason::Failed(String::new())];
                let reason = reason[random.below(2) as usize].clone();
                coordinator.handle_decline(
                    some,
                    Participant(random.below(ledger.participants.into()) as u32),
                    reason,
                    now,
                )
            }
            3..8 => coordinator.handle_time(now),
            8..16 => match ledger.storing.pop_first() {
                Some(id) if random.below(5) == 0 => coordinator.handle_store_failed(id, String::new(), now),
                Some(id) => {
                    ledger.durable.insert(id);
                    coordinator.handle_stored(id, now)
                }
                None => coordinator.handle_stored(some, now),
            },
            _ if running => {
                let oldest = ledger.kinds.keys().find(|id| !ledger.done.contains_key(id));
                let id = *oldest.filter(|_| random.below(4) > 0).unwrap_or(&some);
                let participant = random.below(ledger.participants.into()) as u32;
                if ledger.kinds.contains_key(&id) {
                    ledger.acked.entry(id).or_default().insert(participant);
                }
                coordinator.handle_ack(id, Participant(participant), now)
            }
            _ => continue,
        };
        ledger.record(config, &actions, now);
        assert_eq!(coordinator.stores_under_way(), ledger.storing.len());
        assert_eq!(coordinator.latest(), ledger.committed);
        assert_eq!(coordinator.has_ended(), ledger.ended);
        if let Some(deadline) = coordinator.next_deadline() {
            assert!(deadline > now, "what is due was done");
        }
        if ledger.failing && running {
            running = false;
            ledger.record(config, &coordinator.handle_failed(now), now);
        }
    }
}
