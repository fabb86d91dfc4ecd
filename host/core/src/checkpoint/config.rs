//! What a user can say about a job's checkpoints. Names and defaults are Flink's.

use std::time::Duration;

use super::CheckpointMode;
use crate::error::{Error, Result};

/// When checkpoints are taken, how long they may take and how many may fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Exactly once or at least once.
    pub mode: CheckpointMode,
    /// How long periodic checkpoints wait for their barriers to get past rows; those that take longer overtake them,
    /// and hold the rows that they overtook. 0: all do; `None`: none does.
    pub aligned_timeout: Option<Duration>,
    /// From one periodic checkpoint's trigger to the next; `None`: only on demand.
    pub interval: Option<Duration>,
    /// Shortest time from the end of any checkpoint to the next periodic one.
    pub min_pause: Duration,
    /// How long one may take from its trigger until it is stored.
    pub timeout: Duration,
    /// How many may fail one after the other without failing the job. What counts is said at
    /// [`super::AbortReason::counts`].
    pub tolerable_failures: u32,
    /// How many may be under way at once.
    pub max_concurrent: u32,
    /// How many completed ones are kept; savepoints are the user's and not among them.
    pub retained: u32,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        CheckpointConfig {
            mode: CheckpointMode::ExactlyOnce,
            aligned_timeout: None,
            interval: None,
            min_pause: Duration::ZERO,
            timeout: Duration::from_secs(10 * 60),
            tolerable_failures: 0,
            max_concurrent: 1,
            retained: 1,
        }
    }
}

impl CheckpointConfig {
    /// Refuses what makes no sense; the message names the option.
    ///
    /// ```
    /// # use millrace_core::checkpoint::CheckpointConfig;
    /// let config = CheckpointConfig { retained: 0, ..Default::default() };
    /// assert!(config.validate().unwrap_err().to_string().contains("`retained`"));
    /// ```
    pub fn validate(&self) -> Result<()> {
        let refuse = |message: &str| Err(Error::user("CK0001", message));
        if self.interval == Some(Duration::ZERO) {
            return refuse("option `interval` of checkpoints is 0; leave it out for checkpoints on demand only");
        }
        if self.timeout.is_zero() {
            return refuse("option `timeout` of checkpoints is 0: none could complete");
        }
        if self.max_concurrent == 0 {
            return refuse("option `max_concurrent` of checkpoints is 0: none could begin");
        }
        if self.max_concurrent > 1 && !self.min_pause.is_zero() {
            return refuse(
                "option `max_concurrent` of checkpoints is over 1, but `min_pause` asks for a pause between them",
            );
        }
        if self.aligned_timeout.is_some() && self.mode == CheckpointMode::AtLeastOnce {
            return refuse(
                "option `mode` of checkpoints is at least once, which never waits: unaligned makes no sense",
            );
        }
        if self.aligned_timeout.is_some() && self.max_concurrent > 1 {
            return refuse("option `max_concurrent` of checkpoints is over 1, but unaligned ones come one at a time");
        }
        if self.retained == 0 {
            return refuse("option `retained` of checkpoints is 0: there would be none to restart from");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_option_is_named() {
        let check = |change: fn(&mut CheckpointConfig), expect: &str| {
            let mut config = CheckpointConfig::default();
            config.validate().unwrap();
            change(&mut config);
            let error = config.validate().unwrap_err();
            assert_eq!(error.code(), "CK0001");
            assert!(error.to_string().contains(&format!("`{expect}`")), "{error}");
        };
        check(|config| config.interval = Some(Duration::ZERO), "interval");
        check(|config| config.timeout = Duration::ZERO, "timeout");
        check(|config| config.max_concurrent = 0, "max_concurrent");
        check(|config| config.retained = 0, "retained");
        check(
            |config| {
                config.max_concurrent = 2;
                config.min_pause = Duration::from_secs(1);
            },
            "min_pause",
        );
        check(
            |config| {
                config.aligned_timeout = Some(Duration::ZERO);
                config.mode = CheckpointMode::AtLeastOnce;
            },
            "mode",
        );
        check(
            |config| {
                config.aligned_timeout = Some(Duration::from_secs(1));
                config.max_concurrent = 2;
            },
            "max_concurrent",
        );
    }
}
