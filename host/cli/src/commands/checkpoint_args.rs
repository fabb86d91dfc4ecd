//! Options of `jobctl run` that say how a job survives.

use std::time::Duration;

use millrace_core::checkpoint::{CheckpointConfig, CheckpointMode, RestartStrategy};
use millrace_core::{Error, Result};
use millrace_engine::{Beginning, CheckpointOptions, OnTrap, Restore};

/// Checkpoints and restarts.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Checkpoints")]
pub struct CheckpointArgs {
    /// Take checkpoints, and keep them here: a folder, or a URL such as s3://bucket/folder
    #[arg(long, value_name = "URL")]
    checkpoint_dir: Option<String>,

    /// From one checkpoint to the next
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration, requires = "checkpoint_dir")]
    checkpoint_interval: Duration,

    /// Shortest time from the end of a checkpoint to the next one
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration, requires = "checkpoint_dir")]
    checkpoint_min_pause: Duration,

    /// How long a checkpoint may take
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration, requires = "checkpoint_dir")]
    checkpoint_timeout: Duration,

    /// How many checkpoints may fail one after the other before the job does
    #[arg(long, value_name = "N", default_value_t = 0, requires = "checkpoint_dir")]
    tolerable_checkpoint_failures: u32,

    /// How many checkpoints may be under way at once
    #[arg(long, value_name = "N", default_value_t = 1, requires = "checkpoint_dir")]
    concurrent_checkpoints: u32,

    /// How many completed checkpoints are kept
    #[arg(long, value_name = "N", default_value_t = 1, requires = "checkpoint_dir")]
    retained_checkpoints: u32,

    /// What a checkpoint promises of the rows that come again after a restart
    #[arg(long, value_enum, default_value_t = Mode::ExactlyOnce, requires = "checkpoint_dir")]
    checkpoint_mode: Mode,

    /// Let barriers overtake rows, which become part of the checkpoint: it then takes no longer where rows back up
    #[arg(long, requires = "checkpoint_dir")]
    unaligned_checkpoints: bool,

    /// Let them do so only in checkpoints that have taken this long
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration, requires = "unaligned_checkpoints")]
    aligned_checkpoint_timeout: Duration,

    /// Go on from a checkpoint: `latest` of this job, or from the beginning if there is none yet
    #[arg(long, value_name = "CHECKPOINT", value_enum, requires = "checkpoint_dir")]
    restore: Option<From>,

    /// Begin with a savepoint, or with a checkpoint of another run (CHECKPOINT_DIR/JOB/RUN/chk-ID): a new run
    /// of the job, at any parallelism. `jobctl check` says beforehand what becomes of the state
    #[arg(long, value_name = "SAVEPOINT", conflicts_with = "restore")]
    from: Option<String>,

    /// Begin though there is state that the pipeline does not declare, and leave it behind
    #[arg(long, requires = "from")]
    allow_non_restored_state: bool,

    /// Own what the job begins with, and delete it when there are as many checkpoints as are retained
    #[arg(long, requires_all = ["from", "checkpoint_dir"], conflicts_with = "no_claim")]
    claim: bool,

    /// Leave what the job begins with as it is and depend on nothing of it (the default)
    #[arg(long, requires = "from")]
    no_claim: bool,

    /// When a failed job runs again: none, fixed-delay:attempts=3,delay=10s, exponential-delay:max=1m (the
    /// default) or failure-rate:max-failures=3,interval=5m
    #[arg(long, value_name = "STRATEGY", requires = "checkpoint_dir")]
    restart: Option<String>,

    /// What follows when user code traps, takes longer than --call-timeout, or too much memory for one row
    #[arg(long, value_enum, default_value_t = Trap::Fail, requires = "checkpoint_dir")]
    on_trap: Trap,

    /// With --on-trap quarantine: file for rows that trap, of operators that have no dead letter for rejected rows
    #[arg(long, value_name = "FILE", requires = "checkpoint_dir")]
    dead_letter: Option<String>,

    /// With --on-trap quarantine: how many rows, timers and windows may be set aside before the job fails
    #[arg(long, value_name = "N", default_value_t = OnTrap::ROWS_MAX_DEFAULT, requires = "checkpoint_dir")]
    quarantine_max: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Trap {
    /// The job fails, and its restart strategy decides
    Fail,
    /// The job goes on from its last checkpoint without the row, which goes to the dead letter
    Quarantine,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Mode {
    /// Every row counts once
    ExactlyOnce,
    /// Barriers hold up no row; rows may count twice after a restart
    AtLeastOnce,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum From {
    /// The newest sound checkpoint of the job's newest run
    Latest,
}

impl CheckpointArgs {
    /// What a new run begins with.
    pub(crate) fn from(&self) -> Result<Option<Beginning>> {
        let Some(from) = &self.from else { return Ok(None) };
        Ok(Some(Beginning {
            url: super::savepoint::absolute(from)?,
            allow_non_restored_state: self.allow_non_restored_state,
            claim: self.claim,
        }))
    }

    /// What follows a trap.
    pub(crate) fn on_trap(&self) -> Result<OnTrap> {
        match self.on_trap {
            Trap::Quarantine => Ok(OnTrap::Quarantine {
                dead_letter: self.dead_letter.clone(),
                rows_max: self.quarantine_max,
            }),
            Trap::Fail if self.dead_letter.is_some() => {
                let message = "--dead-letter is for rows that trap, and takes --on-trap quarantine";
                Err(Error::user("QU0004", message))
            }
            Trap::Fail => Ok(OnTrap::Fail),
        }
    }

    /// `None`: no checkpoints are taken.
    pub(crate) fn options(&self) -> Result<Option<CheckpointOptions>> {
        let Some(storage) = &self.checkpoint_dir else {
            return Ok(None);
        };
        let restart = match &self.restart {
            None => RestartStrategy::default(),
            Some(text) => text
                .parse()
                .map_err(|error: Error| error.context("option `--restart`"))?,
        };
        Ok(Some(CheckpointOptions {
            storage: storage.clone(),
            config: CheckpointConfig {
                mode: match self.checkpoint_mode {
                    Mode::ExactlyOnce => CheckpointMode::ExactlyOnce,
                    Mode::AtLeastOnce => CheckpointMode::AtLeastOnce,
                },
                aligned_timeout: self.unaligned_checkpoints.then_some(self.aligned_checkpoint_timeout),
                interval: Some(self.checkpoint_interval),
                min_pause: self.checkpoint_min_pause,
                timeout: self.checkpoint_timeout,
                tolerable_failures: self.tolerable_checkpoint_failures,
                max_concurrent: self.concurrent_checkpoints,
                retained: self.retained_checkpoints,
            },
            restore: match self.restore {
                Some(From::Latest) => Restore::Latest,
                None => Restore::Nothing,
            },
            restart,
        }))
    }
}
