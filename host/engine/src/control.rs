//! What a job's handles, its API and its supervisor share: requests and what became of them, and the job's end.
//!
//! Requests are decided at once, by whoever makes them, under one lock
//! ([`Controller`]); what follows from them is queued as [`Order`]s, which the supervisor carries out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_core::block::Millis;
use millrace_core::checkpoint::CheckpointId;
use millrace_core::control::{Controller, End, Failure, OperationId, Order, Request, State, Status};
use millrace_core::{Error, Result};

use crate::checkpointing::CheckpointStatistics;
use crate::worker::{Attempt, Event};

/// A savepoint that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavepointReport {
    /// Where it is.
    pub url: String,
    /// Number of its checkpoint in the run.
    pub checkpoint: u64,
    /// When its state was complete.
    pub taken_ms: Millis,
    /// Operators in it.
    pub operators: usize,
    /// Keys, and keys of windows.
    pub entries: u64,
    /// Bytes of its tables.
    pub bytes: u64,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub struct OperationReport {
    /// Its number in this process of the job.
    pub id: OperationId,
    /// What was asked for.
    pub request: Request,
    /// Whether nothing more becomes of it.
    pub ended: bool,
    /// The savepoint, once it is written.
    pub savepoint: Option<SavepointReport>,
    /// Why it came to nothing, if it did.
    pub error: Option<Error>,
}

/// Asks something of a running job. Cheap to clone; may be used from any thread.
#[derive(Clone)]
pub struct JobControl(pub(crate) Arc<Control>);

impl JobControl {
    /// What the job is doing.
    pub fn state(&self) -> State {
        self.0.state().controller.state()
    }

    /// Asks for something; what becomes of it is said by [`operation`](Self::operation).
    ///
    /// # Errors
    /// `AP0003` if the job cannot do it in its state; what is wrong with the place of a savepoint.
    pub fn request(&self, request: Request) -> Result<OperationId> {
        if let Some(target) = request.target() {
            // Before anything is stopped for it.
            millrace_state::savepoint::check_target(target)?;
        }
        self.0.request(request)
    }

    /// What became of a request; `None`: there was none, or it is long over.
    pub fn operation(&self, id: OperationId) -> Option<OperationReport> {
        self.wait_operation(id, Duration::ZERO)
    }

    /// The same, as soon as nothing more becomes of it, or after a while.
    pub fn wait_operation(&self, id: OperationId, longest: Duration) -> Option<OperationReport> {
        let under_way = |state: &mut ControlState| state.report(id).is_some_and(|report| !report.ended);
        let waited = self.0.changed.wait_timeout_while(self.0.state(), longest, under_way);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let report = state.report(id)?;
        if report.ended {
            state.told.insert(id);
            self.0.changed.notify_all();
        }
        Some(report)
    }
}

/// See the module's documentation.
pub(crate) struct Control {
    state: Mutex<ControlState>,
    changed: Condvar,
}

pub(crate) struct ControlState {
    controller: Controller,
    /// What is to be done, in order.
    orders: VecDeque<Order>,
    /// To the supervisor of the attempt that runs.
    events: Option<Sender<Event>>,
    attempt: Option<Attempt>,
    ended: bool,
    statistics: CheckpointStatistics,
    /// Rows, timers and windows in quarantine.
    quarantined: u64,
    /// Why the last attempt failed.
    failure: Option<String>,
    savepoints: BTreeMap<OperationId, SavepointReport>,
    errors: BTreeMap<OperationId, Error>,
    asked: BTreeSet<OperationId>,
    /// Whose end somebody was told.
    told: BTreeSet<OperationId>,
}

impl ControlState {
    fn report(&self, id: OperationId) -> Option<OperationReport> {
        let operation = self.controller.operation(id)?;
        let error = match &operation.status {
            Status::Failed(failure) => Some(self.error(id, &operation.request, failure)),
            Status::Waiting | Status::Writing | Status::Completed => None,
        };
        // The end of the job is not the end of its process: it is still to be reported.
        let ended = operation.status.has_ended()
            && (self.ended || matches!(operation.request, Request::Savepoint { .. }) || error.is_some());
        Some(OperationReport {
            id,
            request: operation.request.clone(),
            ended,
            savepoint: self.savepoints.get(&id).cloned(),
            error,
        })
    }

    fn error(&self, id: OperationId, request: &Request, failure: &Failure) -> Error {
        match (request, self.errors.get(&id)) {
            (_, Some(error)) => error.clone(),
            (Request::Savepoint { .. }, None) => {
                Error::external("AP0004", format!("the savepoint came to nothing: {failure}"))
            }
            (Request::Stop { .. }, None) => Error::external("AP0005", format!("the stop came to nothing: {failure}")),
            (Request::Cancel, None) => Error::external("AP0006", format!("the cancel came too late: {failure}")),
        }
    }
}

impl Control {
    pub(crate) fn new(durable: bool) -> Self {
        Control {
            state: Mutex::new(ControlState {
                controller: Controller::new(durable),
                orders: VecDeque::new(),
                events: None,
                attempt: None,
                ended: false,
                statistics: CheckpointStatistics::default(),
                quarantined: 0,
                failure: None,
                savepoints: BTreeMap::new(),
                errors: BTreeMap::new(),
                asked: BTreeSet::new(),
                told: BTreeSet::new(),
            }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, request: Request) -> Result<OperationId> {
        let mut state = self.state();
        let taken = state.controller.handle_request(request);
        let (id, orders) = taken.map_err(|refused| Error::user("AP0003", refused.to_string()))?;
        state.asked.insert(id);
        self.order(state, orders);
        Ok(id)
    }

    /// The process was told to end.
    pub(crate) fn signal(&self) {
        let mut state = self.state();
        let orders = state.controller.handle_signal();
        self.order(state, orders);
    }

    /// Tells the controller something; the supervisor carries out what it answers.
    pub(crate) fn tell(&self, tell: impl FnOnce(&mut Controller) -> Vec<Order>) {
        let mut state = self.state();
        let orders = tell(&mut state.controller);
        self.order(state, orders);
    }

    fn order(&self, mut state: MutexGuard<'_, ControlState>, orders: Vec<Order>) {
        if !orders.is_empty() {
            state.orders.extend(orders);
            if let Some(events) = &state.events {
                // Who does not listen any more takes them the next time.
                let _ = events.send(Event::Orders);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Asks the controller something.
    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&Controller) -> T) -> T {
        ask(&self.state().controller)
    }

    pub(crate) fn next_order(&self) -> Option<Order> {
        self.state().orders.pop_front()
    }

    /// An attempt begins, or is over: whom to wake, and whom to ask.
    pub(crate) fn listen(&self, attempt: Option<(Sender<Event>, Attempt)>) {
        let (events, attempt) = attempt.unzip();
        let mut state = self.state();
        (state.events, state.attempt) = (events, attempt);
    }

    /// The attempt that runs.
    pub(crate) fn attempt(&self) -> Option<Attempt> {
        self.state().attempt.clone()
    }

    /// An attempt has failed. What was to be done in it is not any more.
    pub(crate) fn handle_failed(&self, error: &Error) {
        let mut state = self.state();
        state.orders.clear();
        state.failure = Some(error.to_string());
        state.controller.handle_failed();
        drop(state);
        self.changed.notify_all();
    }

    /// Who wants a checkpoint as a savepoint, and where.
    pub(crate) fn savepoint_of(&self, id: CheckpointId) -> Option<(OperationId, String)> {
        self.ask(|controller| {
            let savepoint = controller.savepoint_of(id);
            savepoint.map(|(operation, target)| (operation, target.to_owned()))
        })
    }

    /// The state of a savepoint is complete: who wants it, and where.
    pub(crate) fn hold(&self, id: CheckpointId) -> Option<(OperationId, String)> {
        let (_, target) = self.savepoint_of(id)?;
        Some((self.state().controller.handle_held(id)?, target))
    }

    /// A savepoint is written, or could not be.
    pub(crate) fn record(&self, operation: OperationId, result: &Result<SavepointReport>) {
        let mut state = self.state();
        match result {
            Ok(report) => _ = state.savepoints.insert(operation, report.clone()),
            Err(error) => _ = state.errors.insert(operation, error.clone()),
        }
    }

    /// Errs when the job was cancelled.
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        match self.ask(Controller::is_cancelling) {
            false => Ok(()),
            true => Err(Error::external(
                "AP0004",
                "the savepoint was given up: the job was cancelled",
            )),
        }
    }

    /// Whether a savepoint may hold what sinks have prepared.
    pub(crate) fn has_savepoint(&self) -> bool {
        !self.state().savepoints.is_empty()
    }

    pub(crate) fn end_of_job(&self) -> End {
        self.ask(Controller::end)
    }

    /// The savepoint that a stop has left.
    pub(crate) fn last_savepoint(&self) -> Option<SavepointReport> {
        let state = self.state();
        let of_stop = |id: &&OperationId| {
            let operation = state.controller.operation(**id);
            operation.is_some_and(|operation| matches!(operation.request, Request::Stop { .. }))
        };
        let stop = state.savepoints.keys().rev().find(of_stop)?;
        state.savepoints.get(stop).cloned()
    }

    /// The job has ended.
    pub(crate) fn end(&self, well: bool) {
        let mut state = self.state();
        if !state.ended {
            state.controller.handle_ended(well);
            state.ended = true;
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state().ended
    }

    pub(crate) fn statistics(&self) -> CheckpointStatistics {
        let state = self.state();
        CheckpointStatistics {
            quarantined: state.quarantined,
            ..state.statistics.clone()
        }
    }

    pub(crate) fn set_quarantined(&self, quarantined: u64) {
        self.state().quarantined = quarantined;
    }

    pub(crate) fn set_statistics(&self, statistics: CheckpointStatistics) {
        self.state().statistics = statistics;
    }

    pub(crate) fn last_failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Waits for the end, or for a while.
    pub(crate) fn wait_ended(&self, longest: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), longest, |state| !state.ended);
        drop(waited);
    }

    /// Waits until everybody knows what became of his request, or for a while.
    pub(crate) fn wait_told(&self, longest: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), longest, |state| !state.asked.is_subset(&state.told));
        drop(waited);
    }

    /// Waits before a restart; orders end it.
    pub(crate) fn wait_restart(&self, longest: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), longest, |state| state.orders.is_empty());
        drop(waited);
    }
}
