//! How many files a source that watches for files has open at a time: many may be there when a job starts, and a process
//! has few descriptors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Files at most that one source has open.
const OPEN_FILES_MAX: usize = 256;

/// With more than these open, a file to which nothing is written now is closed: the rest is for those that wait.
const QUIET_FILES_MAX: usize = OPEN_FILES_MAX / 2;

/// How long to wait before asking again.
pub(super) const PERMIT_INTERVAL: Duration = Duration::from_millis(20);

/// Permits of a source, for all its subtasks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Permits(Arc<AtomicUsize>);

/// To have one file open, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit(Permits);

impl Permits {
    /// One more, if there is one.
    pub(super) fn take(&self) -> Option<Permit> {
        let more = |taken: usize| (taken < OPEN_FILES_MAX).then_some(taken + 1);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Permit(self.clone()))
    }

    /// Whether so many are taken that who has no use for one now gives it back.
    pub(super) fn are_scarce(&self) -> bool {
        self.0.load(Ordering::Relaxed) > QUIET_FILES_MAX
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_they_come_back() {
        let permits = Permits::default();
        let mut taken: Vec<Permit> = std::iter::from_fn(|| permits.take()).collect();
        assert!(taken.len() == OPEN_FILES_MAX && permits.are_scarce());
        taken.pop();
        assert!(permits.take().is_some());
        taken.truncate(QUIET_FILES_MAX);
        assert!(!permits.are_scarce());
    }
}
