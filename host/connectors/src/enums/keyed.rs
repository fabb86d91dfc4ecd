//! A table, asked by key, whose connector gives names.

use std::sync::Arc;

use arrow_array::RecordBatch;
use millrace_core::Result;
use millrace_core::connector::{KeyedReader, KeyedTable, Rows};

use super::Enums;
use super::source::number;

/// The table with numbers for the names that `inner` gives, which was made for [`Enums::outside`]. `key`: the enums of
/// its key columns, if they have some.
pub fn with_names(inner: Arc<dyn KeyedTable>, rows: Enums, key: Option<Enums>) -> Arc<dyn KeyedTable> {
    Arc::new(NamedTable { inner, rows, key })
}

struct NamedTable {
    inner: Arc<dyn KeyedTable>,
    rows: Enums,
    key: Option<Enums>,
}

struct NamedReader {
    inner: Box<dyn KeyedReader>,
    rows: Enums,
    key: Option<Enums>,
}

impl KeyedTable for NamedTable {
    fn check(&self) -> Result<()> {
        self.inner.check()
    }

    fn open(&self) -> Result<Box<dyn KeyedReader>> {
        Ok(Box::new(NamedReader {
            inner: self.inner.open()?,
            rows: self.rows.clone(),
            key: self.key.clone(),
        }))
    }
}

impl KeyedReader for NamedReader {
    fn find(&mut self, keys: &RecordBatch) -> Result<Rows> {
        let named = self.key.as_ref().map(|key| key.to_names(keys)).transpose()?;
        let given = self.inner.find(named.as_ref().unwrap_or(keys))?;
        number(&self.rows, given, |_| "table".to_owned())
    }
}
