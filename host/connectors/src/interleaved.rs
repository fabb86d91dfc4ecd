//! Splits of rows that are made from their index: split s of p has those with index i mod p = s, in order.

use millrace_core::connector::{Position, Split};
use millrace_core::{Error, Result};

use crate::position;

/// How far a split has been read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interleaved {
    /// Index of the next row.
    pub(crate) next: u64,
    /// From one row to the next.
    pub(crate) stride: u64,
    /// It goes on from a checkpoint.
    pub(crate) resumed: bool,
}

impl Interleaved {
    /// As many splits.
    pub(crate) fn splits(count: u32) -> Vec<Split> {
        let split = |index| Split {
            id: format!("{index}/{count}"),
            position: Position::START,
        };
        (0..count).map(split).collect()
    }

    /// One of them; `whose` they are, for people.
    pub(crate) fn open(split: &Split, whose: &str) -> Result<Self> {
        let (first, stride) = split
            .id
            .split_once('/')
            .and_then(|(first, stride)| Some((first.parse::<u64>().ok()?, stride.parse::<u64>().ok()?)))
            .filter(|(first, stride)| first < stride)
            .ok_or_else(|| Error::internal(format!("`{}` is not a split of {whose}", split.id)))?;
        let resumed = position::decode::<1>(&split.position)?.map(|[next]| next);
        Ok(Interleaved {
            next: resumed.unwrap_or(first),
            stride,
            resumed: resumed.is_some(),
        })
    }

    /// Rows from here on to `end`, up to so many.
    pub(crate) fn count(&self, end: u64, rows_max: usize) -> usize {
        let left = end.saturating_sub(self.next).div_ceil(self.stride);
        usize::try_from(left).unwrap_or(usize::MAX).min(rows_max)
    }

    /// So many rows were made.
    pub(crate) fn advance(&mut self, count: usize) {
        self.next += count as u64 * self.stride;
    }

    pub(crate) fn position(&self) -> Position {
        position::encode([self.next])
    }
}
