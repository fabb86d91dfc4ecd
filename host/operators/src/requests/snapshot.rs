//! Rows under way in checkpoints: a table like that of a keyed operator without timers, whose keys are the rows' numbers.
//!
//! There are as many as the capacity at most, so that every snapshot is a full one.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StructArray, new_null_array};
use arrow_schema::{DataType, Field, FieldRef};
use arrow_select::filter::filter_record_batch;
use arrow_select::interleave::interleave;
use millrace_core::block::Millis;
use millrace_core::checkpoint::TableDelta;
use millrace_core::graph::{REQUESTS_STATE, RequestsDecl};
use millrace_core::requests::Ticket;
use millrace_core::{Error, Result};

use super::RequestsOperator;
use super::columns::{Asked, gather};
use crate::changes::{TableSchema, broken};
use crate::keyed::timer_fields;

pub(super) fn table(declared: &RequestsDecl, max_parallelism: u32) -> TableSchema {
    let state = Field::new(REQUESTS_STATE, DataType::Struct(declared.state_fields()), true);
    let mut fields: Vec<FieldRef> = vec![Arc::new(state)];
    fields.extend(timer_fields());
    TableSchema::new(&RequestsDecl::key_schema(), fields, max_parallelism)
}

impl RequestsOperator {
    /// All rows under way.
    pub fn snapshot(&self) -> Result<TableDelta> {
        let mut delta = TableDelta {
            full: true,
            cold: None,
            batches: Vec::new(),
            live_rows: self.rows.len() as u64,
        };
        if self.rows.is_empty() {
            return Ok(delta);
        }
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(self.rows.keys().copied()));
        let rows = || self.rows.values();
        let members = vec![
            gather(&self.batches, rows(), Asked::rows)?,
            gather(&self.batches, rows(), Asked::requests)?,
            Arc::new(Int64Array::from_iter(rows().map(|row| row.time))),
        ];
        let state = StructArray::try_new(self.declared.state_fields(), members, None).map_err(broken)?;
        let mut more: Vec<ArrayRef> = vec![Arc::new(state)];
        more.extend(timer_fields().map(|field| new_null_array(field.data_type(), keys.len())));
        delta.batches.push(self.table.rows(vec![keys], more)?);
        Ok(delta)
    }

    /// Takes rows over that a snapshot holds, before the first block: they are asked for again, in the order of their
    /// numbers, under new ones.
    pub fn restore(&mut self, batches: &[RecordBatch]) -> Result<()> {
        let mut found: Vec<(Ticket, usize, usize)> = Vec::new();
        let mut live = Vec::new();
        for batch in batches {
            let deleted = self.table.read(batch)?.deleted;
            let is_live = BooleanArray::from_iter(deleted.iter().map(|deleted| Some(deleted == Some(false))));
            let batch = filter_record_batch(batch, &is_live).map_err(broken)?;
            let keys = batch
                .column(2)
                .as_struct()
                .column(0)
                .as_primitive::<Int64Type>()
                .clone();
            found.extend(
                keys.values()
                    .iter()
                    .enumerate()
                    .map(|(row, key)| (*key, live.len(), row)),
            );
            live.push(batch);
        }
        found.sort_unstable();
        let states: Vec<&dyn Array> = live.iter().map(|batch| &**batch.column(3)).collect();
        if found.is_empty() {
            return Ok(());
        }
        let places: Vec<(usize, usize)> = found.iter().map(|(_, batch, row)| (*batch, *row)).collect();
        let state = interleave(&states, &places).map_err(broken)?;
        let [rows, requests, times] = state.as_struct().columns() else {
            return Err(Error::internal("rows under way are stored with three members"));
        };
        let input = RecordBatch::try_new(self.input.clone(), vec![rows.clone(), requests.clone()]);
        let times = times.as_primitive::<Int64Type>();
        let times: Vec<Option<Millis>> = times.iter().collect();
        let tickets: Vec<Ticket> = times.iter().map(|_| self.free_ticket()).collect();
        self.add(&input.map_err(broken)?, tickets.into_iter().zip(times))
    }
}
