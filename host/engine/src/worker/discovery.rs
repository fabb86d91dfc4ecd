//! What a subtask of a source knows of splits that turn up while it reads, and of those that have ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_core::Result;
use millrace_core::checkpoint::SplitSnapshot;
use millrace_core::connector::{Split, SplitEnumerator};

/// The subtask's side of a [`SplitEnumerator`].
pub(crate) struct Discovery {
    enumerator: Arc<dyn SplitEnumerator>,
    subtask: u32,
    /// Elapsed time at which to ask again; `None`: there is nothing more to come.
    next: Option<Duration>,
    /// Splits that have ended: checkpoints hold them, so that they are not found once more.
    ended: BTreeMap<String, SplitSnapshot>,
}

impl Discovery {
    pub(crate) fn new(enumerator: Arc<dyn SplitEnumerator>, subtask: u32) -> Self {
        Discovery {
            enumerator,
            subtask,
            next: Some(Duration::ZERO),
            ended: BTreeMap::new(),
        }
    }

    /// Splits that have turned up, if it is time to ask.
    pub(crate) fn poll(&mut self, now: Duration) -> Result<Vec<Split>> {
        if self.next.is_none_or(|next| now < next) {
            return Ok(Vec::new());
        }
        let found = self.enumerator.poll(self.subtask, now)?;
        for split in &found.forget {
            self.ended.remove(split);
        }
        self.next = found.next.map(|after| now + after);
        Ok(found.splits)
    }

    /// A split has ended.
    pub(crate) fn handle_end(&mut self, split: SplitSnapshot) {
        self.enumerator.handle_end(&split.id);
        self.ended.insert(split.id.clone(), split);
    }

    /// A checkpoint is complete that holds these splits.
    pub(crate) fn handle_complete(&self, splits: &[Split]) -> Result<()> {
        self.enumerator.handle_complete(self.subtask, splits)
    }

    /// Elapsed time at which to ask again; `None`: there is nothing more to come.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.next
    }

    /// Splits that have ended.
    pub(crate) fn ended(&self) -> impl Iterator<Item = &SplitSnapshot> {
        self.ended.values()
    }
}
