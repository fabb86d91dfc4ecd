//! What a subtask of a source knows of splits that turn up while it reads, and of those that have ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_core::Result;
use millrace_core::block::Millis;
use millrace_core::checkpoint::SplitSnapshot;
use millrace_core::connector::{Split, SplitEnumerator};
use millrace_core::time::Frontier;

/// The splits of a source of which more turn up while it is read: one for all of its subtasks.
pub(crate) struct SourceSplits {
    enumerator: Arc<dyn SplitEnumerator>,
    frontier: Mutex<Frontier>,
}

impl SourceSplits {
    /// Of an attempt that begins with these splits.
    pub(crate) fn new<'s>(enumerator: Arc<dyn SplitEnumerator>, begin: impl IntoIterator<Item = &'s str>) -> Self {
        let mut frontier = Frontier::default();
        begin.into_iter().for_each(|split| frontier.begin(split));
        SourceSplits {
            enumerator,
            frontier: Mutex::new(frontier),
        }
    }

    fn frontier(&self) -> MutexGuard<'_, Frontier> {
        self.frontier.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subtask's side of a [`SplitEnumerator`].
pub(crate) struct Discovery {
    all: Arc<SourceSplits>,
    subtask: u32,
    /// Elapsed time at which to ask again; `None`: there is nothing more to come.
    next: Option<Duration>,
    /// Splits that have ended: checkpoints hold them, so that they are not found once more.
    ended: BTreeMap<String, SplitSnapshot>,
}

impl Discovery {
    pub(crate) fn new(all: Arc<SourceSplits>, subtask: u32) -> Self {
        Discovery {
            all,
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
        // Nobody goes on before it is known what else has turned up.
        let mut frontier = self.all.frontier();
        let found = self.all.enumerator.poll(self.subtask, now)?;
        found.splits.iter().for_each(|split| frontier.begin(&split.id));
        let pending = self.all.enumerator.pending();
        pending.iter().for_each(|split| frontier.begin(split));
        drop(frontier);
        for split in &found.forget {
            self.ended.remove(split);
        }
        self.next = found.next.map(|after| now + after);
        Ok(found.splits)
    }

    /// A split has ended.
    pub(crate) fn handle_end(&mut self, split: SplitSnapshot) {
        self.all.enumerator.handle_end(&split.id);
        self.all.frontier().handle_end(&split.id);
        self.ended.insert(split.id.clone(), split);
    }

    /// A checkpoint is complete that holds these splits.
    pub(crate) fn handle_complete(&self, splits: &[Split]) -> Result<()> {
        self.all.enumerator.handle_complete(self.subtask, splits)
    }

    /// A split has come to this watermark.
    pub(crate) fn advance(&self, split: &str, watermark: Millis) {
        self.all.frontier().advance(split, watermark);
    }

    /// A split gives nothing for now.
    pub(crate) fn handle_idle(&self, split: &str) {
        self.all.frontier().handle_idle(split);
    }

    /// The least watermark of the splits of all subtasks that are not idle, if there is one.
    pub(crate) fn least(&self) -> Option<Millis> {
        self.all.frontier().least()
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
