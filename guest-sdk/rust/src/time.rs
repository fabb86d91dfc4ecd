//! Durations as the contract counts them.

use std::time::Duration;

/// Whole milliseconds, as many as an `i64` holds at most.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .min(i64::MAX as u64)
}
