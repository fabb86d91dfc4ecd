//! Blocks and the elements that travel between them: all that ever moves through a channel.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::ScalarBuffer;

use crate::checkpoint::CheckpointId;

/// Event time or processing time: ms since 1970-01-01 UTC.
pub type Millis = i64;

/// The watermark before the first: nothing is known.
pub const WATERMARK_MIN: Millis = Millis::MIN;

/// The watermark after the last row of a bounded input: everything fires.
pub const WATERMARK_MAX: Millis = Millis::MAX;

/// Up to some thousand rows of one stream as Arrow columns, with the system columns beside them.
///
/// The columns of `rows` are plain Arrow arrays in the stream's schema: no dictionaries, views or offsets.
#[derive(Debug, Clone)]
pub struct Block {
    /// The user's columns.
    pub rows: RecordBatch,
    /// Event time of each row; absent where the stream has none or nobody downstream reads it.
    pub times: Option<ScalarBuffer<Millis>>,
    /// Columns of a computed key, from the port that computed it to the exchange that uses it.
    pub keys: Option<Arc<[ArrayRef]>>,
}

impl Block {
    /// A block without system columns.
    pub fn new(rows: RecordBatch) -> Self {
        Block {
            rows,
            times: None,
            keys: None,
        }
    }

    /// Some rows of it, without copying any.
    ///
    /// # Panics
    /// If it does not have them.
    #[must_use]
    pub fn slice(&self, start: usize, count: usize) -> Self {
        let keys = self.keys.as_ref();
        Block {
            rows: self.rows.slice(start, count),
            times: self.times.as_ref().map(|times| times.slice(start, count)),
            keys: keys.map(|keys| keys.iter().map(|key| key.slice(start, count)).collect()),
        }
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.rows.num_rows()
    }

    /// Bytes of all buffers, for accounting (shared buffers count each time).
    pub fn byte_count(&self) -> usize {
        let system = self.times.as_ref().map_or(0, |times| times.len() * 8)
            + self
                .keys
                .iter()
                .flat_map(|keys| keys.iter())
                .map(|key| key.get_buffer_memory_size())
                .sum::<usize>();
        self.rows.get_array_memory_size() + system
    }
}

/// What travels in order through a channel.
#[derive(Debug, Clone)]
pub enum Element {
    /// Rows.
    Block(Block),
    /// No row with an earlier or equal time will come, late rows excepted.
    Watermark(Millis),
    /// This channel gives nothing for now and must not hold back the watermark; a block or watermark ends it.
    Idle,
    /// What came before belongs to this checkpoint, what comes behind does not.
    Barrier(CheckpointId),
    /// Nothing comes any more. The watermark before it was [`WATERMARK_MAX`].
    End,
}
