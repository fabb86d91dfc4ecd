//! Runs a job's attempts: starts the slots, has checkpoints taken, and starts again after a failure.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;

use std::time::Duration;

use millrace_core::checkpoint::{CheckpointConfig, CheckpointId, CheckpointKind, Decision, Restarts, Trap};
use millrace_core::control::{Controller, Failure, OperationId, Order};
use millrace_core::plan::SlotIndex;
use millrace_core::{Error, Fault, Result};
use millrace_state::codes::is_damage;
use millrace_state::{Checkpoints, Restorable, Run, Storage};
use millrace_wasm::LogLevel;

use crate::checkpointing::{CheckpointedJob, Checkpointing};
use crate::control::Control;
use crate::env::Clock;
use crate::quarantine::Traps;
use crate::restore::{self, Splits};
use crate::snapshot_tasks::{SnapshotTask, snapshot_tasks};
use crate::worker::{
    Attempt, CarefulEvent, Command, Event, Outcome, Shared, Slot, SlotJob, SlotReport, SlotWiring, Start, wire,
};

/// Stack of a slot's thread: the wasm stack, the host's calls under it, and room for deep schemas.
const SLOT_STACK_BYTES: usize = 8 << 20;

/// A job with checkpoints.
pub(crate) struct Durable {
    pub(crate) storage: Storage,
    pub(crate) restarts: Restarts,
    /// `None`: traps are failures like any other.
    pub(crate) traps: Option<Traps>,
    /// Where the run began, and begins again as long as it has no checkpoint.
    pub(crate) from: Option<String>,
}

impl Durable {
    /// An attempt has failed: when the job is to run again, if it is; and whether that was said already.
    fn restart_after(&mut self, trap: Option<Trap>, error: &Error, now: Duration) -> Option<(Duration, bool)> {
        if let Some(traps) = &mut self.traps {
            if traps.handle_failed(trap, error) {
                return Some((Duration::ZERO, true));
            }
            if traps.is_over() {
                return None;
            }
        }
        match self.restarts.handle_failure(now) {
            Decision::Restart { after } => Some((after, false)),
            Decision::Fail { .. } => None,
        }
    }
}

/// See the module's documentation.
pub(crate) struct Supervisor {
    pub(crate) job: Arc<SlotJob>,
    pub(crate) control: Arc<Control>,
    pub(crate) clock: Clock,
    pub(crate) tasks: Vec<SnapshotTask>,
    pub(crate) splits: Splits,
    /// Of a job that is not durable: as soon as somebody wants a savepoint.
    pub(crate) checkpointing: Option<Checkpointing>,
    /// Where that one keeps what savepoints are made of.
    pub(crate) scratch: String,
    pub(crate) run: String,
    /// `None`: a failure is the end.
    pub(crate) durable: Option<Durable>,
    /// Where the first attempt begins.
    pub(crate) checkpoint: Option<Restorable>,
    /// The trap that has ended the last attempt.
    pub(crate) trap: Option<Trap>,
}

impl Supervisor {
    /// Runs to the end: of all input, of a stop, or of all attempts.
    pub(crate) fn run(mut self) -> Result<Vec<SlotReport>> {
        let result = self.run_attempts();
        if let Some(checkpointing) = &mut self.checkpointing {
            checkpointing.savepoints.finish();
        }
        self.control.end(result.is_ok());
        result
    }

    fn run_attempts(&mut self) -> Result<Vec<SlotReport>> {
        let mut begin = Ok(self.checkpoint.take());
        let mut attempt = 0;
        loop {
            let ended = begin.and_then(|checkpoint| self.attempt(attempt, checkpoint.map(Arc::new)));
            let (Some(durable), Some(checkpointing)) = (&mut self.durable, &mut self.checkpointing) else {
                return match ended {
                    Ok(reports) => Ok(reports.unwrap_or_default()),
                    Err(error) => self.end_failed(error),
                };
            };
            let mut error = match ended {
                Ok(Some(reports)) => return Ok(reports),
                Ok(None) => {
                    checkpointing.settle()?;
                    // What goes wrong here and may pass counts as a failure of the next attempt.
                    begin = match self.recover() {
                        Err(failed) if !may_pass(&failed) => return Err(failed),
                        recovered => recovered,
                    };
                    continue;
                }
                Err(error) => error,
            };
            checkpointing.settle()?;
            let has_ended = checkpointing.coordinator.has_ended();
            let now = self.clock.elapsed();
            let after = durable.restart_after(self.trap.take(), &error, now);
            if has_ended {
                // All that was left to do was to commit.
                match self.recover() {
                    Ok(_) => return Ok(Vec::new()),
                    Err(failed) if may_pass(&failed) => error = failed,
                    Err(failed) => return Err(failed),
                }
            }
            let (after, quietly) = match after {
                Some(after) if self.control.ask(Controller::may_restart) => after,
                Some(_) | None => {
                    self.recover()?;
                    return self.end_failed(error);
                }
            };
            if !quietly {
                let seconds = after.as_secs_f64();
                let message = format!("the job failed and is restarted in {seconds:.1} s: {error}");
                (self.job.options.log)(LogLevel::Warn, &message);
            };
            self.control.wait_restart(after);
            if self.control.ask(Controller::is_cancelling) {
                self.recover()?;
                return self.end_failed(error);
            }
            let recovered = if has_ended { Err(error) } else { self.recover() };
            if let Some(checkpointing) = self.checkpointing.as_mut().filter(|_| !has_ended) {
                checkpointing.count_restart();
            }
            begin = match recovered {
                Err(failed) if !may_pass(&failed) => return Err(failed),
                recovered => recovered,
            };
            attempt += 1;
        }
    }

    /// No other attempt follows, as it should not if the job was cancelled.
    fn end_failed(&self, error: Error) -> Result<Vec<SlotReport>> {
        match self.control.ask(Controller::is_cancelling) {
            true => Ok(Vec::new()),
            false => Err(error),
        }
    }

    /// After a failed attempt: has sinks go back to the checkpoint that a restart begins with, and returns that.
    fn recover(&self) -> Result<Option<Restorable>> {
        let latest = self.latest()?;
        restore::recover_sinks(&self.job, latest.as_ref().map(Restorable::metadata))?;
        Ok(latest)
    }

    /// The checkpoint that a restart begins with.
    fn latest(&self) -> Result<Option<Restorable>> {
        let (Some(durable), Some(checkpointing)) = (&self.durable, &self.checkpointing) else {
            return Ok(None);
        };
        let coordinator = &checkpointing.coordinator;
        let Some(latest) = coordinator.latest() else {
            return durable.from.as_deref().map(restore::open).transpose();
        };
        let mut ids = coordinator.retained().filter(|id| *id < latest).collect::<Vec<_>>();
        ids.push(latest);
        restore::open_newest(&durable.storage, &self.job, &self.run, ids.into_iter().rev())
    }

    /// `None`: rows under way were let through and a checkpoint was taken, from which the job is to go on.
    fn attempt(&mut self, attempt: u32, checkpoint: Option<Arc<Restorable>>) -> Result<Option<Vec<SlotReport>>> {
        let (sender, events) = channel();
        let metadata = checkpoint.as_ref().map(|checkpoint| checkpoint.metadata());
        let settling = metadata.map(|metadata| restore::settling_plan(&self.job, &self.tasks, metadata));
        let (plan, tasks, settles) = match settling.transpose()?.flatten() {
            None => (self.job.plan.clone(), self.tasks.clone(), false),
            Some(plan) => {
                let tasks = snapshot_tasks(&plan, &self.job.graph, &self.job.ids);
                let message = "rows in flight are let through at the parallelism that the checkpoint was taken at";
                (self.job.options.log)(LogLevel::Info, message);
                (Arc::new(plan), tasks, true)
            }
        };
        let config = self.job.options.checkpoints.as_ref().map(|options| &options.config);
        let slots = plan.placement.slot_count();
        let shared = Arc::new(Shared::new(self.clock, slots, config, sender.clone()));
        shared.align(&plan);
        if let Some(checkpointing) = &mut self.checkpointing {
            checkpointing.prepare(&tasks, settles);
        }
        let stacked = self.stack_on(&tasks, checkpoint.as_deref())?;
        let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
        let wirings = wire(&plan, &ids, &shared.sleepers);
        let traps = self.durable.as_ref().and_then(|durable| durable.traps.as_ref());
        let careful = traps.map(Traps::careful).unwrap_or_default();
        let begin = (attempt, checkpoint, careful);
        let running = Attempt::new(&shared, &plan);
        let start = restore::start(&self.job, (plan.clone(), &tasks), settles, &self.splits, begin)?;
        self.control.listen(Some((sender, running)));
        let mut threads = Vec::new();
        for (index, wiring) in plan.placement.slots().zip(wirings) {
            match spawn(index, self.job.clone(), start.clone(), shared.clone(), wiring) {
                Ok(thread) => threads.push(thread),
                // The slots already started wait for this one: let them go.
                Err(error) => {
                    shared.fail(error);
                    break;
                }
            }
        }
        drop(start);
        let outcome = self.watch(&shared, slots, &events, stacked);
        self.control.listen(None);
        let settled = self.has_settled() && !shared.has_failed();
        if settled {
            shared.give_up();
        }
        if let (Some(checkpointing), true) = (&mut self.checkpointing, shared.has_failed()) {
            checkpointing.handle_failed(&shared);
        }
        shared.decide(outcome);
        let mut reports = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(Ok(report)) => reports.push(report),
                Ok(Err(error)) => shared.fail(error),
                Err(_) => shared.fail(Error::internal("a slot's thread panicked")),
            }
        }
        self.trap = shared.trap();
        let error = match shared.error() {
            Some(error) => error,
            None if settled => return Ok(None),
            None if shared.has_failed() => Error::external("AP0006", "the job was cancelled"),
            None => return Ok(Some(reports)),
        };
        self.control.handle_failed(&error);
        Err(error)
    }

    /// Whether the attempt was to let rows under way through, and has.
    fn has_settled(&self) -> bool {
        self.checkpointing.as_ref().is_some_and(Checkpointing::has_settled)
    }

    /// Whether snapshots can be increments to what the attempt begins with.
    fn stack_on(&self, tasks: &[SnapshotTask], restored: Option<&Restorable>) -> Result<bool> {
        let Some(checkpointing) = &self.checkpointing else {
            return Ok(false);
        };
        let checkpoints = &checkpointing.checkpoints;
        let checkpoint = restored.and_then(Restorable::as_checkpoint);
        match checkpoint.map(|checkpoint| checkpoint.metadata()) {
            Some(metadata) if metadata.run == checkpoints.run().run && restore::is_same_shape(tasks, metadata) => {
                checkpoints.resume(metadata)?;
                Ok(true)
            }
            _ => {
                checkpoints.forget();
                Ok(false)
            }
        }
    }

    /// Follows an attempt to its end.
    fn watch(&mut self, shared: &Shared, slots: u32, events: &Receiver<Event>, stacked: bool) -> Outcome {
        let (mut ready, mut finished) = (0, 0);
        // To the controller the job does not run before what was under way is through: stops wait for the attempt behind
        // it, savepoints are refused, and only a cancel is carried out at once.
        let settles = self.checkpointing.as_ref().is_some_and(Checkpointing::settles);
        loop {
            while let Some(order) = self.control.next_order() {
                if let Some(outcome) = self.carry_out(&order, shared) {
                    return outcome;
                }
            }
            let checkpointing = self.checkpointing.as_ref();
            if let Some(checkpointing) = checkpointing {
                self.control.set_statistics(checkpointing.statistics().clone());
                if let Some(traps) = self.durable.as_mut().and_then(|durable| durable.traps.as_mut()) {
                    let taken = checkpointing.statistics();
                    traps.handle_completed(taken.completed, CheckpointId(taken.last_id), shared);
                    self.control.set_quarantined(traps.rows());
                }
            }
            if finished == slots && checkpointing.is_some_and(|checkpointing| checkpointing.coordinator.has_ended()) {
                return Outcome::Commit;
            }
            if self.has_settled() {
                return self.failed();
            }
            let event = match self.next_event(events) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.failed(),
            };
            match (event, self.checkpointing.as_mut()) {
                (Some(Event::Failed), _) => return self.failed(),
                (Some(Event::Orders), _) => {}
                (Some(Event::Ready), checkpointing) => {
                    ready += 1;
                    if ready == slots {
                        if let Some(checkpointing) = checkpointing {
                            checkpointing.handle_running(stacked, shared);
                        }
                        if !settles {
                            self.control.tell(Controller::handle_running);
                        }
                    }
                }
                (Some(Event::Finished), _) => {
                    finished += 1;
                    if finished == slots && !settles {
                        self.control.tell(Controller::handle_finished);
                    }
                }
                (
                    Some(Event::Acknowledged {
                        id,
                        task,
                        subtask,
                        snapshot,
                        alignment,
                    }),
                    Some(checkpointing),
                ) => checkpointing.handle_snapshot(id, task, subtask, *snapshot, alignment, shared),
                (Some(Event::Superseded { id, task, subtask }), Some(checkpointing)) => {
                    checkpointing.handle_superseded(id, task, subtask, shared);
                }
                (Some(Event::Careful(event)), Some(_)) => self.follow_careful(event, shared),
                (None, Some(checkpointing)) => checkpointing.handle_time(shared),
                (Some(Event::Acknowledged { .. } | Event::Superseded { .. } | Event::Careful(_)) | None, None) => {}
            }
        }
    }

    /// What becomes of what sinks have prepared when the attempt fails. Of a job without checkpoints a savepoint may
    /// hold it.
    fn failed(&self) -> Outcome {
        let is_being_written = |checkpointing: &Checkpointing| checkpointing.savepoints.is_writing();
        let has_savepoint = self.control.has_savepoint() || self.checkpointing.as_ref().is_some_and(is_being_written);
        match self.durable.is_some() || has_savepoint {
            true => Outcome::Leave,
            false => Outcome::Abort,
        }
    }

    /// Does what the controller wants; the outcome if that is the end of the attempt.
    fn carry_out(&mut self, order: &Order, shared: &Shared) -> Option<Outcome> {
        match order {
            Order::Trigger { kind, operation } => self.trigger(*kind, *operation, shared),
            Order::Drain => {
                if let Some(checkpointing) = &mut self.checkpointing {
                    checkpointing.coordinator.suspend();
                }
                shared.command(Command::Drain);
            }
            Order::EndSources => shared.stop_now(),
            Order::Commit => return Some(Outcome::Commit),
            Order::Cancel if self.control.ask(Controller::is_cancelling) => {
                shared.give_up();
                return Some(self.failed());
            }
            // Too late to cancel; nothing is waited for.
            Order::Cancel | Order::Hurry => {}
        }
        None
    }

    fn trigger(&mut self, kind: CheckpointKind, operation: Option<OperationId>, shared: &Shared) {
        if self.checkpointing.is_none() {
            match self.scratch() {
                Ok(mut checkpointing) => {
                    checkpointing.handle_running(false, shared);
                    self.checkpointing = Some(checkpointing);
                }
                Err(error) => {
                    let failure = Failure::Unwritten(error.to_string());
                    if let Some(operation) = operation {
                        self.control.record(operation, &Err(error));
                        let tell = |controller: &mut Controller| controller.handle_written(operation, Some(failure));
                        self.control.tell(tell);
                    }
                }
            }
        }
        if let Some(checkpointing) = &mut self.checkpointing {
            checkpointing.trigger(kind, operation, shared);
        }
    }

    /// Checkpoints that nothing restarts from: savepoints of a job without others are made of them.
    fn scratch(&self) -> Result<Checkpointing> {
        let storage = Storage::open(&self.scratch)?;
        let mut run = Run::new(
            &self.job.graph.name,
            self.job.pipeline.hash(),
            self.clock.now_millis(),
            0,
        );
        run.run.clone_from(&self.run);
        let config = CheckpointConfig {
            // That one fails is for who asked for it, not for the job.
            tolerable_failures: u32::MAX,
            ..CheckpointConfig::default()
        };
        let job = CheckpointedJob::new(&self.job, &self.tasks, self.clock, &self.control, false);
        Checkpointing::new(config, Checkpoints::create(&storage, run)?, None, job)
    }

    fn follow_careful(&mut self, event: CarefulEvent, shared: &Shared) {
        let durable = self.durable.as_mut();
        if let Some(traps) = durable.and_then(|durable| durable.traps.as_mut()) {
            traps.handle_event(event, shared);
        }
    }

    fn next_event(&self, events: &Receiver<Event>) -> std::result::Result<Event, RecvTimeoutError> {
        let checkpointing = self.checkpointing.as_ref();
        let deadline = checkpointing.and_then(|checkpointing| checkpointing.coordinator.next_deadline());
        match deadline {
            Some(deadline) => events.recv_timeout(deadline.saturating_sub(self.clock.elapsed())),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }
}

/// Whether trying again later may help: a server that cannot be reached may be back, a damaged file stays so.
fn may_pass(error: &Error) -> bool {
    error.fault() == Fault::External && !is_damage(error.code())
}

fn spawn(
    index: SlotIndex,
    job: Arc<SlotJob>,
    start: Arc<Start>,
    shared: Arc<Shared>,
    wiring: SlotWiring,
) -> Result<JoinHandle<Result<SlotReport>>> {
    let run = move || {
        let mut guard = FailOnPanic {
            shared: shared.clone(),
            slot: index,
            armed: true,
        };
        let result = run_slot(index, job, start, shared, wiring);
        guard.armed = false;
        result
    };
    let thread = std::thread::Builder::new()
        .name(format!("slot-{index}"))
        .stack_size(SLOT_STACK_BYTES)
        .spawn(run);
    thread.map_err(|error| {
        let message = format!("a thread for slot {index} cannot be started: {error}");
        Error::external("IO0002", message)
    })
}

fn run_slot(
    index: SlotIndex,
    job: Arc<SlotJob>,
    start: Arc<Start>,
    shared: Arc<Shared>,
    wiring: SlotWiring,
) -> Result<SlotReport> {
    let slot = match Slot::open(index, job, start, shared.clone(), wiring) {
        Ok(slot) => slot,
        Err(error) => {
            shared.fail(error);
            return Ok(SlotReport::default());
        }
    };
    if !shared.wait_ready() {
        return Ok(SlotReport::default());
    }
    slot.run()
}

/// A panic in a slot must not leave the others waiting for it.
struct FailOnPanic {
    shared: Arc<Shared>,
    slot: SlotIndex,
    /// Until the slot has come to its end.
    armed: bool,
}

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if self.armed {
            self.shared
                .fail(Error::internal(format!("slot {} panicked", self.slot)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_panics_fails_the_attempt() {
        let (sender, events) = channel();
        let shared = Arc::new(Shared::new(Clock::start(), 1, None, sender));
        let guard = FailOnPanic {
            shared: shared.clone(),
            slot: SlotIndex(0),
            armed: true,
        };
        let slot = std::thread::spawn(move || {
            let _guard = guard;
            panic!("as a defect of the host would");
        });
        assert!(slot.join().is_err());
        assert!(shared.has_failed());
        assert!(matches!(events.recv(), Ok(Event::Failed)));
    }
}
