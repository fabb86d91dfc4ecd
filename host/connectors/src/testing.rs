//! Small things that the unit tests of all connectors need.

use std::sync::Arc;

use millrace_core::connector::{Options, SinkContext, SubtaskContext, Waker};

/// Options from literal pairs.
pub(crate) fn options(pairs: &[(&str, &str)]) -> Options {
    Options::new(
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
    .unwrap()
}

/// A context whose waker does nothing.
pub(crate) fn context(subtask: u32, parallelism: u32) -> SubtaskContext {
    SubtaskContext {
        subtask,
        parallelism,
        waker: Waker(Arc::new(|| ())),
        checkpoints: false,
    }
}

/// One sink of one job.
pub(crate) fn identity() -> SinkContext {
    SinkContext {
        job: "test".into(),
        operator: "sink".into(),
    }
}
