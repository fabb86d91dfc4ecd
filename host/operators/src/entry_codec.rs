//! Entries of keyed operators and windows as bytes, for the lower tier of a state backend.
//!
//! ```text
//! key     key group (u16) | key columns, tagged (`millrace_core::key`)
//!         in parts: number of the part (u64 with the sign bit turned) | low byte of the key's hash | as above
//! value   when all of it has expired, if states have a time to live | states and timers, or accumulators (`arrow-row`)
//! index   kind of timer (u8) | time (u64: ms with the sign bit turned) | key
//! ```
//!
//! Numbers are big-endian, so that keys of a group are neighbours and the index is in order of time. In all parts keys
//! are in the same order, and their first bytes are spread evenly. The bytes outlive no process, so that either half
//! may change with its library.

use arrow_array::ArrayRef;
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, FieldRef, SchemaRef};
use millrace_core::backend::{ByteRows, EXPIRY_BYTES, PART_BYTES, Part, expiry_bytes};
use millrace_core::block::Millis;
use millrace_core::function::TimerKind;
use millrace_core::key::{KeyGroup, RowEncoder, decode_columns, hash_rows};
use millrace_core::{Error, Result};

/// Bytes of the key group in front of a key.
pub(crate) const GROUP_BYTES: usize = 2;

/// Bytes in front of the key group of an entry in a part.
const PART_PREFIX_BYTES: usize = PART_BYTES + 1;

/// Bytes of an index entry before its key.
const INDEX_PREFIX_BYTES: usize = 1 + 8;

/// Keys and values of one operator to bytes and back.
#[derive(Debug)]
pub(crate) struct EntryCodec {
    key_schema: SchemaRef,
    max_parallelism: u32,
    fields: Vec<FieldRef>,
    /// Bytes in front of a value that say when it expires.
    expiry_bytes: usize,
    values: RowConverter,
    hashes: Vec<u64>,
}

pub(crate) fn broken(error: ArrowError) -> Error {
    Error::internal(format!("state cannot be turned to bytes or back: {error}"))
}

impl EntryCodec {
    /// Of entries with this key and these columns. `expires`: values say when all of them has expired.
    pub(crate) fn new(key_schema: SchemaRef, fields: &[FieldRef], max_parallelism: u32, expires: bool) -> Result<Self> {
        let sorted = fields.iter().map(|field| SortField::new(field.data_type().clone()));
        Ok(EntryCodec {
            key_schema,
            max_parallelism,
            fields: fields.to_vec(),
            expiry_bytes: if expires { EXPIRY_BYTES } else { 0 },
            values: RowConverter::new(sorted.collect()).map_err(broken)?,
            hashes: Vec::new(),
        })
    }

    /// Another one of the same entries.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        let expires = self.expiry_bytes > 0;
        EntryCodec::new(self.key_schema.clone(), &self.fields, self.max_parallelism, expires)
    }

    /// The keys in these columns, in place of what `keys` held.
    pub(crate) fn encode_keys(&mut self, columns: &[ArrayRef], keys: &mut ByteRows) -> Result<()> {
        encode_keys(None, columns, self.max_parallelism, &mut self.hashes, keys)
    }

    /// The same of entries of a part.
    pub(crate) fn encode_part_keys(&mut self, part: i64, columns: &[ArrayRef], keys: &mut ByteRows) -> Result<()> {
        let part = Some(Self::part(part));
        encode_keys(part, columns, self.max_parallelism, &mut self.hashes, keys)
    }

    /// The key columns of keys.
    pub(crate) fn decode_keys<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        decode_columns(&self.key_schema, keys.map(|key| &key[GROUP_BYTES..]))
    }

    /// The key columns of keys in parts.
    pub(crate) fn decode_part_keys<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        self.decode_keys(keys.map(|key| &key[PART_PREFIX_BYTES..]))
    }

    /// What the keys of a part begin with.
    pub(crate) fn part(number: i64) -> Part {
        (number as u64 ^ (1 << 63)).to_be_bytes()
    }

    /// The part of a key, and what is behind it.
    pub(crate) fn read_part(key: &[u8]) -> (i64, &[u8]) {
        let (first, rest) = key.split_at(PART_BYTES);
        let mut part = Part::default();
        part.copy_from_slice(first);
        ((u64::from_be_bytes(part) ^ (1 << 63)) as i64, rest)
    }

    /// The values in these columns, in place of what `values` held. `expiries`: when each has expired, if they do.
    pub(crate) fn encode_values(
        &self,
        columns: &[ArrayRef],
        expiries: Option<&[Millis]>,
        values: &mut ByteRows,
    ) -> Result<()> {
        values.clear();
        let rows = self.values.convert_columns(columns).map_err(broken)?;
        match expiries {
            None => rows.iter().for_each(|row| values.push(row.as_ref())),
            Some(expiries) => rows.iter().zip(expiries).for_each(|(row, &expiry)| {
                values.push_with(|bytes| {
                    bytes.extend(expiry_bytes(expiry));
                    bytes.extend_from_slice(row.as_ref());
                });
            }),
        }
        Ok(())
    }

    /// The columns of values.
    pub(crate) fn decode_values<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.values.parser();
        let rows = values.map(|value| parser.parse(&value[self.expiry_bytes..]));
        self.values.convert_rows(rows).map_err(broken)
    }

    /// Appends the index entry of a timer.
    pub(crate) fn push_index(kind: TimerKind, time: Millis, key: &[u8], index: &mut ByteRows) {
        index.push_with(|bytes| {
            bytes.extend(Self::index_bound(kind, time));
            bytes.extend_from_slice(key);
        });
    }

    /// The first possible index entry of this time, and the first after it.
    pub(crate) fn index_bound(kind: TimerKind, time: Millis) -> [u8; INDEX_PREFIX_BYTES] {
        let mut prefix = [kind as u8; INDEX_PREFIX_BYTES];
        prefix[1..].copy_from_slice(&(time as u64 ^ (1 << 63)).to_be_bytes());
        prefix
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

/// The keys in these columns, in place of what `keys` held; if they are in a part, behind it. `hashes` is memory to be
/// used again.
pub(crate) fn encode_keys(
    part: Option<Part>,
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
            if let Some(part) = part {
                bytes.extend(part);
                bytes.push(hash as u8);
            }
            bytes.extend(group.to_be_bytes());
            encoder.append_tagged(row, bytes);
        });
    }
    Ok(())
}
