//! Where the splits of a source were at barriers, until it is known what has become of their checkpoints.
//!
//! What a complete checkpoint holds is behind the job for good, and the readers are told; one that came to nothing says
//! nothing. Nor does a savepoint: it is never complete to the slots, and goes with the next checkpoint behind it.

use std::collections::BTreeMap;

use millrace_core::checkpoint::{CheckpointId, SplitSnapshot};

/// Of one subtask of a source.
#[derive(Debug, Default)]
pub(crate) struct AtBarriers(BTreeMap<CheckpointId, Vec<SplitSnapshot>>);

impl AtBarriers {
    /// The barrier of a checkpoint was sent.
    pub(crate) fn note(&mut self, id: CheckpointId, splits: Vec<SplitSnapshot>) {
        self.0.insert(id, splits);
    }

    /// A checkpoint is complete: where the splits were at its barrier. `None`: its barrier was not sent here.
    pub(crate) fn complete(&mut self, id: CheckpointId) -> Option<Vec<SplitSnapshot>> {
        self.0 = self.0.split_off(&id);
        self.0.remove(&id)
    }

    /// A checkpoint came to nothing.
    pub(crate) fn cancel(&mut self, id: CheckpointId) {
        self.0.remove(&id);
    }

    /// All barriers that were sent count, for the job has ended well: where the splits were at the last one.
    pub(crate) fn finish(&mut self) -> Option<Vec<SplitSnapshot>> {
        let last = self.0.pop_last();
        self.0.clear();
        last.map(|(_, splits)| splits)
    }
}

#[cfg(test)]
mod tests {
    use millrace_core::connector::Position;

    use super::*;

    fn noted(ids: &[u64]) -> AtBarriers {
        let mut barriers = AtBarriers::default();
        for &id in ids {
            barriers.note(CheckpointId(id), at(id));
        }
        barriers
    }

    fn at(id: u64) -> Vec<SplitSnapshot> {
        vec![SplitSnapshot {
            id: "split".to_owned(),
            position: Position(vec![id as u8]),
            max_time: None,
        }]
    }

    #[test]
    fn only_what_is_complete_counts_and_what_came_before_goes_with_it() {
        let mut barriers = noted(&[1, 2, 3, 4]);
        // The second was a savepoint, of which nothing is said.
        assert_eq!(barriers.complete(CheckpointId(1)), Some(at(1)));
        barriers.cancel(CheckpointId(4));
        assert_eq!(barriers.complete(CheckpointId(3)), Some(at(3)));
        assert_eq!(barriers.complete(CheckpointId(2)), None, "it is not known any more");
        assert_eq!(barriers.complete(CheckpointId(4)), None, "it came to nothing");
        assert_eq!(barriers.finish(), None);
    }

    #[test]
    fn at_the_end_the_last_barrier_counts() {
        assert_eq!(noted(&[5, 7]).finish(), Some(at(7)));
        assert_eq!(noted(&[]).finish(), None);
    }
}
