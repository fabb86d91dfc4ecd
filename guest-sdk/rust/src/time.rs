//! Durations as the contract counts them.

use std::time::Duration;

/// Whole milliseconds, as many as an `i64` holds at most.
pub(crate) fn millis(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000);
    seconds
        .saturating_add(u64::from(duration.subsec_millis()))
        .min(i64::MAX as u64)
}
