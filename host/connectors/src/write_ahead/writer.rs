//! The writer of a subtask: gathers rows into entries, and applies those whose checkpoint is complete.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use millrace_core::connector::{Committable, Elapsed, SinkWriter};
use millrace_core::{Error, Result};

use super::entry::Entry;
use super::{Limits, Mark, Target};

/// See the module's documentation.
pub(crate) struct LogWriter<T> {
    target: T,
    limits: Limits,
    /// Where the next entry goes.
    next: Mark,
    /// Rows of the next entry.
    gathered: Vec<RecordBatch>,
    gathered_rows: usize,
    gathered_bytes: usize,
    /// Entries since the last pre-commit.
    entries: Vec<Committable>,
    /// Bytes of all entries that are not applied, by number.
    waiting: BTreeMap<u64, usize>,
    waiting_bytes: usize,
    written_bytes: u64,
    /// Rows that the sink has written.
    rows: Arc<AtomicU64>,
}

impl<T: Target> LogWriter<T> {
    /// Begins a log. `rows` counts what was written.
    pub(crate) fn new(target: T, subtask: u32, limits: Limits, rows: Arc<AtomicU64>) -> Self {
        let log = RandomState::new().hash_one(std::process::id());
        LogWriter {
            target,
            limits,
            next: Mark {
                subtask,
                log,
                number: 1,
            },
            gathered: Vec::new(),
            gathered_rows: 0,
            gathered_bytes: 0,
            entries: Vec::new(),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            written_bytes: 0,
            rows,
        }
    }

    fn gather(&mut self, rows: RecordBatch) -> Result<()> {
        self.gathered_rows += rows.num_rows();
        self.gathered_bytes += rows
            .columns()
            .iter()
            .map(|column| column.to_data().get_slice_memory_size().unwrap_or(0))
            .sum::<usize>();
        self.gathered.push(rows);
        let full = self.gathered_rows >= self.limits.rows_per_entry || self.gathered_bytes >= self.limits.bytes_max;
        if full { self.seal() } else { Ok(()) }
    }

    /// Makes an entry of the rows gathered.
    fn seal(&mut self) -> Result<()> {
        let Some(first) = self.gathered.first() else {
            return Ok(());
        };
        let rows = concat_batches(&first.schema(), &self.gathered);
        let rows = rows.map_err(|error| Error::internal(format!("rows of a sink cannot be joined: {error}")))?;
        let mark = self.next;
        let entry = Entry { mark, rows }.encode()?;
        self.gathered.clear();
        self.gathered_rows = 0;
        self.gathered_bytes = 0;
        let bytes = entry.0.len();
        let waiting = self.waiting_bytes + bytes;
        if waiting > self.limits.bytes_max {
            let message = format!(
                "the rows that wait for a checkpoint take {waiting} bytes in one subtask, and {} are allowed: take \
                 checkpoints more often (`--checkpoint-interval`), {}",
                self.limits.bytes_max, self.limits.otherwise
            );
            return Err(Error::user("CN0144", message));
        }
        self.next.number += 1;
        self.waiting.insert(mark.number, bytes);
        self.waiting_bytes = waiting;
        self.entries.push(entry);
        Ok(())
    }
}

impl<T: Target> SinkWriter for LogWriter<T> {
    fn write(&mut self, rows: &RecordBatch, _now: Elapsed) -> Result<()> {
        let mut start = 0;
        while start < rows.num_rows() {
            let count = (self.limits.rows_per_entry - self.gathered_rows).min(rows.num_rows() - start);
            self.gather(rows.slice(start, count))?;
            start += count;
        }
        Ok(())
    }

    fn pre_commit(&mut self) -> Result<Vec<Committable>> {
        self.seal()?;
        Ok(std::mem::take(&mut self.entries))
    }

    fn commit(&mut self, committables: &[Committable]) -> Result<()> {
        let LogWriter {
            target,
            next: Mark { log, .. },
            waiting,
            waiting_bytes,
            written_bytes,
            rows,
            ..
        } = self;
        let mut entries = committables.iter().map(Entry::decode);
        target.apply_all(&mut entries, &mut |entry| {
            // What a failed try has written after all counts too.
            if entry.mark.log == *log
                && let Some(bytes) = waiting.remove(&entry.mark.number)
            {
                *waiting_bytes -= bytes;
                *written_bytes += bytes as u64;
                rows.fetch_add(entry.rows.num_rows() as u64, Ordering::Relaxed);
            }
        })
    }

    fn abort(&mut self, _prepared: &[Committable]) -> Result<()> {
        // Nothing of them has left.
        self.gathered.clear();
        self.gathered_rows = 0;
        self.gathered_bytes = 0;
        self.entries.clear();
        self.waiting.clear();
        self.waiting_bytes = 0;
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        self.written_bytes
    }
}

#[cfg(test)]
mod tests;
