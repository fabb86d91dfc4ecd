//! The words of the controller: what is asked, why it is refused or fails, what is to be done.

use std::fmt;

use crate::checkpoint::{AbortReason, CheckpointId, CheckpointKind, Refused as NotTriggered};

/// Names an operation of a job, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// What somebody wants of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A savepoint; the job goes on.
    Savepoint {
        /// URL where it goes.
        target: String,
    },
    /// The end, at a moment at which all that was read is written and committed, and from which the job can go on.
    Stop {
        /// URL where a savepoint of that moment goes, if one is wanted.
        savepoint: Option<String>,
        /// As if the input had ended there: windows and event-time timers fire first.
        drain: bool,
    },
    /// The end at once: nothing is committed that no checkpoint holds.
    Cancel,
}

impl Request {
    /// Where a savepoint is to go.
    pub fn target(&self) -> Option<&str> {
        match self {
            Request::Savepoint { target } => Some(target),
            Request::Stop { savepoint, .. } => savepoint.as_deref(),
            Request::Cancel => None,
        }
    }
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No attempt runs yet.
    Starting,
    /// No attempt runs: one has failed.
    Restarting,
    /// It is being stopped.
    Stopping,
    /// All its input has been read.
    Finishing,
    /// It is being cancelled.
    Cancelling,
    /// Its last checkpoint is complete, or it has ended.
    Ended,
    /// [`super::OPERATIONS_MAX`] are under way.
    TooMany,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Starting => "the job is still starting",
            Refused::Restarting => "the job has failed and is about to be restarted",
            Refused::Stopping => "the job is being stopped",
            Refused::Finishing => "the job has read all its input and is finishing",
            Refused::Cancelling => "the job is being cancelled",
            Refused::Ended => "the job has ended",
            Refused::TooMany => "too many operations are under way",
        })
    }
}

/// Why an operation came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// There could be no checkpoint for it.
    NotTriggered(NotTriggered),
    /// Its checkpoint came to nothing.
    Aborted(AbortReason),
    /// Its savepoint could not be written.
    Unwritten(String),
    /// The attempt failed first.
    JobFailed,
    /// The job was cancelled first.
    Cancelled,
    /// The job ended first, or differently.
    JobEnded,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotTriggered(why) => why.fmt(f),
            Failure::Aborted(why) => why.fmt(f),
            Failure::Unwritten(why) => write!(f, "it could not be written: {why}"),
            Failure::JobFailed => f.write_str("the job failed meanwhile"),
            Failure::Cancelled => f.write_str("the job was cancelled meanwhile"),
            Failure::JobEnded => f.write_str("the job ended meanwhile"),
        }
    }
}

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// For a checkpoint, or for the end of the job.
    Waiting,
    /// The state is complete, and its savepoint is being written.
    Writing,
    /// All that was asked for is done.
    Completed,
    /// It came to nothing.
    Failed(Failure),
}

impl Status {
    /// Whether nothing more becomes of it.
    pub fn has_ended(&self) -> bool {
        match self {
            Status::Waiting | Status::Writing => false,
            Status::Completed | Status::Failed(_) => true,
        }
    }
}

/// A request that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What is wanted.
    pub request: Request,
    /// How far it is.
    pub status: Status,
    /// The checkpoint that is taken for it, once the coordinator knows of it.
    pub checkpoint: Option<CheckpointId>,
}

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The first attempt begins.
    Starting,
    /// Rows flow.
    Running,
    /// An attempt has failed; the next one waits or begins.
    Restarting,
    /// It ends behind a last checkpoint, or as soon as what was read is written.
    Stopping,
    /// It ends as if its input had ended.
    Draining,
    /// It ends at once.
    Cancelling,
    /// It has ended.
    Ended,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Restarting => "restarting",
            State::Stopping => "stopping",
            State::Draining => "draining",
            State::Cancelling => "cancelling",
            State::Ended => "ended",
        })
    }
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Ask the coordinator for a checkpoint, then call [`super::Controller::handle_triggered`] or
    /// [`super::Controller::handle_not_triggered`].
    Trigger {
        /// What for.
        kind: CheckpointKind,
        /// For whom, if it is for an operation.
        operation: Option<OperationId>,
    },
    /// Have all sources end as if their input did.
    Drain,
    /// Have all sources end; open windows do not fire.
    EndSources,
    /// Nothing more comes: have sinks commit, and end.
    Commit,
    /// Give the attempt up; end with nothing committed that no checkpoint holds.
    Cancel,
    /// Wait no longer before the next attempt.
    Hurry,
}
