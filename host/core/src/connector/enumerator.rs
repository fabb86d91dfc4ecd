//! Splits that turn up while a source is read: new files of a folder, the second source of a hybrid one.

use std::time::Duration;

use super::{Elapsed, Split};
use crate::error::Result;

/// Finds splits beyond those that an attempt of a job begins with. One for all subtasks of a source.
///
/// A subtask asks for its own with [`poll`](Self::poll) and says when one has ended. What it was given is in its
/// checkpoints, ended splits too, so that an enumerator of a later attempt is told of them and gives none of them twice.
pub trait SplitEnumerator: Send + Sync {
    /// What has turned up for this subtask since it asked last.
    fn poll(&self, subtask: u32, now: Elapsed) -> Result<Enumerated>;

    /// Names of splits that have turned up and that their subtasks have not been given yet: event time waits for them.
    fn pending(&self) -> Vec<String>;

    /// A split has been read to its end.
    fn handle_end(&self, split: &str);

    /// A checkpoint is complete that holds these splits of a subtask, at these positions, those that have ended too. See
    /// [`SplitReader::handle_complete`](super::SplitReader::handle_complete) for what that says and what it does not.
    fn handle_complete(&self, subtask: u32, splits: &[Split]) -> Result<()> {
        let _ = (subtask, splits);
        Ok(())
    }
}

/// Answer of a [`SplitEnumerator`].
#[derive(Debug, Default)]
pub struct Enumerated {
    /// Splits to read from now on.
    pub splits: Vec<Split>,
    /// Splits that have ended and need not be remembered: they can never turn up again.
    pub forget: Vec<String>,
    /// When to ask again; `None`: there will be no more.
    pub next: Option<Duration>,
}
