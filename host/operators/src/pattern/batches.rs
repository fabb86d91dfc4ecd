//! The columns of rows that are kept: batches as they came, of which some rows are still wanted.
//!
//! Rows are not copied when they are kept. A batch of which few rows are left is given up together with others: what is
//! left of them becomes a batch of its own, so that one old row does not hold thousands.

use arrow_array::RecordBatch;
use arrow_buffer::BooleanBufferBuilder;
use arrow_buffer::bit_iterator::BitIndexIterator;
use arrow_schema::SchemaRef;
use arrow_select::interleave::interleave_record_batch;
use millrace_core::{Error, Result};
use millrace_pattern::{Buffer, Place};

use super::waiting::Waiting;

/// A batch is sparse when less than this part of its rows is wanted.
const SPARSE_PART: u32 = 4;

/// Sparse batches that are joined into one.
const SPARSE_MAX: usize = 64;

/// What a row is to the pattern, and so who has to know when it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// It waits, under this number.
    Waiting(u32),
    /// It was taken, as this event.
    Event(u32),
    /// Nobody wants it.
    Nobody,
}

#[derive(Debug)]
struct Stored {
    rows: RecordBatch,
    /// Of each row.
    owners: Vec<Owner>,
    /// Of each row, whether somebody wants it,
    is_wanted: BooleanBufferBuilder,
    /// and how many are.
    wanted: u32,
    bytes: usize,
    sparse: bool,
}

/// All batches of an operator.
#[derive(Debug)]
pub(super) struct Batches {
    schema: SchemaRef,
    batches: Vec<Option<Stored>>,
    free: Vec<u32>,
    sparse: Vec<u32>,
    bytes: usize,
    /// Of each batch its place among those that rows are taken from, plus one.
    chosen: Vec<u32>,
}

impl Batches {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Batches {
            schema,
            batches: Vec::new(),
            free: Vec::new(),
            sparse: Vec::new(),
            bytes: 0,
            chosen: Vec::new(),
        }
    }

    /// The number of the batch that is added next.
    pub(super) fn next(&self) -> u32 {
        let end = self.batches.len() as u32;
        self.free.last().copied().unwrap_or(end)
    }

    /// Keeps a batch. All of its rows are wanted until they are freed.
    pub(super) fn add(&mut self, rows: RecordBatch, owners: Vec<Owner>) {
        if owners.is_empty() {
            return;
        }
        let bytes = rows.columns().iter().map(|column| {
            let data = column.to_data();
            data.get_slice_memory_size().unwrap_or(0)
        });
        let bytes = bytes.sum::<usize>() + owners.len() * size_of::<Owner>() + owners.len().div_ceil(8);
        let mut is_wanted = BooleanBufferBuilder::new(owners.len());
        is_wanted.append_n(owners.len(), true);
        self.bytes += bytes;
        let stored = Some(Stored {
            wanted: owners.len() as u32,
            rows,
            owners,
            is_wanted,
            bytes,
            sparse: false,
        });
        match self.free.pop() {
            Some(batch) => self.batches[batch as usize] = stored,
            None => self.batches.push(stored),
        }
    }

    /// A row has another owner.
    pub(super) fn set_owner(&mut self, place: Place, owner: Owner) {
        if let Some(stored) = &mut self.batches[place.batch as usize] {
            stored.owners[place.row as usize] = owner;
        }
    }

    /// Gives up rows that nobody wants any more, and joins what is left of sparse batches.
    pub(super) fn release_freed(&mut self, buffer: &mut Buffer, waiting: &mut Waiting) -> Result<()> {
        for place in buffer.freed.drain(..) {
            let Some(stored) = &mut self.batches[place.batch as usize] else {
                return Err(Error::internal("a row was given up twice"));
            };
            stored.is_wanted.set_bit(place.row as usize, false);
            stored.wanted -= 1;
            if stored.wanted == 0 {
                self.bytes -= stored.bytes;
                if !stored.sparse {
                    self.free.push(place.batch);
                }
                self.batches[place.batch as usize] = None;
            } else if !stored.sparse && stored.wanted < stored.rows.num_rows() as u32 / SPARSE_PART {
                stored.sparse = true;
                self.sparse.push(place.batch);
            }
        }
        if self.sparse.len() >= SPARSE_MAX {
            self.join_sparse(buffer, waiting)?;
        }
        Ok(())
    }

    fn join_sparse(&mut self, buffer: &mut Buffer, waiting: &mut Waiting) -> Result<()> {
        let (mut owners, mut places) = (Vec::new(), Vec::new());
        for &batch in &self.sparse {
            let Some(stored) = &self.batches[batch as usize] else {
                continue;
            };
            let wanted = BitIndexIterator::new(stored.is_wanted.as_slice(), 0, stored.owners.len());
            for row in wanted {
                owners.push(stored.owners[row]);
                places.push(Place { batch, row: row as u32 });
            }
        }
        let rows = self.gather(&places)?;
        for batch in std::mem::take(&mut self.sparse) {
            if let Some(stored) = self.batches[batch as usize].take() {
                self.bytes -= stored.bytes;
            }
            self.free.push(batch);
        }
        let batch = self.next();
        for (row, &owner) in (0..).zip(&owners) {
            let place = Place { batch, row };
            match owner {
                Owner::Waiting(number) => waiting.move_row(number, place),
                Owner::Event(event) => buffer.move_event(event, place),
                Owner::Nobody => {}
            }
        }
        self.add(rows, owners);
        Ok(())
    }

    /// The rows at these places, in order.
    pub(super) fn gather(&mut self, places: &[Place]) -> Result<RecordBatch> {
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        self.chosen.clear();
        self.chosen.resize(self.batches.len(), 0);
        let (mut from, mut rows) = (Vec::new(), Vec::with_capacity(places.len()));
        for place in places {
            let batch = place.batch as usize;
            if self.chosen[batch] == 0 {
                let Some(stored) = &self.batches[batch] else {
                    return Err(Error::internal("a row that is wanted was given up"));
                };
                from.push(&stored.rows);
                self.chosen[batch] = from.len() as u32;
            }
            rows.push((self.chosen[batch] as usize - 1, place.row as usize));
        }
        interleave_record_batch(&from, &rows)
            .map_err(|error| Error::internal(format!("rows of a pattern could not be gathered: {error}")))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes
    }
}
