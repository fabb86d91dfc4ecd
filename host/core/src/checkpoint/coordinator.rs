//! When checkpoints begin, when they are complete, and what becomes of them.
//!
//! ```text
//!              all acks            durable
//!   Trigger ───────────► Store ───────────► Complete ──► (newer ones complete) ──► Discard
//!      │                   │
//!      └── Abort ◄─────────┘  timeout, decline, failed store, failed attempt, a newer one was first
//! ```
//!
//! One [`Coordinator`] lives as long as the process runs the job, across restarts. It is told facts with the time
//! since the job's start and answers with [`Action`]s, to be carried out in order. It does no more than decide:
//! the driver sends, stores, deletes.
//!
//! **Rules for the driver.** An attempt may restart only when every `Store` was answered
//! ([`Coordinator::stores_under_way`] is 0) and every `Discard` is done. Otherwise a checkpoint that was aborted may
//! turn up as durable after an older one was restored and its committables were thrown away, and a later process would
//! find it and take it for the latest. For the same reason a store that failed is always discarded: it may have
//! succeeded without anybody knowing. An attempt restores [`Coordinator::latest`].
//!
//! **Unaligned.** With [`CheckpointConfig::aligned_timeout`] a periodic checkpoint that takes longer than that is to wait
//! for rows no longer ([`Action::Unalign`]); at 0 that follows its trigger. All others are the user's, or the last of
//! the job, and wait for as long as it takes.
//!
//! **Savepoints do not commit.** A savepoint is the user's, who may delete it; so no restart may depend on it,
//! and so what sinks prepared before it must not become visible by it, but by the next checkpoint (as in Flink since
//! FLIP-203). Only [`CheckpointKind::Stop`], behind which nothing comes, commits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{AbortReason, Action, CheckpointConfig, CheckpointId, CheckpointKind, DeclineReason, Participant, Refused};
use crate::error::Result;

/// How long a [`CheckpointKind::Final`] that failed waits for its next try, if no pause between checkpoints is
/// longer.
pub const FINAL_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
struct Pending {
    kind: CheckpointKind,
    deadline: Duration,
    /// When it is no longer waited for; `None`: always, or that was said.
    unalign_at: Option<Duration>,
    acked: Vec<bool>,
    /// Participants that have not acknowledged; 0: being stored.
    missing: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between attempts, or told to fail this one.
    Waiting,
    Running {
        participants: u32,
    },
    /// The last checkpoint is complete.
    Ended,
}

/// Decides on the checkpoints of a job.
///
/// ```
/// # use std::time::Duration;
/// # use millrace_core::checkpoint::*;
/// let config = CheckpointConfig { interval: Some(Duration::from_secs(1)), ..Default::default() };
/// let mut coordinator = Coordinator::new(config, CheckpointId(1)).unwrap();
/// let (id, kind, at) = (CheckpointId(1), CheckpointKind::Periodic, Duration::from_secs);
/// assert_eq!(coordinator.handle_running(1, at(0)), []);
/// assert_eq!(coordinator.handle_time(at(1)), [Action::Trigger { id, kind }]);
/// assert_eq!(coordinator.handle_ack(id, Participant(0), at(1)), [Action::Store { id, kind }]);
/// assert_eq!(coordinator.handle_stored(id, at(1)), [Action::Complete { id, kind }]);
/// ```
#[derive(Debug, Clone)]
pub struct Coordinator {
    config: CheckpointConfig,
    phase: Phase,
    next: CheckpointId,
    /// Under way.
    pending: BTreeMap<CheckpointId, Pending>,
    /// On demand, waiting for a place.
    waiting: VecDeque<(CheckpointId, CheckpointKind)>,
    /// All subtasks have finished, and no final checkpoint has completed.
    finishing: bool,
    /// No periodic ones begin before the next attempt.
    suspended: bool,
    /// Stores that were not answered, of aborted checkpoints too.
    stores: BTreeSet<CheckpointId>,
    /// Completed and not discarded, without savepoints.
    completed: BTreeSet<CheckpointId>,
    latest: Option<CheckpointId>,
    /// Failures since the last success.
    failures: u32,
    /// When the next periodic one is due, if nothing is in its way.
    due: Option<Duration>,
    /// Until when the pause after the last one lasts.
    paused_until: Duration,
    /// When a final one that failed is tried again.
    retry_at: Duration,
}

impl Coordinator {
    /// A coordinator whose first checkpoint is `next`. The options must make sense.
    pub fn new(config: CheckpointConfig, next: CheckpointId) -> Result<Self> {
        config.validate()?;
        Ok(Coordinator {
            config,
            phase: Phase::Waiting,
            next,
            pending: BTreeMap::new(),
            waiting: VecDeque::new(),
            finishing: false,
            suspended: false,
            stores: BTreeSet::new(),
            completed: BTreeSet::new(),
            latest: None,
            failures: 0,
            due: None,
            paused_until: Duration::ZERO,
            retry_at: Duration::ZERO,
        })
    }

    /// Goes on where an earlier process was: `latest` is the greatest checkpoint of the job that is durable and
    /// [commits](CheckpointKind::commits), `retained` are all durable ones that are not savepoints. They are discarded
    /// as if they were this coordinator's own.
    ///
    /// # Panics
    /// If one of them is not before the next id.
    #[must_use]
    pub fn resuming(mut self, latest: CheckpointId, retained: impl IntoIterator<Item = CheckpointId>) -> Self {
        self.completed.extend(retained);
        self.latest = Some(latest);
        let greatest = self.completed.last().copied().max(self.latest);
        assert!(greatest < Some(self.next), "ids of checkpoints only increase");
        self
    }

    /// The completed checkpoint to restart from; `None`: from the beginning, or from the savepoint that the job
    /// was started from.
    pub fn latest(&self) -> Option<CheckpointId> {
        self.latest
    }

    /// Completed checkpoints that were not discarded, oldest first, without savepoints.
    pub fn retained(&self) -> impl Iterator<Item = CheckpointId> + '_ {
        self.completed.iter().copied()
    }

    /// Stores that were asked for and not answered.
    pub fn stores_under_way(&self) -> usize {
        self.stores.len()
    }

    /// Whether the last checkpoint of the job, a [`CheckpointKind::Stop`] or [`CheckpointKind::Final`], is complete.
    /// If the attempt fails afterwards, all that is left to do is to restore it, which commits.
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// When to call [`Coordinator::handle_time`] at the latest; `None`: only after another event.
    pub fn next_deadline(&self) -> Option<Duration> {
        let timeout = self.pending.values().map(|pending| pending.deadline).min();
        let unalign = self.pending.values().filter_map(|pending| pending.unalign_at).min();
        let trigger = match self.phase {
            Phase::Running { .. } if self.has_room() => self.next_trigger(),
            Phase::Running { .. } | Phase::Waiting | Phase::Ended => None,
        };
        [timeout, unalign, trigger].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_time(&mut self, now: Duration) -> Vec<Action> {
        self.event(now, |_, _| {})
    }

    /// An attempt has begun: all its subtasks are restored and run.
    ///
    /// # Panics
    /// If there are no participants, an attempt runs already, or a store is under way: see the rules for the driver.
    pub fn handle_running(&mut self, participants: u32, now: Duration) -> Vec<Action> {
        assert!(participants > 0, "an attempt has subtasks");
        assert!(self.stores.is_empty(), "restarted while a checkpoint was being stored");
        match self.phase {
            Phase::Ended => {}
            Phase::Waiting => {
                self.phase = Phase::Running { participants };
                self.due = self.config.interval.map(|interval| now + interval);
                self.retry_at = now;
            }
            Phase::Running { .. } => panic!("an attempt began before the last one's end"),
        }
        self.event(now, |_, _| {})
    }

    /// The attempt has failed: all that is under way is aborted and nothing of it counts as a failure.
    pub fn handle_failed(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase != Phase::Ended {
            self.phase = Phase::Waiting;
        }
        self.finishing = false;
        self.suspended = false;
        self.due = None;
        let ids: Vec<CheckpointId> = self.pending.keys().copied().collect();
        for id in ids {
            self.abort(id, AbortReason::JobFailed, now, &mut actions);
        }
        let reason = AbortReason::JobFailed;
        actions.extend(self.waiting.drain(..).map(|(id, _)| Action::Abort {
            id,
            reason: reason.clone(),
        }));
        actions
    }

    /// Sources were told to end before their input does, as before a [`CheckpointKind::Stop`] that drains: should that
    /// fail, the next attempt goes back behind the end, and so no periodic checkpoint may commit what follows from it.
    pub fn suspend(&mut self) {
        self.suspended = true;
    }

    /// A subtask has handed over its snapshot.
    ///
    /// # Panics
    /// If the checkpoint is pending and the participant is not one of it.
    pub fn handle_ack(&mut self, id: CheckpointId, participant: Participant, now: Duration) -> Vec<Action> {
        self.event(now, |this, actions| {
            let Some(pending) = this.pending.get_mut(&id) else {
                return;
            };
            if std::mem::replace(&mut pending.acked[participant.0 as usize], true) {
                return;
            }
            pending.missing -= 1;
            if pending.missing == 0 {
                pending.unalign_at = None;
                this.stores.insert(id);
                actions.push(Action::Store { id, kind: pending.kind });
            }
        })
    }

    /// A subtask cannot take part. Ignored from one that has acknowledged already.
    pub fn handle_decline(
        &mut self,
        id: CheckpointId,
        participant: Participant,
        reason: DeclineReason,
        now: Duration,
    ) -> Vec<Action> {
        self.event(now, |this, actions| {
            let declines = |pending: &Pending| !pending.acked[participant.0 as usize];
            if this.pending.get(&id).is_some_and(declines) {
                this.abort(id, AbortReason::Declined(participant, reason), now, actions);
            }
        })
    }

    /// The metadata of a checkpoint is durable.
    pub fn handle_stored(&mut self, id: CheckpointId, now: Duration) -> Vec<Action> {
        self.event(now, |this, actions| {
            if !this.stores.remove(&id) {
                return;
            }
            match this.pending.remove(&id) {
                Some(pending) => this.complete(id, pending.kind, now, actions),
                None => actions.push(Action::Discard { id }),
            }
        })
    }

    /// The metadata of a checkpoint could not be written, or nobody knows whether it was.
    pub fn handle_store_failed(&mut self, id: CheckpointId, reason: String, now: Duration) -> Vec<Action> {
        self.event(now, |this, actions| {
            if !this.stores.remove(&id) {
                return;
            }
            let at = actions.len();
            if this.pending.contains_key(&id) {
                this.abort(id, AbortReason::StoreFailed(reason), now, actions);
            }
            // Before the job is failed, if it is, so that the driver cannot forget it.
            let fails = matches!(actions[at..].last(), Some(Action::FailJob { .. }));
            actions.insert(actions.len() - usize::from(fails), Action::Discard { id });
        })
    }

    /// Asks for a checkpoint of any kind, a periodic one too, without regard to interval and pause.
    ///
    /// Its id is known at once; its `Trigger` may come later. If the attempt fails before, it is aborted like
    /// one that has begun.
    pub fn trigger(&mut self, kind: CheckpointKind, now: Duration) -> Result<(CheckpointId, Vec<Action>), Refused> {
        match self.phase {
            Phase::Waiting => return Err(Refused::NotRunning),
            Phase::Ended => return Err(Refused::Ended),
            Phase::Running { .. } if self.is_stopping() => return Err(Refused::Stopping),
            Phase::Running { .. } if self.finishing => return Err(Refused::Finishing),
            Phase::Running { .. } => {}
        }
        let id = self.take_id();
        // Should a timeout fail the job just now, then this one waits for `handle_failed` to abort it.
        let actions = self.event(now, |this, _| {
            this.waiting.push_back((id, kind));
            this.finishing = kind == CheckpointKind::Final;
        });
        Ok((id, actions))
    }

    /// Deadlines that have passed come first, then the event, then what can begin.
    fn event(&mut self, now: Duration, event: impl FnOnce(&mut Self, &mut Vec<Action>)) -> Vec<Action> {
        let mut actions = Vec::new();
        self.expire(now, &mut actions);
        event(self, &mut actions);
        self.begin(now, &mut actions);
        self.unalign(now, &mut actions);
        actions
    }

    /// What was waited for long enough, or is not to be waited for at all.
    fn unalign(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for (&id, pending) in &mut self.pending {
            if pending.unalign_at.take_if(|at| *at <= now).is_some() {
                actions.push(Action::Unalign { id });
            }
        }
    }

    fn expire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let expired = self.pending.iter().filter(|(_, pending)| pending.deadline <= now);
        let expired: Vec<CheckpointId> = expired.map(|(id, _)| *id).collect();
        for id in expired {
            self.abort(id, AbortReason::Timeout, now, actions);
        }
    }

    /// Triggers what is waiting or due and has a place.
    fn begin(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while let Phase::Running { participants } = self.phase {
            if !self.has_room() || self.next_trigger().is_none_or(|at| at > now) {
                return;
            }
            let (id, kind) = match self.waiting.pop_front() {
                Some(waiting) => waiting,
                None if self.finishing => (self.take_id(), CheckpointKind::Final),
                None => {
                    self.due = self.config.interval.map(|interval| now + interval);
                    (self.take_id(), CheckpointKind::Periodic)
                }
            };
            let timeout = self.config.aligned_timeout.filter(|_| kind == CheckpointKind::Periodic);
            let pending = Pending {
                kind,
                deadline: now + self.config.timeout,
                unalign_at: timeout.map(|timeout| now + timeout),
                acked: vec![false; participants as usize],
                missing: participants,
            };
            self.pending.insert(id, pending);
            actions.push(Action::Trigger { id, kind });
        }
    }

    fn has_room(&self) -> bool {
        self.pending.len() < self.config.max_concurrent as usize
    }

    /// When the next one begins, given room.
    fn next_trigger(&self) -> Option<Duration> {
        if !self.waiting.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.is_stopping() || self.suspended {
            return None;
        }
        if self.finishing {
            let under_way = self
                .pending
                .values()
                .any(|pending| pending.kind == CheckpointKind::Final);
            return (!under_way).then_some(self.retry_at);
        }
        self.due.map(|due| due.max(self.paused_until))
    }

    fn is_stopping(&self) -> bool {
        let pending = self.pending.values().map(|pending| pending.kind);
        let mut kinds = pending.chain(self.waiting.iter().map(|(_, kind)| *kind));
        kinds.any(|kind| kind == CheckpointKind::Stop)
    }

    fn take_id(&mut self) -> CheckpointId {
        let id = self.next;
        self.next = CheckpointId(id.0 + 1);
        id
    }

    fn complete(&mut self, id: CheckpointId, kind: CheckpointKind, now: Duration, actions: &mut Vec<Action>) {
        self.paused_until = now + self.config.min_pause;
        self.failures = 0;
        if kind.commits() {
            assert!(self.latest < Some(id), "checkpoints complete in order");
            self.latest = Some(id);
            let subsumed = self.pending.range(..id).filter(|(_, pending)| pending.kind.commits());
            let subsumed: Vec<CheckpointId> = subsumed.map(|(id, _)| *id).collect();
            for earlier in subsumed {
                self.abort(earlier, AbortReason::Subsumed(id), now, actions);
            }
        }
        actions.push(Action::Complete { id, kind });
        if kind.commits() && !kind.is_savepoint() {
            self.completed.insert(id);
            while self.completed.len() > self.config.retained as usize {
                let oldest = self.completed.pop_first().expect("more are there than are retained");
                actions.push(Action::Discard { id: oldest });
            }
        }
        if matches!(kind, CheckpointKind::Stop | CheckpointKind::Final) {
            self.phase = Phase::Ended;
            self.finishing = false;
        }
    }

    fn abort(&mut self, id: CheckpointId, reason: AbortReason, now: Duration, actions: &mut Vec<Action>) {
        let pending = self.pending.remove(&id).expect("only what is pending is aborted");
        actions.push(Action::Abort {
            id,
            reason: reason.clone(),
        });
        if matches!(reason, AbortReason::JobFailed | AbortReason::Subsumed(_)) {
            return;
        }
        self.paused_until = now + self.config.min_pause;
        self.retry_at = now + FINAL_RETRY.max(self.config.min_pause);
        if !matches!(self.phase, Phase::Running { .. }) {
            return; // The job is to fail anyway, or has its last checkpoint.
        }
        // Nor does an older one count that fails after a newer one has succeeded.
        self.failures += u32::from(reason.counts(pending.kind) && self.latest < Some(id));
        let fails = match pending.kind {
            // Its sources have ended behind a barrier that comes to nothing.
            CheckpointKind::Stop => true,
            CheckpointKind::Periodic | CheckpointKind::Savepoint | CheckpointKind::Final => {
                self.failures > self.config.tolerable_failures
            }
        };
        if fails {
            self.failures = 0;
            self.phase = Phase::Waiting;
            actions.push(Action::FailJob { reason });
        }
    }
}

#[cfg(test)]
mod tests;
