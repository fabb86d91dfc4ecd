//! What a job that quarantines does after a trap: when chains run carefully, and how many rows may be set aside.
//!
//! A chain that trapped runs *carefully* after the restart: one row, timer or window a call, so that the next trap is put
//! down to one of them. That one goes to the dead letter and the job goes on ([`Quarantine::handle_quarantined`]).
//! Careful mode ends with the next completed checkpoint that lies behind the row that trapped: the restart after a later
//! trap begins behind it, too. Which row that was is not known, but how many rows the subtask had taken when it trapped
//! ([`Trap`]): when it has taken as many again it is past the row ([`Quarantine::handle_passed`]). A checkpoint before that
//! does not count, for careful mode is slow, and the row may be many checkpoints away.
//!
//! A restart into careful mode is no failure for [`Restarts`](super::Restarts): between two of them at least one
//! checkpoint completes or another chain is added, so that the job comes closer to its end each time. A trap that careful
//! mode cannot put down to an entry (where a chain ends, or if no instance can be had) is a failure like any other.

use std::collections::BTreeMap;

use super::CheckpointId;

/// A trap as a subtask tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// Index of the chain in the graph.
    pub chain: u32,
    /// Which subtask of it.
    pub subtask: u32,
    /// Rows that it had taken since the attempt began, with those that it trapped on.
    pub rows: u64,
}

/// What follows from an attempt that ended with a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrapDecision {
    /// Run again at once, the chains of [`Quarantine::careful`] carefully.
    RestartCarefully,
    /// Careful mode did not help: it is a failure like any other.
    LeaveToStrategy,
}

/// Follows the traps of a job. Chains are named by their index in the graph.
///
/// ```
/// # use millrace_core::checkpoint::{CheckpointId, Quarantine, Trap, TrapDecision};
/// let mut quarantine = Quarantine::new(10);
/// let trap = Trap { chain: 3, subtask: 0, rows: 1000 };
/// assert_eq!(quarantine.handle_trap(trap), TrapDecision::RestartCarefully);
/// assert!(quarantine.handle_quarantined(None));
/// quarantine.handle_passed(3, None);
/// assert!(quarantine.handle_completed(CheckpointId(7)));
/// assert!(quarantine.careful().is_empty());
/// assert_eq!(quarantine.rows(), 1);
/// ```
#[derive(Debug, Clone)]
pub struct Quarantine {
    rows_max: u64,
    careful: BTreeMap<u32, Careful>,
    /// Rows that lie before a completed checkpoint.
    settled: u64,
    /// Rows of this attempt by the last barrier that their subtask had met before: a restart meets them again.
    pending: BTreeMap<Option<CheckpointId>, u64>,
    over: bool,
}

/// A chain that is careful.
#[derive(Debug, Clone, Copy)]
struct Careful {
    trap: Trap,
    /// Whether its subtask is past the trap, and behind which barrier it came there.
    passed: Option<Option<CheckpointId>>,
}

impl Quarantine {
    /// Up to `rows_max` rows, timers and windows may be set aside.
    pub fn new(rows_max: u64) -> Self {
        Quarantine {
            rows_max,
            careful: BTreeMap::new(),
            settled: 0,
            pending: BTreeMap::new(),
            over: false,
        }
    }

    /// An attempt has ended with this trap. [`handle_failed`](Self::handle_failed) comes as well.
    pub fn handle_trap(&mut self, trap: Trap) -> TrapDecision {
        if self.over || self.careful.contains_key(&trap.chain) {
            return TrapDecision::LeaveToStrategy;
        }
        self.careful.insert(trap.chain, Careful { trap, passed: None });
        TrapDecision::RestartCarefully
    }

    /// The subtask of a careful chain that had trapped has taken as many rows as then, when it had last met the barrier
    /// of checkpoint `after`.
    pub fn handle_passed(&mut self, chain: u32, after: Option<CheckpointId>) {
        if let Some(careful) = self.careful.get_mut(&chain) {
            careful.passed.get_or_insert(after);
        }
    }

    /// An attempt has ended, for whatever reason: what no completed checkpoint holds will be met again. Chains that were
    /// careful stay so, for the row that they are careful for may come again.
    pub fn handle_failed(&mut self) {
        self.pending.clear();
        self.careful.values_mut().for_each(|careful| careful.passed = None);
    }

    /// A row, timer or window was set aside by a subtask that had last met the barrier of checkpoint `after` (`None`: of
    /// none in this attempt). False: that is one too many, and the job fails for good.
    #[must_use]
    pub fn handle_quarantined(&mut self, after: Option<CheckpointId>) -> bool {
        *self.pending.entry(after).or_default() += 1;
        self.over |= self.rows() > self.rows_max;
        !self.over
    }

    /// A checkpoint is complete. True: careful mode ends with it, for all chains at once.
    pub fn handle_completed(&mut self, id: CheckpointId) -> bool {
        let later = self.pending.split_off(&Some(id));
        self.settled += self.pending.values().sum::<u64>();
        self.pending = later;
        let is_past = |careful: &Careful| careful.passed.is_some_and(|after| after < Some(id));
        let ends = !self.careful.is_empty() && self.careful.values().all(is_past);
        if ends {
            self.careful.clear();
        }
        ends
    }

    /// What an attempt that begins now is careful for: by chain the trap in it.
    pub fn careful(&self) -> BTreeMap<u32, Trap> {
        let traps = self.careful.iter();
        traps.map(|(&chain, careful)| (chain, careful.trap)).collect()
    }

    /// More was set aside than is tolerated.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// How many may be set aside.
    pub fn rows_max(&self) -> u64 {
        self.rows_max
    }

    /// Rows, timers and windows set aside so far, each counted once however often the job was restarted.
    pub fn rows(&self) -> u64 {
        self.settled + self.pending.values().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: fn(u64) -> CheckpointId = CheckpointId;

    fn trap(chain: u32) -> Trap {
        Trap {
            chain,
            subtask: 1,
            rows: 100,
        }
    }

    #[test]
    fn a_chain_is_careful_until_a_checkpoint_behind_the_trap_completes() {
        let mut quarantine = Quarantine::new(5);
        assert!(!quarantine.handle_completed(ID(1)));
        assert_eq!(quarantine.handle_trap(trap(2)), TrapDecision::RestartCarefully);
        quarantine.handle_failed();
        assert_eq!(quarantine.handle_trap(trap(0)), TrapDecision::RestartCarefully);
        quarantine.handle_failed();
        assert_eq!(quarantine.careful(), BTreeMap::from([(0, trap(0)), (2, trap(2))]));
        // Nothing would be different the next time.
        assert_eq!(quarantine.handle_trap(trap(2)), TrapDecision::LeaveToStrategy);
        assert!(!quarantine.handle_completed(ID(2)));
        quarantine.handle_passed(2, Some(ID(2)));
        quarantine.handle_passed(2, Some(ID(4)));
        assert!(!quarantine.handle_completed(ID(3)));
        // The barrier of checkpoint 4 came before the other chain was past its trap.
        quarantine.handle_passed(0, Some(ID(4)));
        assert!(!quarantine.handle_completed(ID(4)));
        assert!(quarantine.handle_completed(ID(5)));
        assert!(quarantine.careful().is_empty());
        assert!(!quarantine.handle_completed(ID(6)));
        assert_eq!(quarantine.handle_trap(trap(2)), TrapDecision::RestartCarefully);
    }

    #[test]
    fn what_was_passed_in_an_attempt_that_failed_comes_again() {
        let mut quarantine = Quarantine::new(5);
        quarantine.handle_trap(trap(2));
        quarantine.handle_passed(2, None);
        quarantine.handle_failed();
        assert!(!quarantine.handle_completed(ID(1)));
        quarantine.handle_passed(2, Some(ID(1)));
        quarantine.handle_passed(7, None);
        assert!(quarantine.handle_completed(ID(2)));
    }

    #[test]
    fn rows_count_once_however_often_they_are_met() {
        let mut quarantine = Quarantine::new(100);
        // Two rows before the barrier of checkpoint 4, one behind it.
        for after in [None, Some(ID(3)), Some(ID(4))] {
            assert!(quarantine.handle_quarantined(after));
        }
        assert_eq!(quarantine.rows(), 3);
        quarantine.handle_completed(ID(4));
        assert_eq!(quarantine.rows(), 3);
        // The restart begins with checkpoint 4 and meets the third again.
        quarantine.handle_failed();
        assert_eq!(quarantine.rows(), 2);
        assert!(quarantine.handle_quarantined(None));
        assert_eq!(quarantine.rows(), 3);
        quarantine.handle_completed(ID(5));
        quarantine.handle_failed();
        assert_eq!(quarantine.rows(), 3);
    }

    #[test]
    fn one_too_many_is_the_end() {
        let mut quarantine = Quarantine::new(2);
        assert!(quarantine.handle_quarantined(None));
        assert!(quarantine.handle_quarantined(Some(ID(1))));
        assert!(!quarantine.is_over());
        assert!(!quarantine.handle_quarantined(None));
        quarantine.handle_failed();
        assert!(quarantine.is_over());
        assert_eq!(quarantine.handle_trap(trap(0)), TrapDecision::LeaveToStrategy);
        // None at all may be tolerated, too: the first is the end.
        assert!(!Quarantine::new(0).handle_quarantined(None));
    }
}
