//! Bodies of requests and answers, as JSON. `docs/api.md` shows them; unknown members of a request are refused, those of
//! an answer are ignored.

use millrace_core::{Error, Fault};
pub use millrace_state::savepoint::Held;
use serde::{Deserialize, Serialize};

/// The running jobs of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Jobs {
    /// One here; a cluster has many.
    pub jobs: Vec<Job>,
}

/// A running job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name, which other jobs may have too.
    pub name: String,
    /// Its run, which no other has.
    pub run: String,
    /// `starting`, `running`, `restarting`, `stopping`, `draining`, `cancelling` or `ended`.
    pub state: String,
    /// Its process.
    pub pid: u32,
    /// When the process started it, ms since 1970-01-01 UTC.
    pub started_ms: i64,
    /// Since then.
    pub uptime_ms: u64,
    /// Subtasks of operators that do not set their own.
    pub parallelism: u32,
    /// Threads that subtasks run on, each with an instance of the pipeline.
    #[serde(default)]
    pub slots: u32,
    /// Whose slots these are.
    #[serde(default)]
    pub slot_sharing_groups: Vec<SlotSharingGroup>,
    /// Times that it was restarted in this process.
    pub restarts: u32,
    /// Why it was restarted the last time.
    pub last_failure: Option<String>,
    /// Where checkpoints go, if they are taken.
    pub checkpoint_dir: Option<String>,
    /// Where savepoints go whose place nobody says.
    pub savepoint_dir: String,
    /// The newest completed checkpoint of this process.
    pub last_checkpoint: Option<Checkpoint>,
}

/// Operators that share slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotSharingGroup {
    /// Its name; `default` is that of operators that name none.
    pub name: String,
    /// Its slots.
    pub slots: u32,
}

/// A completed checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its number in the run.
    pub id: u64,
    /// When it was durable.
    pub completed_ms: i64,
    /// From its trigger until then.
    pub duration_ms: u64,
    /// Bytes that a restart from it reads.
    pub bytes: u64,
}

/// Asks for a savepoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavepointRequest {
    /// Folder or URL where it goes; a new folder in the job's savepoint dir if it is left out.
    #[serde(default)]
    pub target: Option<String>,
}

/// Asks for the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// With a savepoint.
    #[serde(default)]
    pub savepoint: Option<SavepointRequest>,
    /// As if the input had ended: windows and event-time timers fire first.
    #[serde(default)]
    pub drain: bool,
}

/// Asks for the end at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {}

/// Asks for what an operator holds for a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateRequest {
    /// Its id or name.
    pub operator: String,
    /// A text for each field of the key.
    pub key: Vec<String>,
    /// Entries of each large map or list, at most; 1,000 if it is left out.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// What an operator holds for a key, when the question comes to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The operator's name.
    pub operator: String,
    /// Its id.
    pub id: String,
    /// Values of states, timers, windows, and entries of large states.
    pub held: Vec<Held>,
    /// Large states that have more entries than these.
    pub more: Vec<String>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its number in this process.
    pub id: u64,
    /// The job's run.
    pub run: String,
    /// `savepoint`, `stop` or `cancel`.
    pub kind: String,
    /// `pending`, `completed` or `failed`.
    pub status: String,
    /// The savepoint, once it is written.
    pub savepoint: Option<Savepoint>,
    /// Why it failed.
    pub error: Option<Problem>,
}

/// A savepoint that was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Savepoint {
    /// Where it is.
    pub url: String,
    /// Number of its checkpoint in the run.
    pub checkpoint: u64,
    /// When its state was complete.
    pub taken_ms: i64,
    /// Operators in it.
    pub operators: u64,
    /// Keys, and keys of windows.
    pub entries: u64,
    /// Bytes of its tables.
    pub bytes: u64,
}

/// The body of an answer that is no success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// What is wrong.
    pub error: Problem,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable code, as in `docs/errors`.
    pub code: String,
    /// Whose fault it is: `user`, `pipeline`, `external` or `internal`.
    pub fault: String,
    /// What happened.
    pub message: String,
    /// What to do, if the code's page is known.
    pub remedy: Option<String>,
}

impl Problem {
    pub(crate) fn new(error: &Error, remedy: fn(&str) -> Option<String>) -> Self {
        Problem {
            code: error.code().to_owned(),
            fault: match error.fault() {
                Fault::User => "user",
                Fault::Pipeline => "pipeline",
                Fault::External => "external",
                Fault::Internal => "internal",
            }
            .to_owned(),
            message: error.to_string(),
            remedy: remedy(error.code()),
        }
    }

    /// The error that it was. `code` is its code, as one that is known for ever.
    pub fn to_error(&self, code: &'static str) -> Error {
        let fault = match self.fault.as_str() {
            "user" => Fault::User,
            "pipeline" => Fault::Pipeline,
            "external" => Fault::External,
            _ => Fault::Internal,
        };
        Error::new(fault, code, self.message.clone())
    }
}
