//! A whole table in memory, with an index by key.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use millrace_core::graph::{KeyColumns, LookupDecl, TableAccess};
use millrace_core::key::RowEncoder;
use millrace_core::{Error, Result};

use super::distinct::DistinctKeys;
use crate::changes::broken;

/// Rows that are put together: what a join gathers from is few large arrays.
const ROWS_PER_CHUNK: usize = 1 << 16;

/// They are put together earlier if they seem to take as much.
const BYTES_PER_CHUNK: usize = 16 << 20;

/// A row: which batch, and which row of it.
pub(super) type Place = (u32, u32);

/// All rows of a table, found by key. It does not change: what is read anew is another one.
#[derive(Debug)]
pub struct WholeTable {
    pub(super) chunks: Vec<RecordBatch>,
    /// Places of rows: those of a key beside each other, in the order in which they were read.
    pub(super) order: Vec<Place>,
    /// Where the rows of each key begin there; one more than there are keys.
    starts: Vec<u32>,
    keys: DistinctKeys,
    rows: usize,
}

impl WholeTable {
    /// Rows of the table.
    pub fn row_count(&self) -> usize {
        self.rows
    }

    /// Bytes of memory, roughly.
    pub fn byte_count(&self) -> usize {
        bytes_of(&self.chunks) + self.keys.byte_count() + self.order.capacity() * 8 + self.starts.capacity() * 4
    }

    /// Where the rows of a key begin in `order`, and how many there are.
    pub(super) fn find(&self, key: &[u8]) -> (u32, u32) {
        match self.keys.find(key) {
            None => (0, 0),
            Some(number) => {
                let start = self.starts[number as usize];
                (start, self.starts[number as usize + 1] - start)
            }
        }
    }
}

fn bytes_of(chunks: &[RecordBatch]) -> usize {
    chunks.iter().map(RecordBatch::get_array_memory_size).sum()
}

/// Makes a [`WholeTable`] of rows as they are read.
#[derive(Debug)]
pub struct TableBuilder {
    schema: SchemaRef,
    key: Vec<usize>,
    bytes_max: u64,
    /// Rows that are to be put together.
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    pending_bytes: usize,
    chunks: Vec<RecordBatch>,
    bytes: usize,
    keys: DistinctKeys,
    /// The key of each row that has one.
    key_of: Vec<(u32, Place)>,
    rows: usize,
    scratch: Vec<u8>,
}

impl TableBuilder {
    /// For a table that is declared to be in memory as a whole.
    pub fn new(declared: &LookupDecl) -> Self {
        let bytes_max = match declared.access {
            TableAccess::Full { bytes_max, .. } => bytes_max,
            TableAccess::Cached { .. } | TableAccess::Uncached => u64::MAX,
        };
        TableBuilder {
            schema: declared.table.clone(),
            key: declared.key.iter().map(|column| *column as usize).collect(),
            bytes_max,
            pending: Vec::new(),
            pending_rows: 0,
            pending_bytes: 0,
            chunks: Vec::new(),
            bytes: 0,
            keys: DistinctKeys::default(),
            key_of: Vec::new(),
            rows: 0,
            scratch: Vec::new(),
        }
    }

    /// Takes rows.
    ///
    /// # Errors
    /// `LU0001` if the table takes more memory than it may.
    pub fn push(&mut self, rows: RecordBatch) -> Result<()> {
        self.pending_rows += rows.num_rows();
        self.pending_bytes += rows.get_array_memory_size();
        self.pending.push(rows);
        match self.pending_rows >= ROWS_PER_CHUNK || self.pending_bytes >= BYTES_PER_CHUNK {
            true => self.put_together(),
            false => Ok(()),
        }
    }

    /// The table, when all rows have come.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<WholeTable> {
        self.put_together()?;
        let mut starts = vec![0_u32; self.keys.len() + 1];
        for (key, _) in &self.key_of {
            starts[*key as usize + 1] += 1;
        }
        for key in 1..starts.len() {
            starts[key] += starts[key - 1];
        }
        let (mut next, mut order) = (starts.clone(), vec![(0, 0); self.key_of.len()]);
        for (key, place) in &self.key_of {
            let next = &mut next[*key as usize];
            order[*next as usize] = *place;
            *next += 1;
        }
        Ok(WholeTable {
            chunks: self.chunks,
            order,
            starts,
            keys: self.keys,
            rows: self.rows,
        })
    }

    fn put_together(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        (self.pending_rows, self.pending_bytes) = (0, 0);
        let chunk = concat_batches(&self.schema, &pending).map_err(broken)?;
        if chunk.num_rows() == 0 {
            return Ok(());
        }
        drop(pending);
        let number = u32::try_from(self.chunks.len()).map_err(|_| too_large(self.bytes_max))?;
        self.index(number, &chunk)?;
        self.rows += chunk.num_rows();
        self.bytes += chunk.get_array_memory_size();
        self.chunks.push(chunk);
        // Where a row is, and what is kept of its key.
        let index = self.keys.byte_count() + self.key_of.capacity() * 12;
        match self.key_of.len() < u32::MAX as usize && (self.bytes + index) as u64 <= self.bytes_max {
            true => Ok(()),
            false => Err(too_large(self.bytes_max)),
        }
    }

    fn index(&mut self, number: u32, chunk: &RecordBatch) -> Result<()> {
        let columns: Vec<ArrayRef> = self.key.iter().map(|column| chunk.column(*column).clone()).collect();
        let keys = KeyColumns { columns, nulls: None };
        let encoder = RowEncoder::new(&keys.columns)?;
        for row in (0..chunk.num_rows()).filter(|row| !keys.is_null(*row)) {
            self.scratch.clear();
            encoder.append_tagged(row, &mut self.scratch);
            let key = self.keys.insert(&self.scratch);
            self.key_of.push((key, (number, row as u32)));
        }
        Ok(())
    }
}

fn too_large(bytes_max: u64) -> Error {
    let message = format!("the table takes more than the {bytes_max} bytes of memory that it may take");
    Error::user("LU0001", message)
}
