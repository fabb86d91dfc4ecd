//! What the slots of a job share: whether to go on, the first error, and the two meeting points (start
//! together, commit together).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_core::Error;
use millrace_net::queue::Sleeper;

use crate::env::Clock;

/// How all slots together ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every sink has pre-committed: commit.
    Commit,
    /// Some slot failed: abort.
    Abort,
}

#[derive(Debug, Default)]
struct Progress {
    ready: u32,
    finished: u32,
    ended: u32,
    error: Option<Error>,
}

/// Shared by all slots and the handle of a job.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    slots: u32,
    stopping: AtomicBool,
    failed: AtomicBool,
    progress: Mutex<Progress>,
    changed: Condvar,
    pub(crate) sleepers: Vec<Sleeper>,
}

impl Shared {
    pub(crate) fn new(clock: Clock, slots: u32) -> Self {
        Shared {
            clock,
            slots,
            stopping: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            progress: Mutex::new(Progress::default()),
            changed: Condvar::new(),
            sleepers: (0..slots).map(|_| Sleeper::default()).collect(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_all(&self) {
        for sleeper in &self.sleepers {
            sleeper.wake();
        }
    }

    /// Asks sources to end; rows under way still reach the sinks, open windows stay open.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Records an error; the first one is the job's. Every slot gives up.
    pub(crate) fn fail(&self, error: Error) {
        self.progress().error.get_or_insert(error);
        self.failed.store(true, Ordering::SeqCst);
        self.changed.notify_all();
        self.wake_all();
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn error(&self) -> Option<Error> {
        self.progress().error.clone()
    }

    /// Waits until every slot has opened its chains; false if one failed.
    pub(crate) fn wait_ready(&self) -> bool {
        let mut progress = self.progress();
        progress.ready += 1;
        self.changed.notify_all();
        while progress.ready < self.slots && progress.error.is_none() {
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        progress.error.is_none()
    }

    /// Waits until every slot's sinks have pre-committed, or one slot failed.
    pub(crate) fn wait_finished(&self) -> Outcome {
        let mut progress = self.progress();
        progress.finished += 1;
        self.changed.notify_all();
        while progress.finished < self.slots && progress.error.is_none() {
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        if progress.error.is_none() {
            Outcome::Commit
        } else {
            Outcome::Abort
        }
    }

    /// A slot's thread has nothing more to do.
    pub(crate) fn slot_ended(&self) {
        self.progress().ended += 1;
        self.changed.notify_all();
    }

    /// Whether all slots' threads have nothing more to do.
    pub(crate) fn all_ended(&self) -> bool {
        self.progress().ended >= self.slots
    }

    /// Waits until all slots have ended, or for a while.
    pub(crate) fn wait_ended(&self, longest: Duration) {
        let progress = self.progress();
        let slots = self.slots;
        let waited = self
            .changed
            .wait_timeout_while(progress, longest, |progress| progress.ended < slots);
        drop(waited);
    }
}
