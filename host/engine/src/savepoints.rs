//! Savepoints of a running job: from a snapshot that is complete to Parquet tables, on a thread of its own.
//!
//! ```text
//!   Store ----> held: layers stay, nothing that a restart finds ----> Complete ----> a thread writes, then lets go
//! ```
//!
//! What is held does not change any more, so that neither rows nor a restart disturb the writing, and the increments of
//! checkpoints go on over it: its layers are ordinary layers of their stacks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_core::checkpoint::CheckpointId;
use millrace_core::control::{Failure, OperationId};
use millrace_core::{Error, Result};
use millrace_state::savepoint::{self, Manifest};
use millrace_state::{Checkpoints, RestoredCheckpoint};
use millrace_wasm::{LogLevel, LogSink};

use crate::control::{Control, SavepointReport};
use crate::env::Clock;

/// See the module's documentation.
pub(crate) struct Savepoints {
    checkpoints: Arc<Checkpoints>,
    control: Arc<Control>,
    clock: Clock,
    log: LogSink,
    /// Complete, and waiting for [`Savepoints::write`].
    held: BTreeMap<CheckpointId, (RestoredCheckpoint, Duration)>,
    writers: Vec<JoinHandle<()>>,
}

/// Writes one savepoint.
pub(crate) struct Writer {
    control: Arc<Control>,
    clock: Clock,
    log: LogSink,
    /// Until when it may take, as time since the job's start.
    pub(crate) deadline: Duration,
}

impl Writer {
    /// Writes it, and says so to whoever asked for it.
    pub(crate) fn write(&self, checkpoint: &RestoredCheckpoint, operation: OperationId, target: &str) -> Result<()> {
        let still_wanted = || {
            self.control.check_cancelled()?;
            if self.clock.elapsed() < self.deadline {
                return Ok(());
            }
            let message = format!("savepoint `{target}` was given up: it took longer than the timeout of checkpoints");
            Err(Error::external("AP0004", message))
        };
        let written = savepoint::write_while(checkpoint, target, &still_wanted);
        let taken = written.map(|manifest| report(target, &manifest));
        self.control.record(operation, &taken);
        let (level, message) = match &taken {
            Ok(_) => (LogLevel::Info, format!("savepoint `{target}` is written")),
            Err(error) => (LogLevel::Warn, format!("there is no savepoint `{target}`: {error}")),
        };
        (self.log)(level, &message);
        taken.map(|_| ())
    }
}

fn report(url: &str, manifest: &Manifest) -> SavepointReport {
    SavepointReport {
        url: url.to_owned(),
        checkpoint: manifest.checkpoint.0,
        taken_ms: manifest.taken_ms,
        operators: manifest.operators.len(),
        entries: manifest.entries(),
        bytes: manifest.bytes(),
    }
}

impl Savepoints {
    pub(crate) fn new(checkpoints: Arc<Checkpoints>, control: Arc<Control>, clock: Clock, log: LogSink) -> Self {
        Savepoints {
            checkpoints,
            control,
            clock,
            log,
            held: BTreeMap::new(),
            writers: Vec::new(),
        }
    }

    pub(crate) fn writer(&self, deadline: Duration) -> Writer {
        Writer {
            control: self.control.clone(),
            clock: self.clock,
            log: self.log.clone(),
            deadline,
        }
    }

    /// The state of a savepoint is complete. It may take until `deadline` to write it.
    pub(crate) fn hold(&mut self, id: CheckpointId, checkpoint: RestoredCheckpoint, deadline: Duration) {
        self.held.insert(id, (checkpoint, deadline));
    }

    /// Writes what is held, beside everything else.
    pub(crate) fn write(&mut self, id: CheckpointId) {
        let Some((checkpoint, deadline)) = self.held.remove(&id) else {
            return;
        };
        let checkpoints = self.checkpoints.clone();
        let Some((operation, target)) = self.control.hold(id) else {
            let_go(&checkpoints, id, &self.log);
            return;
        };
        let (writer, control, log) = (self.writer(deadline), self.control.clone(), self.log.clone());
        let run = move || {
            let failure = writer.write(&checkpoint, operation, &target).err();
            let failure = failure.map(|error| Failure::Unwritten(error.to_string()));
            drop(checkpoint);
            let_go(&checkpoints, id, &log);
            control.tell(|controller| controller.handle_written(operation, failure));
        };
        self.writers.retain(|writer| !writer.is_finished());
        match std::thread::Builder::new().name("savepoint".into()).spawn(run) {
            Ok(thread) => self.writers.push(thread),
            Err(error) => {
                let message = format!("a thread for a savepoint cannot be started: {error}");
                let failure = Failure::Unwritten(message.clone());
                self.control.record(operation, &Err(Error::external("IO0002", message)));
                self.control
                    .tell(|controller| controller.handle_written(operation, Some(failure)));
                let_go(&self.checkpoints, id, &self.log);
            }
        }
    }

    /// What is held comes to nothing.
    pub(crate) fn give_up(&mut self, id: CheckpointId) {
        self.held.remove(&id);
    }

    /// Waits for those under way.
    pub(crate) fn finish(&mut self) {
        for writer in self.writers.drain(..) {
            // Whoever waits for one that panicked is told that the job has ended.
            let _ = writer.join();
        }
    }
}

/// The layers of a savepoint are no longer needed for it.
fn let_go(checkpoints: &Checkpoints, id: CheckpointId, log: &LogSink) {
    if let Err(error) = checkpoints.discard(id) {
        log(
            LogLevel::Warn,
            &format!("what savepoint {id} was made of could not be deleted: {error}"),
        );
    }
}
