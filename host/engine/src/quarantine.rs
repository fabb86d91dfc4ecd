//! Carries out what [`Quarantine`] decides: what a run with `--on-trap quarantine` does after a trap.

use std::collections::BTreeMap;

use millrace_core::checkpoint::{CheckpointId, Quarantine, Trap, TrapDecision};
use millrace_core::{Error, Result};
use millrace_wasm::{LogLevel, LogSink};

use crate::prepare::{JobOptions, OnTrap};
use crate::worker::{CarefulEvent, Command, Shared};

/// The traps of a job.
pub(crate) struct Traps {
    quarantine: Quarantine,
    log: LogSink,
    /// Checkpoints completed when last looked.
    completed: u64,
}

impl Traps {
    /// `None`: a trap is a failure like any other.
    pub(crate) fn new(options: &JobOptions) -> Result<Option<Self>> {
        match &options.on_trap {
            OnTrap::Fail => Ok(None),
            OnTrap::Quarantine { .. } if options.checkpoints.is_none() => {
                let message = "rows that trap can only be set aside in a job with checkpoints (--checkpoint-dir): it \
                               goes on from the last one without them";
                Err(Error::user("QU0001", message))
            }
            OnTrap::Quarantine { rows_max, .. } => Ok(Some(Traps {
                quarantine: Quarantine::new(*rows_max),
                log: options.log.clone(),
                completed: 0,
            })),
        }
    }

    /// What the next attempt is careful for, by chain.
    pub(crate) fn careful(&self) -> BTreeMap<u32, Trap> {
        self.quarantine.careful()
    }

    /// Rows set aside so far.
    pub(crate) fn rows(&self) -> u64 {
        self.quarantine.rows()
    }

    /// More was set aside than is tolerated: the job has failed for good.
    pub(crate) fn is_over(&self) -> bool {
        self.quarantine.is_over()
    }

    /// An attempt has failed, maybe by a trap. Whether the job runs again at once, carefully.
    pub(crate) fn handle_failed(&mut self, trap: Option<Trap>, error: &Error) -> bool {
        self.quarantine.handle_failed();
        let Some(trap) = trap else { return false };
        match self.quarantine.handle_trap(trap) {
            TrapDecision::LeaveToStrategy => false,
            TrapDecision::RestartCarefully => {
                let message = format!("a function trapped, and the job goes on carefully: {error}");
                (self.log)(LogLevel::Warn, &message);
                true
            }
        }
    }

    /// Something happened in a careful subtask.
    pub(crate) fn handle_event(&mut self, event: CarefulEvent, shared: &Shared) {
        match event {
            CarefulEvent::Passed { chain, after } => self.quarantine.handle_passed(chain, after),
            CarefulEvent::Quarantined { after, cause } => self.handle_quarantined(after, &cause, shared),
        }
    }

    fn handle_quarantined(&mut self, after: Option<CheckpointId>, cause: &str, shared: &Shared) {
        if self.quarantine.handle_quarantined(after) {
            (self.log)(LogLevel::Warn, &format!("quarantined: {cause}"));
            return;
        }
        let (rows, most) = (self.quarantine.rows(), self.quarantine.rows_max());
        let message = format!(
            "{rows} rows, timers or windows would be in quarantine, and {most} may be (--quarantine-max); the last one: \
             {cause}"
        );
        shared.fail(Error::pipeline("QU0003", message));
    }

    /// So many checkpoints have completed, the last of which is `last`.
    pub(crate) fn handle_completed(&mut self, completed: u64, last: CheckpointId, shared: &Shared) {
        if std::mem::replace(&mut self.completed, completed) == completed || !self.quarantine.handle_completed(last) {
            return;
        }
        shared.command(Command::EndCareful);
        let rows = self.quarantine.rows();
        let message = format!("careful mode has ended with checkpoint {last}; {rows} rows so far are in quarantine");
        (self.log)(LogLevel::Info, &message);
    }
}
