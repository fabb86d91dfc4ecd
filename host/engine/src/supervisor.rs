//! Runs a job's attempts: starts the slots, has checkpoints taken, and starts again after a failure.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_core::checkpoint::{CheckpointKind, Decision, Restarts};
use millrace_core::{Error, Fault, Result};
use millrace_state::codes::is_damage;
use millrace_state::{Restorable, Storage};
use millrace_wasm::LogLevel;

use crate::checkpointing::{CheckpointStatistics, Checkpointing, SnapshotTask, snapshot_tasks};
use crate::env::Clock;
use crate::restore::{self, Splits};
use crate::worker::{Event, Outcome, Shared, Slot, SlotJob, SlotReport, SlotWiring, Start, wire};

/// Stack of a slot's thread: the wasm stack, the host's calls under it, and room for deep schemas.
const SLOT_STACK_BYTES: usize = 8 << 20;

/// What a job's handle and its supervisor share.
#[derive(Default)]
pub(crate) struct Control {
    stopping: AtomicBool,
    state: Mutex<ControlState>,
    changed: Condvar,
}

#[derive(Default)]
struct ControlState {
    ended: bool,
    /// To the supervisor of the attempt that runs.
    events: Option<Sender<Event>>,
    statistics: CheckpointStatistics,
}

impl Control {
    fn state(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(events) = &self.state().events {
            // An attempt that has just ended looks at the flag.
            let _ = events.send(Event::Stop);
        }
        self.changed.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state().ended
    }

    pub(crate) fn statistics(&self) -> CheckpointStatistics {
        self.state().statistics.clone()
    }

    /// Waits for the end, or for a while.
    pub(crate) fn wait_ended(&self, longest: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), longest, |state| !state.ended);
        drop(waited);
    }

    /// Waits before a restart; a stop ends it.
    fn wait_restart(&self, longest: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), longest, |_| !self.is_stopping());
        drop(waited);
    }
}

/// A job with checkpoints.
pub(crate) struct Durable {
    pub(crate) storage: Storage,
    pub(crate) checkpointing: Checkpointing,
    pub(crate) restarts: Restarts,
    /// Where the run began, and begins again as long as it has no checkpoint.
    pub(crate) from: Option<String>,
}

/// See the module's documentation.
pub(crate) struct Supervisor {
    pub(crate) job: Arc<SlotJob>,
    pub(crate) control: Arc<Control>,
    pub(crate) clock: Clock,
    pub(crate) tasks: Vec<SnapshotTask>,
    pub(crate) splits: Splits,
    /// `None`: a failure is the end.
    pub(crate) durable: Option<Durable>,
    /// Where the first attempt begins.
    pub(crate) checkpoint: Option<Restorable>,
}

impl Supervisor {
    /// Runs to the end: of all input, of a stop, or of all attempts.
    pub(crate) fn run(mut self) -> Result<Vec<SlotReport>> {
        let mut begin = Ok(self.checkpoint.take());
        let mut attempt = 0;
        loop {
            let ended = begin.and_then(|checkpoint| self.attempt(attempt, checkpoint.map(Arc::new)));
            let Some(durable) = &mut self.durable else {
                return ended.map(Option::unwrap_or_default);
            };
            let mut error = match ended {
                Ok(Some(reports)) => return Ok(reports),
                Ok(None) => {
                    durable.checkpointing.settle()?;
                    // What goes wrong here and may pass counts as a failure of the next attempt.
                    begin = match self.recover() {
                        Err(failed) if !may_pass(&failed) => return Err(failed),
                        recovered => recovered,
                    };
                    continue;
                }
                Err(error) => error,
            };
            durable.checkpointing.settle()?;
            let has_ended = durable.checkpointing.coordinator.has_ended();
            let decision = durable.restarts.handle_failure(self.clock.elapsed());
            if has_ended {
                // All that was left to do was to commit.
                match self.recover() {
                    Ok(_) => return Ok(Vec::new()),
                    Err(failed) if may_pass(&failed) => error = failed,
                    Err(failed) => return Err(failed),
                }
            }
            let after = match decision {
                Decision::Restart { after } if !self.control.is_stopping() => after,
                Decision::Restart { .. } | Decision::Fail { .. } => {
                    self.recover()?;
                    return Err(error);
                }
            };
            let seconds = after.as_secs_f64();
            let message = format!("the job failed and is restarted in {seconds:.1} s: {error}");
            (self.job.options.log)(LogLevel::Warn, &message);
            self.control.wait_restart(after);
            let recovered = if has_ended { Err(error) } else { self.recover() };
            begin = match recovered {
                Err(failed) if !may_pass(&failed) => return Err(failed),
                recovered => recovered,
            };
            attempt += 1;
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
        let Some(durable) = &self.durable else {
            return Ok(None);
        };
        let coordinator = &durable.checkpointing.coordinator;
        let Some(latest) = coordinator.latest() else {
            return durable.from.as_deref().map(restore::open).transpose();
        };
        let run = &durable.checkpointing.checkpoints.run().run;
        let mut ids = coordinator.retained().filter(|id| *id < latest).collect::<Vec<_>>();
        ids.push(latest);
        restore::open_newest(&durable.storage, &self.job, run, ids.into_iter().rev())
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
        let slots = plan.slots;
        let shared = Arc::new(Shared::new(self.clock, slots, config, sender.clone()));
        if let Some(durable) = &mut self.durable {
            durable.checkpointing.prepare(&tasks, settles);
        }
        let stacked = self.stack_on(&tasks, checkpoint.as_deref())?;
        let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
        let wirings = wire(&plan, &ids, &shared.sleepers);
        let start = restore::start(&self.job, (plan, &tasks), settles, &self.splits, attempt, checkpoint)?;
        self.control.state().events = Some(sender);
        let mut threads = Vec::new();
        for (index, wiring) in (0u32..).zip(wirings) {
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
        self.control.state().events = None;
        let settled = self.has_settled() && !shared.has_failed();
        if settled {
            shared.cease();
        }
        if let (Some(durable), true) = (&mut self.durable, shared.has_failed()) {
            durable.checkpointing.handle_failed(&shared);
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
        match shared.error() {
            Some(error) => Err(error),
            None if settled => Ok(None),
            None => Ok(Some(reports)),
        }
    }

    /// Whether the attempt has let rows under way through; a stop that was complete before is the end.
    fn has_settled(&self) -> bool {
        let settled = |durable: &Durable| {
            let Durable { checkpointing, .. } = durable;
            checkpointing.has_settled() && !checkpointing.coordinator.has_ended()
        };
        self.durable.as_ref().is_some_and(settled)
    }

    /// Whether snapshots can be increments to what the attempt begins with.
    fn stack_on(&self, tasks: &[SnapshotTask], restored: Option<&Restorable>) -> Result<bool> {
        let Some(durable) = &self.durable else {
            return Ok(false);
        };
        let checkpoints = &durable.checkpointing.checkpoints;
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
        let failed = match self.durable {
            Some(_) => Outcome::Leave,
            None => Outcome::Abort,
        };
        loop {
            let event = match self.next_event(events) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return failed,
            };
            let checkpointing = self.durable.as_mut().map(|durable| &mut durable.checkpointing);
            match (event, checkpointing) {
                (Some(Event::Failed), _) => return failed,
                (Some(Event::Stop), _) => self.stop(shared, ready == slots),
                (Some(Event::Ready), checkpointing) => {
                    ready += 1;
                    if ready == slots {
                        if let Some(checkpointing) = checkpointing {
                            checkpointing.handle_running(stacked, shared);
                        }
                        if self.control.is_stopping() {
                            self.stop(shared, true);
                        }
                    }
                }
                (Some(Event::Finished), checkpointing) => {
                    finished += 1;
                    match checkpointing {
                        None if finished == slots => return Outcome::Commit,
                        Some(checkpointing) if finished == slots => {
                            checkpointing.trigger(CheckpointKind::Final, shared);
                        }
                        _ => {}
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
                (None, Some(checkpointing)) => checkpointing.handle_time(shared),
                (Some(Event::Acknowledged { .. } | Event::Superseded { .. }) | None, None) => {}
            }
            let Some(durable) = &self.durable else { continue };
            self.control.state().statistics = durable.checkpointing.statistics().clone();
            if finished == slots && durable.checkpointing.coordinator.has_ended() {
                return Outcome::Commit;
            }
            if self.has_settled() {
                return failed;
            }
        }
    }

    fn next_event(&self, events: &Receiver<Event>) -> std::result::Result<Event, RecvTimeoutError> {
        let deadline = self
            .durable
            .as_ref()
            .and_then(|durable| durable.checkpointing.coordinator.next_deadline());
        match deadline {
            Some(deadline) => events.recv_timeout(deadline.saturating_sub(self.clock.elapsed())),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Ends the sources: behind a last checkpoint, if checkpoints are taken.
    fn stop(&mut self, shared: &Shared, running: bool) {
        match &mut self.durable {
            None => shared.stop(),
            Some(durable) if running => durable.checkpointing.trigger(CheckpointKind::Stop, shared),
            // Done as soon as all slots are ready.
            Some(_) => {}
        }
    }
}

/// Whether trying again later may help: a server that cannot be reached may be back, a damaged file stays so.
fn may_pass(error: &Error) -> bool {
    error.fault() == Fault::External && !is_damage(error.code())
}

fn spawn(
    index: u32,
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
    index: u32,
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
    slot: u32,
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
            slot: 0,
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
