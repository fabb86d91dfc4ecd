//! Entries of a frozen tier, handed out in pieces.

use millrace_core::Result;
use millrace_core::backend::ByteRows;

/// Gathers entries until there are enough for a piece.
pub(super) struct Pieces<'e> {
    limit: usize,
    each: &'e mut dyn FnMut(&ByteRows, &ByteRows) -> Result<()>,
    keys: ByteRows,
    values: ByteRows,
}

impl<'e> Pieces<'e> {
    /// Pieces of up to `limit` entries for `each`.
    pub(super) fn new(limit: usize, each: &'e mut dyn FnMut(&ByteRows, &ByteRows) -> Result<()>) -> Self {
        Pieces {
            limit,
            each,
            keys: ByteRows::default(),
            values: ByteRows::default(),
        }
    }

    /// The next entry.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.keys.push(key);
        self.values.push(value);
        if self.keys.len() == self.limit {
            (self.each)(&self.keys, &self.values)?;
            self.keys.clear();
            self.values.clear();
        }
        Ok(())
    }

    /// There are no more.
    pub(super) fn finish(self) -> Result<()> {
        match self.keys.is_empty() {
            true => Ok(()),
            false => (self.each)(&self.keys, &self.values),
        }
    }
}
