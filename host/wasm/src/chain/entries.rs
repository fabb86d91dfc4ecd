//! What the entries of a call are.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use millrace_core::block::{Block, Millis};

/// Entries of a call, for those who show one.
#[derive(Clone, Copy)]
pub(crate) enum Entries<'a> {
    /// Rows of an input.
    Rows(&'a Block),
    /// Keys of timers or windows, with their times by name.
    Keys(&'a [ArrayRef], &'a [(&'a str, &'a [Millis])]),
    /// The call has none.
    None,
}

impl<'a> Entries<'a> {
    /// The rows, if it is these.
    pub(super) fn rows(self) -> Option<&'a Block> {
        match self {
            Entries::Rows(rows) => Some(rows),
            Entries::Keys(..) | Entries::None => None,
        }
    }

    /// One entry: the row, or the key with its times behind it.
    pub(super) fn row(self, key_fields: &Fields, entry: usize) -> Option<RecordBatch> {
        match self {
            Entries::Rows(rows) => Some(rows.rows.slice(entry, 1)),
            Entries::Keys(keys, times) => {
                let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
                let times_fields = times
                    .iter()
                    .map(|(name, _)| Arc::new(Field::new(*name, time.clone(), false)));
                let fields: Vec<FieldRef> = key_fields.iter().cloned().chain(times_fields).collect();
                let times = times.iter().map(|(_, times)| -> ArrayRef {
                    Arc::new(TimestampMillisecondArray::from(vec![times[entry]]).with_timezone("UTC"))
                });
                let columns = keys.iter().map(|key| key.slice(entry, 1)).chain(times).collect();
                RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).ok()
            }
            Entries::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;

    use super::*;
    use crate::examine::render_row;

    #[test]
    fn a_timer_is_its_key_and_time() {
        let fields = Fields::from(vec![Field::new("user", DataType::Utf8, false)]);
        let keys: [ArrayRef; 1] = [Arc::new(StringArray::from(vec!["ann", "bob"]))];
        let row = Entries::Keys(&keys, &[("timer", &[0, 1_284])]).row(&fields, 1);
        let text = row.map(|row| render_row(&row, 0));
        assert_eq!(text.as_deref(), Some("user: bob, timer: 1970-01-01T00:00:01.284Z"));
        assert_eq!(Entries::None.row(&fields, 0), None);
    }
}
