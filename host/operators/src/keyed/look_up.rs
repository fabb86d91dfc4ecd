//! What is held for a key now, for somebody who asks. Nothing changes by that: no flag, no time to live, no place.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::FieldRef;
use millrace_core::function::KeyedFunction;
use millrace_core::{Error, Result};

use super::KeyedOperator;
use super::snapshot::timer_columns;
use crate::changes::TableSchema;

/// Bytes of entries of a large state that somebody who asks is told, about.
const BYTES_MAX: usize = 1 << 20;

impl KeyedOperator {
    /// The row that a snapshot would have for a key, wherever its entry is; `None`: it has no states by slot and no timers.
    /// `states` are the fields of the states.
    pub fn look_up(
        &mut self,
        key: &[ArrayRef],
        states: &[FieldRef],
        max_parallelism: u32,
        function: &mut dyn KeyedFunction,
    ) -> Result<Option<RecordBatch>> {
        self.batch.load(key)?;
        let mut found = Vec::new();
        self.keys.find(&self.batch, 0..1, &mut found);
        let columns = match found[..] {
            [Some(slot)] => Some(self.entry_columns(&[slot], function)?),
            _ => match &mut self.tiering {
                Some(tiering) => tiering.peek(key)?,
                None => None,
            },
        };
        let Some(columns) = columns else { return Ok(None) };
        let columns = match &self.lifetimes {
            Some(lifetimes) => lifetimes.settle(&columns, self.state_count)?,
            None => columns,
        };
        let is_kept = columns[..self.state_count].iter().any(|values| values.is_valid(0));
        let is_timed = |lists: &ArrayRef| lists.as_list::<i32>().value_length(0) > 0;
        if !is_kept && !timer_columns(&columns).iter().any(is_timed) {
            return Ok(None);
        }
        let table = TableSchema::new(&self.key_schema, self.entry_fields(states), max_parallelism);
        table.rows(key.to_vec(), columns).map(Some)
    }

    /// The rows that a snapshot would have for a key's entries of a large state, up to `limit`, and whether there are more.
    /// States are numbered among the large ones. Of broadcast state the key means nothing.
    pub fn look_up_collection(&mut self, state: usize, key: &[ArrayRef], limit: usize) -> Result<(RecordBatch, bool)> {
        let Some(collections) = &self.collections else {
            return Err(Error::internal("an operator without large states was asked for one"));
        };
        let mut collections = collections.borrow_mut();
        collections.begin_call(key);
        collections.rows_of_call(state, limit, BYTES_MAX)
    }
}
