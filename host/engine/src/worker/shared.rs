//! What the slots of an attempt share with each other and with the supervisor: commands to all slots, events
//! from them, the first error, and how it all ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_core::Error;
use millrace_core::checkpoint::{CheckpointConfig, CheckpointId, CheckpointMode, SubtaskSnapshot, Trap};
use millrace_core::plan::{Plan, SlotIndex, TaskKind};
use millrace_core::time::Alignment;
use millrace_net::queue::Sleeper;

use super::questions::{Question, Questions};
use crate::env::Clock;

/// How all slots together ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every sink has pre-committed and nothing more is to come: commit.
    Commit,
    /// The job failed for good: abort.
    Abort,
    /// The attempt failed, and a checkpoint says what becomes of what was prepared.
    Leave,
}

/// What the supervisor tells all slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// A checkpoint begins.
    Announce {
        id: CheckpointId,
        /// Snapshots are to be full.
        full: bool,
        /// Sources end behind the barrier.
        stop: bool,
    },
    /// A checkpoint that was announced waits for rows no longer.
    Unalign(CheckpointId),
    /// It is durable: sinks commit.
    Complete(CheckpointId),
    /// It came to nothing.
    Cancel(CheckpointId),
    /// Careful mode ends.
    EndCareful,
    /// Sources end as if their input did: windows fire. A command, so that it stays behind the checkpoints announced
    /// before.
    Drain,
}

/// What the supervisor is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A slot has opened and restored its subtasks.
    Ready,
    /// A subtask's part of a checkpoint.
    Acknowledged {
        id: CheckpointId,
        task: usize,
        subtask: u32,
        snapshot: Box<SubtaskSnapshot>,
        /// From when the subtask heard of it until its snapshot began.
        alignment: Duration,
    },
    /// A subtask gave a checkpoint up, for a newer one came first.
    Superseded {
        id: CheckpointId,
        task: usize,
        subtask: u32,
    },
    /// All subtasks of a slot have seen the end of their inputs.
    Finished,
    /// A slot has failed; the error is in [`Shared`].
    Failed,
    /// Something happened in a careful subtask.
    Careful(CarefulEvent),
    /// There are orders.
    Orders,
}

/// What careful subtasks tell. `after`: the last checkpoint whose barrier the subtask had met in this attempt.
#[derive(Debug)]
pub(crate) enum CarefulEvent {
    /// A row, timer or window was set aside.
    Quarantined {
        after: Option<CheckpointId>,
        /// What was wrong with it.
        cause: String,
    },
    /// It has taken as many rows as it had when it trapped.
    Passed { chain: u32, after: Option<CheckpointId> },
}

#[derive(Debug, Default)]
struct Progress {
    ready: u32,
    outcome: Option<Outcome>,
    error: Option<Error>,
    /// The trap that the first error is.
    trap: Option<Trap>,
}

/// Shared by all slots of an attempt and the supervisor.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    /// `None`: no checkpoints are taken.
    pub(crate) mode: Option<CheckpointMode>,
    /// Checkpoints hold what input channels have said, for some of them may overtake rows: a restart from those
    /// goes on with the watermarks of each channel, and then all subtasks must.
    pub(crate) keeps_channels: bool,
    /// How far sources are that wait for each other.
    pub(crate) alignment: Arc<Mutex<Alignment>>,
    slots: u32,
    stopping: AtomicBool,
    sources_end: AtomicBool,
    failed: AtomicBool,
    decided: AtomicBool,
    progress: Mutex<Progress>,
    changed: Condvar,
    commands: Mutex<Vec<Command>>,
    command_count: AtomicUsize,
    events: Sender<Event>,
    pub(crate) sleepers: Vec<Sleeper>,
    pub(crate) questions: Questions,
}

/// An attempt that runs.
#[derive(Clone)]
pub(crate) struct Attempt {
    pub(crate) shared: Arc<Shared>,
    pub(crate) plan: Arc<Plan>,
}

impl Attempt {
    pub(crate) fn new(shared: &Arc<Shared>, plan: &Arc<Plan>) -> Self {
        let (shared, plan) = (shared.clone(), plan.clone());
        Attempt { shared, plan }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// For so many slots. `config`: checkpoints are taken.
    pub(crate) fn new(clock: Clock, slots: u32, config: Option<&CheckpointConfig>, events: Sender<Event>) -> Self {
        Shared {
            clock,
            mode: config.map(|config| config.mode),
            keeps_channels: config.is_some_and(|config| config.aligned_timeout.is_some()),
            alignment: Arc::default(),
            slots,
            stopping: AtomicBool::new(false),
            sources_end: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            decided: AtomicBool::new(false),
            progress: Mutex::new(Progress::default()),
            changed: Condvar::new(),
            commands: Mutex::new(Vec::new()),
            command_count: AtomicUsize::new(0),
            events,
            sleepers: (0..slots).map(|_| Sleeper::default()).collect(),
            questions: Questions::new(slots),
        }
    }

    /// Says which sources of a plan wait for each other, before any slot begins.
    pub(crate) fn align(&self, plan: &Plan) {
        for task in &plan.tasks {
            if let TaskKind::Source { watermarks, .. } = &task.kind
                && let Some((_, strategy)) = watermarks
                && let Some(declared) = &strategy.alignment
            {
                lock(&self.alignment).expect(declared, task.parallelism);
            }
        }
    }

    fn wake_all(&self) {
        for sleeper in &self.sleepers {
            sleeper.wake();
        }
    }

    /// A last checkpoint comes, and sources end behind its barrier; open windows stay open.
    pub(crate) fn stop_at_checkpoint(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// Asks sources to end; rows under way still reach the sinks, open windows stay open.
    pub(crate) fn stop_now(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.sources_end.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// Whether the end of a source is not the end of its input.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether sources end without waiting for a barrier.
    pub(crate) fn sources_end(&self) -> bool {
        self.sources_end.load(Ordering::Relaxed)
    }

    /// Whether nothing may follow the barrier of the last checkpoint.
    pub(crate) fn stops_at_checkpoint(&self) -> bool {
        self.is_stopping() && !self.sources_end()
    }

    /// Tells the supervisor. It may have gone after a failure; then nobody needs to know.
    pub(crate) fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Records an error; the first one is the attempt's. Every slot gives up.
    pub(crate) fn fail(&self, error: Error) {
        self.fail_by(error, None);
    }

    /// The same, for an error that may be a trap.
    pub(crate) fn fail_by(&self, error: Error, trap: Option<Trap>) {
        let mut progress = lock(&self.progress);
        if progress.error.is_none() {
            progress.error = Some(error);
            progress.trap = trap;
        }
        self.failed.store(true, Ordering::SeqCst);
        drop(progress);
        self.changed.notify_all();
        self.wake_all();
        self.send(Event::Failed);
    }

    /// Every slot gives up, though nothing has failed: the job was cancelled, or another attempt is to take this one's
    /// place.
    pub(crate) fn give_up(&self) {
        let progress = lock(&self.progress);
        self.failed.store(true, Ordering::SeqCst);
        drop(progress);
        self.changed.notify_all();
        self.wake_all();
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The trap that has failed the attempt.
    pub(crate) fn trap(&self) -> Option<Trap> {
        lock(&self.progress).trap
    }

    pub(crate) fn error(&self) -> Option<Error> {
        lock(&self.progress).error.clone()
    }

    /// Waits until every slot has opened its chains; false if one failed.
    pub(crate) fn wait_ready(&self) -> bool {
        self.send(Event::Ready);
        let mut progress = lock(&self.progress);
        progress.ready += 1;
        self.changed.notify_all();
        while progress.ready < self.slots && !self.has_failed() {
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        !self.has_failed()
    }

    /// Says how the attempt ends. Slots look at it once all their subtasks are done, or one has failed.
    pub(crate) fn decide(&self, outcome: Outcome) {
        lock(&self.progress).outcome = Some(outcome);
        self.decided.store(true, Ordering::SeqCst);
        self.changed.notify_all();
        self.wake_all();
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        if self.decided.load(Ordering::SeqCst) {
            lock(&self.progress).outcome
        } else {
            None
        }
    }

    /// Waits for the decision.
    pub(crate) fn wait_outcome(&self) -> Outcome {
        let mut progress = lock(&self.progress);
        loop {
            if let Some(outcome) = progress.outcome {
                return outcome;
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells all slots. Commands are carried out in order.
    pub(crate) fn command(&self, command: Command) {
        let mut commands = lock(&self.commands);
        commands.push(command);
        self.command_count.store(commands.len(), Ordering::SeqCst);
        drop(commands);
        self.wake_all();
    }

    /// Asks a slot something.
    pub(crate) fn ask(&self, slot: SlotIndex, question: Question) {
        self.questions.push(slot, question);
        self.sleepers[slot.0 as usize].wake();
    }

    /// Number of commands so far.
    #[inline]
    pub(crate) fn command_count(&self) -> usize {
        self.command_count.load(Ordering::SeqCst)
    }

    /// Commands from the given one on.
    pub(crate) fn commands_from(&self, first: usize) -> Vec<Command> {
        lock(&self.commands)[first..].to_vec()
    }

    /// Whether nothing may follow the barrier of a checkpoint: it is that of a stop. Its barrier may reach a slot before
    /// the announcement.
    pub(crate) fn is_last(&self, wanted: CheckpointId) -> bool {
        lock(&self.commands).iter().rev().any(|command| match command {
            Command::Announce { id, stop, .. } => *id == wanted && *stop,
            Command::Unalign(_) | Command::Complete(_) | Command::Cancel(_) | Command::Drain | Command::EndCareful => {
                false
            }
        })
    }

    /// Whether the snapshots of a checkpoint that was announced are to be full. Its barrier may reach a slot
    /// before the announcement.
    pub(crate) fn is_full(&self, wanted: CheckpointId) -> bool {
        // It was announced of late.
        lock(&self.commands).iter().rev().any(|command| match command {
            Command::Announce { id, full, .. } => *id == wanted && *full,
            Command::Unalign(_) | Command::Complete(_) | Command::Cancel(_) | Command::Drain | Command::EndCareful => {
                false
            }
        })
    }
}
