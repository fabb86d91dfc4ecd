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
mod edit;
mod file;
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
pub use keyed::{SavedSchema, SavedSlices};
pub use layout::{KEY_GROUP, Layout, LayoutKind, TIMER_KINDS};
pub use manifest::{Manifest, SAVEPOINT_VERSION, SavedOperator, SavedSubtask, SavedTable, StateKind};
pub use read::Savepoint;
pub use restorable::Restorable;
pub use schema::Column;
pub use values::rows_as_json;
pub use write::write;

pub(crate) use layout::{ROW_COLUMNS, session_fields, session_item};
pub(crate) use split::{broken, lay_over};
