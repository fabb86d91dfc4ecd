//! Tables that are asked for rows by key, outside: what a lookup join has of a database.

use arrow_array::RecordBatch;

use super::Rows;
use crate::error::Result;

/// A table that can be asked for rows by key.
pub trait KeyedTable: Send + Sync {
    /// Checks before anything runs that it is there and can be asked.
    fn check(&self) -> Result<()>;

    /// A reader of a subtask. It is used by one thread, and may wait for the database.
    fn open(&self) -> Result<Box<dyn KeyedReader>>;
}

/// Asks a table.
pub trait KeyedReader: Send {
    /// All rows of the table with one of these keys, which differ and are not null: a column for each key column. Rows of a
    /// key come in the same order whenever the table is the same.
    ///
    /// After an error of the outside the reader is dropped, and another one asked.
    fn find(&mut self, keys: &RecordBatch) -> Result<Rows>;
}
