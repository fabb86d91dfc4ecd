//! Sinks that write rows as they come, some at a time. Nothing is left to commit, so nothing is in the checkpoint, and what
//! was written after it is written again after a restart.
//!
//! A connector implements [`Outside`] and gives an [`ImmediateWriter`] to each subtask. What waits for checkpoints is in
//! `write_ahead`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use millrace_core::Result;
use millrace_core::connector::{Committable, Elapsed, SinkWriter};

/// Where rows go.
pub(crate) trait Outside: Send {
    /// Writes rows; how many bytes they were.
    fn write(&mut self, rows: &RecordBatch) -> Result<u64>;
}

/// Writes for one subtask.
pub(crate) struct ImmediateWriter<T> {
    outside: T,
    rows_at_a_time: usize,
    /// Rows that the sink has written.
    rows: Arc<AtomicU64>,
    bytes: u64,
}

impl<T: Outside> ImmediateWriter<T> {
    /// `rows` counts what was written.
    pub(crate) fn new(outside: T, rows_at_a_time: usize, rows: Arc<AtomicU64>) -> Self {
        ImmediateWriter {
            outside,
            rows_at_a_time,
            rows,
            bytes: 0,
        }
    }
}

impl<T: Outside> SinkWriter for ImmediateWriter<T> {
    fn write(&mut self, rows: &RecordBatch, _now: Elapsed) -> Result<()> {
        for start in (0..rows.num_rows()).step_by(self.rows_at_a_time) {
            let rows = rows.slice(start, self.rows_at_a_time.min(rows.num_rows() - start));
            self.bytes += self.outside.write(&rows)?;
            self.rows.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn pre_commit(&mut self) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }

    fn commit(&mut self, _: &[Committable]) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self, _: &[Committable]) -> Result<()> {
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        self.bytes
    }
}
