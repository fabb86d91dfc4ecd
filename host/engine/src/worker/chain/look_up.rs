//! What a chain holds for a key, for somebody who asks.

use arrow_array::{ArrayRef, RecordBatch};
use millrace_core::block::Millis;
use millrace_core::{Error, Result};

use super::function::with_function;
use super::{ChainTask, HeadOperator};
use crate::worker::questions::Held;

impl ChainTask {
    /// Rows as a snapshot would have them, and up to `limit` entries of each large state.
    pub(crate) fn look_up(&mut self, key: &[ArrayRef], limit: usize, now: Millis) -> Result<Held> {
        if self.is_restoring() {
            let message = "the state of the job is still being restored";
            return Err(Error::user("AP0011", message));
        }
        self.set_moment(now);
        let (tables, guest) = (&self.tables, &mut self.guest);
        match &mut self.head {
            HeadOperator::Stateless => Ok(Held::default()),
            HeadOperator::Keyed { operator, pattern, .. } => {
                let row = with_function(pattern, guest, |function| {
                    operator.look_up(key, &tables.states, tables.max_parallelism, function)
                })?;
                let collections = tables.collections.iter().enumerate().map(|(number, schema)| {
                    let (rows, more) = operator.look_up_collection(number, key, limit)?;
                    Ok((schema.name.clone(), rows, more))
                });
                Ok(Held {
                    rows: row.into_iter().collect(),
                    collections: collections.collect::<Result<Vec<(String, RecordBatch, bool)>>>()?,
                })
            }
            HeadOperator::Window { operator, .. } => Ok(Held {
                rows: operator.look_up(key, &tables.states[0], tables.max_parallelism, guest)?,
                collections: Vec::new(),
            }),
        }
    }
}
