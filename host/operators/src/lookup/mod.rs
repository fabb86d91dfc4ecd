//! Rows that are looked up in a table: a lookup join, by processing time.
//!
//! ```text
//!   block: row, key --join--> rows of the whole table, found by key      --poll_output--> (row, found)
//!                   --ask---> keys that the cache does not remember, once each
//!                             handle_answer: their rows                  --poll_output--> (row, found)
//! ```
//!
//! A table is in memory as a whole ([`WholeTable`]), or asked for keys, of which answers may be remembered. One block is looked
//! up at a time, and the next is taken when all of it has gone on: so rows keep their order, and nothing is under way at a
//! barrier. Whoever drives this reads tables and asks for keys; nothing here has a clock.

mod cache;
mod distinct;
mod joined;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{Field, Schema, SchemaRef};
use arrow_select::take::take;
use millrace_core::block::{Block, Millis};
use millrace_core::graph::{KeyColumns, LookupDecl, TableAccess};
use millrace_core::key::RowEncoder;
use millrace_core::{Error, Result};

use self::cache::{Age, Cache, Limits};
use self::distinct::DistinctKeys;
use self::joined::{Found, Joined, Rows};
pub use self::table::{TableBuilder, WholeTable};
use crate::changes::broken;

/// What became of the keys of blocks so far, each once a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys that were remembered.
    pub hits: u64,
    /// Keys that a table was asked for.
    pub misses: u64,
}

/// A block some of whose keys a table is asked for.
#[derive(Debug)]
struct Asking {
    block: Block,
    /// The key of each row.
    keys: Vec<Option<u32>>,
    distinct: DistinctKeys,
    /// What is known of each key; `None`: the table is asked.
    found: Vec<Option<Found>>,
    batches: Vec<RecordBatch>,
    asked_at: Millis,
}

/// The host's half of a lookup join. See the module's documentation.
#[derive(Debug)]
pub struct LookupOperator {
    declared: LookupDecl,
    /// Of keys that a table is asked for.
    key_schema: SchemaRef,
    cache: Option<Cache>,
    asking: Option<Asking>,
    joined: Option<Joined>,
    counts: Counts,
    scratch: Vec<u8>,
}

impl LookupOperator {
    /// For one subtask.
    ///
    /// # Errors
    /// If the declaration has not been checked, and is wrong.
    pub fn new(declared: &LookupDecl) -> Result<Self> {
        let cache = match declared.access {
            TableAccess::Full { .. } | TableAccess::Uncached => None,
            TableAccess::Cached {
                rows_max,
                expire_after_ms,
                remembers_missing,
            } => Some(Limits {
                rows_max,
                expire_after_ms,
                remembers_missing,
            }),
        };
        let key = declared.key_schema()?;
        let field = |field: &Arc<Field>| field.as_ref().clone().with_nullable(false);
        Ok(LookupOperator {
            key_schema: Arc::new(Schema::new(key.fields().iter().map(field).collect::<Vec<_>>())),
            cache: cache.map(|limits| Cache::new(limits, declared.table.clone())),
            declared: declared.clone(),
            asking: None,
            joined: None,
            counts: Counts::default(),
            scratch: Vec::new(),
        })
    }

    /// Whether it takes a block: all of the last one has gone on.
    pub fn is_idle(&self) -> bool {
        self.asking.is_none() && self.joined.is_none()
    }

    /// Whether there is something to put out.
    pub fn has_output(&self) -> bool {
        self.joined.is_some()
    }

    /// What became of keys so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Rows that are remembered.
    pub fn cached_rows(&self) -> u64 {
        self.cache.as_ref().map_or(0, Cache::size)
    }

    /// Looks a block up in a table that is in memory.
    pub fn join(&mut self, block: Block, table: &Arc<WholeTable>) -> Result<()> {
        self.check_idle()?;
        let keys = self.declared.keys_of_rows(block.rows.column(1));
        let encoder = RowEncoder::new(&keys.columns)?;
        let mut found = Vec::with_capacity(block.row_count());
        for row in 0..block.row_count() {
            if keys.is_null(row) {
                found.push(Found::default());
                continue;
            }
            self.scratch.clear();
            encoder.append_tagged(row, &mut self.scratch);
            let (start, count) = table.find(&self.scratch);
            found.push(Found { batch: 0, start, count });
        }
        self.joined = Some(Joined::new(block, found, Rows::Table(table.clone())));
        Ok(())
    }

    /// Looks a block up among what is remembered. If that is not all, the table is to be asked for these keys, which differ
    /// and are not null.
    pub fn ask(&mut self, block: Block, now: Millis) -> Result<Option<RecordBatch>> {
        self.check_idle()?;
        let columns = self.declared.keys_of_rows(block.rows.column(1));
        let (distinct, keys, first_rows) = self.tell_apart(&columns, block.row_count())?;
        let (mut found, mut batches) = (Vec::with_capacity(distinct.len()), Vec::new());
        let (mut known, mut old) = (BTreeMap::new(), Vec::new());
        let mut missing = Vec::new();
        for (key, row) in (0..).zip(&first_rows) {
            let cached = self
                .cache
                .as_ref()
                .zip(self.cache.as_ref().and_then(|cache| cache.find(distinct.key(key), now)));
            let Some((cache, (age, entry))) = cached else {
                found.push(None);
                missing.push(*row);
                continue;
            };
            // A key without rows is in no batch.
            let batch = match entry.count {
                0 => 0,
                _ => *known.entry((age, entry.batch)).or_insert_with(|| {
                    batches.push(cache.batch(age, entry.batch).clone());
                    batches.len() as u32 - 1
                }),
            };
            if age == Age::Old {
                old.push((key, entry));
            }
            found.push(Some(Found {
                batch,
                start: entry.start,
                count: entry.count,
            }));
        }
        if let Some(cache) = &mut self.cache {
            cache.renew(old.into_iter().map(|(key, entry)| (distinct.key(key), entry)))?;
        }
        self.counts.hits += (found.len() - missing.len()) as u64;
        self.counts.misses += missing.len() as u64;
        self.asking = Some(Asking {
            block,
            keys,
            distinct,
            found,
            batches,
            asked_at: now,
        });
        match missing.is_empty() {
            true => self.finish_asking().map(|()| None),
            false => keys_of(&self.key_schema, &columns, missing).map(Some),
        }
    }

    /// The rows of the table with the keys that it was asked for, in the order in which those of a key go on.
    pub fn handle_answer(&mut self, rows: &RecordBatch) -> Result<()> {
        let Some(asking) = &mut self.asking else {
            return Err(Error::internal("an answer came to a lookup that had asked for nothing"));
        };
        let columns: Vec<ArrayRef> = self
            .declared
            .key
            .iter()
            .map(|column| rows.column(*column as usize).clone())
            .collect();
        let of_table = KeyColumns { columns, nulls: None };
        let encoder = RowEncoder::new(&of_table.columns)?;
        let mut of_key: Vec<Vec<u32>> = vec![Vec::new(); asking.distinct.len()];
        for row in (0..rows.num_rows()).filter(|row| !of_table.is_null(*row)) {
            self.scratch.clear();
            encoder.append_tagged(row, &mut self.scratch);
            // What is the same key to a database alone (`a` and `A`) is not the same here.
            if let Some(key) = asking.distinct.find(&self.scratch)
                && asking.found[key as usize].is_none()
            {
                of_key[key as usize].push(row as u32);
            }
        }
        let (mut order, mut answers) = (Vec::new(), Vec::new());
        let batch = asking.batches.len() as u32;
        for (key, rows) in of_key.iter().enumerate() {
            if asking.found[key].is_some() {
                continue;
            }
            let (start, count) = (order.len() as u32, rows.len() as u32);
            order.extend(rows);
            answers.push((key as u32, start, count));
            asking.found[key] = Some(Found { batch, start, count });
        }
        let rows = joined::gather(
            &self.declared.table,
            std::slice::from_ref(rows),
            &order.into_iter().map(|row| (0, row)).collect::<Vec<_>>(),
        )?;
        if let Some(cache) = &mut self.cache {
            let answers = answers.into_iter();
            let answers = answers.map(|(key, start, count)| (asking.distinct.key(key), start, count));
            cache.add(&rows, answers, asking.asked_at)?;
        }
        asking.batches.push(rows);
        self.finish_asking()
    }

    /// What goes on now, piece by piece.
    pub fn poll_output(&mut self) -> Result<Option<Block>> {
        let Some(joined) = &mut self.joined else {
            return Ok(None);
        };
        let piece = joined.piece(&self.declared)?;
        if piece.is_none() {
            self.joined = None;
        }
        Ok(piece)
    }

    fn check_idle(&self) -> Result<()> {
        match self.is_idle() {
            true => Ok(()),
            false => Err(Error::internal(
                "a block came to a lookup that has not finished another",
            )),
        }
    }

    /// The keys of rows: each once, that of each row, and the first row of each.
    fn tell_apart(&mut self, columns: &KeyColumns, rows: usize) -> Result<(DistinctKeys, Vec<Option<u32>>, Vec<u32>)> {
        let encoder = RowEncoder::new(&columns.columns)?;
        let (mut distinct, mut keys, mut first_rows) = (DistinctKeys::default(), Vec::with_capacity(rows), Vec::new());
        for row in 0..rows {
            if columns.is_null(row) {
                keys.push(None);
                continue;
            }
            self.scratch.clear();
            encoder.append_tagged(row, &mut self.scratch);
            let key = distinct.insert(&self.scratch);
            if key as usize == first_rows.len() {
                first_rows.push(row as u32);
            }
            keys.push(Some(key));
        }
        Ok((distinct, keys, first_rows))
    }

    /// All is known of the keys.
    fn finish_asking(&mut self) -> Result<()> {
        let Some(asking) = self.asking.take() else {
            return Err(Error::internal("a lookup that had asked for nothing is over"));
        };
        let of_key = |key: &Option<u32>| key.and_then(|key| asking.found[key as usize]).unwrap_or_default();
        let found = asking.keys.iter().map(of_key).collect();
        self.joined = Some(Joined::new(asking.block, found, Rows::Batches(asking.batches)));
        Ok(())
    }
}

/// The keys of some rows.
fn keys_of(schema: &SchemaRef, columns: &KeyColumns, rows: Vec<u32>) -> Result<RecordBatch> {
    let rows = UInt32Array::from(rows);
    let taken = columns.columns.iter().map(|column| take(column, &rows, None));
    let taken = taken.collect::<std::result::Result<Vec<_>, _>>().map_err(broken)?;
    RecordBatch::try_new(schema.clone(), taken).map_err(broken)
}
