//! A subtask's part in checkpoints: what it does with barriers and with what the supervisor says of them.

use millrace_core::block::{Element, WATERMARK_MAX, WATERMARK_MIN};
use millrace_core::checkpoint::{Alignment, ChannelSnapshot, CheckpointId, EdgeName, SubtaskSnapshot};
use millrace_core::{Error, Result};

use super::{Body, Place, Subtask};
use crate::worker::inputs::Sight;
use crate::worker::shared::{Event, Shared};
use crate::worker::wiring::Channel;

/// What the supervisor says of a checkpoint that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    Begins(CheckpointId),
    Unaligned(CheckpointId),
}

impl Announced {
    fn id(self) -> CheckpointId {
        match self {
            Announced::Begins(id) | Announced::Unaligned(id) => id,
        }
    }
}

impl Subtask {
    /// Goes on with the channels of a checkpoint; those that it does not know begin from nothing.
    ///
    /// The last watermark is not restored: senders that had come to it come to it again, unless there is more input,
    /// which must not be late for that (see [`ChainTask::restore`]). In an attempt that `settles` they say nothing.
    ///
    /// [`ChainTask::restore`]: crate::worker::chain::ChainTask::restore
    pub(crate) fn restore_channels(&mut self, channels: Vec<ChannelSnapshot>, settles: bool) -> Result<()> {
        for stored in channels {
            let is_same = |channel: &Channel| *channel.edge == stored.edge && channel.sender == stored.sender;
            let Some(channel) = self.inputs.channels().iter().position(is_same) else {
                if stored.row_count() == 0 {
                    continue;
                }
                return Err(no_channel(&self.name, &stored));
            };
            let comes_again = stored.watermark == WATERMARK_MAX && !settles;
            let watermark = if comes_again { WATERMARK_MIN } else { stored.watermark };
            self.merge.restore([(channel, watermark, stored.idle)]);
            for element in stored.elements {
                self.inputs.deliver(channel, element);
            }
        }
        Ok(())
    }

    /// Whether rows that a barrier overtook are still being copied.
    pub(crate) fn is_recording(&self) -> bool {
        self.taking.is_recording()
    }

    /// Whether a snapshot is being exported.
    pub(crate) fn is_exporting(&self) -> bool {
        self.taking.is_exporting()
    }

    /// Whether a barrier that is looked for is there.
    pub(crate) fn has_sight(&self) -> bool {
        let channels = 0..self.inputs.channels().len();
        self.aligner.recording().any(|id| {
            let recorded = |channel: &usize| self.aligner.is_recorded(*channel, id);
            let mut recorded = channels.clone().filter(recorded);
            recorded.any(|channel| self.inputs.has_sight(channel, id))
        })
    }

    /// Copies an element for the checkpoints whose barriers are behind it.
    pub(super) fn record(&mut self, channel: usize, element: &Element) {
        if matches!(element, Element::Barrier(_) | Element::End) {
            return;
        }
        for id in self.aligner.recording() {
            if self.aligner.is_recorded(channel, id) {
                self.taking.record(id, channel, element);
            }
        }
    }

    /// A checkpoint has begun. Sources send its barrier now; others wait for those of their channels, unless all
    /// of these have ended.
    pub(crate) fn handle_announced(&mut self, id: CheckpointId, shared: &Shared) -> Result<()> {
        self.taking.hear(id, shared.clock.elapsed());
        self.hear(Announced::Begins(id), shared)
    }

    /// A checkpoint waits for rows no longer.
    pub(crate) fn handle_unaligned(&mut self, id: CheckpointId, shared: &Shared) -> Result<()> {
        self.hear(Announced::Unaligned(id), shared)
    }

    pub(super) fn hear(&mut self, announced: Announced, shared: &Shared) -> Result<()> {
        if self.firing.is_some() || self.is_restoring() || self.is_looking_up() {
            self.announced.push(announced);
            return Ok(());
        }
        let alignment = match announced {
            Announced::Begins(id) => self.aligner.handle_announced(id),
            Announced::Unaligned(id) => self.aligner.handle_unaligned(id),
        };
        self.follow(alignment, shared)
    }

    /// A checkpoint came to nothing.
    pub(crate) fn handle_cancelled(&mut self, id: CheckpointId, shared: &Shared) {
        self.announced.retain(|announced| announced.id() != id);
        self.aligner.handle_cancelled(id);
        if let Body::Source(source) = &mut self.body {
            source.handle_cancelled(id);
        }
        self.taking.give_up(id);
        self.taking.acknowledge(self.place, shared);
    }

    /// Looks for barriers that were overtaken, and copies what is ahead of them.
    pub(crate) fn look_ahead(&mut self, shared: &Shared) -> Result<()> {
        if self.aligner.recording().next().is_none() {
            return Ok(());
        }
        for id in self.aligner.recording().collect::<Vec<_>>() {
            for channel in 0..self.inputs.channels().len() {
                if !self.aligner.is_recorded(channel, id) {
                    continue;
                }
                let Some((sight, ahead)) = self.inputs.overtake(channel, id) else {
                    continue;
                };
                for element in &ahead {
                    self.taking.record(id, channel, element);
                }
                let alignment = match sight {
                    Sight::Barrier(found) => self.aligner.handle_sighted(channel, id, found),
                    Sight::End => self.aligner.handle_end_sighted(channel, id),
                };
                self.follow(alignment, shared)?;
            }
        }
        Ok(())
    }

    pub(super) fn follow(&mut self, alignment: Alignment, shared: &Shared) -> Result<()> {
        if alignment.is_empty() {
            return Ok(());
        }
        let Place { task, subtask } = self.place;
        for id in alignment.given_up {
            self.taking.give_up(id);
            shared.send(Event::Superseded { id, task, subtask });
        }
        for id in alignment.aligned {
            self.snapshot(id, false, shared)?;
        }
        for id in alignment.overtaken {
            self.snapshot(id, true, shared)?;
        }
        for id in alignment.recorded {
            self.taking.recorded(id);
        }
        self.taking.acknowledge(self.place, shared);
        Ok(())
    }

    /// Snapshots what this subtask holds and passes the barrier on. `overtaking`: barriers are still to come.
    fn snapshot(&mut self, id: CheckpointId, overtaking: bool, shared: &Shared) -> Result<()> {
        // Pieces of an earlier one come first: layers are stacked in order.
        while self.taking.is_exporting() {
            self.export_piece(shared)?;
        }
        self.tell_careful(shared);
        self.last_barrier = Some(id);
        let mut snapshot = SubtaskSnapshot {
            finished: self.done,
            committables: self.letters.prepare(id)?,
            channels: if shared.keeps_channels {
                self.channels()
            } else {
                Vec::new()
            },
            ..SubtaskSnapshot::default()
        };
        let mut exports = false;
        match &mut self.body {
            Body::Source(task) => snapshot.splits = task.snapshot(id),
            Body::Watermarks(task) => snapshot.splits = vec![task.snapshot()],
            // Nothing is on its way, and the table is no part of the job.
            Body::Lookup(_) => {}
            Body::Requests(task) => {
                let watermark = task.watermark();
                snapshot.watermark = (watermark != WATERMARK_MIN).then_some(watermark);
                snapshot.table = Some(task.snapshot()?);
                if shared.is_last(id) {
                    task.freeze();
                }
            }
            Body::Sink(task) => snapshot.committables = task.prepare(id, self.done)?,
            Body::Chain(task) => {
                let watermark = task.watermark();
                snapshot.watermark = (watermark != WATERMARK_MIN).then_some(watermark);
                // What has ended may hold state all the same: windows that a stop left open.
                exports = task.begin_snapshot(shared.is_full(id))?;
            }
        }
        if !self.done {
            self.outputs.barrier(id);
        }
        self.taking
            .begin(id, snapshot, exports, overtaking, shared.clock.elapsed());
        Ok(())
    }

    /// What the channels have said so far, and nothing of what they hold.
    fn channels(&self) -> Vec<ChannelSnapshot> {
        let channels = self.inputs.channels().iter().enumerate();
        let said = channels.map(|(index, channel)| {
            let (watermark, idle) = self.merge.input(index);
            ChannelSnapshot {
                edge: EdgeName::clone(&channel.edge),
                sender: channel.sender,
                watermark,
                idle,
                elements: Vec::new(),
            }
        });
        said.collect()
    }

    /// Exports a piece of the snapshot under way, if there is one; whether there was.
    pub(crate) fn export_piece(&mut self, shared: &Shared) -> Result<bool> {
        let (Some(snapshot), Body::Chain(task)) = (self.taking.exporting(), &mut self.body) else {
            return Ok(false);
        };
        let begun = shared.clock.elapsed();
        let table = task.export_some(self.piece.entries())?;
        let took = shared.clock.elapsed().saturating_sub(begun);
        self.piece.handle_piece(took, table.is_some());
        if let Some(table) = table {
            snapshot.table = Some(table);
            snapshot.collections = task.take_collections();
            self.taking.exported();
            self.taking.acknowledge(self.place, shared);
        }
        Ok(true)
    }
}

/// Rows under way have nowhere to go.
fn no_channel(task: &str, stored: &ChannelSnapshot) -> Error {
    let (rows, from, sender) = (stored.row_count(), &stored.edge.from, stored.sender);
    Error::user(
        "CK0013",
        format!(
            "the checkpoint holds {rows} rows in flight from subtask {sender} of `{from}` to task `{task}`, between \
             which the pipeline has no such channel any more"
        ),
    )
}
