//! Rows with what was found for them, put out piece by piece: one row may find very many.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StructArray, UInt32Array, new_null_array};
use arrow_buffer::NullBuffer;
use arrow_schema::SchemaRef;
use arrow_select::interleave::interleave;
use arrow_select::take::take;
use millrace_core::Result;
use millrace_core::block::{Block, Millis};
use millrace_core::graph::LookupDecl;

use super::table::{Place, WholeTable};
use crate::changes::broken;

/// Rows that go on in one block.
const ROWS_PER_BLOCK: usize = 2048;

/// Rows that were found for a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Which batch, where they are in batches.
    pub(super) batch: u32,
    /// The first of them.
    pub(super) start: u32,
    pub(super) count: u32,
}

/// Where what was found is.
#[derive(Debug)]
pub(super) enum Rows {
    /// `start` is a place in the order of the table.
    Table(Arc<WholeTable>),
    /// `start` is a row of the batch.
    Batches(Vec<RecordBatch>),
}

impl Rows {
    fn batches(&self) -> &[RecordBatch] {
        match self {
            Rows::Table(table) => &table.chunks,
            Rows::Batches(batches) => batches,
        }
    }

    fn place(&self, found: Found, index: u32) -> Place {
        match self {
            Rows::Table(table) => table.order[(found.start + index) as usize],
            Rows::Batches(_) => (found.batch, found.start + index),
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Joined {
    block: Block,
    /// Of each row of the block.
    found: Vec<Found>,
    rows: Rows,
    /// The row that is next, and which of those that it found.
    next: (usize, u32),
}

impl Joined {
    pub(super) fn new(block: Block, found: Vec<Found>, rows: Rows) -> Self {
        Joined {
            block,
            found,
            rows,
            next: (0, 0),
        }
    }

    /// The next piece; `None`: that was all.
    pub(super) fn piece(&mut self, declared: &LookupDecl) -> Result<Option<Block>> {
        let (mut left, mut places, mut valid) = (Vec::new(), Vec::new(), Vec::new());
        while left.len() < ROWS_PER_BLOCK
            && let Some(found) = self.found.get(self.next.0).copied()
        {
            let (row, index) = self.next;
            let room = (ROWS_PER_BLOCK - left.len()) as u32;
            let end = found.count.min(index.saturating_add(room));
            for index in index..end {
                left.push(row as u32);
                places.push(self.rows.place(found, index));
                valid.push(true);
            }
            if found.count == 0 && declared.outer {
                left.push(row as u32);
                places.push((self.rows.batches().len() as u32, 0));
                valid.push(false);
            }
            self.next = if end == found.count { (row + 1, 0) } else { (row, end) };
        }
        if left.is_empty() {
            return Ok(None);
        }
        self.block_of(declared, left, &places, valid).map(Some)
    }

    fn block_of(&self, declared: &LookupDecl, left: Vec<u32>, places: &[Place], valid: Vec<bool>) -> Result<Block> {
        let times = self.block.times.as_ref();
        let times = times.map(|times| {
            left.iter()
                .map(|row| times[*row as usize])
                .collect::<Vec<Millis>>()
                .into()
        });
        let rows = take(self.block.rows.column(0), &UInt32Array::from(left), None).map_err(broken)?;
        let table = struct_of(&declared.table, self.rows.batches(), places, valid, declared.outer)?;
        let columns = vec![rows, Arc::new(table) as ArrayRef];
        let rows = RecordBatch::try_new(declared.schema.clone(), columns).map_err(broken)?;
        Ok(Block {
            rows,
            times,
            keys: None,
        })
    }
}

/// Rows of batches, as structs. A place behind the last batch is that of no row: then it is not valid.
fn struct_of(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    places: &[Place],
    valid: Vec<bool>,
    nullable: bool,
) -> Result<StructArray> {
    let (batches, places) = only(batches, places);
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().enumerate() {
        let missing = new_null_array(field.data_type(), 1);
        let arrays = batches
            .iter()
            .map(|batch| batch.map_or(&*missing, |batch| &**batch.column(index)));
        let arrays: Vec<&dyn Array> = arrays.collect();
        columns.push(interleave(&arrays, &places).map_err(broken)?);
    }
    let nulls = nullable.then(|| NullBuffer::from(valid));
    let fields = schema.fields().clone();
    StructArray::try_new_with_length(fields, columns, nulls, places.len()).map_err(broken)
}

/// Rows of batches.
pub(super) fn gather(schema: &SchemaRef, batches: &[RecordBatch], places: &[Place]) -> Result<RecordBatch> {
    let valid = vec![true; places.len()];
    if places.is_empty() {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
    let rows = struct_of(schema, batches, places, valid, false)?;
    let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
    RecordBatch::try_new_with_options(schema.clone(), rows.columns().to_vec(), &options).map_err(broken)
}

/// The batches that places are in, and the places in those: a table may have many more.
fn only<'b>(batches: &'b [RecordBatch], places: &[Place]) -> (Vec<Option<&'b RecordBatch>>, Vec<(usize, usize)>) {
    let mut used = Vec::new();
    let mut number_of = vec![usize::MAX; batches.len() + 1];
    let places = places.iter().map(|(batch, row)| {
        let number = &mut number_of[*batch as usize];
        if *number == usize::MAX {
            *number = used.len();
            used.push(batches.get(*batch as usize));
        }
        (*number, *row as usize)
    });
    let places = places.collect();
    (used, places)
}
