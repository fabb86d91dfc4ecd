//! What is in a lower tier at one moment, as rows of a snapshot.

use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use millrace_core::Result;
use millrace_core::backend::{ByteRows, FrozenTier};
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
        }
    }

    /// Entries are in parts. `columns` makes the columns of rows behind their keys, from their parts and values.
    pub(crate) fn in_parts(
        mut self,
        columns: impl Fn(&[i64], Vec<ArrayRef>) -> Vec<ArrayRef> + Send + Sync + 'static,
    ) -> Self {
        self.parts = Some(Box::new(columns));
        self
    }

    fn rows(&self, keys: &ByteRows, values: &ByteRows) -> Result<RecordBatch> {
        let values = self.codec.decode_values(values.iter())?;
        let Some(columns) = &self.parts else {
            return self.table.rows(self.codec.decode_keys(keys.iter())?, values);
        };
        let parts = keys.iter().map(|key| EntryCodec::read_part(key).0);
        let columns = columns(&parts.collect::<Vec<_>>(), values);
        self.table.rows(self.codec.decode_part_keys(keys.iter())?, columns)
    }
}

impl RowSource for FrozenRows {
    fn read(&self, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        self.frozen
            .scan(FROZEN_ROWS, &mut |keys, values| each(self.rows(keys, values)?))
    }
}
