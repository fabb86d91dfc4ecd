//! What writers of parts share, wherever these go: when a part ends and the next begins, and that nothing follows a
//! write that failed.

use arrow_array::RecordBatch;
use millrace_core::{Error, Result};

use super::part::Part;
use super::sink::Settings;

/// See the module's documentation.
pub(super) trait PartWriter {
    fn settings(&self) -> &Settings;

    /// The part that grows, begun if there is none.
    fn part(&mut self) -> Result<&mut Part>;

    /// Finishes the part that grows, if there is one.
    fn finish_part(&mut self) -> Result<()>;

    /// Whether a write failed: what was written is not known, and nothing more may be committed.
    fn poisoned(&mut self) -> &mut bool;

    /// What a writer says after that.
    fn refusal(&self) -> Error;

    /// Writes rows into as many parts as they need.
    fn write_parts(&mut self, rows: &RecordBatch) -> Result<()> {
        let (roll_rows, roll_bytes) = (self.settings().roll_rows, self.settings().roll_bytes);
        let mut start = 0;
        while start < rows.num_rows() {
            let part = self.part()?;
            let room = usize::try_from(roll_rows - part.rows()).unwrap_or(usize::MAX);
            let count = room.min(rows.num_rows() - start);
            part.write(&rows.slice(start, count))?;
            start += count;
            if part.rows() >= roll_rows || part.bytes() >= roll_bytes {
                self.finish_part()?;
            }
        }
        Ok(())
    }

    /// Runs a step that writes, unless one has failed before.
    fn guarded(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if *self.poisoned() {
            return Err(self.refusal());
        }
        let result = step(self);
        *self.poisoned() = result.is_err();
        result
    }
}
