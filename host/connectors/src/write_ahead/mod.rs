//! A write-ahead log: exactly-once sinks into systems whose transactions cannot wait for a checkpoint, or that have
//! none.
//!
//! ```text
//! write       rows gather in entries of bounded size: compressed Arrow IPC, in memory
//! pre_commit  the entries are the committables: the checkpoint holds the rows themselves
//! commit      entry by entry, the outside gets the rows and the entry's mark, both or neither
//! recover     the same for what the checkpoint holds; entries whose mark is there already are passed over
//! ```
//!
//! A [`Mark`] names an entry. Entries of a log are applied in order, so the mark of the last one is all that the
//! outside has to remember, for each subtask and [log](Mark::log). A writer begins a log of its own whenever it is
//! opened; entries that no completed checkpoint holds are forgotten with it, and nothing was ever written of them.
//!
//! A connector implements [`Target`] and gives a [`LogWriter`] to each subtask. Since the rows wait in memory and are
//! stored in the description of the checkpoint, there is a limit to how many may wait ([`Limits::bytes_max`]).

mod entry;
mod writer;

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use millrace_core::Result;
use millrace_core::connector::Committable;

pub(crate) use entry::Entry;
pub(crate) use writer::LogWriter;

/// Names an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// Subtask that wrote it.
    pub(crate) subtask: u32,
    /// The log: a random number, drawn when a writer is opened.
    pub(crate) log: u64,
    /// Number in the log, from 1, without gaps.
    pub(crate) number: u64,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// Its rows were written.
    Now,
    /// They had been.
    #[cfg_attr(
        not(any(test, feature = "redis", feature = "sqlite")),
        expect(dead_code, reason = "a webhook's server does not say so")
    )]
    Before,
}

/// Where a log is written to.
pub(crate) trait Target: Send {
    /// Writes the rows and the mark, both or neither; nothing if the outside remembers this mark or a later one of
    /// the same log. The rows may be of an earlier version of the pipeline, with another schema.
    fn apply(&mut self, mark: Mark, rows: &RecordBatch) -> Result<Applied>;

    /// Does so with all of these, in their order, and says which are there; others may be there as well if it fails.
    fn apply_all(
        &mut self,
        entries: &mut dyn Iterator<Item = Result<Entry>>,
        applied: &mut dyn FnMut(&Entry),
    ) -> Result<()> {
        for entry in entries {
            let entry = entry?;
            self.apply(entry.mark, &entry.rows)?;
            applied(&entry);
        }
        Ok(())
    }

    /// Only marks of these logs will be asked for again, of the subtasks that they are of. Others may be dropped.
    fn forget_others(&mut self, last: &[Mark]) -> Result<()>;
}

/// How much is kept, and how it is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Rows of an entry, which are written outside at a time.
    pub(crate) rows_per_entry: usize,
    /// Bytes of the entries of one subtask that wait for their checkpoints.
    pub(crate) bytes_max: usize,
    /// What else can be done where that is not enough, for people.
    pub(crate) otherwise: &'static str,
}

/// Applies what a checkpoint holds.
pub(crate) fn recover(target: &mut dyn Target, prepared: &[Committable]) -> Result<()> {
    let mut last = BTreeSet::new();
    let mut entries = prepared.iter().map(Entry::decode);
    target.apply_all(&mut entries, &mut |entry| {
        last.insert(entry.mark);
    })?;
    target.forget_others(&last.into_iter().collect::<Vec<_>>())
}
