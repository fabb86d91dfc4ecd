//! Savepoints: a job's state in a folder of its own, as Parquet tables that anybody can query.
//!
//! ```text
//!   checkpoint --layers--> lay over, in order --split--> tables/…/*.parquet, then manifest.json
//!   subtask <--rows of a layer-- join <--its key groups-- tables
//! ```
//!
//! [`write()`] makes one from any checkpoint, [`Savepoint`] reads it, at any parallelism, and a [`Writer`] makes one from tables or
//! another savepoint. The format is described in
//! `SAVEPOINT.md`. Nothing in a savepoint names its place or another file outside of it, so that it may be copied
//! anywhere; it belongs to the user, and nothing here deletes one.

mod adapt;
pub(crate) mod collections;
mod edit;
mod file;
mod held;
mod join;
mod keyed;
mod layout;
mod manifest;
mod order;
mod read;
mod restorable;
pub(crate) mod schema;
mod split;
#[cfg(test)]
mod tests;
mod values;
mod write;

pub use edit::Writer;
pub use file::{from_parquet, to_parquet};
pub use held::{Held, KeyText, held_of_rows, shown_name, subtask_of_key};
pub use keyed::{SavedSchema, SavedSlices};
pub use layout::{KEY_GROUP, LargeState, Layout, LayoutKind, TIMER_KINDS};
pub use manifest::{Manifest, SAVEPOINT_VERSION, SavedOperator, SavedSubtask, SavedTable, StateKind};
pub use read::Savepoint;
pub use restorable::Restorable;
pub use schema::{Column, SavedTtl};
pub use values::rows_as_json;
pub use write::{check_target, write, write_while};

pub(crate) use layout::{ROW_COLUMNS, expires_fields, session_fields, session_item};
pub(crate) use split::{broken, lay_over};

use millrace_core::block::Millis;

use crate::{format, names};

/// Name of a new folder for a savepoint of a job. `random` keeps those apart that are taken in the same millisecond.
///
/// ```
/// # use millrace_state::savepoint::folder_name;
/// assert_eq!(folder_name("my job", 1_700_000_000_123, 0xC0FFEE), "my%20job-20231114T221320.123Z-00c0ffee");
/// ```
pub fn folder_name(job: &str, now: Millis, random: u32) -> String {
    format!("{}-{}", names::encode(job), format::stamp(now, random))
}
