//! The words of the coordinator: what checkpoints are for, why they fail, what is to be done.

use std::fmt;

use super::CheckpointId;

/// What a checkpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckpointKind {
    /// Taken by itself, to restart from.
    Periodic,
    /// Asked for by the user and the user's. Waits for nothing but a free place among the concurrent ones.
    Savepoint,
    /// A savepoint that ends the job: nothing is triggered after it, sources end behind its barrier.
    Stop,
    /// All subtasks have finished by themselves: commits the last results of a bounded job.
    Final,
}

impl CheckpointKind {
    /// Whether sinks commit at it, and a restart may begin at it.
    pub fn commits(self) -> bool {
        match self {
            CheckpointKind::Periodic | CheckpointKind::Stop | CheckpointKind::Final => true,
            CheckpointKind::Savepoint => false,
        }
    }

    /// Whether it belongs to the user: it is never discarded and not among the retained.
    pub fn is_savepoint(self) -> bool {
        match self {
            CheckpointKind::Savepoint | CheckpointKind::Stop => true,
            CheckpointKind::Periodic | CheckpointKind::Final => false,
        }
    }
}

/// One of the subtasks that take part, from 0, numbered by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Participant(pub u32);

/// Why a subtask does not take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclineReason {
    /// Its aligner gave the checkpoint up: a newer one was first.
    Superseded,
    /// It is not ready: not yet restored, or closing.
    NotReady,
    /// It could not snapshot its state or upload it.
    Failed(String),
}

/// Why a checkpoint came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbortReason {
    /// The attempt failed.
    JobFailed,
    /// It took too long.
    Timeout,
    /// A subtask declined.
    Declined(Participant, DeclineReason),
    /// Its metadata could not be written.
    StoreFailed(String),
    /// This later one completed first.
    Subsumed(CheckpointId),
}

impl AbortReason {
    /// Whether it counts towards [`super::CheckpointConfig::tolerable_failures`] for a checkpoint of a kind.
    ///
    /// As in Flink: timeouts, failed snapshots and failed stores count, each checkpoint once and until a newer one
    /// completes; races (a newer checkpoint was first, a subtask was not ready, the attempt failed) do not. Of a
    /// savepoint only a failed snapshot counts: for the rest a restart is no remedy.
    pub fn counts(&self, kind: CheckpointKind) -> bool {
        match self {
            AbortReason::JobFailed | AbortReason::Subsumed(_) => false,
            AbortReason::Declined(_, DeclineReason::Superseded | DeclineReason::NotReady) => false,
            AbortReason::Declined(_, DeclineReason::Failed(_)) => true,
            AbortReason::Timeout | AbortReason::StoreFailed(_) => kind != CheckpointKind::Savepoint,
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AbortReason::JobFailed => f.write_str("the job failed meanwhile"),
            AbortReason::Timeout => f.write_str("it took longer than its timeout"),
            AbortReason::Declined(_, DeclineReason::Superseded) => f.write_str("a newer one overtook it"),
            AbortReason::Declined(_, DeclineReason::NotReady) => f.write_str("a subtask was not ready"),
            AbortReason::Declined(_, DeclineReason::Failed(why)) => write!(f, "a subtask failed to snapshot: {why}"),
            AbortReason::StoreFailed(why) => write!(f, "it could not be stored: {why}"),
            AbortReason::Subsumed(id) => write!(f, "the later checkpoint {id} completed first"),
        }
    }
}

/// Why a checkpoint on demand cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No attempt is running.
    NotRunning,
    /// [`CheckpointKind::Stop`] was asked for already.
    Stopping,
    /// [`CheckpointKind::Final`] was asked for already.
    Finishing,
    /// The job's last checkpoint is complete.
    Ended,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::NotRunning => "the job is not running",
            Refused::Stopping => "the job is being stopped",
            Refused::Finishing => "the job is finishing",
            Refused::Ended => "the job has ended",
        })
    }
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell all subtasks that the checkpoint begins; sources insert its barrier.
    Trigger {
        /// Which.
        id: CheckpointId,
        /// What for.
        kind: CheckpointKind,
    },
    /// A checkpoint that was triggered is not to wait for rows any longer: tell all subtasks.
    Unalign {
        /// Which.
        id: CheckpointId,
    },
    /// All subtasks have acknowledged: write the metadata, then call [`super::Coordinator::handle_stored`] or
    /// [`super::Coordinator::handle_store_failed`].
    Store {
        /// Which.
        id: CheckpointId,
        /// What for.
        kind: CheckpointKind,
    },
    /// It is durable. If the kind commits, tell sinks to commit what they prepared up to it; such ids ascend.
    Complete {
        /// Which.
        id: CheckpointId,
        /// What for.
        kind: CheckpointKind,
    },
    /// It comes to nothing: tell the subtasks. Sinks keep what they prepared for it, for the next. What was written
    /// for it can be deleted, unless it is being stored: then `Discard` follows the store's answer.
    Abort {
        /// Which.
        id: CheckpointId,
        /// Why.
        reason: AbortReason,
    },
    /// Nobody needs it any more: delete whatever is there of it; nothing being there is no error.
    Discard {
        /// Which.
        id: CheckpointId,
    },
    /// Too many checkpoints failed: fail the attempt, then call [`super::Coordinator::handle_failed`].
    FailJob {
        /// The last failure.
        reason: AbortReason,
    },
}
