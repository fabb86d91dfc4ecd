//! The driver of one process: carries out what coordinator and restarts decide, by the rules that they ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_core::block::WATERMARK_MAX;
use millrace_core::checkpoint::{
    AbortReason, Action, CheckpointId, CheckpointKind, CheckpointMode, Coordinator, Decision, Participant, Restarts,
};
use millrace_core::control::{Controller, Failure, OperationId, Status};

use crate::attempt::Attempt;
use crate::job::{Job, chance};
use crate::outside::{Part, Storage, Stored};
use crate::world::{Event, Fault, Message, Point, Sabotage, World, note};

mod requests;

/// An attempt, from the beginning of its restore.
pub(crate) struct Running {
    pub(crate) state: Attempt,
    pub(crate) running: bool,
    restored: usize,
    from: Option<Stored>,
}

pub(crate) struct Process {
    coordinator: Coordinator,
    controller: Controller,
    /// What was taken: each has to come to one end.
    operations: BTreeMap<OperationId, Option<Status>>,
    /// Written by this process for those who asked.
    written: BTreeSet<OperationId>,
    restarts: Restarts,
    pub(crate) attempt: Option<Running>,
    /// What subtasks have handed over for what is not stored yet.
    parts: BTreeMap<CheckpointId, BTreeMap<u32, Part>>,
    /// Discards under way.
    discards: BTreeSet<CheckpointId>,
    /// Completed here, or found when the process began.
    completed: BTreeSet<CheckpointId>,
    /// Completed here and the user's: to be there to the end.
    savepoints: BTreeSet<CheckpointId>,
    deadline: Option<u64>,
    /// The last checkpoint is committed everywhere: the process may go.
    leaving: bool,
    /// Parallelism of each task in the last attempt.
    shape: Vec<u32>,
    /// Rows under way are let through by the subtasks of a checkpoint, before others take over.
    pub(crate) settles: bool,
    /// They are through, and a checkpoint is complete behind them.
    settled: bool,
    /// It was cancelled, and may go as soon as nothing is being stored.
    cancelled: bool,
}

impl Process {
    pub(crate) fn new(
        job: &Job,
        number: u64,
        latest: Option<(CheckpointId, CheckpointKind)>,
        storage: &Storage,
    ) -> Self {
        let next = storage.last_key_value().map_or(1, |(id, _)| id.0 + 1);
        let mut coordinator = Coordinator::new(job.config.clone(), CheckpointId(next)).expect("options make sense");
        if let Some((latest, _)) = latest {
            let retained = storage.iter().filter(|(_, stored)| !stored.kind.is_savepoint());
            coordinator = coordinator.resuming(latest, retained.map(|(id, _)| *id));
        }
        Process {
            coordinator,
            controller: Controller::new(true),
            operations: BTreeMap::new(),
            written: BTreeSet::new(),
            restarts: Restarts::new(job.restarts.parse().expect("a strategy"), number),
            attempt: None,
            parts: BTreeMap::new(),
            discards: BTreeSet::new(),
            completed: storage.keys().copied().collect(),
            savepoints: BTreeSet::new(),
            deadline: None,
            leaving: false,
            shape: Vec::new(),
            settles: false,
            settled: false,
            cancelled: false,
        }
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    /// Whether nothing may turn up behind a restart's back.
    fn is_quiet(&self) -> bool {
        self.coordinator.stores_under_way() == 0 && self.discards.is_empty()
    }
}

impl World<'_> {
    /// Tells the coordinator something and does what it answers.
    pub(crate) fn coordinate(&mut self, tell: impl FnOnce(&mut Coordinator, Duration) -> Vec<Action>) {
        let now = self.now();
        let actions = tell(&mut self.process.coordinator, now);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            note!(self, "{action:?}");
            match action {
                Action::Trigger { id, kind } => self.tell_subtasks(&Message::Announced(id, kind)),
                Action::Unalign { id } if !self.process.settles => self.tell_subtasks(&Message::Unaligned(id)),
                Action::Unalign { .. } => {}
                Action::Store { id, kind } => self.store(id, kind),
                Action::Complete { id, kind } => self.complete(id, kind),
                Action::Abort { id, reason } => {
                    self.process.parts.remove(&id);
                    let orders = self.process.controller.handle_aborted(id, &reason);
                    assert_eq!(orders, [], "a job with checkpoints ends with one");
                    self.met.count(match reason {
                        AbortReason::JobFailed => "aborted: job failed",
                        AbortReason::Timeout => "aborted: timeout",
                        AbortReason::Declined(..) => "aborted: declined",
                        AbortReason::StoreFailed(_) => "aborted: store failed",
                        AbortReason::Subsumed(_) => "aborted: subsumed",
                    });
                    self.tell_subtasks(&Message::Cancelled(id));
                }
                Action::Discard { id } => {
                    let aborted = !self.process.completed.contains(&id);
                    if self.sabotage != Sabotage::ForgetDiscards || !aborted {
                        self.process.discards.insert(id);
                        self.after(60, Event::Discarded(id));
                    }
                }
                Action::FailJob { .. } => {
                    self.met.count("job failed by checkpoints");
                    self.fault = self.fault.max(Some(Fault::Subtask));
                }
            }
        }
        let deadline = self.process.coordinator.next_deadline();
        self.process.deadline = deadline.map(|deadline| deadline.as_millis() as u64);
        let retained = self.process.coordinator.retained().count();
        let found = self.job.config.retained as usize;
        assert!(
            retained <= found || self.processes > 0,
            "more are retained than were asked for"
        );
    }

    fn tell_subtasks(&mut self, message: &Message) {
        let Some(running) = &self.process.attempt else { return };
        let (attempt, count) = (self.attempts, running.state.subtasks.len());
        for at in 0..count {
            let arrival = self.now + 1 + self.random.below(30) as u64;
            let running = self.process.attempt.as_mut().expect("it was there");
            let last = &mut running.state.subtasks[at].last_message;
            *last = arrival.max(*last);
            let arrival = *last;
            self.at(arrival, Event::Message(attempt, at, message.clone()));
        }
    }

    /// Writes a checkpoint, which takes its time and may fail, with or without leaving it there.
    fn store(&mut self, id: CheckpointId, kind: CheckpointKind) {
        self.maybe_fail(Point::AllAcknowledged);
        let parts = self.process.parts.remove(&id).expect("all have acknowledged");
        let stored = Stored {
            kind,
            shape: self.process.shape.clone(),
            parts: parts.into_values().collect(),
        };
        let slow = self.maybe_trouble(6);
        let most = if slow { 10_000 } else { 60 };
        let at = self.now + 1 + self.random.below(most) as u64;
        let heard = at + 1 + self.random.below(20) as u64;
        let fails = self.maybe_trouble(5);
        if self.sabotage == Sabotage::CompleteBeforeStored {
            self.at(self.now + 1, Event::Stored(id));
            self.at(at + 200, Event::Lands(id, Box::new(stored), u64::MAX, true));
        } else if fails && chance(&mut self.random, 50) {
            self.met.count("store failed and was not there");
            self.at(heard, Event::StoreFailed(id));
        } else {
            self.at(at, Event::Lands(id, Box::new(stored), heard, !fails));
        }
    }

    fn complete(&mut self, id: CheckpointId, kind: CheckpointKind) {
        self.maybe_fail(Point::Complete);
        self.met.count(match kind {
            CheckpointKind::Periodic => "complete: periodic",
            CheckpointKind::Savepoint => "complete: savepoint",
            CheckpointKind::Stop => "complete: stop",
            CheckpointKind::Final => "complete: final",
        });
        self.process.completed.insert(id);
        self.process.controller.handle_complete(kind);
        if kind == CheckpointKind::Savepoint
            && let Some(operation) = self.process.controller.handle_held(id)
        {
            let most = if self.maybe_trouble(10) { 2_000 } else { 100 };
            let good = !self.maybe_trouble(5);
            self.after(most, Event::Written(operation, good));
        }
        if kind.is_savepoint() {
            self.process.savepoints.insert(id);
        }
        if kind.commits() {
            let is_last = self.process.coordinator.has_ended();
            self.tell_subtasks(&Message::Complete(id, is_last));
            self.process.settled = self.process.settles && !is_last;
        }
    }

    pub(crate) fn handle(&mut self, event: Event) {
        let current = self.attempts;
        match event {
            Event::Ack(id, from, part) => {
                // Of a checkpoint that was aborted meanwhile nothing is kept.
                self.process.parts.entry(id).or_default().insert(from, *part);
                self.coordinate(|coordinator, now| coordinator.handle_ack(id, Participant(from), now));
                self.maybe_fail(Point::Acknowledged);
            }
            Event::Decline(id, from, reason) => {
                self.coordinate(|coordinator, now| coordinator.handle_decline(id, Participant(from), reason, now));
            }
            Event::Lands(id, stored, heard, good) => {
                self.storage.insert(id, *stored);
                self.maybe_fail(Point::Durable);
                if heard != u64::MAX {
                    self.at(
                        heard,
                        if good {
                            Event::Stored(id)
                        } else {
                            Event::StoreFailed(id)
                        },
                    );
                }
            }
            Event::Stored(id) => self.coordinate(|coordinator, now| coordinator.handle_stored(id, now)),
            Event::StoreFailed(id) => {
                self.coordinate(|coordinator, now| coordinator.handle_store_failed(id, "disk".to_owned(), now));
            }
            Event::Discarded(id) => {
                assert!(!self.process.savepoints.contains(&id), "a savepoint was discarded");
                self.storage.remove(&id);
                self.process.discards.remove(&id);
            }
            Event::Message(attempt, at, message) if attempt == current && self.process.attempt.is_some() => {
                self.receive(at, message);
            }
            Event::Finished(attempt) if attempt == current => self.handle_finished(),
            Event::Committed(attempt) if attempt == current => self.handle_committed(),
            Event::RestoreStep(attempt) if attempt == current => self.restore_step(),
            Event::Message(..) | Event::Finished(_) | Event::Committed(_) | Event::RestoreStep(_) => {}
            Event::Restart => self.begin_restore(),
            Event::Request(request) => self.request(request),
            Event::Signal => {
                let orders = self.process.controller.handle_signal();
                note!(self, "a signal");
                self.carry_out(orders);
            }
            Event::Written(operation, good) => {
                let failure = (!good).then(|| Failure::Unwritten("disk".to_owned()));
                self.process.written.insert(operation);
                self.process.controller.handle_written(operation, failure);
            }
        }
        self.watch_operations();
        if self.process.cancelled && self.process.is_quiet() && self.fault.is_none() {
            self.leave_cancelled();
        }
        if self.process.settled && self.fault.is_none() {
            self.end_settling();
        }
        if self.process.leaving && self.process.is_quiet() && self.fault.is_none() {
            self.leave();
        }
    }

    fn handle_finished(&mut self) {
        let Some(running) = &mut self.process.attempt else {
            return;
        };
        running.state.finished += 1;
        if running.state.finished == running.state.subtasks.len() && !self.process.settles {
            let orders = self.process.controller.handle_finished();
            self.carry_out(orders);
        }
    }

    fn handle_committed(&mut self) {
        let Some(running) = &mut self.process.attempt else {
            return;
        };
        running.state.committed += 1;
        if running.state.committed == running.state.subtasks.len() {
            note!(self, "the last checkpoint is committed");
            self.process.leaving = true;
            self.process.attempt = None;
            self.attempts += 1;
        }
    }

    /// The process has done all it can: the job is over, or goes on from where it was stopped.
    fn leave(&mut self) {
        for id in &self.process.savepoints {
            assert!(self.storage.contains_key(id), "savepoint {id} is gone");
        }
        let coordinator = &self.process.coordinator;
        for id in coordinator.retained() {
            assert!(self.storage.contains_key(&id), "{id} is retained, but gone");
        }
        let regular = self.storage.iter().filter(|(_, stored)| !stored.kind.is_savepoint());
        let (there, retained) = (regular.count(), self.job.config.retained as usize);
        let latest = coordinator.latest().expect("the last one is complete");
        let kind = self.storage[&latest].kind;
        // A stop does not count among the retained, and so discards none.
        let is_counted = kind == CheckpointKind::Final && self.sabotage == Sabotage::Nothing;
        assert!(there <= retained || !is_counted, "{there} are left of {retained}");
        self.end_operations();
        match kind {
            CheckpointKind::Final => self.done = true,
            CheckpointKind::Stop => self.start_process(),
            CheckpointKind::Periodic | CheckpointKind::Savepoint => panic!("{latest} is not a last one"),
        }
    }

    /// What was under way is through: other subtasks take over.
    fn end_settling(&mut self) {
        note!(self, "settled");
        self.met.count("settled");
        self.attempts += 1;
        self.process.attempt = None;
        self.process.settled = false;
        self.coordinate(|coordinator, now| coordinator.handle_failed(now));
        self.at(self.now + 1, Event::Restart);
    }

    /// A subtask has failed, and with it the attempt.
    pub(crate) fn fail_attempt(&mut self) {
        self.attempts += 1;
        self.process.attempt = None;
        self.process.leaving = false;
        self.process.settled = false;
        self.coordinate(|coordinator, now| coordinator.handle_failed(now));
        self.process.controller.handle_failed();
        self.watch_operations();
        self.fault = None;
        if self.process.cancelled {
            return;
        }
        let may_restart = self.process.controller.may_restart() || self.process.coordinator.has_ended();
        match self.process.restarts.handle_failure(self.now()) {
            Decision::Restart { .. } if !may_restart => {
                note!(self, "not restarted: a signal has asked for the end");
                self.met.count("not restarted");
                self.crash();
            }
            Decision::Restart { after } => {
                note!(self, "restart after {after:?}");
                self.at(self.now + 1 + after.as_millis() as u64, Event::Restart);
            }
            Decision::Fail { why } => {
                note!(self, "failed for good: {why}");
                self.met.count("failed for good");
                self.crash();
            }
        }
    }

    /// Begins an attempt where the latest checkpoint is, as soon as nothing can turn up behind its back.
    pub(crate) fn begin_restore(&mut self) {
        if self.process.attempt.is_some() || self.process.leaving || self.process.cancelled {
            return;
        }
        if !self.process.is_quiet() {
            self.at(self.now + 5, Event::Restart);
            return;
        }
        let latest = self.process.coordinator.latest();
        assert!(
            latest >= self.committed,
            "restored from {latest:?}, but {:?} was committed",
            self.committed
        );
        let from = latest.map(|id| self.storage.get(&id).unwrap_or_else(|| panic!("{id} is gone")).clone());
        assert!(from.as_ref().is_none_or(|from| from.kind.commits()));
        if from.is_some() && chance(&mut self.random, 30) {
            self.job.rescale(&mut self.random);
            self.met.count("rescaled");
        }
        self.attempts += 1;
        let in_flight = from.as_ref().filter(|from| from.has_in_flight());
        let rescaled = in_flight.filter(|from| from.shape != self.job.shape());
        let settles = rescaled.is_some() && self.sabotage != Sabotage::ForgetInFlight;
        self.process.settles = settles;
        let mut job = match rescaled.filter(|_| settles) {
            Some(from) => self.job.clone().shaped(&from.shape),
            None => self.job.clone(),
        };
        if self.sabotage == Sabotage::NoBlocking {
            job.config.mode = CheckpointMode::AtLeastOnce;
        }
        let mut state = Attempt::new(&job);
        let parts: &[Part] = from.as_ref().map_or(&[], |from| &from.parts);
        let is_stop = from.as_ref().is_some_and(|from| from.kind == CheckpointKind::Stop);
        self.drained |= is_stop && parts.iter().any(|part| part.watermark == WATERMARK_MAX);
        state.restore(&job, parts, settles);
        self.process.shape = job.shape();
        let same_shape = from.as_ref().is_some_and(|from| from.shape == job.shape());
        if same_shape && self.sabotage != Sabotage::ForgetInFlight {
            state.restore_channels(parts, settles);
        }
        for subtask in &mut state.subtasks {
            subtask.slowness = 1 + self.random.below(4);
            if self.sabotage == Sabotage::SkipARow && from.is_some() {
                for (split, read) in &mut subtask.splits {
                    *read = (*read + 1).min(job.tasks[subtask.task].splits[*split].len());
                }
            }
        }
        note!(self, "attempt {} restores {latest:?}", self.attempts);
        self.process.attempt = Some(Running {
            state,
            running: false,
            restored: 0,
            from,
        });
        let attempt = self.attempts;
        self.after(10, Event::RestoreStep(attempt));
    }

    /// Restores a part after the other: first all commits, then sinks abort what nobody will commit.
    fn restore_step(&mut self) {
        self.maybe_fail(Point::Restoring);
        let Some(running) = self.process.attempt.as_mut() else {
            return;
        };
        let committables = running
            .from
            .iter()
            .flat_map(|from| &from.parts)
            .flat_map(|part| &part.committables);
        let next = committables.clone().nth(running.restored).copied();
        let count = committables.count();
        running.restored += 1;
        let attempt = self.attempts;
        match next {
            _ if self.fault.is_some() => {}
            Some(transaction) => {
                self.outside.commit(transaction);
                self.committed = self.committed.max(self.process.coordinator.latest());
                self.after(5, Event::RestoreStep(attempt));
            }
            None if running.restored == count + 1 => {
                self.maybe_fail(Point::RestoredCommits);
                self.after(5, Event::RestoreStep(attempt));
            }
            None => self.begin_running(),
        }
    }

    fn begin_running(&mut self) {
        (0..self.job.tasks.len()).for_each(|task| self.outside.abort(task));
        let running = self.process.attempt.as_mut().expect("it is being restored");
        let participants = running.state.subtasks.len() as u32;
        if running
            .from
            .as_ref()
            .is_some_and(|from| from.kind == CheckpointKind::Final)
        {
            note!(self, "nothing is left to do");
            self.end_operations();
            self.done = true;
            return;
        }
        if self.process.coordinator.has_ended() {
            // The stop was complete, but not committed everywhere.
            note!(self, "stopped after a restart");
            self.end_operations();
            self.start_process();
            return;
        }
        running.running = true;
        self.coordinate(|coordinator, now| coordinator.handle_running(participants, now));
        let settles = self.process.settles;
        note!(self, "attempt {} runs, settling: {settles}", self.attempts);
        if settles {
            self.trigger(CheckpointKind::Periodic, None);
            return;
        }
        let orders = self.process.controller.handle_running();
        self.carry_out(orders);
    }
}
