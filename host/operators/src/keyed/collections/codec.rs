//! Entries of large states to bytes and back.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, UInt64Array};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{DataType, SchemaRef};
use millrace_core::backend::ByteRows;
use millrace_core::collections::{CollectionKind, CollectionSchema};
use millrace_core::key::decode_prefixes;
use millrace_core::{Error, Result};

use crate::changes::TableSchema;
use crate::entry_codec::{GROUP_BYTES, broken};

/// The index at the end of an entry of a list.
pub(super) fn index_of(entry: &[u8]) -> Result<u64> {
    let index = entry.last_chunk::<8>();
    let index = index.ok_or_else(|| Error::internal("an entry of a list has no index"))?;
    Ok(u64::from_be_bytes(*index))
}

/// Entries and values to bytes and back.
#[derive(Debug)]
pub(super) struct Codec {
    pub(super) key_schema: SchemaRef,
    pub(super) schema: CollectionSchema,
    max_parallelism: u32,
    pub(super) table: TableSchema,
    /// Keys of a map; of a list indexes are written as they are.
    entries: RowConverter,
    values: RowConverter,
}

impl Codec {
    pub(super) fn new(key_schema: SchemaRef, schema: CollectionSchema, max_parallelism: u32) -> Result<Self> {
        let converter = |data_type: &DataType| RowConverter::new(vec![SortField::new(data_type.clone())]);
        Ok(Codec {
            table: TableSchema::new(&key_schema, schema.row_fields(), max_parallelism),
            entries: converter(schema.entry.data_type()).map_err(broken)?,
            values: converter(schema.value.data_type()).map_err(broken)?,
            key_schema,
            schema,
            max_parallelism,
        })
    }

    /// Another one of the same entries.
    pub(super) fn try_clone(&self) -> Result<Self> {
        Codec::new(self.key_schema.clone(), self.schema.clone(), self.max_parallelism)
    }

    /// What is behind the key of an entry.
    pub(super) fn entry_of<'e>(&self, entry: &'e [u8]) -> Result<&'e [u8]> {
        let mut behind = entry;
        decode_prefixes(&self.key_schema, std::iter::once(&entry[GROUP_BYTES..]), |rest| {
            behind = rest;
            Ok(())
        })?;
        Ok(behind)
    }

    /// Keys of a map, or indexes of a list.
    pub(super) fn encode_entries(&self, entries: &ArrayRef) -> Result<ByteRows> {
        let mut encoded = ByteRows::default();
        match self.schema.kind {
            CollectionKind::Map => {
                let rows = self.entries.convert_columns(std::slice::from_ref(entries));
                rows.map_err(broken)?.iter().for_each(|row| encoded.push(row.as_ref()));
            }
            CollectionKind::List => {
                let indexes = entries.as_primitive::<UInt64Type>().values();
                indexes.iter().for_each(|index| encoded.push(&index.to_be_bytes()));
            }
        }
        Ok(encoded)
    }

    pub(super) fn decode_entries<'a>(&self, entries: impl Iterator<Item = &'a [u8]>) -> Result<ArrayRef> {
        match self.schema.kind {
            CollectionKind::Map => decode(&self.entries, entries),
            CollectionKind::List => {
                let indexes = entries.map(index_of).collect::<Result<Vec<_>>>()?;
                Ok(Arc::new(UInt64Array::from(indexes)))
            }
        }
    }

    pub(super) fn encode_values(&self, values: &ArrayRef) -> Result<arrow_row::Rows> {
        self.values
            .convert_columns(std::slice::from_ref(values))
            .map_err(broken)
    }

    pub(super) fn decode_values<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Result<ArrayRef> {
        decode(&self.values, values)
    }
}

fn decode<'a>(converter: &RowConverter, rows: impl Iterator<Item = &'a [u8]>) -> Result<ArrayRef> {
    let parser = converter.parser();
    let columns = converter
        .convert_rows(rows.map(|row| parser.parse(row)))
        .map_err(broken)?;
    let column = columns.into_iter().next();
    column.ok_or_else(|| Error::internal("a value of a collection has no column"))
}
