//! Entries of large states: each is converted as a map or list that has it alone.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, RecordBatch, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType};
use millrace_core::collections::{CollectionKind, CollectionSchema};
use millrace_core::schema::{Conversion, DeclaredState};
use millrace_core::upgrade::StatePlan;
use millrace_core::{Error, Result};

use super::values::convert;
use super::{Converter, unfit_error};
use crate::redistribute::CollectionRestore;
use crate::savepoint::collections::{lay_over, rows_schema};
use crate::savepoint::{ROW_COLUMNS, broken};

impl Converter {
    /// The large states that are declared, from those that are stored.
    pub(super) fn collections(&self, stored: &[CollectionRestore]) -> Result<Vec<CollectionRestore>> {
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
            let rows = lay_over(schema.kind, &stored.batches)?;
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
        let entries = &rows.columns()[ROW_COLUMNS..];
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
        RecordBatch::try_new(rows_schema(&self.new.key, schema), columns).map_err(broken)
    }
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
