//! The key columns of a block, ready to be looked up in any number of tables.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{Buffer, ScalarBuffer};
use arrow_schema::{DataType, Schema, SchemaRef};
use millrace_core::function::Slot;
use millrace_core::key::{RowEncoder, check_key_schema, hash_bytes, integer_values};
use millrace_core::{Error, Result};

use super::{KeyTable, Keys};

/// How keys of a schema are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyForm {
    /// One integer-like column that is never null.
    Integer,
    /// One utf8 or binary column that is never null: its bytes.
    Bare,
    /// Anything else, in the tagged encoding.
    Tagged,
}

impl KeyForm {
    pub(super) fn of(schema: &Schema) -> Self {
        let [field] = schema.fields().as_ref() else {
            return KeyForm::Tagged;
        };
        match field.data_type() {
            _ if field.is_nullable() => KeyForm::Tagged,
            DataType::Utf8 | DataType::Binary => KeyForm::Bare,
            DataType::Boolean | DataType::Decimal128(..) | DataType::FixedSizeBinary(_) => KeyForm::Tagged,
            DataType::Struct(_) | DataType::List(_) => KeyForm::Tagged,
            _ => KeyForm::Integer,
        }
    }
}

/// Keys of a block's rows. Loaded again and again, to keep its memory.
#[derive(Debug)]
pub struct KeyBatch {
    schema: SchemaRef,
    form: KeyForm,
    rows: usize,
    integers: ScalarBuffer<i64>,
    bytes: Bytes,
    /// Where each key starts in `bytes`, and where the last ends.
    bounds: Vec<u32>,
    /// Low half of each key's hash; the high half chose the subtask.
    hashes: Vec<u32>,
}

#[derive(Debug)]
enum Bytes {
    Shared(Buffer),
    Owned(Vec<u8>),
}

impl KeyBatch {
    /// An empty batch of keys of this schema.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        check_key_schema(&schema)?;
        Ok(KeyBatch {
            form: KeyForm::of(&schema),
            schema,
            rows: 0,
            integers: Vec::new().into(),
            bytes: Bytes::Owned(Vec::new()),
            bounds: Vec::new(),
            hashes: Vec::new(),
        })
    }

    /// Replaces the keys by those in these columns, which must match the schema.
    pub fn load(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.check(columns)?;
        self.rows = columns[0].len();
        match self.form {
            KeyForm::Integer => {
                self.integers = integer_values(&columns[0])
                    .ok_or_else(|| Error::internal("a key column of an integer type has no integers"))?;
            }
            KeyForm::Bare => {
                let (bytes, offsets) = match columns[0].data_type() {
                    DataType::Utf8 => {
                        let array = columns[0].as_string::<i32>();
                        (array.values(), array.offsets())
                    }
                    _ => {
                        let array = columns[0].as_binary::<i32>();
                        (array.values(), array.offsets())
                    }
                };
                self.bytes = Bytes::Shared(bytes.clone());
                self.bounds.clear();
                self.bounds.extend(offsets.iter().map(|&offset| offset as u32));
                self.hash();
            }
            KeyForm::Tagged => self.encode(columns)?,
        }
        Ok(())
    }

    /// Replaces the keys by those of slots in use of a table of the same schema.
    pub(crate) fn load_from(&mut self, table: &KeyTable, slots: impl ExactSizeIterator<Item = Slot>) {
        self.rows = slots.len();
        match &table.keys {
            Keys::Integers(table) => {
                self.integers = slots.map(|slot| table.key(slot)).collect::<Vec<_>>().into();
            }
            Keys::Bytes(table) => {
                let mut bytes = self.take_owned();
                self.hashes.clear();
                for slot in slots {
                    bytes.extend_from_slice(table.key(slot));
                    self.bounds.push(bytes.len() as u32);
                    self.hashes.push(table.hash(slot));
                }
                self.bytes = Bytes::Owned(bytes);
            }
        }
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.rows
    }

    #[inline]
    pub(super) fn integers(&self) -> &[i64] {
        &self.integers
    }

    /// All keys' bytes, where each starts, and their hashes.
    #[inline]
    pub(super) fn encoded(&self) -> (&[u8], &[u32], &[u32]) {
        let bytes = match &self.bytes {
            Bytes::Shared(buffer) => buffer.as_slice(),
            Bytes::Owned(bytes) => bytes,
        };
        (bytes, &self.bounds, &self.hashes)
    }

    fn check(&self, columns: &[ArrayRef]) -> Result<()> {
        let fields = self.schema.fields();
        let fits = |(column, field): (&ArrayRef, &arrow_schema::FieldRef)| {
            column.data_type() == field.data_type()
                && (field.is_nullable() || column.null_count() == 0)
                && column.len() == columns[0].len()
        };
        if columns.len() == fields.len() && columns.iter().zip(fields).all(fits) {
            return Ok(());
        }
        Err(Error::internal(format!(
            "key columns do not match the key schema {}",
            self.schema
        )))
    }

    fn encode(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let encoder = RowEncoder::new(columns)?;
        let mut bytes = self.take_owned();
        for row in 0..self.rows {
            encoder.append_tagged(row, &mut bytes);
            let end = u32::try_from(bytes.len());
            self.bounds
                .push(end.map_err(|_| Error::internal("the keys of one block have more than 4 GiB"))?);
        }
        self.bytes = Bytes::Owned(bytes);
        self.hash();
        Ok(())
    }

    /// An empty buffer, with its memory if it is ours; `bounds` holds only the first start.
    fn take_owned(&mut self) -> Vec<u8> {
        self.bounds.clear();
        self.bounds.push(0);
        match std::mem::replace(&mut self.bytes, Bytes::Owned(Vec::new())) {
            Bytes::Shared(_) => Vec::new(),
            Bytes::Owned(mut bytes) => {
                bytes.clear();
                bytes
            }
        }
    }

    fn hash(&mut self) {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        let (bytes, bounds, _) = self.encoded();
        let keys = bounds
            .windows(2)
            .map(|bound| &bytes[bound[0] as usize..bound[1] as usize]);
        hashes.extend(keys.map(|key| hash_bytes(key) as u32));
        self.hashes = hashes;
    }
}
