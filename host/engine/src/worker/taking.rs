//! The snapshots that a subtask is taking: state that is still exported, channels whose rows are still copied.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_core::block::Element;
use millrace_core::checkpoint::{CheckpointId, SubtaskSnapshot};

use super::shared::{Event, Shared};
use super::subtask::Place;

/// A subtask's part in a checkpoint that it has not acknowledged.
struct Part {
    id: CheckpointId,
    snapshot: SubtaskSnapshot,
    /// Pieces of its state are still to be exported.
    exporting: bool,
    /// Barriers that it overtook are still to come.
    recording: bool,
    alignment: Duration,
}

/// All of them, the oldest first.
#[derive(Default)]
pub(crate) struct Taking {
    parts: Vec<Part>,
    /// When the subtask first heard of checkpoints whose snapshots have not begun.
    heard: BTreeMap<CheckpointId, Duration>,
}

impl Taking {
    /// The subtask hears of a checkpoint, maybe not for the first time.
    pub(crate) fn hear(&mut self, id: CheckpointId, now: Duration) {
        self.heard.entry(id).or_insert(now);
    }

    /// A snapshot has begun.
    pub(crate) fn begin(
        &mut self,
        id: CheckpointId,
        snapshot: SubtaskSnapshot,
        exporting: bool,
        recording: bool,
        now: Duration,
    ) {
        let alignment = self
            .heard
            .get(&id)
            .map_or(Duration::ZERO, |heard| now.saturating_sub(*heard));
        // Nothing older begins any more.
        self.heard = self.heard.split_off(&CheckpointId(id.0 + 1));
        self.parts.push(Part {
            id,
            snapshot,
            exporting,
            recording,
            alignment,
        });
    }

    /// The snapshot of which pieces are still to be exported.
    pub(crate) fn exporting(&mut self) -> Option<&mut SubtaskSnapshot> {
        let part = self.parts.iter_mut().find(|part| part.exporting)?;
        Some(&mut part.snapshot)
    }

    pub(crate) fn is_exporting(&self) -> bool {
        self.parts.iter().any(|part| part.exporting)
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.parts.iter().any(|part| part.recording)
    }

    /// An element of a channel was under way at the barrier.
    pub(crate) fn record(&mut self, id: CheckpointId, channel: usize, element: &Element) {
        let part = self.parts.iter_mut().find(|part| part.id == id && part.recording);
        if let Some(channel) = part.and_then(|part| part.snapshot.channels.get_mut(channel)) {
            channel.elements.push(element.clone());
        }
    }

    /// All is exported.
    pub(crate) fn exported(&mut self) {
        if let Some(part) = self.parts.iter_mut().find(|part| part.exporting) {
            part.exporting = false;
        }
    }

    /// All that was under way is copied.
    pub(crate) fn recorded(&mut self, id: CheckpointId) {
        if let Some(part) = self.parts.iter_mut().find(|part| part.id == id) {
            part.recording = false;
        }
    }

    /// A checkpoint came to nothing. Its state goes on to be exported: later increments lie on it.
    pub(crate) fn give_up(&mut self, id: CheckpointId) {
        self.heard.remove(&id);
        if let Some(part) = self.parts.iter_mut().find(|part| part.id == id) {
            part.recording = false;
            part.snapshot.channels.clear();
        }
    }

    /// Hands over what is complete.
    pub(crate) fn acknowledge(&mut self, Place { task, subtask }: Place, shared: &Shared) {
        for part in self.parts.extract_if(.., |part| !part.exporting && !part.recording) {
            shared.send(Event::Acknowledged {
                id: part.id,
                task,
                subtask,
                snapshot: Box::new(part.snapshot),
                alignment: part.alignment,
            });
        }
    }
}
