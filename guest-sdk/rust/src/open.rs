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
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_first(cx: &OpenContext) -> bool { cx.subtask() == 0 }
    /// ```
    pub fn subtask(&self) -> u32 {
        self.subtask
    }

    /// How many copies there are.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn share(limit: u32, cx: &OpenContext) -> u32 { limit / cx.parallelism() }
    /// ```
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }

    /// Number of key groups.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn show(cx: &OpenContext) { info!("{} key groups", cx.max_parallelism()); }
    /// ```
    pub fn max_parallelism(&self) -> u32 {
        self.max_parallelism
    }

    /// How often the job was restarted.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_restarted(cx: &OpenContext) -> bool { cx.attempt() > 0 }
    /// ```
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}
