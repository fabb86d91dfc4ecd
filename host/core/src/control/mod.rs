//! What becomes of requests to a running job: savepoint, stop, cancel.
//!
//! ```text
//!                 +--------- attempt failed ----------+
//!                 v                                   |
//!   Starting -> Running -> Stopping / Draining -> (last checkpoint) -> Ended
//!                 ^  |
//!     Restarting -+  +-> Cancelling -> Ended           from any state before the last checkpoint
//! ```
//!
//! A [`Controller`] lives as long as the job, across restarts, beside the checkpoint
//! [`Coordinator`](crate::checkpoint::Coordinator), which knows nothing of requests: the driver carries [`Order`]s out
//! (some of them by asking the coordinator) and tells the controller what came of it. Requests that are taken are
//! [`Operation`]s, which anybody may ask about; each comes to exactly one end.
//!
//! What the rules come to:
//!
//! | request | running | starting, restarting | stopping, draining, finishing | cancelling, ended |
//! | --- | --- | --- | --- | --- |
//! | savepoint | taken | refused | refused | refused |
//! | stop | begins | begins as soon as the job runs, without waiting any longer | refused | refused |
//! | cancel | at once | at once | at once, until the last checkpoint is complete | same operation; refused |
//! | signal | as stop | as stop | no restart follows a failure | ignored |
//!
//! A stop that fails (its checkpoint does, its savepoint cannot be written, the attempt fails) leaves the job as it was
//! before: it restarts and goes on, as in Flink. Only a job that was told by a signal to stop does not come back.
//! A savepoint whose state is complete outlives a failure of the attempt.

mod operation;

use std::collections::BTreeMap;

use crate::checkpoint::{AbortReason, CheckpointId, CheckpointKind, Refused as NotTriggered};
pub use operation::{Failure, Operation, OperationId, Order, Refused, Request, State, Status};

/// Operations that may be under way at once.
pub const OPERATIONS_MAX: usize = 16;

/// Operations that have ended and are remembered.
pub const OPERATIONS_KEPT: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// An attempt begins; the first one.
    Starting,
    Running,
    /// An attempt has failed; the next one has not begun to run.
    Restarting,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stop {
    /// `None`: a signal asked for it.
    operation: Option<OperationId>,
    savepoint: bool,
    drain: bool,
    /// The sources have been told.
    begun: bool,
}

/// How a job that did not fail came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All input was read.
    Finished,
    /// It was told to stop.
    Stopped,
    /// It was told to stop as if its input had ended.
    Drained,
    /// It was cancelled.
    Cancelled,
}

/// See the module's documentation.
///
/// ```
/// # use millrace_core::checkpoint::{CheckpointId, CheckpointKind};
/// # use millrace_core::control::*;
/// let mut controller = Controller::new(true);
/// assert_eq!(controller.handle_running(), []);
/// let savepoint = Request::Savepoint { target: "file:///s".into() };
/// let (operation, orders) = controller.handle_request(savepoint).unwrap();
/// let kind = CheckpointKind::Savepoint;
/// assert_eq!(orders, [Order::Trigger { kind, operation: Some(operation) }]);
/// ```
#[derive(Debug, Clone)]
pub struct Controller {
    /// Checkpoints are taken: a stop ends with one, and so does the end of all input.
    durable: bool,
    phase: Phase,
    stop: Option<Stop>,
    /// A signal asked for the end: no restart follows a failure.
    signalled: bool,
    cancel: Option<OperationId>,
    /// All subtasks of the attempt have seen the end of their input.
    finished: bool,
    /// Nothing can be called off any more: the last checkpoint is complete, or sinks were told to commit.
    committing: bool,
    operations: BTreeMap<OperationId, Operation>,
    next: u64,
}

impl Controller {
    /// Of a job whose first attempt begins. `durable`: it takes checkpoints.
    pub fn new(durable: bool) -> Self {
        Controller {
            durable,
            phase: Phase::Starting,
            stop: None,
            signalled: false,
            cancel: None,
            finished: false,
            committing: false,
            operations: BTreeMap::new(),
            next: 1,
        }
    }

    /// What the job is doing, for people.
    pub fn state(&self) -> State {
        match (self.phase, self.cancel, self.stop) {
            (Phase::Ended, _, _) => State::Ended,
            (_, Some(_), _) => State::Cancelling,
            (_, _, Some(Stop { drain: true, .. })) => State::Draining,
            (_, _, Some(_)) => State::Stopping,
            (Phase::Starting, None, None) => State::Starting,
            (Phase::Running, None, None) => State::Running,
            (Phase::Restarting, None, None) => State::Restarting,
        }
    }

    /// An operation that is under way, or ended of late.
    pub fn operation(&self, id: OperationId) -> Option<&Operation> {
        self.operations.get(&id)
    }

    /// The operation that a checkpoint is taken for, and where its savepoint goes.
    pub fn savepoint_of(&self, id: CheckpointId) -> Option<(OperationId, &str)> {
        let of = |(_, operation): &(&OperationId, &Operation)| operation.checkpoint == Some(id);
        let (operation, found) = self.operations.iter().find(of)?;
        Some((*operation, found.request.target()?))
    }

    /// Whether the job is to end now, without a last checkpoint.
    pub fn is_cancelling(&self) -> bool {
        self.cancel.is_some() && !self.committing
    }

    /// Whether a failed attempt may be followed by another.
    pub fn may_restart(&self) -> bool {
        self.cancel.is_none() && !self.signalled
    }

    /// How a job ends that does not fail.
    pub fn end(&self) -> End {
        match self.stop {
            _ if self.is_cancelling() => End::Cancelled,
            Some(Stop {
                drain: true,
                begun: true,
                ..
            }) => End::Drained,
            Some(Stop { begun: true, .. }) => End::Stopped,
            Some(_) | None => End::Finished,
        }
    }

    /// Somebody wants something.
    ///
    /// # Errors
    /// If the job cannot do that in its state.
    pub fn handle_request(&mut self, request: Request) -> Result<(OperationId, Vec<Order>), Refused> {
        self.check(&request)?;
        if let (Request::Cancel, Some(operation)) = (&request, self.cancel) {
            return Ok((operation, Vec::new()));
        }
        let id = OperationId(self.next);
        self.next += 1;
        let orders = match &request {
            Request::Savepoint { .. } => vec![Order::Trigger {
                kind: CheckpointKind::Savepoint,
                operation: Some(id),
            }],
            Request::Stop { savepoint, drain } => {
                self.stop = Some(Stop {
                    operation: Some(id),
                    savepoint: savepoint.is_some(),
                    drain: *drain,
                    begun: false,
                });
                self.begin_stop()
            }
            Request::Cancel => {
                self.cancel = Some(id);
                vec![Order::Cancel]
            }
        };
        self.operations.insert(
            id,
            Operation {
                request,
                status: Status::Waiting,
                checkpoint: None,
            },
        );
        self.forget_old();
        Ok((id, orders))
    }

    fn check(&self, request: &Request) -> Result<(), Refused> {
        let under_way = self
            .operations
            .values()
            .filter(|operation| !operation.status.has_ended());
        let too_many = under_way.count() >= OPERATIONS_MAX;
        match request {
            _ if self.phase == Phase::Ended || self.committing => Err(Refused::Ended),
            Request::Cancel => Ok(()),
            _ if self.cancel.is_some() => Err(Refused::Cancelling),
            _ if self.stop.is_some() => Err(Refused::Stopping),
            _ if self.finished => Err(Refused::Finishing),
            _ if too_many => Err(Refused::TooMany),
            Request::Stop { .. } => Ok(()),
            Request::Savepoint { .. } => match self.phase {
                Phase::Running => Ok(()),
                Phase::Starting => Err(Refused::Starting),
                Phase::Restarting => Err(Refused::Restarting),
                Phase::Ended => Err(Refused::Ended),
            },
        }
    }

    /// The process was told to end.
    pub fn handle_signal(&mut self) -> Vec<Order> {
        self.signalled = true;
        if self.stop.is_some() || self.cancel.is_some() || self.phase == Phase::Ended {
            return Vec::new();
        }
        self.stop = Some(Stop {
            operation: None,
            savepoint: false,
            drain: false,
            begun: false,
        });
        self.begin_stop()
    }

    /// All subtasks of an attempt are restored and run.
    pub fn handle_running(&mut self) -> Vec<Order> {
        assert!(self.phase != Phase::Ended, "an attempt began behind the end");
        self.phase = Phase::Running;
        self.finished = false;
        self.begin_stop()
    }

    fn begin_stop(&mut self) -> Vec<Order> {
        let (durable, phase) = (self.durable, self.phase);
        let Some(stop) = self.stop.as_mut().filter(|stop| !stop.begun) else {
            return Vec::new();
        };
        if phase != Phase::Running {
            return vec![Order::Hurry];
        }
        stop.begun = true;
        let (kind, operation) = (CheckpointKind::Stop, stop.operation);
        vec![match stop {
            Stop { drain: true, .. } => Order::Drain,
            Stop { savepoint: true, .. } => Order::Trigger { kind, operation },
            Stop { .. } if durable => Order::Trigger { kind, operation },
            Stop { .. } => Order::EndSources,
        }]
    }

    /// All subtasks have seen the end of their input.
    pub fn handle_finished(&mut self) -> Vec<Order> {
        self.finished = true;
        let last = match self.stop {
            _ if self.cancel.is_some() => None,
            Some(Stop {
                drain: true,
                savepoint,
                operation,
                ..
            }) if self.durable || savepoint => Some((CheckpointKind::Stop, operation)),
            // It has a last checkpoint already, or needs none.
            Some(Stop { begun: true, .. }) => None,
            Some(_) | None => self.durable.then_some((CheckpointKind::Final, None)),
        };
        match last {
            Some((kind, operation)) => vec![Order::Trigger { kind, operation }],
            None => self.commit_if_over(),
        }
    }

    /// Without a last checkpoint the job is over once all that was asked of it is in.
    fn commit_if_over(&mut self) -> Vec<Order> {
        let has_last = self.durable || self.stop.is_some_and(|stop| stop.savepoint);
        let waits = |operation: &Operation| {
            operation.status == Status::Waiting && matches!(operation.request, Request::Savepoint { .. })
        };
        let over = self.finished && !has_last && self.cancel.is_none() && !self.operations.values().any(waits);
        if !over || std::mem::replace(&mut self.committing, true) {
            return Vec::new();
        }
        vec![Order::Commit]
    }

    /// The coordinator has taken an [`Order::Trigger`] under this id.
    pub fn handle_triggered(&mut self, operation: Option<OperationId>, id: CheckpointId) {
        if let Some(operation) = operation.and_then(|operation| self.operations.get_mut(&operation)) {
            operation.checkpoint = Some(id);
        }
    }

    /// The coordinator has refused an [`Order::Trigger`].
    pub fn handle_not_triggered(&mut self, operation: Option<OperationId>, why: NotTriggered) -> Vec<Order> {
        let Some(operation) = operation else { return Vec::new() };
        self.fail(operation, Failure::NotTriggered(why));
        self.commit_if_over()
    }

    /// The state of a savepoint is complete: its operation, which now waits until it is written. `None`: nobody wants
    /// it any more.
    pub fn handle_held(&mut self, id: CheckpointId) -> Option<OperationId> {
        let (found, _) = self.savepoint_of(id)?;
        let operation = self.operations.get_mut(&found)?;
        (operation.status == Status::Waiting).then(|| {
            operation.status = Status::Writing;
            found
        })
    }

    /// A savepoint that was held is written, or could not be.
    pub fn handle_written(&mut self, operation: OperationId, failure: Option<Failure>) -> Vec<Order> {
        match failure {
            None => self.end_operation(operation, Status::Completed),
            Some(failure) => self.fail(operation, failure),
        }
        self.commit_if_over()
    }

    /// A checkpoint of this kind is complete.
    pub fn handle_complete(&mut self, kind: CheckpointKind) {
        self.committing |= matches!(kind, CheckpointKind::Stop | CheckpointKind::Final);
    }

    /// A checkpoint came to nothing.
    pub fn handle_aborted(&mut self, id: CheckpointId, reason: &AbortReason) -> Vec<Order> {
        let of = |(_, operation): &(&OperationId, &Operation)| operation.checkpoint == Some(id);
        if let Some((&operation, _)) = self.operations.iter().find(of) {
            self.fail(operation, Failure::Aborted(reason.clone()));
        }
        self.commit_if_over()
    }

    /// The attempt has failed. What waited for it comes to nothing.
    pub fn handle_failed(&mut self) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Restarting;
        }
        if self.committing {
            return; // All that is left to do is to commit.
        }
        let waits = |(_, operation): &(&OperationId, &Operation)| {
            operation.status == Status::Waiting && operation.request != Request::Cancel
        };
        let waiting: Vec<OperationId> = self.operations.iter().filter(waits).map(|(id, _)| *id).collect();
        for id in waiting {
            self.fail(id, Failure::JobFailed);
        }
        if let Some(stop) = &mut self.stop {
            stop.begun = false;
        }
    }

    /// The job has ended: well, or with an error.
    pub fn handle_ended(&mut self, well: bool) {
        let end = self.end();
        self.phase = Phase::Ended;
        for operation in self
            .operations
            .values_mut()
            .filter(|operation| !operation.status.has_ended())
        {
            let done = match operation.request {
                Request::Savepoint { .. } => false,
                Request::Stop { drain, .. } => end == if drain { End::Drained } else { End::Stopped },
                Request::Cancel => end == End::Cancelled,
            };
            operation.status = match end {
                _ if done && well => Status::Completed,
                End::Cancelled => Status::Failed(Failure::Cancelled),
                End::Finished | End::Stopped | End::Drained => Status::Failed(Failure::JobEnded),
            };
        }
    }

    /// An operation comes to nothing; if it is the stop, the job goes on, unless a signal has asked for it too.
    fn fail(&mut self, id: OperationId, failure: Failure) {
        self.end_operation(id, Status::Failed(failure));
        if self.stop.is_some_and(|stop| stop.operation == Some(id)) {
            self.stop = self.signalled.then_some(Stop {
                operation: None,
                savepoint: false,
                drain: false,
                begun: false,
            });
        }
    }

    fn end_operation(&mut self, id: OperationId, status: Status) {
        if let Some(operation) = self
            .operations
            .get_mut(&id)
            .filter(|operation| !operation.status.has_ended())
        {
            operation.status = status;
        }
    }

    fn forget_old(&mut self) {
        let ended = self
            .operations
            .iter()
            .filter(|(_, operation)| operation.status.has_ended());
        let ended: Vec<OperationId> = ended.map(|(id, _)| *id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(OPERATIONS_KEPT)) {
            self.operations.remove(id);
        }
    }
}

#[cfg(test)]
mod tests;
