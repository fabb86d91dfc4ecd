//! A source whose connector gives names.

use std::sync::Arc;

use millrace_core::Result;
use millrace_core::connector::{
    Boundedness, Elapsed, Poll, Position, Rejected, Replay, Rows, Source, Split, SplitEnumerator, SplitReader,
    SubtaskContext,
};

use super::Enums;
use crate::format::json_row;

/// The source with numbers for the names that `inner` gives, which was made for [`Enums::outside`].
pub fn with_names(inner: Arc<dyn Source>, enums: Enums) -> Arc<dyn Source> {
    let enums = Arc::new(enums);
    Arc::new(NamedSource { inner, enums })
}

struct NamedSource {
    inner: Arc<dyn Source>,
    enums: Arc<Enums>,
}

struct NamedReader {
    inner: Box<dyn SplitReader>,
    enums: Arc<Enums>,
    split: String,
}

impl Source for NamedSource {
    fn boundedness(&self) -> Boundedness {
        self.inner.boundedness()
    }

    fn splits(&self, parallelism: u32) -> Result<Vec<Split>> {
        self.inner.splits(parallelism)
    }

    fn enumerator(&self, splits: &[(u32, Split)], parallelism: u32) -> Result<Option<Arc<dyn SplitEnumerator>>> {
        self.inner.enumerator(splits, parallelism)
    }

    fn replay(&self) -> Replay {
        self.inner.replay()
    }

    fn version(&self) -> Result<Option<String>> {
        self.inner.version()
    }

    fn lost_on_restart(&self) -> Option<String> {
        self.inner.lost_on_restart()
    }

    fn open(&self, split: &Split, context: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(NamedReader {
            inner: self.inner.open(split, context)?,
            enums: self.enums.clone(),
            split: split.id.clone(),
        }))
    }
}

impl NamedReader {
    fn number(&mut self, given: Rows) -> Result<Rows> {
        let (inner, split) = (&mut self.inner, &self.split);
        number(&self.enums, given, |row| {
            inner.place(row).unwrap_or_else(|| split.clone())
        })
    }
}

/// Rows with numbers for names; those that have other names are rejected.
pub(super) fn number(enums: &Enums, given: Rows, mut place: impl FnMut(usize) -> String) -> Result<Rows> {
    let (rows, bad) = enums.to_numbers(&given.rows)?;
    let mut rejected = given.rejected;
    for (row, cause) in bad {
        rejected.push(Rejected {
            place: place(row),
            cause,
            raw: json_row(&given.rows.slice(row, 1)).unwrap_or_default(),
        });
    }
    let bytes = given.bytes;
    Ok(Rows { rows, rejected, bytes })
}

impl SplitReader for NamedReader {
    fn poll(&mut self, rows_max: usize, now: Elapsed) -> Result<Poll> {
        match self.inner.poll(rows_max, now)? {
            Poll::Rows(rows) => self.number(rows).map(Poll::Rows),
            other => Ok(other),
        }
    }

    fn position(&self) -> Position {
        self.inner.position()
    }

    fn place(&mut self, row: usize) -> Option<String> {
        self.inner.place(row)
    }

    fn handle_complete(&mut self, position: &Position) -> Result<()> {
        self.inner.handle_complete(position)
    }

    fn refuse(&mut self, rejected: &Rejected) -> bool {
        self.inner.refuse(rejected)
    }
}
