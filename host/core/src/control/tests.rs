//! What each request comes to in each state.

use super::*;

const ID: CheckpointId = CheckpointId(7);

fn savepoint() -> Request {
    Request::Savepoint { target: "s".into() }
}

fn stop(savepoint: bool, drain: bool) -> Request {
    let savepoint = savepoint.then(|| "s".into());
    Request::Stop { savepoint, drain }
}

fn trigger(kind: CheckpointKind, operation: u64) -> Order {
    let operation = (operation > 0).then_some(OperationId(operation));
    Order::Trigger { kind, operation }
}

fn running(durable: bool) -> Controller {
    let mut controller = Controller::new(durable);
    assert_eq!(controller.handle_running(), []);
    controller
}

/// Asks for something that is taken and triggered as checkpoint 7.
fn ask(controller: &mut Controller, request: Request) -> OperationId {
    let (id, orders) = controller.handle_request(request).unwrap();
    if matches!(orders[..], [Order::Trigger { .. }]) {
        controller.handle_triggered(Some(id), ID);
    }
    id
}

fn status(controller: &Controller, id: OperationId) -> Status {
    controller.operation(id).unwrap().status.clone()
}

#[test]
fn what_requests_begin() {
    let check = |durable, request: Request, expect: Order| {
        let mut controller = running(durable);
        assert_eq!(controller.handle_request(request), Ok((OperationId(1), vec![expect])));
    };
    for durable in [true, false] {
        check(durable, savepoint(), trigger(CheckpointKind::Savepoint, 1));
        check(durable, stop(true, false), trigger(CheckpointKind::Stop, 1));
        check(durable, stop(true, true), Order::Drain);
        check(durable, stop(false, true), Order::Drain);
        check(durable, Request::Cancel, Order::Cancel);
    }
    check(true, stop(false, false), trigger(CheckpointKind::Stop, 1));
    check(false, stop(false, false), Order::EndSources);
}

#[test]
fn what_is_refused() {
    let check = |prepare: fn(&mut Controller), expect: [Option<Refused>; 3]| {
        for (request, expect) in [savepoint(), stop(true, false), Request::Cancel]
            .into_iter()
            .zip(expect)
        {
            let mut controller = Controller::new(true);
            prepare(&mut controller);
            let refused = controller.handle_request(request.clone()).err();
            assert_eq!(refused, expect, "{request:?} while {}", controller.state());
        }
    };
    check(|_| {}, [Some(Refused::Starting), None, None]);
    check(|controller| drop(controller.handle_running()), [None, None, None]);
    check(
        |controller| {
            controller.handle_running();
            controller.handle_failed();
        },
        [Some(Refused::Restarting), None, None],
    );
    check(
        |controller| {
            controller.handle_running();
            ask(controller, stop(true, true));
        },
        [Some(Refused::Stopping), Some(Refused::Stopping), None],
    );
    check(
        |controller| {
            controller.handle_running();
            controller.handle_finished();
        },
        [Some(Refused::Finishing), Some(Refused::Finishing), None],
    );
    check(
        |controller| {
            controller.handle_running();
            ask(controller, Request::Cancel);
        },
        [Some(Refused::Cancelling), Some(Refused::Cancelling), None],
    );
    let ended = [Some(Refused::Ended); 3];
    check(|controller| controller.handle_complete(CheckpointKind::Stop), ended);
    check(|controller| controller.handle_ended(true), ended);
}

#[test]
fn too_many_operations_are_refused_and_old_ones_forgotten() {
    let mut controller = running(true);
    for _ in 0..OPERATIONS_MAX {
        controller.handle_request(savepoint()).unwrap();
    }
    assert_eq!(controller.handle_request(savepoint()), Err(Refused::TooMany));
    controller.handle_failed();
    controller.handle_running();
    for _ in 0..200 {
        let id = ask(&mut controller, savepoint());
        controller.handle_aborted(ID, &AbortReason::Timeout);
        assert_eq!(
            status(&controller, id),
            Status::Failed(Failure::Aborted(AbortReason::Timeout))
        );
        controller.operations.get_mut(&id).unwrap().checkpoint = None;
    }
    assert!(controller.operations.len() <= OPERATIONS_KEPT + 1);
}

#[test]
fn a_savepoint_is_held_then_written() {
    let mut controller = running(true);
    let id = ask(&mut controller, savepoint());
    assert_eq!(controller.savepoint_of(ID), Some((id, "s")));
    assert_eq!(controller.handle_held(ID), Some(id));
    assert_eq!(status(&controller, id), Status::Writing);
    // A failure does not concern what is complete.
    controller.handle_failed();
    assert_eq!(status(&controller, id), Status::Writing);
    assert_eq!(controller.handle_written(id, None), []);
    assert_eq!(status(&controller, id), Status::Completed);
}

#[test]
fn a_savepoint_fails_with_the_attempt() {
    let mut controller = running(true);
    let id = ask(&mut controller, savepoint());
    controller.handle_failed();
    assert_eq!(status(&controller, id), Status::Failed(Failure::JobFailed));
    assert_eq!(controller.handle_held(ID), None);
    assert!(controller.may_restart());
}

#[test]
fn a_stop_that_fails_leaves_the_job_running() {
    for drain in [false, true] {
        let mut controller = running(true);
        let id = ask(&mut controller, stop(true, drain));
        if drain {
            assert_eq!(controller.handle_finished(), [trigger(CheckpointKind::Stop, 1)]);
            controller.handle_triggered(Some(id), ID);
        }
        controller.handle_aborted(ID, &AbortReason::Timeout);
        assert_eq!(
            status(&controller, id),
            Status::Failed(Failure::Aborted(AbortReason::Timeout))
        );
        controller.handle_failed();
        assert!(controller.may_restart());
        assert_eq!(controller.state(), State::Restarting);
        assert_eq!(controller.handle_running(), []);
        assert_eq!(controller.state(), State::Running);
    }
}

#[test]
fn a_stop_waits_for_the_next_attempt() {
    for fails in [false, true] {
        let mut controller = running(true);
        controller.handle_failed();
        let (id, orders) = controller.handle_request(stop(true, false)).unwrap();
        assert_eq!(orders, [Order::Hurry]);
        if fails {
            controller.handle_failed();
            assert_eq!(status(&controller, id), Status::Failed(Failure::JobFailed));
            assert_eq!(controller.handle_running(), []);
        } else {
            assert_eq!(controller.handle_running(), [trigger(CheckpointKind::Stop, 1)]);
        }
    }
}

#[test]
fn a_signal_during_a_stop_changes_what_follows_its_failure() {
    let mut controller = running(true);
    let id = ask(&mut controller, stop(true, false));
    assert_eq!(controller.handle_signal(), []);
    assert_eq!(controller.state(), State::Stopping);
    controller.handle_aborted(ID, &AbortReason::Timeout);
    controller.handle_failed();
    assert!(matches!(status(&controller, id), Status::Failed(_)));
    assert!(!controller.may_restart());
}

#[test]
fn a_signal_stops() {
    let check = |durable, expect: Order| {
        let mut controller = Controller::new(durable);
        assert_eq!(controller.handle_signal(), [Order::Hurry]);
        assert_eq!(controller.handle_running(), [expect]);
        assert_eq!(controller.handle_signal(), []);
        assert_eq!(controller.end(), End::Stopped);
    };
    check(true, trigger(CheckpointKind::Stop, 0));
    check(false, Order::EndSources);
}

#[test]
fn a_drained_job_takes_its_last_checkpoint_when_all_is_through() {
    let check = |durable, with_savepoint, expect: Order| {
        let mut controller = running(durable);
        let id = ask(&mut controller, stop(with_savepoint, true));
        assert_eq!(controller.state(), State::Draining);
        assert_eq!(controller.handle_finished(), [expect]);
        assert_eq!(controller.end(), End::Drained);
        controller.handle_ended(true);
        assert_eq!(status(&controller, id), Status::Completed);
    };
    check(true, true, trigger(CheckpointKind::Stop, 1));
    check(true, false, trigger(CheckpointKind::Stop, 1));
    check(false, true, trigger(CheckpointKind::Stop, 1));
    check(false, false, Order::Commit);
}

#[test]
fn the_end_of_all_input() {
    assert_eq!(running(true).handle_finished(), [trigger(CheckpointKind::Final, 0)]);
    assert_eq!(running(false).handle_finished(), [Order::Commit]);
}

/// A job without checkpoints that comes to its end takes the savepoint along that was asked for before.
#[test]
fn a_savepoint_before_the_end_holds_the_commit_up() {
    type Answer = fn(&mut Controller, OperationId) -> Vec<Order>;
    let answers: [Answer; 3] = [
        |controller, id| {
            controller.handle_held(ID);
            controller.handle_written(id, None)
        },
        |controller, _| controller.handle_aborted(ID, &AbortReason::Timeout),
        |controller, id| controller.handle_not_triggered(Some(id), NotTriggered::NotRunning),
    ];
    for answer in answers {
        let mut controller = running(false);
        let id = ask(&mut controller, savepoint());
        assert_eq!(controller.handle_finished(), []);
        assert_eq!(answer(&mut controller, id), [Order::Commit]);
        assert_eq!(controller.handle_request(Request::Cancel), Err(Refused::Ended));
    }
}

#[test]
fn a_cancel_ends_everything_but_what_is_being_committed() {
    let mut controller = running(true);
    let waiting = ask(&mut controller, savepoint());
    let cancel = ask(&mut controller, Request::Cancel);
    assert_eq!(ask(&mut controller, Request::Cancel), cancel);
    assert!(controller.is_cancelling() && !controller.may_restart());
    assert_eq!(controller.state(), State::Cancelling);
    assert_eq!(controller.handle_finished(), []);
    controller.handle_ended(true);
    assert_eq!(status(&controller, waiting), Status::Failed(Failure::Cancelled));
    assert_eq!(status(&controller, cancel), Status::Completed);

    let mut controller = running(true);
    let stopping = ask(&mut controller, stop(true, false));
    let cancel = ask(&mut controller, Request::Cancel);
    controller.handle_complete(CheckpointKind::Stop);
    assert!(!controller.is_cancelling());
    controller.handle_ended(true);
    assert_eq!(status(&controller, stopping), Status::Completed);
    assert_eq!(status(&controller, cancel), Status::Failed(Failure::JobEnded));
}

#[test]
fn an_error_at_the_end_is_no_success() {
    let mut controller = running(true);
    let id = ask(&mut controller, stop(true, false));
    controller.handle_complete(CheckpointKind::Stop);
    controller.handle_ended(false);
    assert_eq!(status(&controller, id), Status::Failed(Failure::JobEnded));
}
