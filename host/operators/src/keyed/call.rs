//! Whose collections a call may read and write: those of its entries' keys, or broadcast state.
//!
//! Broadcast state is a map whose key is always the same, that of zeros: it has a place in tables then, and no meaning. Only
//! calls for rows without a key may write it, and those may touch nothing else.

use arrow_array::{Array, ArrayRef, make_array, new_null_array};
use arrow_data::ArrayData;
use arrow_schema::{FieldRef, SchemaRef};
use millrace_core::backend::ByteRows;
use millrace_core::{Error, Result};

use crate::entry_codec::{broken, encode_keys};

/// Whose collections a call may read.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// The key columns of its entries.
    pub(super) columns: Vec<ArrayRef>,
    /// The same as bytes, once somebody has asked.
    keys: ByteRows,
    hashes: Vec<u64>,
    pub(super) encoded: bool,
    pub(super) only: Option<u32>,
    /// Its entries have no key.
    pub(super) broadcast: bool,
}

impl Call {
    /// Has the keys as bytes, before the first is asked for.
    pub(super) fn encode(&mut self, max_parallelism: u32) -> Result<()> {
        if !self.encoded {
            encode_keys(None, &self.columns, max_parallelism, &mut self.hashes, &mut self.keys)?;
            self.encoded = true;
        }
        Ok(())
    }

    /// The key of an entry.
    pub(super) fn key(&self, entry: u32) -> &[u8] {
        self.keys.get(self.only.unwrap_or(entry) as usize)
    }

    /// The key under which an entry may read a state.
    pub(super) fn key_of<'k>(&'k self, entry: u32, shared: Option<&'k [u8]>) -> Result<&'k [u8]> {
        match shared {
            Some(key) => Ok(key),
            None if self.broadcast => Err(misplaced("a broadcast row has no key, and reads state of one")),
            None => Ok(self.key(entry)),
        }
    }
}

pub(super) fn misplaced(what: &str) -> Error {
    Error::pipeline("PL0007", format!("the guest broke the contract: {what}"))
}

/// The key of broadcast state, as bytes.
pub(super) fn shared_key(key_schema: &SchemaRef, max_parallelism: u32) -> Result<Box<[u8]>> {
    let (mut hashes, mut keys) = (Vec::new(), ByteRows::default());
    let columns = zero_keys(key_schema, 1)?;
    encode_keys(None, &columns, max_parallelism, &mut hashes, &mut keys)?;
    Ok(keys.get(0).into())
}

/// Key columns of so many rows that have no key: zeros, empty text, the first variant.
pub(super) fn zero_keys(key_schema: &SchemaRef, rows: usize) -> Result<Vec<ArrayRef>> {
    let zeros = |field: &FieldRef| {
        Ok(make_array(without_nulls(
            new_null_array(field.data_type(), rows).to_data(),
        )?))
    };
    key_schema.fields().iter().map(zeros).collect()
}

/// What is below the nulls, which is zeros.
fn without_nulls(data: ArrayData) -> Result<ArrayData> {
    let children = data.child_data().iter().cloned().map(without_nulls);
    let children = children.collect::<Result<Vec<_>>>()?;
    let data = data.into_builder().nulls(None).child_data(children).build();
    data.map_err(broken)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{DataType, Field, Fields, Schema};

    use super::*;

    #[test]
    fn rows_without_a_key_have_one_of_zeros() {
        let members = Fields::from(vec![
            Field::new("tag", DataType::Int8, false),
            Field::new("name", DataType::Utf8, true),
        ]);
        let fields = vec![
            Field::new("a", DataType::Int64, false),
            Field::new("b", DataType::Utf8, false),
            Field::new("c", DataType::Boolean, true),
            Field::new("d", DataType::Struct(members), false),
            Field::new("e", DataType::Decimal128(9, 2), false),
            Field::new_list("f", Field::new_list_field(DataType::Int32, false), false),
            Field::new("g", DataType::FixedSizeBinary(3), false),
        ];
        let schema = Arc::new(Schema::new(fields));
        let columns = zero_keys(&schema, 3).expect("keys of any type");
        assert!(
            columns
                .iter()
                .all(|column| column.len() == 3 && column.null_count() == 0)
        );
        let key = shared_key(&schema, 128).expect("a key");
        assert_eq!(key, shared_key(&schema, 128).expect("a key"));
    }
}
