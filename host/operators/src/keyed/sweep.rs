//! Sweeping: expired entries of keys that nobody sees again, found some at a time. See `lifetimes`.

use millrace_core::Result;
use millrace_core::block::Millis;
use millrace_core::function::{KeyedFunction, Slot};

use super::KeyedOperator;
use super::lifetimes::{FOREVER, Lifetimes};

/// Slots that a step looks at.
const LOOKED_AT: usize = if cfg!(test) { 12 } else { 16 * 1024 };

/// Slots that a step clears, about: a call of the guest should not take long.
const CLEARED: usize = if cfg!(test) { 5 } else { 2048 };

/// Slots looked at before it is seen how many are to be cleared.
const PIECE: usize = if cfg!(test) { 4 } else { 512 };

/// After a round follows a rest of this part of the least time to live.
const REST_PART: Millis = 16;

/// And of so many ms at least.
const REST_MS_MIN: Millis = 100;

/// How far the hand is, and when it goes on.
#[derive(Debug)]
pub(super) struct Sweep {
    rest: Millis,
    /// A round is under way, and the hand is at this slot.
    hand: Option<Slot>,
    /// The next round begins no sooner.
    rests_until: Millis,
    /// No deadline that was set, or that the hand passed, since the last round began is earlier.
    earliest: Millis,
    /// A step is to be made.
    wanted: bool,
}

impl Sweep {
    /// With this least time to live.
    pub(super) fn new(least: Millis) -> Self {
        Sweep {
            rest: (least / REST_PART).max(REST_MS_MIN),
            hand: None,
            rests_until: Millis::MIN,
            earliest: FOREVER,
            wanted: false,
        }
    }

    /// Something expires then.
    #[inline]
    pub(super) fn meet(&mut self, deadline: Millis) {
        self.earliest = self.earliest.min(deadline);
    }

    /// When the next step is to be made.
    pub(super) fn next(&self, now: Millis) -> Option<Millis> {
        match (self.hand, self.earliest) {
            (Some(_), _) => Some(now),
            (None, FOREVER) => None,
            (None, earliest) => Some(earliest.max(self.rests_until)),
        }
    }

    /// It is this time: a step is wanted if one is due.
    pub(super) fn handle_time(&mut self, now: Millis) {
        self.wanted = self.next(now).is_some_and(|next| next <= now);
    }

    /// Whether a step was wanted: it is about to be made.
    pub(super) fn take_wanted(&mut self) -> bool {
        std::mem::take(&mut self.wanted)
    }

    /// Begins a round if none is under way; where its hand is.
    pub(super) fn begin_round(&mut self) -> &mut Slot {
        self.hand.get_or_insert_with(|| {
            self.earliest = FOREVER;
            0
        })
    }

    pub(super) fn end_round(&mut self, now: Millis) {
        self.hand = None;
        self.rests_until = now.saturating_add(self.rest);
    }
}

impl Lifetimes {
    /// When a step is to be made.
    pub(super) fn next_sweep(&self) -> Option<Millis> {
        self.sweep.next(self.now)
    }

    /// It is this time: the next firing makes a step if one is due.
    pub(super) fn handle_time(&mut self, now: Millis) {
        self.now = self.now.max(now);
        self.sweep.handle_time(self.now);
    }

    /// The slots that the hand passes in this step whose time has come for some state.
    fn pass(&mut self, due: &mut Vec<Slot>) {
        due.clear();
        let sweep = &mut self.sweep;
        let mut hand = *sweep.begin_round();
        let end = self.states.iter().map(|lifetime| lifetime.deadlines.len()).max();
        let end = end.unwrap_or(0).min(hand as usize + LOOKED_AT);
        while (hand as usize) < end && due.len() < CLEARED {
            let start = hand as usize;
            let piece = start..end.min(start + PIECE);
            for lifetime in &self.states {
                let deadlines = lifetime.deadlines.get(piece.clone()).unwrap_or_default();
                for (slot, &deadline) in piece.clone().zip(deadlines) {
                    if deadline <= self.now {
                        due.push(slot as Slot);
                    } else {
                        sweep.earliest = sweep.earliest.min(deadline);
                    }
                }
            }
            hand = piece.end as Slot;
        }
        sweep.hand = Some(hand);
        due.sort_unstable();
        due.dedup();
    }

    /// Whether the hand has come round.
    fn is_round(&self) -> bool {
        let hand = self.sweep.hand.unwrap_or(0) as usize;
        self.states.iter().all(|lifetime| lifetime.deadlines.len() <= hand)
    }
}

impl KeyedOperator {
    /// Makes a step of the sweep, if one was asked for; whether it was.
    pub(super) fn sweep(&mut self, function: &mut dyn KeyedFunction) -> Result<bool> {
        let wanted = |lifetimes: &mut Box<Lifetimes>| lifetimes.sweep.take_wanted();
        let Some(mut lifetimes) = self.lifetimes.take_if(wanted) else {
            return match &self.collections {
                None => Ok(false),
                Some(collections) => collections.borrow_mut().sweep_some(),
            };
        };
        lifetimes.pass(&mut self.slots);
        if lifetimes.is_round() {
            let next = match &mut self.tiering {
                Some(tiering) => tiering.expire(lifetimes.now)?,
                None => None,
            };
            if next.is_none_or(|next| next > lifetimes.now) {
                lifetimes.sweep.meet(next.unwrap_or(FOREVER));
                lifetimes.sweep.end_round(lifetimes.now);
            }
        }
        self.lifetimes = Some(lifetimes);
        if !self.slots.is_empty() {
            self.export_before_touching(function)?;
            self.clear_expired(function)?;
            self.free_empty(false)?;
        }
        Ok(true)
    }
}
