//! What is in a lower tier at one moment, as rows of a snapshot.

use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use millrace_core::Result;
use millrace_core::backend::{ByteRows, FrozenTier, expiry_of};
use millrace_core::block::Millis;
use millrace_core::checkpoint::RowSource;

use crate::changes::TableSchema;
use crate::entry_codec::EntryCodec;

/// Rows of a batch.
const FROZEN_ROWS: usize = 8192;

/// Makes the columns of rows from their parts and values.
type PartColumns = Box<dyn Fn(&[i64], Vec<ArrayRef>) -> Vec<ArrayRef> + Send + Sync>;

/// The rows of a frozen tier.
pub(crate) struct FrozenRows {
    frozen: Arc<dyn FrozenTier>,
    codec: EntryCodec,
    table: TableSchema,
    /// If entries are in parts.
    parts: Option<PartColumns>,
    /// If entries expire: those that have by then are left out.
    now: Option<Millis>,
}

impl fmt::Debug for FrozenRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenRows")
            .field("frozen", &self.frozen)
            .finish_non_exhaustive()
    }
}

impl FrozenRows {
    pub(crate) fn new(frozen: Arc<dyn FrozenTier>, codec: EntryCodec, table: TableSchema) -> Self {
        FrozenRows {
            frozen,
            codec,
            table,
            parts: None,
            now: None,
        }
    }

    /// If entries expire, leaves those out that have by then.
    pub(crate) fn living_at(mut self, now: Option<Millis>) -> Self {
        self.now = now;
        self
    }

    /// Entries are in parts. `columns` makes the columns of rows behind their keys, from their parts and values.
    pub(crate) fn in_parts(
        mut self,
        columns: impl Fn(&[i64], Vec<ArrayRef>) -> Vec<ArrayRef> + Send + Sync + 'static,
    ) -> Self {
        self.parts = Some(Box::new(columns));
        self
    }

    /// Calls `each` with the rows that live.
    fn rows(&self, keys: &ByteRows, values: &ByteRows, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let lives = |value: &[u8]| self.now.is_none_or(|now| expiry_of(value) > now);
        let live = keys.iter().zip(values.iter()).filter(|(_, value)| lives(value));
        let values = self.codec.decode_values(live.clone().map(|(_, value)| value))?;
        let keys = live.map(|(key, _)| key);
        let rows = match &self.parts {
            None => self.table.rows(self.codec.decode_keys(keys)?, values)?,
            Some(columns) => {
                let parts = keys.clone().map(|key| EntryCodec::read_part(key).0);
                let columns = columns(&parts.collect::<Vec<_>>(), values);
                self.table.rows(self.codec.decode_part_keys(keys)?, columns)?
            }
        };
        match rows.num_rows() {
            0 => Ok(()),
            _ => each(rows),
        }
    }
}

impl RowSource for FrozenRows {
    fn read(&self, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let mut rows = |keys: &ByteRows, values: &ByteRows| self.rows(keys, values, each);
        self.frozen.scan(FROZEN_ROWS, &mut rows)
    }
}
