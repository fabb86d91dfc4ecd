//! Large maps and lists: their layers laid over each other, as rows of a table, and back.
//!
//! ```text
//!   layers     $group | $deleted | $key {…} | $entry | the state's value | $expires
//!   savepoint  key_group | the key's fields | entry_key or index | the state's value | expires_ms
//! ```
//!
//! The last column is there if the state has a time to live.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use millrace_core::Result;
use millrace_core::checkpoint::{DELETED_COLUMN, GROUP_COLUMN, columns};
use millrace_core::collections::{CollectionKind, CollectionSchema};
use millrace_core::key::RowEncoder;

use super::layout::{EXPIRES_MS, ROW_COLUMNS};
use super::order::Order;
use super::split::{broken, last_of_each};

/// Schema of the rows of a layer.
pub(crate) fn rows_schema(key: &Fields, collection: &CollectionSchema) -> SchemaRef {
    let mut fields: Vec<FieldRef> = vec![
        Arc::new(Field::new(GROUP_COLUMN, DataType::UInt32, false)),
        Arc::new(Field::new(DELETED_COLUMN, DataType::Boolean, false)),
        Arc::new(Field::new(columns::KEY, DataType::Struct(key.clone()), false)),
    ];
    fields.extend(collection.row_fields());
    Arc::new(Schema::new(fields))
}

/// The columns of a table of a savepoint behind the key.
pub(super) fn table_fields(collection: &CollectionSchema) -> Vec<FieldRef> {
    let name = match collection.kind {
        CollectionKind::Map => "entry_key",
        CollectionKind::List => "index",
    };
    let entry = collection.entry.as_ref().clone().with_name(name);
    let expires = || Arc::new(Field::new(EXPIRES_MS, DataType::Int64, true));
    let mut fields = vec![Arc::new(entry), collection.value.clone()];
    fields.extend(collection.ttl.map(|_| expires()));
    fields
}

/// Adds entries of collections to an order: by key, then by what tells them apart.
pub(super) fn add_entries(
    order: &mut Order,
    kind: CollectionKind,
    groups: &arrow_array::UInt32Array,
    keys: &[ArrayRef],
    entries: &ArrayRef,
) -> Result<()> {
    match kind {
        CollectionKind::Map => {
            let encoder = RowEncoder::new(std::slice::from_ref(entries))?;
            order.add_with(groups, keys, &|row, identity| encoder.append_tagged(row, identity))
        }
        CollectionKind::List => {
            let indexes = entries.as_primitive::<UInt64Type>();
            order.add_with(groups, keys, &|row, identity| {
                identity.extend(indexes.value(row).to_be_bytes());
            })
        }
    }
}

/// What layers hold, the oldest first: one row per entry, none that is deleted.
pub(crate) fn lay_over(kind: CollectionKind, layers: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let mut order = Order::default();
    for rows in layers {
        let keys = rows.column(2).as_struct().columns();
        let groups = rows.column(0).as_primitive::<UInt32Type>();
        add_entries(&mut order, kind, groups, keys, rows.column(ROW_COLUMNS))?;
    }
    last_of_each(order, layers)
}

/// Rows of a layer, none of which is deleted, as those of a table.
pub(super) fn to_table(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    let mut columns = vec![rows.column(0).clone()];
    columns.extend(rows.column(2).as_struct().columns().iter().cloned());
    columns.extend(rows.columns()[ROW_COLUMNS..].iter().cloned());
    RecordBatch::try_new(schema.clone(), columns).map_err(broken)
}

/// Rows of a table as those of a layer.
pub(super) fn to_rows(key: &Fields, collection: &CollectionSchema, table: &RecordBatch) -> Result<RecordBatch> {
    let keys = table.columns()[1..=key.len()].to_vec();
    let keys = StructArray::try_new(key.clone(), keys, None).map_err(broken)?;
    let deleted = BooleanArray::from(vec![false; table.num_rows()]);
    let mut columns: Vec<ArrayRef> = vec![table.column(0).clone(), Arc::new(deleted), Arc::new(keys)];
    columns.extend(table.columns()[1 + key.len()..].iter().cloned());
    RecordBatch::try_new(rows_schema(key, collection), columns).map_err(broken)
}
