//! Durations as the contract counts them.

use std::time::Duration;

/// Windows and their lateness are shorter than this: what ends so long after today can still be written as a date.
const LONGEST_YEARS: u64 = 5_000;
const YEAR: Duration = Duration::from_secs(31_556_952);

/// Whole milliseconds, as many as an `i64` holds at most.
pub(crate) fn millis(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000);
    seconds
        .saturating_add(u64::from(duration.subsec_millis()))
        .min(i64::MAX as u64)
}

/// Checks that this is some whole milliseconds; `what` names it.
///
/// # Errors
/// Why it cannot be.
pub(crate) fn check_some(what: &str, duration: Duration) -> Result<(), String> {
    check_length(Duration::from_millis(1), duration).map_err(|error| format!("{what} {error}"))?;
    check_whole(what, duration)
}

/// Checks that this is whole milliseconds, or nothing; `what` names it.
///
/// # Errors
/// Why it cannot be.
pub(crate) fn check_whole(what: &str, duration: Duration) -> Result<(), String> {
    check_length(Duration::ZERO, duration).map_err(|error| format!("{what} {error}"))?;
    if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(format!("{what} is whole milliseconds, not {duration:?}"));
    }
    Ok(())
}

/// Checks how long this is.
///
/// # Errors
/// How long it has to be.
pub(crate) fn check_length(least: Duration, duration: Duration) -> Result<(), String> {
    if duration < least {
        return Err(format!("is at least {} ms, not {duration:?}", least.as_millis()));
    }
    match duration.as_secs() / YEAR.as_secs() {
        ..LONGEST_YEARS => Ok(()),
        years => Err(format!("is less than {LONGEST_YEARS} years, not {years}")),
    }
}
