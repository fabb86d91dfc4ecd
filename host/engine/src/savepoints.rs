//! Savepoints of a running job: from a snapshot that is complete to Parquet tables, on a thread of its own.
//!
//! ```text
//!   Store ----> held: layers stay, nothing that a restart finds ----> Complete ----> a thread writes, then lets go
//! ```
//!
//! What it holds of outputs is noted beside them before it is written ([`Keeping`]).
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
use crate::kept::Keeping;
use crate::worker::SlotJob;

/// See the module's documentation.
pub(crate) struct Savepoints {
    checkpoints: Arc<Checkpoints>,
    control: Arc<Control>,
    job: Arc<SlotJob>,
    clock: Clock,
    log: LogSink,
    /// Complete, and waiting for [`Savepoints::write`].
    held: BTreeMap<CheckpointId, Held>,
    writers: Vec<JoinHandle<()>>,
}

/// A savepoint whose state is complete.
struct Held {
    checkpoint: RestoredCheckpoint,
    deadline: Duration,
    /// `None`: nobody wants it any more.
    keeping: Option<Keeping>,
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
    /// Writes it, and says so to whoever asked for it. What it holds was noted, if it could be.
    pub(crate) fn write(
        &self,
        checkpoint: &RestoredCheckpoint,
        noted: Result<Keeping>,
        (operation, target): (OperationId, &str),
    ) -> Result<()> {
        let still_wanted = || {
            self.control.check_cancelled()?;
            if self.clock.elapsed() < self.deadline {
                return Ok(());
            }
            let message = format!("savepoint `{target}` was given up: it took longer than the timeout of checkpoints");
            Err(Error::external("AP0004", message))
        };
        let written = noted.and_then(|keeping| {
            let written = savepoint::write_while(checkpoint, target, &still_wanted);
            match &written {
                Ok(_) => keeping.complete(checkpoint.metadata()),
                Err(_) => keeping.give_up(),
            }
            written
        });
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
    pub(crate) fn new(checkpoints: Arc<Checkpoints>, control: Arc<Control>, clock: Clock, job: &Arc<SlotJob>) -> Self {
        Savepoints {
            checkpoints,
            control,
            job: job.clone(),
            clock,
            log: job.options.log.clone(),
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
    ///
    /// # Errors
    /// If what it holds cannot be noted beside the outputs.
    pub(crate) fn hold(&mut self, id: CheckpointId, checkpoint: RestoredCheckpoint, deadline: Duration) -> Result<()> {
        let target = self.control.savepoint_of(id);
        let keeping = target.map(|(_, target)| Keeping::begin(&self.job, checkpoint.metadata(), &target));
        let held = Held {
            checkpoint,
            deadline,
            keeping: keeping.transpose()?,
        };
        self.held.insert(id, held);
        Ok(())
    }

    /// Writes what is held, beside everything else.
    pub(crate) fn write(&mut self, id: CheckpointId) {
        let Some(Held {
            checkpoint,
            deadline,
            keeping,
        }) = self.held.remove(&id)
        else {
            return;
        };
        let checkpoints = self.checkpoints.clone();
        let (Some((operation, target)), Some(keeping)) = (self.control.hold(id), keeping.clone()) else {
            keeping.iter().for_each(Keeping::give_up);
            let_go(&checkpoints, id, &self.log);
            return;
        };
        let (writer, control, log) = (self.writer(deadline), self.control.clone(), self.log.clone());
        let noted = keeping.clone();
        let run = move || {
            let failure = writer.write(&checkpoint, Ok(noted), (operation, &target)).err();
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
                keeping.give_up();
                let_go(&self.checkpoints, id, &self.log);
            }
        }
    }

    /// What is held comes to nothing.
    pub(crate) fn give_up(&mut self, id: CheckpointId) {
        if let Some(keeping) = self.held.remove(&id).and_then(|held| held.keeping) {
            keeping.give_up();
        }
    }

    /// Whether one is being written.
    pub(crate) fn is_writing(&self) -> bool {
        self.writers.iter().any(|writer| !writer.is_finished())
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
