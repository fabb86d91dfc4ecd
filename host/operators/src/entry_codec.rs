//! Entries of a keyed operator as bytes, for the lower tier of a state backend.
//!
//! ```text
//! key     key group (u16) | key columns, tagged (`millrace_core::key`)
//! value   states and timers (`arrow-row`)
//! index   kind of timer (u8) | time (u64: ms with the sign bit turned) | key
//! ```
//!
//! Numbers are big-endian, so that keys of a group are neighbours and the index is in order of time. The bytes
//! outlive no process, so that either half may change with its library.

use arrow_array::ArrayRef;
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, FieldRef, SchemaRef};
use millrace_core::backend::ByteRows;
use millrace_core::block::Millis;
use millrace_core::function::TimerKind;
use millrace_core::key::{KeyGroup, RowEncoder, decode_columns, hash_rows};
use millrace_core::{Error, Result};

/// Bytes of the key group in front of a key.
pub(crate) const GROUP_BYTES: usize = 2;

/// Bytes of an index entry before its key.
const INDEX_PREFIX_BYTES: usize = 1 + 8;

/// Keys and values of one operator to bytes and back.
#[derive(Debug)]
pub(crate) struct EntryCodec {
    key_schema: SchemaRef,
    max_parallelism: u32,
    fields: Vec<FieldRef>,
    values: RowConverter,
    hashes: Vec<u64>,
}

pub(crate) fn broken(error: ArrowError) -> Error {
    Error::internal(format!("state cannot be turned to bytes or back: {error}"))
}

impl EntryCodec {
    /// Of entries with this key and these columns.
    pub(crate) fn new(key_schema: SchemaRef, fields: &[FieldRef], max_parallelism: u32) -> Result<Self> {
        let sorted = fields.iter().map(|field| SortField::new(field.data_type().clone()));
        Ok(EntryCodec {
            key_schema,
            max_parallelism,
            fields: fields.to_vec(),
            values: RowConverter::new(sorted.collect()).map_err(broken)?,
            hashes: Vec::new(),
        })
    }

    /// Another one of the same entries.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        EntryCodec::new(self.key_schema.clone(), &self.fields, self.max_parallelism)
    }

    /// The keys in these columns, in place of what `keys` held.
    pub(crate) fn encode_keys(&mut self, columns: &[ArrayRef], keys: &mut ByteRows) -> Result<()> {
        encode_keys(columns, self.max_parallelism, &mut self.hashes, keys)
    }

    /// The key columns of keys.
    pub(crate) fn decode_keys<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        decode_columns(&self.key_schema, keys.map(|key| &key[GROUP_BYTES..]))
    }

    /// The values in these columns, in place of what `values` held.
    pub(crate) fn encode_values(&self, columns: &[ArrayRef], values: &mut ByteRows) -> Result<()> {
        values.clear();
        for row in &self.values.convert_columns(columns).map_err(broken)? {
            values.push(row.as_ref());
        }
        Ok(())
    }

    /// The columns of values.
    pub(crate) fn decode_values<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.values.parser();
        let rows = values.map(|value| parser.parse(value));
        self.values.convert_rows(rows).map_err(broken)
    }

    /// Appends the index entry of a timer.
    pub(crate) fn push_index(kind: TimerKind, time: Millis, key: &[u8], index: &mut ByteRows) {
        index.push_with(|bytes| {
            bytes.extend(index_prefix(kind, time));
            bytes.extend_from_slice(key);
        });
    }

    /// The first possible index entry of this time, and the first after it.
    pub(crate) fn index_bound(kind: TimerKind, time: Millis) -> [u8; INDEX_PREFIX_BYTES] {
        index_prefix(kind, time)
    }

    /// First byte of the index entries of a kind, and of none after them.
    pub(crate) fn index_start(kind: TimerKind) -> u8 {
        kind as u8
    }

    /// Time and key of an index entry.
    pub(crate) fn read_index(entry: &[u8]) -> (Millis, &[u8]) {
        let (prefix, key) = entry.split_at(INDEX_PREFIX_BYTES);
        let mut time = [0; 8];
        time.copy_from_slice(&prefix[1..]);
        ((u64::from_be_bytes(time) ^ (1 << 63)) as Millis, key)
    }
}

/// The keys in these columns, in place of what `keys` held. `hashes` is memory to be used again.
pub(crate) fn encode_keys(
    columns: &[ArrayRef],
    max_parallelism: u32,
    hashes: &mut Vec<u64>,
    keys: &mut ByteRows,
) -> Result<()> {
    keys.clear();
    hash_rows(columns, hashes)?;
    let encoder = RowEncoder::new(columns)?;
    for (row, &hash) in hashes.iter().enumerate() {
        let group = KeyGroup::of_hash(hash, max_parallelism).0 as u16;
        keys.push_with(|bytes| {
            bytes.extend(group.to_be_bytes());
            encoder.append_tagged(row, bytes);
        });
    }
    Ok(())
}

fn index_prefix(kind: TimerKind, time: Millis) -> [u8; INDEX_PREFIX_BYTES] {
    let mut prefix = [kind as u8; INDEX_PREFIX_BYTES];
    prefix[1..].copy_from_slice(&(time as u64 ^ (1 << 63)).to_be_bytes());
    prefix
}
