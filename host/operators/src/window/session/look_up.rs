//! The open sessions of a key, for somebody who asks.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::FieldRef;
use millrace_core::Result;
use millrace_core::function::WindowFunction;

use super::SessionWindows;
use super::snapshot::{session_fields, sessions, sessions_field};
use crate::changes::TableSchema;

impl SessionWindows {
    /// The row that a snapshot would have for a key, if it has a session.
    pub(in crate::window) fn look_up(
        &mut self,
        key: &[ArrayRef],
        accumulator: &FieldRef,
        max_parallelism: u32,
        function: &mut dyn WindowFunction,
    ) -> Result<Vec<RecordBatch>> {
        let fields = session_fields(accumulator);
        self.batch.load(key)?;
        let mut found = Vec::new();
        self.keys.find(&self.batch, 0..1, &mut found);
        let column = match (&found[..], &mut self.tiering) {
            (&[Some(slot)], _) if self.store.has_sessions(slot) => {
                Some(sessions(&[slot], &self.store, &fields, function)?)
            }
            (&[None], Some(tiering)) => tiering.peek(key)?,
            (_, _) => None,
        };
        let table = TableSchema::new(&self.schema, vec![sessions_field(&fields)], max_parallelism);
        let row = column.map(|column| table.rows(key.to_vec(), vec![column]));
        Ok(row.transpose()?.into_iter().collect())
    }
}
