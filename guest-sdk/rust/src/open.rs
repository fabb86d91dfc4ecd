//! What user code learns when it is opened.

use crate::bindings::operators::OpenConfig;

/// Where a function runs.
#[derive(Debug, Clone)]
pub struct OpenContext {
    subtask: u32,
    parallelism: u32,
    max_parallelism: u32,
    attempt: u32,
}

impl OpenContext {
    pub(crate) fn new(config: &OpenConfig) -> Self {
        OpenContext {
            subtask: config.subtask,
            parallelism: config.parallelism,
            max_parallelism: config.max_parallelism,
            attempt: config.attempt,
        }
    }

    /// Number of this copy of the function, from 0.
    pub fn subtask(&self) -> u32 {
        self.subtask
    }

    /// How many copies there are.
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }

    /// Number of key groups.
    pub fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    /// How often the job was restarted.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}
