//! How much of a snapshot is exported between two blocks.
//!
//! What is exported in order costs less than what is exported because a row is about to touch it, so pieces are as large as
//! the pause that they make allows: it is measured, for entries may be of any size.

use std::time::Duration;

/// How long a piece may hold up rows.
const PAUSE: Duration = Duration::from_millis(1);

/// The first piece of a subtask's first snapshot.
const ENTRIES_FIRST: usize = 4_096;

/// The least and the most, in entries.
const ENTRIES_MIN: usize = 64;
const ENTRIES_MAX: usize = 32_768;

/// The size of the next piece.
#[derive(Debug)]
pub(crate) struct PieceSize {
    entries: usize,
}

impl Default for PieceSize {
    fn default() -> Self {
        PieceSize { entries: ENTRIES_FIRST }
    }
}

impl PieceSize {
    /// Entries of the next piece.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    /// A piece took so long. The last of a snapshot may have been smaller, and says nothing.
    pub(crate) fn handle_piece(&mut self, took: Duration, last: bool) {
        if took > PAUSE {
            self.entries = (self.entries / 2).max(ENTRIES_MIN);
        } else if took < PAUSE / 4 && !last {
            self.entries = (self.entries * 2).min(ENTRIES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size that comes of entries which take so many ns each.
    fn settled(size: &mut PieceSize, entry_ns: u64) -> usize {
        for _ in 0..20 {
            size.handle_piece(Duration::from_nanos(entry_ns * size.entries() as u64), false);
        }
        size.entries()
    }

    #[test]
    fn a_piece_takes_a_quarter_to_a_whole_pause() {
        let mut size = PieceSize::default();
        for (entry_ns, entries) in [
            (5, ENTRIES_MAX),
            (60, 16_384),
            (900, 1_024),
            (1_000_000, ENTRIES_MIN),
            (60, 8_192),
        ] {
            assert_eq!(settled(&mut size, entry_ns), entries, "{entry_ns} ns");
        }
        size.handle_piece(Duration::ZERO, true);
        assert_eq!(size.entries(), 8_192);
    }
}
