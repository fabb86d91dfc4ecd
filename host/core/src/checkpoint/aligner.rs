//! One point in time out of the barriers of several input channels.
//!
//! ```text
//!   channel 0  ──r──r──│1│──r──r──►   its barrier came first: blocked, what follows waits in the channel
//!   channel 1  ──r──r──r──r──│1│──►   still open: its rows belong to checkpoint 1
//!                                     both barriers there: snapshot, barrier onwards, channels released
//! ```
//!
//! What the driver does, in this order, with an [`Alignment`]: declines at the coordinator what was given up;
//! for each aligned checkpoint takes the subtask's snapshot, acknowledges it and sends the barrier onwards; only
//! then goes on with elements. It takes no element from a channel that [`Aligner::is_blocked`].
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
/// Two further modes have their place here and are not built. *Unaligned*: the first barrier aligns the
/// checkpoint at once and overtakes what waits; rows that wait in channels become part of the snapshot, so an
/// [`Alignment`] would name the channels whose rows are to be recorded until their barrier comes. *Aligned with
/// timeout*: [`CheckpointMode::ExactlyOnce`] that turns into unaligned after a `Duration`, for which the aligner would
/// be told the time and answer with a deadline. Neither changes what is here, as a subtask's part in a checkpoint
/// still begins with `aligned`.
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
}

impl Alignment {
    /// Nothing follows.
    pub fn is_empty(&self) -> bool {
        self.given_up.is_empty() && self.aligned.is_empty()
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
    /// Given up or cancelled, as long as their barriers or announcements may still come.
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

#[derive(Debug, Clone, Copy)]
struct Pending {
    id: CheckpointId,
    /// Open channels whose barrier has not come.
    missing: usize,
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

    /// The coordinator says that a checkpoint was aborted: its channels are released, and what still comes of it
    /// is ignored.
    pub fn handle_cancelled(&mut self, id: CheckpointId) {
        self.pending.retain(|pending| pending.id != id);
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

    /// Begins to align, unless an open channel is already past it.
    fn begin(&mut self, id: CheckpointId, answer: &mut Alignment) {
        let open = self.channels.iter().filter(|channel| !channel.ended);
        let (mut missing, mut passed) = (0, false);
        for channel in open {
            missing += usize::from(channel.last < Some(id));
            passed |= channel.last > Some(id);
        }
        if passed {
            answer.given_up.push(id);
            self.close(id);
        } else {
            let at = self.pending.partition_point(|pending| pending.id < id);
            self.pending.insert(at, Pending { id, missing });
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
