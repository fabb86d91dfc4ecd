//! Entries of large states: each is converted as a map or list that has it alone.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, RecordBatch, StructArray, UInt64Array, new_null_array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType};
use arrow_select::filter::filter_record_batch;
use millrace_core::block::Millis;
use millrace_core::collections::{CollectionKind, CollectionSchema};
use millrace_core::key::RowEncoder;
use millrace_core::schema::{Conversion, DeclaredState};
use millrace_core::upgrade::StatePlan;
use millrace_core::{Error, Result};

use super::values::convert;
use super::{Converter, unfit_error};
use crate::redistribute::CollectionRestore;
use crate::savepoint::collections::{lay_over, rows_schema};
use crate::savepoint::{ROW_COLUMNS, broken};

/// What tells the entries of a key apart, and the value.
const ENTRY_COLUMNS: usize = 2;

impl Converter {
    /// The large states that are declared, from those that are stored.
    pub(crate) fn collections(&self, stored: &[CollectionRestore], now: Millis) -> Result<Vec<CollectionRestore>> {
        let mut converted = Vec::new();
        for (new, plan) in self.plan.new.states.iter().zip(&self.plan.states) {
            let StatePlan::Convert { from, conversion } = plan else {
                continue;
            };
            let old = &self.plan.old.states[*from];
            let (Some(schema), Some(_)) = (new.collection(), old.collection()) else {
                continue;
            };
            let Some(stored) = stored.iter().find(|stored| stored.state == old.name()) else {
                continue;
            };
            let convert = |rows: &RecordBatch| self.collection_rows(rows, new, &schema, old, conversion);
            let mut rows = lay_over(schema.kind, &stored.batches)?;
            for rows in &mut rows {
                *rows = without_expired(rows, now)?;
            }
            if schema.kind == CollectionKind::List && old.ttl.is_some() && new.ttl.is_none() {
                rows = renumbered(&rows)?;
            }
            converted.push(CollectionRestore {
                state: schema.name.clone(),
                batches: rows.iter().map(convert).collect::<Result<_>>()?,
            });
        }
        Ok(converted)
    }

    fn collection_rows(
        &self,
        rows: &RecordBatch,
        new: &DeclaredState,
        schema: &CollectionSchema,
        old: &DeclaredState,
        conversion: &Conversion,
    ) -> Result<RecordBatch> {
        let (entries, expires) = rows.columns()[ROW_COLUMNS..].split_at(ENTRY_COLUMNS);
        let single = single(old.value.field.data_type(), schema.kind, entries).map_err(broken)?;
        let single = convert(&single, conversion, &new.value, None)
            .map_err(|unfit| unfit_error(&format!("state `{}`", schema.name), unfit))?;
        let more = match schema.kind {
            CollectionKind::Map => single.as_map().entries().columns().to_vec(),
            CollectionKind::List => vec![entries[0].clone(), single.as_list::<i32>().values().clone()],
        };
        let mut columns = rows.columns()[..2].to_vec();
        columns.push(self.key(rows.column(2).as_struct())?);
        columns.extend(more);
        columns.extend(schema.ttl.map(|_| match expires {
            [expires, ..] => expires.clone(),
            // Their time begins with the job.
            [] => new_null_array(&DataType::Int64, rows.num_rows()),
        }));
        RecordBatch::try_new(rows_schema(&self.new.key, schema), columns).map_err(broken)
    }
}

/// Entries that have not expired; those that do not say when, never do.
fn without_expired(rows: &RecordBatch, now: Millis) -> Result<RecordBatch> {
    let Some(expires) = rows.columns().get(ROW_COLUMNS + ENTRY_COLUMNS) else {
        return Ok(rows.clone());
    };
    let expires = expires.as_primitive::<Int64Type>();
    let live = expires
        .iter()
        .map(|expires| Some(expires.is_none_or(|expires| expires > now)));
    filter_record_batch(rows, &live.collect()).map_err(broken)
}

/// Items of lists, of which some may be missing, with the indexes from 0 on.
fn renumbered(rows: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let (mut last, mut key, mut next) = (Vec::new(), Vec::new(), 0);
    let renumbered = rows.iter().map(|rows| {
        let encoder = RowEncoder::new(rows.column(ROW_COLUMNS - 1).as_struct().columns())?;
        let mut indexes = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            key.clear();
            encoder.append_tagged(row, &mut key);
            if key != last {
                next = 0;
                last.clone_from(&key);
            }
            indexes.push(next);
            next += 1;
        }
        let mut columns = rows.columns().to_vec();
        columns[ROW_COLUMNS] = Arc::new(UInt64Array::from(indexes));
        RecordBatch::try_new(rows.schema(), columns).map_err(broken)
    });
    renumbered.collect()
}

/// A map or list of one entry for each of these.
fn single(data_type: &DataType, kind: CollectionKind, entries: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(1, entries[0].len()));
    match (kind, data_type) {
        (CollectionKind::Map, DataType::Map(field, sorted)) => {
            let DataType::Struct(members) = field.data_type() else {
                return Err(ArrowError::SchemaError("the entries of a map are no pairs".to_owned()));
            };
            let pairs = StructArray::try_new(members.clone(), entries.to_vec(), None)?;
            let maps = MapArray::try_new(field.clone(), offsets, pairs, None, *sorted)?;
            Ok(Arc::new(maps))
        }
        (CollectionKind::List, DataType::List(item)) => {
            let lists = ListArray::try_new(item.clone(), offsets, entries[1].clone(), None)?;
            Ok(Arc::new(lists))
        }
        (_, other) => Err(ArrowError::SchemaError(format!("{other} is no large state"))),
    }
}

/// The positions of the states that are kept by slot.
pub(super) fn resident(states: &[DeclaredState]) -> impl Iterator<Item = usize> {
    states
        .iter()
        .enumerate()
        .filter(|(_, state)| !state.large)
        .map(|(at, _)| at)
}

/// The column of a stored state that is kept by slot, by its position among all.
pub(super) fn column_of(states: &[DeclaredState], from: usize) -> Result<usize> {
    let place = resident(states).position(|at| at == from);
    place.ok_or_else(|| Error::internal("a large state has no column"))
}
