//! One point in time out of the barriers of several input channels.
//!
//! ```text
//!   channel 0  ──r──r──│1│──r──r──►   its barrier came first: blocked, what follows waits in the channel
//!   channel 1  ──r──r──r──r──│1│──►   still open: its rows belong to checkpoint 1
//!                                     both barriers there: snapshot, barrier onwards, channels released
//! ```
//!
//! What the driver does, in this order, with an [`Alignment`]: declines at the coordinator what was given up;
//! for each aligned or overtaken checkpoint takes the subtask's snapshot and sends the barrier onwards; acknowledges
//! what is aligned or recorded; only then goes on with elements. It takes no element from a channel that
//! [`Aligner::is_blocked`].
//!
//! **Unaligned.** A checkpoint that must not wait ([`Aligner::handle_unaligned`]) overtakes what is in the channels:
//! the snapshot is taken at once, wherever the barriers are, and what comes before them becomes part of it.
//!
//! ```text
//!   channel 0  ──│1│──r──r──r──r──►   its barrier has come: nothing of it is in flight
//!   channel 1  ──r──r──│1│──r──r──►   sighted in the queue: the two rows are copied, and that is all of it
//!   channel 2  ──r──r──r──r──r──►     not there yet: what is taken until it comes or is sighted is copied
//! ```
//!
//! Each row before a barrier is then in the state or among those copied, and no row behind it is in either: the cut
//! of Chandy and Lamport. As any subtask may begin such a cut at any time, all begin when they hear of it, and no
//! barrier has to travel through the graph. The driver looks into the queues of channels that are
//! [`Aligner::is_recorded`] for barriers ([`Aligner::handle_sighted`]) and copies what is ahead of them, so that
//! nobody waits for rows to be processed.
//!
//! Every subtask also hears from the coordinator that a checkpoint has begun ([`Aligner::handle_announced`]). A
//! source inserts its barrier then; for all others it matters only where inputs end: who has ended sends no
//! barriers any more, and so a subtask all whose channels end before a barrier came would wait for ever.
//!
//! Checkpoints that come to nothing leave no trace: ids only increase per channel, so what a channel went past
//! will never come on it, and is given up.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::CheckpointId;

/// What a subtask does with a channel whose barrier has come while it waits for those of the others.
///
/// Whether checkpoints wait for ever is another matter: [`super::CheckpointConfig::aligned_timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointMode {
    /// The channel is blocked: the snapshot holds what came before the barriers and nothing else.
    #[default]
    ExactlyOnce,
    /// The channel goes on: no waiting, but rows behind a barrier are in the snapshot and come again after a restart.
    AtLeastOnce,
}

/// What follows from a fact. Empty most of the time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "what was given up must be declined, what is aligned must be snapshotted"]
pub struct Alignment {
    /// Checkpoints that can no longer be aligned here, ascending: decline them.
    pub given_up: Vec<CheckpointId>,
    /// Checkpoints whose barriers have come on all channels, ascending: snapshot for each. More than one only
    /// where the end of a channel stood for several barriers.
    pub aligned: Vec<CheckpointId>,
    /// Checkpoints that wait no longer, ascending: snapshot for each, and copy what comes on channels that are
    /// [`Aligner::is_recorded`] for it. Behind all that is aligned.
    pub overtaken: Vec<CheckpointId>,
    /// Checkpoints that were overtaken, now or before, and whose barriers have all come or been sighted: what was
    /// copied is complete. Those among `given_up` never are.
    pub recorded: Vec<CheckpointId>,
}

impl Alignment {
    /// Nothing follows.
    pub fn is_empty(&self) -> bool {
        self.given_up.is_empty() && self.aligned.is_empty() && self.overtaken.is_empty() && self.recorded.is_empty()
    }
}

/// Aligns the barriers of a subtask's input channels.
///
/// ```
/// # use millrace_core::checkpoint::{Aligner, CheckpointId, CheckpointMode};
/// let mut aligner = Aligner::new(CheckpointMode::ExactlyOnce, 2);
/// assert!(aligner.handle_barrier(0, CheckpointId(1)).is_empty());
/// assert!(aligner.is_blocked(0) && !aligner.is_blocked(1));
/// assert_eq!(aligner.handle_barrier(1, CheckpointId(1)).aligned, [CheckpointId(1)]);
/// assert!(!aligner.is_blocked(0));
/// ```
#[derive(Debug, Clone)]
pub struct Aligner {
    mode: CheckpointMode,
    channels: Vec<Channel>,
    open: usize,
    /// Under way, ascending by id.
    pending: Vec<Pending>,
    /// Overtaken, with barriers still to come, ascending.
    recording: Vec<Recording>,
    /// Greatest id that was overtaken: the snapshot of an older one would come too late.
    overtaken: Option<CheckpointId>,
    /// Given up, cancelled or overtaken, as long as their barriers or announcements may still come.
    closed: BTreeSet<CheckpointId>,
    /// Greatest id that was aligned, given up or cancelled.
    settled: Option<CheckpointId>,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    /// Barrier that came last.
    last: Option<CheckpointId>,
    ended: bool,
}

#[derive(Debug, Clone)]
struct Recording {
    id: CheckpointId,
    /// Channels whose barrier has neither come nor been sighted.
    missing: Vec<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    id: CheckpointId,
    /// Open channels whose barrier has not come.
    missing: usize,
    /// It is not to be waited for.
    unaligned: bool,
}

impl Aligner {
    /// An aligner of `channels` open channels; none for a source.
    pub fn new(mode: CheckpointMode, channels: usize) -> Self {
        let channel = Channel {
            last: None,
            ended: false,
        };
        Aligner {
            mode,
            channels: vec![channel; channels],
            open: channels,
            pending: Vec::new(),
            recording: Vec::new(),
            overtaken: None,
            closed: BTreeSet::new(),
            settled: None,
        }
    }

    /// A barrier came on a channel.
    ///
    /// # Panics
    /// If the channel is blocked or has ended, or had a barrier with this or a greater id.
    pub fn handle_barrier(&mut self, channel: usize, id: CheckpointId) -> Alignment {
        assert!(!self.is_blocked(channel), "channel {channel} is blocked, but was read");
        let entry = &mut self.channels[channel];
        assert!(!entry.ended, "channel {channel} has ended, but barrier {id} came");
        let previous = entry.last.replace(id);
        assert!(previous < Some(id), "barrier {id} came after {previous:?}");
        let mut answer = Alignment::default();
        self.record_barrier(channel, id, &mut answer);
        if !self.pending.is_empty() {
            self.give_up_passed(previous, id, &mut answer);
        }
        if !self.closed.contains(&id) {
            if let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == id) {
                pending.missing -= 1;
            } else {
                self.begin(id, &mut answer);
            }
        }
        self.settle(answer)
    }

    /// A channel ended. It counts as having every barrier from now on.
    pub fn handle_end(&mut self, channel: usize) -> Alignment {
        let entry = &mut self.channels[channel];
        if std::mem::replace(&mut entry.ended, true) {
            return Alignment::default();
        }
        self.recording
            .iter_mut()
            .for_each(|recording| recording.missing[channel] = false);
        let last = entry.last;
        self.open -= 1;
        for pending in &mut self.pending {
            if last < Some(pending.id) {
                pending.missing -= 1;
            }
        }
        self.settle(Alignment::default())
    }

    /// The coordinator says that a checkpoint has begun; its barriers may have come already.
    ///
    /// Without open channels it is aligned at once: so a source, or what follows ended ones, takes part.
    pub fn handle_announced(&mut self, id: CheckpointId) -> Alignment {
        let known = self.closed.contains(&id) || self.pending.iter().any(|pending| pending.id == id);
        // Who has met all barriers up to this one has decided on it.
        let decided = match self.least() {
            Some(least) => least >= Some(id),
            None => self.settled >= Some(id),
        };
        let mut answer = Alignment::default();
        if !known && !decided && self.settled < Some(id) {
            self.begin(id, &mut answer);
        }
        self.settle(answer)
    }

    /// The coordinator says that a checkpoint that it has announced is not to be waited for: it overtakes what is in
    /// the channels as soon as no older one waits. Ignored if this subtask has decided on it.
    pub fn handle_unaligned(&mut self, id: CheckpointId) -> Alignment {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == id) {
            pending.unaligned = true;
        }
        self.settle(Alignment::default())
    }

    /// The driver looked into a channel's queue for the barrier of a checkpoint for which the channel is
    /// [recorded](Self::is_recorded), and copied what is ahead of it. It found it, and took it out with all older ones;
    /// or, if it was skipped there, it found a newer one and left that where it is.
    pub fn handle_sighted(&mut self, channel: usize, id: CheckpointId, found: CheckpointId) -> Alignment {
        let mut answer = Alignment::default();
        if found == id {
            let last = &mut self.channels[channel].last;
            *last = (*last).max(Some(id));
            self.complete_channel(channel, id);
        } else {
            answer.given_up.extend(
                self.recording
                    .extract_if(.., |recording| recording.id == id)
                    .map(|found| found.id),
            );
        }
        self.settle(answer)
    }

    /// The same where the end was found before any such barrier: it stands for all of them.
    pub fn handle_end_sighted(&mut self, channel: usize, id: CheckpointId) -> Alignment {
        self.complete_channel(channel, id);
        self.settle(Alignment::default())
    }

    /// Overtaken checkpoints whose barriers are still to come, ascending.
    pub fn recording(&self) -> impl Iterator<Item = CheckpointId> + '_ {
        self.recording.iter().map(|recording| recording.id)
    }

    /// Whether what is taken from a channel now is to be copied for a checkpoint.
    pub fn is_recorded(&self, channel: usize, id: CheckpointId) -> bool {
        let recording = self.recording.iter().find(|recording| recording.id == id);
        recording.is_some_and(|recording| recording.missing[channel])
    }

    /// The coordinator says that a checkpoint was aborted: its channels are released, and what still comes of it
    /// is ignored.
    pub fn handle_cancelled(&mut self, id: CheckpointId) {
        self.pending.retain(|pending| pending.id != id);
        self.recording.retain(|recording| recording.id != id);
        self.close(id);
        self.prune();
    }

    /// Whether no element may be taken from a channel. Cheap: to be asked before each element.
    #[inline]
    pub fn is_blocked(&self, channel: usize) -> bool {
        match (self.mode, self.pending.first()) {
            (_, None) | (CheckpointMode::AtLeastOnce, _) => false,
            (CheckpointMode::ExactlyOnce, Some(oldest)) => {
                let channel = &self.channels[channel];
                !channel.ended && channel.last >= Some(oldest.id)
            }
        }
    }

    /// Whether any barrier is being waited for.
    pub fn is_aligning(&self) -> bool {
        !self.pending.is_empty()
    }

    fn complete_channel(&mut self, channel: usize, id: CheckpointId) {
        if let Some(recording) = self.recording.iter_mut().find(|recording| recording.id == id) {
            recording.missing[channel] = false;
        }
    }

    /// A barrier came. What is recorded and was skipped on the channel will never be complete.
    fn record_barrier(&mut self, channel: usize, id: CheckpointId, answer: &mut Alignment) {
        let skipped = |recording: &mut Recording| recording.missing[channel] && recording.id < id;
        answer
            .given_up
            .extend(self.recording.extract_if(.., skipped).map(|skipped| skipped.id));
        self.complete_channel(channel, id);
    }

    /// Gives up what is pending between two barriers of one channel: it was skipped there.
    fn give_up_passed(&mut self, previous: Option<CheckpointId>, id: CheckpointId, answer: &mut Alignment) {
        let passed = |pending: &Pending| previous < Some(pending.id) && pending.id < id;
        answer.given_up.extend(
            self.pending
                .iter()
                .filter(|pending| passed(pending))
                .map(|pending| pending.id),
        );
        self.pending.retain(|pending| !passed(pending));
        for id in &answer.given_up {
            self.close(*id);
        }
    }

    /// Begins to align, unless an open channel is already past it, or a newer one was overtaken.
    fn begin(&mut self, id: CheckpointId, answer: &mut Alignment) {
        let open = self.channels.iter().filter(|channel| !channel.ended);
        let (mut missing, mut passed) = (0, false);
        for channel in open {
            missing += usize::from(channel.last < Some(id));
            passed |= channel.last > Some(id);
        }
        if passed || self.overtaken > Some(id) {
            answer.given_up.push(id);
            self.close(id);
        } else {
            let at = self.pending.partition_point(|pending| pending.id < id);
            let unaligned = false;
            self.pending.insert(at, Pending { id, missing, unaligned });
        }
    }

    fn settle(&mut self, mut answer: Alignment) -> Alignment {
        // Channels that lack an older barrier lack the newer ones too: what is complete comes first.
        let complete = self.pending.iter().take_while(|pending| pending.missing == 0).count();
        answer
            .aligned
            .extend(self.pending.drain(..complete).map(|pending| pending.id));
        debug_assert!(self.pending.iter().all(|pending| pending.missing > 0));
        self.settled = self.settled.max(answer.aligned.last().copied());
        // What overtakes leaves behind what it waits for, and with it all that is newer: those wait on.
        while let Some(pending) = self.pending.first().filter(|pending| pending.unaligned) {
            let id = pending.id;
            self.pending.remove(0);
            answer.overtaken.push(id);
            let missing = self
                .channels
                .iter()
                .map(|channel| !channel.ended && channel.last < Some(id));
            let missing = missing.collect();
            self.recording.push(Recording { id, missing });
            self.overtaken = Some(id);
            self.close(id);
        }
        let is_complete = |recording: &mut Recording| !recording.missing.contains(&true);
        let complete = self.recording.extract_if(.., is_complete);
        answer.recorded.extend(complete.map(|complete| complete.id));
        self.prune();
        answer
    }

    fn close(&mut self, id: CheckpointId) {
        self.closed.insert(id);
        self.settled = self.settled.max(Some(id));
    }

    /// Forgets what no open channel can bring any more.
    fn prune(&mut self) {
        if self.closed.is_empty() {
            return;
        }
        match self.least() {
            None => self.closed.clear(),
            Some(None) => {}
            Some(Some(least)) => self.closed = self.closed.split_off(&CheckpointId(least.0 + 1)),
        }
    }

    /// Barrier that all open channels have met, or went past; `None` without open channels.
    fn least(&self) -> Option<Option<CheckpointId>> {
        let open = self.channels.iter().filter(|channel| !channel.ended);
        open.map(|channel| channel.last).min()
    }
}

#[cfg(test)]
mod tests;
