//! How far a source has come whose splits turn up while it is read.
//!
//! A subtask that has no split of its own, yet or any more, must not hold event time up; but if it counted as idle, event time
//! would run ahead of splits that have turned up and that it is about to be given. So it follows the least of all splits of
//! the source, those included that nobody reads yet.

use std::collections::BTreeMap;

use crate::block::{Millis, WATERMARK_MIN};

/// The splits of a source that have turned up and have not ended, on all subtasks.
///
/// ```
/// # use millrace_core::time::Frontier;
/// let mut frontier = Frontier::default();
/// frontier.begin("a");
/// frontier.advance("a", 7);
/// frontier.begin("b");
/// assert_eq!(frontier.least(), Some(i64::MIN));
/// frontier.advance("b", 9);
/// frontier.handle_end("a");
/// assert_eq!(frontier.least(), Some(9));
/// ```
#[derive(Debug, Default)]
pub struct Frontier {
    /// The watermark of each; `None`: it is idle.
    splits: BTreeMap<String, Option<Millis>>,
}

impl Frontier {
    /// A split has turned up. Nothing changes if it is known.
    pub fn begin(&mut self, split: &str) {
        if !self.splits.contains_key(split) {
            self.splits.insert(split.to_owned(), Some(WATERMARK_MIN));
        }
    }

    /// A split has come to this watermark; it is not idle.
    pub fn advance(&mut self, split: &str, watermark: Millis) {
        if let Some(known) = self.splits.get_mut(split) {
            *known = Some(watermark);
        }
    }

    /// A split gives nothing for now.
    pub fn handle_idle(&mut self, split: &str) {
        if let Some(known) = self.splits.get_mut(split) {
            *known = None;
        }
    }

    /// A split gives nothing any more.
    pub fn handle_end(&mut self, split: &str) {
        self.splits.remove(split);
    }

    /// The least watermark of the splits that are not idle, if there is one.
    pub fn least(&self) -> Option<Millis> {
        self.splits.values().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_that_nobody_reads_yet_hold_it() {
        let mut frontier = Frontier::default();
        assert_eq!(frontier.least(), None);
        frontier.begin("a");
        frontier.advance("a", 5);
        frontier.begin("a");
        assert_eq!(frontier.least(), Some(5), "it is known");
        frontier.begin("b");
        assert_eq!(frontier.least(), Some(WATERMARK_MIN));
        frontier.handle_idle("b");
        assert_eq!(frontier.least(), Some(5));
        frontier.advance("b", 3);
        assert_eq!(frontier.least(), Some(3));
        frontier.handle_end("b");
        frontier.handle_end("a");
        frontier.advance("a", 9);
        assert_eq!(frontier.least(), None, "it has ended");
    }
}
