//! The coordinator by scenarios.

mod random;

use super::*;
use CheckpointKind::{Final, Periodic, Savepoint, Stop};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn id(id: u64) -> CheckpointId {
    CheckpointId(id)
}

fn every(seconds: u64) -> CheckpointConfig {
    CheckpointConfig {
        interval: Some(at(seconds)),
        timeout: at(100),
        ..Default::default()
    }
}

fn trigger(number: u64, kind: CheckpointKind) -> Action {
    Action::Trigger { id: id(number), kind }
}

fn store(number: u64, kind: CheckpointKind) -> Action {
    Action::Store { id: id(number), kind }
}

fn complete(number: u64, kind: CheckpointKind) -> Action {
    Action::Complete { id: id(number), kind }
}

fn abort(number: u64, reason: AbortReason) -> Action {
    Action::Abort { id: id(number), reason }
}

fn discard(number: u64) -> Action {
    Action::Discard { id: id(number) }
}

/// A coordinator whose attempt with this many subtasks began at 0.
fn running(config: CheckpointConfig, participants: u32) -> Coordinator {
    let mut coordinator = Coordinator::new(config, id(1)).unwrap();
    assert_eq!(coordinator.handle_running(participants, at(0)), []);
    coordinator
}

impl Coordinator {
    /// All of two subtasks acknowledge and the store succeeds.
    fn finish(&mut self, number: u64, seconds: u64) -> Vec<Action> {
        self.acknowledge(number, seconds);
        self.handle_stored(id(number), at(seconds))
    }

    fn acknowledge(&mut self, number: u64, seconds: u64) {
        assert_eq!(self.handle_ack(id(number), Participant(1), at(seconds)), []);
        let actions = self.handle_ack(id(number), Participant(0), at(seconds));
        assert!(
            matches!(actions[..], [Action::Store { id, .. }] if id.0 == number),
            "{actions:?}"
        );
    }
}

#[test]
fn the_life_of_checkpoints() {
    let mut coordinator = running(every(10), 2);
    assert_eq!(coordinator.next_deadline(), Some(at(10)));
    assert_eq!(coordinator.handle_time(at(9)), []);
    assert_eq!(coordinator.handle_time(at(10)), [trigger(1, Periodic)]);
    assert_eq!(coordinator.next_deadline(), Some(at(110)));
    assert_eq!(coordinator.handle_ack(id(1), Participant(1), at(11)), []);
    assert_eq!(coordinator.handle_ack(id(1), Participant(1), at(11)), [], "a duplicate");
    assert_eq!(coordinator.handle_ack(id(7), Participant(0), at(11)), [], "unknown");
    assert_eq!(
        coordinator.handle_ack(id(1), Participant(0), at(12)),
        [store(1, Periodic)]
    );
    assert_eq!(coordinator.handle_ack(id(1), Participant(0), at(12)), []);
    assert_eq!(coordinator.latest(), None);
    assert_eq!(coordinator.handle_stored(id(1), at(13)), [complete(1, Periodic)]);
    assert_eq!(coordinator.handle_stored(id(1), at(13)), []);
    assert_eq!(coordinator.latest(), Some(id(1)));
    assert_eq!(coordinator.next_deadline(), Some(at(20)));
    assert_eq!(
        coordinator.handle_time(at(25)),
        [trigger(2, Periodic)],
        "late, but once"
    );
    assert_eq!(coordinator.finish(2, 26), [complete(2, Periodic), discard(1)]);
    assert_eq!(coordinator.next_deadline(), Some(at(35)));
}

#[test]
fn without_an_interval_nothing_happens_by_itself() {
    let mut coordinator = running(CheckpointConfig::default(), 2);
    assert_eq!(coordinator.next_deadline(), None);
    assert_eq!(coordinator.handle_time(at(1_000_000)), []);
}

#[test]
fn ids_continue_and_earlier_checkpoints_are_discarded() {
    let config = CheckpointConfig {
        retained: 2,
        ..every(10)
    };
    let mut coordinator = Coordinator::new(config, id(8))
        .unwrap()
        .resuming(id(7), [id(3), id(5), id(7)]);
    assert_eq!(coordinator.latest(), Some(id(7)));
    assert_eq!(coordinator.handle_running(2, at(0)), []);
    assert_eq!(coordinator.handle_time(at(10)), [trigger(8, Periodic)]);
    assert_eq!(
        coordinator.finish(8, 10),
        [complete(8, Periodic), discard(3), discard(5)]
    );
    assert_eq!(coordinator.retained().collect::<Vec<_>>(), [id(7), id(8)]);
}

#[test]
fn a_place_and_a_pause_are_waited_for() {
    let config = CheckpointConfig {
        min_pause: at(7),
        ..every(10)
    };
    let mut coordinator = running(config, 2);
    assert_eq!(coordinator.handle_time(at(10)), [trigger(1, Periodic)]);
    assert_eq!(coordinator.handle_time(at(20)), [], "no place");
    coordinator.acknowledge(1, 24);
    assert_eq!(coordinator.handle_stored(id(1), at(25)), [complete(1, Periodic)]);
    assert_eq!(coordinator.next_deadline(), Some(at(32)));
    assert_eq!(coordinator.handle_time(at(31)), []);
    assert_eq!(coordinator.handle_time(at(32)), [trigger(2, Periodic)]);
    coordinator.acknowledge(2, 45);
    let mut without_pause = running(every(10), 2);
    assert_eq!(without_pause.handle_time(at(10)), [trigger(1, Periodic)]);
    without_pause.acknowledge(1, 24);
    let expect = [complete(1, Periodic), trigger(2, Periodic)];
    assert_eq!(without_pause.handle_stored(id(1), at(25)), expect, "it was due");
}

#[test]
fn savepoints_wait_for_a_place_only() {
    let config = CheckpointConfig {
        min_pause: at(7),
        ..every(10)
    };
    let mut coordinator = running(config, 2);
    assert_eq!(
        coordinator.trigger(Savepoint, at(1)),
        Ok((id(1), vec![trigger(1, Savepoint)]))
    );
    assert_eq!(coordinator.trigger(Savepoint, at(2)), Ok((id(2), vec![])));
    assert_eq!(coordinator.handle_time(at(12)), [], "the periodic one waits too");
    assert_eq!(
        coordinator.finish(1, 13),
        [complete(1, Savepoint), trigger(2, Savepoint)]
    );
    assert_eq!(coordinator.finish(2, 14), [complete(2, Savepoint)]);
    assert_eq!(
        coordinator.latest(),
        None,
        "a restart does not depend on what the user may delete"
    );
    assert_eq!(coordinator.handle_time(at(21)), [trigger(3, Periodic)]);
    assert_eq!(
        coordinator.finish(3, 21),
        [complete(3, Periodic)],
        "savepoints are not discarded"
    );
}

#[test]
fn a_later_one_subsumes_earlier_ones_except_savepoints() {
    let config = CheckpointConfig {
        max_concurrent: 4,
        tolerable_failures: 0,
        ..every(10)
    };
    let mut coordinator = running(config, 2);
    assert_eq!(coordinator.handle_time(at(10)), [trigger(1, Periodic)]);
    assert_eq!(
        coordinator.trigger(Savepoint, at(11)),
        Ok((id(2), vec![trigger(2, Savepoint)]))
    );
    assert_eq!(coordinator.handle_time(at(20)), [trigger(3, Periodic)]);
    assert_eq!(coordinator.handle_time(at(30)), [trigger(4, Periodic)]);
    coordinator.acknowledge(1, 31);
    coordinator.acknowledge(2, 31);
    coordinator.acknowledge(4, 31);
    let subsumed = |number| abort(number, AbortReason::Subsumed(id(4)));
    assert_eq!(
        coordinator.handle_stored(id(4), at(32)),
        [subsumed(1), subsumed(3), complete(4, Periodic)]
    );
    assert_eq!(
        coordinator.handle_stored(id(1), at(33)),
        [discard(1)],
        "stored after its abort"
    );
    assert_eq!(coordinator.handle_ack(id(3), Participant(0), at(33)), []);
    assert_eq!(coordinator.handle_stored(id(2), at(34)), [complete(2, Savepoint)]);
    assert_eq!(coordinator.latest(), Some(id(4)));
}

#[test]
fn timeouts() {
    let config = CheckpointConfig {
        tolerable_failures: 1,
        ..every(30)
    };
    let mut coordinator = running(config, 2);
    let timeout = |number| abort(number, AbortReason::Timeout);
    assert_eq!(coordinator.handle_time(at(30)), [trigger(1, Periodic)]);
    // An ack at the very deadline is too late, even if nobody had told the time; the next one is long due.
    let late = coordinator.handle_ack(id(1), Participant(0), at(130));
    assert_eq!(late, [timeout(1), trigger(2, Periodic)]);
    assert_eq!(coordinator.handle_ack(id(1), Participant(1), at(131)), []);
    coordinator.acknowledge(2, 140);
    let expect = [
        timeout(2),
        Action::FailJob {
            reason: AbortReason::Timeout,
        },
    ];
    assert_eq!(coordinator.handle_time(at(230)), expect);
    assert_eq!(coordinator.next_deadline(), None);
    assert_eq!(coordinator.trigger(Savepoint, at(231)), Err(Refused::NotRunning));
    assert_eq!(coordinator.handle_failed(at(232)), []);
    assert_eq!(coordinator.stores_under_way(), 1);
    assert_eq!(coordinator.handle_stored(id(2), at(240)), [discard(2)]);
    assert_eq!(coordinator.handle_running(2, at(241)), []);
    assert_eq!(coordinator.next_deadline(), Some(at(271)));
    assert_eq!(coordinator.latest(), None);
}

#[test]
#[should_panic(expected = "while a checkpoint was being stored")]
fn no_restart_while_a_store_is_under_way() {
    let mut coordinator = running(every(10), 2);
    let _ = coordinator.handle_time(at(10));
    coordinator.acknowledge(1, 10);
    assert_eq!(coordinator.handle_failed(at(11)), [abort(1, AbortReason::JobFailed)]);
    let _ = coordinator.handle_running(2, at(12));
}

#[test]
fn failures_in_a_row_fail_the_job() {
    let config = CheckpointConfig {
        tolerable_failures: 2,
        ..every(10)
    };
    let mut coordinator = running(config, 2);
    let failed = DeclineReason::Failed("disk".to_owned());
    let decline = |coordinator: &mut Coordinator, number: u64, reason: &DeclineReason| {
        assert_eq!(coordinator.handle_time(at(10 * number)), [trigger(number, Periodic)]);
        let mut actions = coordinator.handle_decline(id(number), Participant(1), reason.clone(), at(10 * number));
        let reason = AbortReason::Declined(Participant(1), reason.clone());
        assert_eq!(actions.remove(0), abort(number, reason.clone()));
        assert!(actions.is_empty() || actions == [Action::FailJob { reason }]);
        let again = coordinator.handle_decline(id(number), Participant(0), failed.clone(), at(10 * number));
        assert_eq!(again, [], "counted once");
        !actions.is_empty()
    };
    assert!(!decline(&mut coordinator, 1, &failed));
    assert!(!decline(&mut coordinator, 2, &failed));
    assert!(
        !decline(&mut coordinator, 3, &DeclineReason::NotReady),
        "does not count"
    );
    assert_eq!(coordinator.handle_time(at(40)), [trigger(4, Periodic)]);
    assert_eq!(coordinator.finish(4, 40), [complete(4, Periodic)]);
    assert!(!decline(&mut coordinator, 5, &failed));
    assert!(
        !decline(&mut coordinator, 6, &DeclineReason::Superseded),
        "does not count"
    );
    assert!(!decline(&mut coordinator, 7, &failed));
    assert!(decline(&mut coordinator, 8, &failed));
}

#[test]
fn failed_stores_are_discarded_before_the_job_fails() {
    let mut coordinator = running(every(10), 2);
    assert_eq!(coordinator.handle_time(at(10)), [trigger(1, Periodic)]);
    coordinator.acknowledge(1, 10);
    let reason = AbortReason::StoreFailed("full".to_owned());
    assert_eq!(
        coordinator.handle_store_failed(id(1), "full".to_owned(), at(11)),
        [abort(1, reason.clone()), discard(1), Action::FailJob { reason }]
    );
    assert_eq!(coordinator.handle_failed(at(11)), []);
    assert_eq!(coordinator.handle_running(2, at(12)), []);
    assert_eq!(coordinator.handle_time(at(22)), [trigger(2, Periodic)]);
    coordinator.acknowledge(2, 22);
    assert_eq!(coordinator.handle_failed(at(23)), [abort(2, AbortReason::JobFailed)]);
    let late = coordinator.handle_store_failed(id(2), "full".to_owned(), at(24));
    assert_eq!(late, [discard(2)], "perhaps it was stored all the same");
}

#[test]
fn of_savepoints_only_failed_snapshots_count() {
    let config = CheckpointConfig {
        interval: None,
        ..every(10)
    };
    let mut coordinator = running(config, 2);
    assert_eq!(
        coordinator.trigger(Savepoint, at(0)),
        Ok((id(1), vec![trigger(1, Savepoint)]))
    );
    assert_eq!(coordinator.handle_time(at(100)), [abort(1, AbortReason::Timeout)]);
    assert_eq!(
        coordinator.trigger(Savepoint, at(101)),
        Ok((id(2), vec![trigger(2, Savepoint)]))
    );
    coordinator.acknowledge(2, 101);
    let reason = AbortReason::StoreFailed("full".to_owned());
    assert_eq!(
        coordinator.handle_store_failed(id(2), "full".to_owned(), at(102)),
        [abort(2, reason), discard(2)]
    );
    assert_eq!(
        coordinator.trigger(Savepoint, at(103)),
        Ok((id(3), vec![trigger(3, Savepoint)]))
    );
    let why = DeclineReason::Failed("disk".to_owned());
    let actions = coordinator.handle_decline(id(3), Participant(0), why, at(104));
    assert!(matches!(actions[..], [Action::Abort { .. }, Action::FailJob { .. }]));
}

#[test]
fn a_failed_attempt_aborts_all_and_counts_nothing() {
    let mut coordinator = running(every(10), 2);
    assert_eq!(coordinator.handle_time(at(10)), [trigger(1, Periodic)]);
    assert_eq!(coordinator.trigger(Savepoint, at(11)), Ok((id(2), vec![])));
    let failed = |number| abort(number, AbortReason::JobFailed);
    assert_eq!(coordinator.handle_failed(at(12)), [failed(1), failed(2)]);
    assert_eq!(coordinator.handle_time(at(13)), []);
    assert_eq!(coordinator.next_deadline(), None);
    assert_eq!(coordinator.trigger(Stop, at(13)), Err(Refused::NotRunning));
    assert_eq!(coordinator.handle_running(3, at(20)), []);
    assert_eq!(
        coordinator.handle_ack(id(1), Participant(0), at(20)),
        [],
        "of the last attempt"
    );
    assert_eq!(coordinator.handle_time(at(30)), [trigger(3, Periodic)]);
}

#[test]
fn stop_is_the_last() {
    let mut coordinator = running(every(10), 2);
    assert_eq!(coordinator.handle_time(at(10)), [trigger(1, Periodic)]);
    assert_eq!(coordinator.trigger(Stop, at(11)), Ok((id(2), vec![])));
    for kind in [Periodic, Savepoint, Stop, Final] {
        assert_eq!(coordinator.trigger(kind, at(12)), Err(Refused::Stopping));
    }
    assert_eq!(coordinator.finish(1, 25), [complete(1, Periodic), trigger(2, Stop)]);
    assert_eq!(coordinator.next_deadline(), Some(at(125)), "nothing but its timeout");
    assert_eq!(coordinator.finish(2, 40), [complete(2, Stop)]);
    assert!(coordinator.has_ended());
    assert_eq!(coordinator.latest(), Some(id(2)));
    assert_eq!(coordinator.next_deadline(), None);
    assert_eq!(coordinator.trigger(Savepoint, at(41)), Err(Refused::Ended));
    // The commit failed: another attempt commits and does nothing else.
    assert_eq!(coordinator.handle_failed(at(42)), []);
    assert_eq!(coordinator.handle_running(2, at(43)), []);
    assert_eq!(coordinator.handle_time(at(1000)), []);
    assert_eq!(coordinator.trigger(Final, at(1000)), Err(Refused::Ended));
}

#[test]
fn a_stop_that_fails_fails_the_attempt_and_is_forgotten() {
    let config = CheckpointConfig {
        tolerable_failures: 100,
        ..every(10)
    };
    let mut coordinator = running(config, 2);
    assert_eq!(coordinator.trigger(Stop, at(1)), Ok((id(1), vec![trigger(1, Stop)])));
    let reason = AbortReason::Timeout;
    let expect = [abort(1, reason.clone()), Action::FailJob { reason }];
    assert_eq!(coordinator.handle_time(at(101)), expect);
    assert_eq!(coordinator.handle_failed(at(101)), []);
    assert_eq!(coordinator.handle_running(2, at(102)), []);
    assert_eq!(coordinator.handle_time(at(112)), [trigger(2, Periodic)]);
}

#[test]
fn a_final_one_is_tried_again_while_failures_are_tolerated() {
    let config = CheckpointConfig {
        tolerable_failures: 1,
        ..every(10)
    };
    let mut coordinator = running(config, 2);
    assert_eq!(coordinator.handle_time(at(10)), [trigger(1, Periodic)]);
    assert_eq!(coordinator.trigger(Final, at(11)), Ok((id(2), vec![])));
    assert_eq!(coordinator.trigger(Savepoint, at(11)), Err(Refused::Finishing));
    assert_eq!(coordinator.finish(1, 12), [complete(1, Periodic), trigger(2, Final)]);
    coordinator.acknowledge(2, 30);
    let reason = AbortReason::StoreFailed("full".to_owned());
    let failed = |coordinator: &mut Coordinator, number, seconds| {
        coordinator.handle_store_failed(id(number), "full".to_owned(), at(seconds))
    };
    assert_eq!(failed(&mut coordinator, 2, 30), [abort(2, reason.clone()), discard(2)]);
    assert_eq!(coordinator.next_deadline(), Some(at(31)));
    assert_eq!(
        coordinator.handle_time(at(31)),
        [trigger(3, Final)],
        "and no periodic one"
    );
    coordinator.acknowledge(3, 32);
    let mut other = coordinator.clone();
    let fail = Action::FailJob { reason: reason.clone() };
    assert_eq!(failed(&mut other, 3, 33), [abort(3, reason), discard(3), fail]);
    assert_eq!(
        coordinator.handle_stored(id(3), at(33)),
        [complete(3, Final), discard(1)]
    );
    assert!(coordinator.has_ended());
}

/// Only periodic ones, and only those that have not been acknowledged by all.
#[test]
fn what_takes_too_long_is_unaligned() {
    let unalign = |number| Action::Unalign { id: id(number) };
    let config = |timeout| CheckpointConfig {
        aligned_timeout: Some(timeout),
        ..every(10)
    };
    let mut coordinator = running(config(Duration::ZERO), 2);
    assert_eq!(coordinator.handle_time(at(10)), [trigger(1, Periodic), unalign(1)]);
    assert_eq!(coordinator.next_deadline(), Some(at(110)));
    assert_eq!(coordinator.finish(1, 11), [complete(1, Periodic)]);
    assert_eq!(
        coordinator.trigger(Savepoint, at(12)).unwrap().1,
        [trigger(2, Savepoint)]
    );
    coordinator.finish(2, 13);
    assert_eq!(coordinator.trigger(Final, at(14)).unwrap().1, [trigger(3, Final)]);

    let mut coordinator = running(config(at(3)), 2);
    assert_eq!(coordinator.handle_time(at(10)), [trigger(1, Periodic)]);
    assert_eq!(coordinator.next_deadline(), Some(at(13)));
    coordinator.acknowledge(1, 12);
    assert_eq!(coordinator.handle_time(at(13)), []);
    coordinator.handle_stored(id(1), at(14));
    assert_eq!(coordinator.handle_time(at(20)), [trigger(2, Periodic)]);
    assert_eq!(coordinator.handle_ack(id(2), Participant(0), at(23)), [unalign(2)]);
    assert_eq!(coordinator.handle_time(at(24)), []);
}

#[test]
fn nothing_periodic_begins_while_sources_are_drained() {
    let mut coordinator = running(every(10), 2);
    assert_eq!(coordinator.handle_time(at(10)), [trigger(1, Periodic)]);
    coordinator.suspend();
    // What has begun lies before the end of the sources.
    assert_eq!(coordinator.finish(1, 11), [complete(1, Periodic)]);
    assert_eq!(coordinator.next_deadline(), None);
    assert_eq!(coordinator.handle_time(at(50)), []);
    let (stop, actions) = coordinator.trigger(Stop, at(51)).unwrap();
    assert_eq!((stop, actions), (id(2), vec![trigger(2, Stop)]));
    coordinator.handle_failed(at(52));
    assert_eq!(coordinator.latest(), Some(id(1)));
    coordinator.handle_running(2, at(60));
    assert_eq!(coordinator.handle_time(at(70)), [trigger(3, Periodic)]);
}
