//! The engine: from a pipeline file to a running job, embedded in one process.
//!
//! [`Loaded`] is a compiled pipeline with its parameters; [`Prepared`] is a planned job whose connectors
//! have been checked; [`Job`] is a running one. Slots are threads (`worker/`), each with one sandboxed
//! instance; [`metrics`] is what they report; [`rest`] is how others find a running job and ask things of it. Decisions live in `millrace-core` and `millrace-operators`;
//! this crate carries them out.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod backend;
mod checkpointing;
mod control;
pub mod env;
mod in_flight;
mod job;
mod kept;
mod look_up;
pub mod metrics;
mod parameters;
mod prepare;
mod quarantine;
pub mod rest;
mod restore;
mod savepoints;
mod snapshot_tasks;
mod supervisor;
mod tables;
mod worker;

pub use backend::StateBackend;
pub use checkpointing::CheckpointStatistics;
pub use control::{JobControl, OperationReport, SavepointReport};
pub use job::{Job, Report, SinkSummary};
pub use parameters::resolve as resolve_parameters;
pub use prepare::{ApiOptions, Beginning, Check, CheckpointOptions, JobOptions, Loaded, OnTrap, Prepared, Restore};

pub use millrace_connectors::STDOUT_CLOSED;
pub use millrace_core::control::{End, OperationId, Request, State};
pub use millrace_wasm::{Limits, LogLevel, LogSink, Runtime, UserMetric, UserMetricKind};
