//! Checkpoint storage: where snapshots go, in which format, and how they come back.
//!
//! ```text
//!   subtask --TableDelta--> Checkpoints::write_layers --+
//!   subtask --TableDelta--> Checkpoints::write_layers --+--> Checkpoints::complete --> metadata.json
//!                                                                                          |
//!   subtask <--TaskRestore-- RestoredCheckpoint::restore_task <-- Storage::open_latest <---+
//! ```
//!
//! [`Storage`] keeps files under a URL, durably. [`mod@format`] says what is in them (`FORMAT.md` is its
//! documentation). [`Checkpoints`] writes those of one run and deletes what nobody refers to any more, as
//! [`accounting`] decides. [`restore`] finds the newest sound checkpoint, [`redistribute`] deals its state out
//! to any number of subtasks.
//!
//! A [`savepoint`] is the same state as Parquet tables in a folder of its own (`SAVEPOINT.md`); a job goes on from
//! either ([`Restorable`]), also when its schemas have changed ([`mod@convert`]).
//!
//! The crate reads no clock and has no opinion on when to take a checkpoint or how many to keep: that is
//! `millrace_core::checkpoint` and the engine.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod accounting;
mod by_group;
mod checkpoints;
pub mod codes;
pub mod convert;
pub mod format;
mod names;
mod newest_first;
pub mod redistribute;
pub mod restore;
pub mod savepoint;
mod storage;
#[cfg(test)]
#[path = "../../core/src/testing.rs"]
mod testing;
pub mod tier;

pub use by_group::{ByGroup, OfGroups};
pub use checkpoints::{CheckpointInfo, Checkpoints, OperatorSnapshot, StackSize};
pub use format::{Kind, Layer, Metadata, Run};
pub use newest_first::{NewestFirst, Restored};
pub use restore::{Depth, Latest, RestoredCheckpoint, Skipped};
pub use savepoint::{Restorable, Savepoint};
pub use storage::Storage;
