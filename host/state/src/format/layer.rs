//! Layer files: the entries of a [`TableDelta`](millrace_core::checkpoint::TableDelta) as an Arrow IPC file,
//! buffers compressed.
//!
//! The file format (not the stream) because pandas, Polars and DuckDB open it as it is, and because its footer
//! lets a reader pick single batches. A file is decoded only after its checksum was found right.

use std::io::Cursor;
use std::ops::{Range, RangeInclusive};

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, BooleanArray, RecordBatch, UInt32Array};
use arrow_ipc::CompressionType;
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use bytes::Bytes;
use millrace_core::checkpoint::GROUP_COLUMN;
use millrace_core::{Error, Result};
use xxhash_rust::xxh3::xxh3_128;

use super::{FileRef, Layer};
use crate::codes;

/// ZSTD saves 15 to 54 per cent against it and takes two to four times as long to write and three times as long
/// to read, on processors that the job could use; numbers in `FORMAT.md`.
pub(crate) const COMPRESSION: CompressionType = CompressionType::LZ4_FRAME;

/// Smaller batches are written together until there are this many rows: each costs some hundred bytes.
const BATCH_ROWS: usize = 8_192;

impl Layer {
    /// Its file.
    pub fn file(&self) -> FileRef<'_> {
        FileRef {
            file: &self.file,
            bytes: self.bytes,
            checksum: &self.checksum,
        }
    }
}

/// A layer as it will be in storage.
pub(crate) struct Encoded {
    pub(crate) layer: Layer,
    pub(crate) content: Bytes,
}

/// Encodes what a subtask handed over; `None` if there are no rows.
pub(crate) fn encode(file: String, batches: &[RecordBatch]) -> Result<Option<Encoded>> {
    let Some(schema) = batches.first().map(RecordBatch::schema) else {
        return Ok(None);
    };
    let mut span: Option<[u32; 2]> = None;
    for batch in batches {
        if batch.schema() != schema {
            return Err(Error::internal(format!(
                "the batches of layer `{file}` differ in schema"
            )));
        }
        let groups = groups(batch).map_err(|why| Error::internal(format!("layer `{file}`: {why}")))?;
        for &group in groups.values() {
            span = Some(span.map_or([group; 2], |[first, last]| [first.min(group), last.max(group)]));
        }
    }
    let Some(groups) = span else { return Ok(None) };
    let failed = |error| Error::internal(format!("layer `{file}` cannot be encoded: {error}"));
    let content = to_file(&schema, batches).map_err(failed)?;
    let layer = Layer {
        rows: batches.iter().map(|batch| batch.num_rows() as u64).sum(),
        bytes: content.len() as u64,
        checksum: checksum(&content),
        groups,
        file,
    };
    Ok(Some(Encoded { layer, content }))
}

fn to_file(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Bytes, ArrowError> {
    let options = IpcWriteOptions::default().try_with_compression(Some(COMPRESSION))?;
    // It need not grow then: whoever moves a hundred MB holds up all threads that ask for memory.
    let room = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    let mut writer = FileWriter::try_new_with_options(Vec::with_capacity(room), schema.as_ref(), options)?;
    let mut rest = batches;
    while !rest.is_empty() {
        let mut rows = 0;
        let enough = rest.iter().position(|batch| {
            rows += batch.num_rows();
            rows >= BATCH_ROWS
        });
        let (together, others) = rest.split_at(enough.map_or(rest.len(), |at| at + 1));
        match together {
            _ if rows == 0 => {}
            [one] => writer.write(one)?,
            several => writer.write(&concat_batches(schema, several)?)?,
        }
        rest = others;
    }
    Ok(writer.into_inner()?.into())
}

pub(crate) fn checksum(content: &[u8]) -> String {
    format!("{:032x}", xxh3_128(content))
}

/// Checks that this is what was written; `shown` names the file.
pub(crate) fn verify(file: &FileRef<'_>, content: &[u8], shown: &str) -> Result<()> {
    verify_size(file, content.len() as u64, shown)?;
    if checksum(content) != file.checksum {
        let why = "its checksum is not the one that was noted when it was written";
        return Err(Error::external(codes::DAMAGED, format!("`{shown}` is damaged: {why}")));
    }
    Ok(())
}

pub(crate) fn verify_size(file: &FileRef<'_>, bytes: u64, shown: &str) -> Result<()> {
    if bytes != file.bytes {
        let why = format!("`{shown}` has {bytes} bytes instead of {}", file.bytes);
        return Err(Error::external(codes::MISSING, why));
    }
    Ok(())
}

/// The rows of a layer whose checksum was found right.
pub(crate) fn decode(layer: &Layer, content: Bytes, shown: &str) -> Result<Vec<RecordBatch>> {
    let mut reader = LayerReader::new(layer.clone(), content, shown.to_owned())?;
    (0..reader.batch_count()).map(|at| reader.read(at)).collect()
}

/// Reads batches of a layer whose checksum was found right.
pub(crate) struct LayerReader {
    reader: FileReader<Cursor<Bytes>>,
    layer: Layer,
    shown: String,
    /// Rows read so far.
    rows: u64,
    /// Batches read so far.
    read: usize,
}

impl LayerReader {
    pub(crate) fn new(layer: Layer, content: Bytes, shown: String) -> Result<Self> {
        let reader = FileReader::try_new(Cursor::new(content), None);
        let reader = reader.map_err(|error| unsound(&shown, &error.to_string()))?;
        let reader = LayerReader {
            reader,
            layer,
            shown,
            rows: 0,
            read: 0,
        };
        reader.check_rows()?;
        Ok(reader)
    }

    pub(crate) fn batch_count(&self) -> usize {
        self.reader.num_batches()
    }

    /// The batch of this number. Each is read once, in any order.
    pub(crate) fn read(&mut self, number: usize) -> Result<RecordBatch> {
        let batch = self.read_again(number)?;
        self.rows += batch.num_rows() as u64;
        self.read += 1;
        self.check_rows()?;
        Ok(batch)
    }

    /// The batch of this number, as often as one likes: whether there are as many rows as were written is not known
    /// by that.
    pub(crate) fn read_again(&mut self, number: usize) -> Result<RecordBatch> {
        let read = self.reader.set_index(number);
        let batch = read.and_then(|()| self.reader.next().transpose());
        let batch = batch.map_err(|error| unsound(&self.shown, &error.to_string()))?;
        let batch = batch.ok_or_else(|| unsound(&self.shown, "it ends early"))?;
        let groups = groups(&batch).map_err(|why| unsound(&self.shown, &why))?;
        let [first, last] = self.layer.groups;
        if !groups.values().iter().all(|group| (first..=last).contains(group)) {
            let why = format!("rows outside of key groups {first} to {last}");
            return Err(unsound(&self.shown, &why));
        }
        Ok(batch)
    }

    /// Once all is read it must be as many rows as were written.
    fn check_rows(&self) -> Result<()> {
        if self.read == self.batch_count() && self.rows != self.layer.rows {
            let why = format!("{} rows instead of {}", self.rows, self.layer.rows);
            return Err(unsound(&self.shown, &why));
        }
        Ok(())
    }
}

/// The least and the greatest key group of each batch of a layer whose checksum was found right. Nothing else of it is
/// decompressed.
pub(crate) fn spans(layer: &Layer, content: Bytes, shown: &str) -> Result<Vec<RangeInclusive<u32>>> {
    let failed = |error: ArrowError| unsound(shown, &error.to_string());
    let reader = FileReader::try_new(Cursor::new(content), Some(vec![0])).map_err(failed)?;
    let (mut spans, mut rows) = (Vec::new(), 0);
    for batch in reader {
        let batch = batch.map_err(failed)?;
        let groups = groups(&batch).map_err(|why| unsound(shown, &why))?.values();
        rows += groups.len() as u64;
        let ends = groups.iter().min().zip(groups.iter().max());
        // A range that nothing is in.
        spans.push(ends.map_or(RangeInclusive::new(1, 0), |(first, last)| *first..=*last));
    }
    if rows != layer.rows {
        return Err(unsound(shown, &format!("{rows} rows instead of {}", layer.rows)));
    }
    Ok(spans)
}

fn unsound(shown: &str, why: &str) -> Error {
    Error::external(codes::DAMAGED, format!("`{shown}` is not a sound layer: {why}"))
}

/// The rows of a batch whose key groups, in its first column of this name, are in a range.
pub(crate) fn of_groups(batch: &RecordBatch, name: &str, range: &Range<u32>) -> Result<RecordBatch> {
    let groups = key_groups(batch, name).map_err(Error::internal)?;
    let mask = BooleanArray::from_unary(groups, |group| range.contains(&group));
    filter_record_batch(batch, &mask).map_err(|error| Error::internal(error.to_string()))
}

fn groups(batch: &RecordBatch) -> Result<&UInt32Array, String> {
    key_groups(batch, GROUP_COLUMN)
}

/// The first column, which holds the key groups and has this name.
pub(crate) fn key_groups<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a UInt32Array, String> {
    let schema = batch.schema_ref();
    let first = schema.fields().first().filter(|field| field.name() == name);
    match first {
        Some(field) if *field.data_type() == DataType::UInt32 && batch.column(0).null_count() == 0 => {
            Ok(batch.column(0).as_primitive::<UInt32Type>())
        }
        _ => Err(format!("the first column is not `{name}`, uint32, without nulls")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch(groups: &[u32], values: &[&str]) -> RecordBatch {
        let groups: ArrayRef = Arc::new(UInt32Array::from(groups.to_vec()));
        let values: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        RecordBatch::try_from_iter([(GROUP_COLUMN, groups), ("value", values)]).unwrap()
    }

    #[test]
    fn a_layer_comes_back() {
        let batches = [batch(&[3, 5], &["a", "b"]), batch(&[], &[]), batch(&[4], &["ü"])];
        let Encoded { layer, content } = encode("x".to_owned(), &batches).unwrap().unwrap();
        assert_eq!(
            (layer.rows, layer.groups, layer.bytes),
            (3, [3, 5], content.len() as u64)
        );
        verify(&layer.file(), &content, "x").unwrap();
        assert_eq!(spans(&layer, content.clone(), "x").unwrap(), [3..=5]);
        let decoded = decode(&layer, content, "x").unwrap();
        assert_eq!(decoded, [batch(&[3, 5, 4], &["a", "b", "ü"])]);
        assert_eq!(
            of_groups(&decoded[0], GROUP_COLUMN, &(4..6)).unwrap(),
            batch(&[5, 4], &["b", "ü"])
        );
    }

    #[test]
    fn small_batches_are_written_together() {
        let many = |rows: usize| batch(&vec![1; rows], &vec!["x"; rows]);
        let check = |rows: &[usize], expect: &[usize]| {
            let batches: Vec<RecordBatch> = rows.iter().map(|rows| many(*rows)).collect();
            let Encoded { layer, content } = encode("x".to_owned(), &batches).unwrap().unwrap();
            let decoded = decode(&layer, content, "x").unwrap();
            let got: Vec<usize> = decoded.iter().map(RecordBatch::num_rows).collect();
            assert_eq!(got, expect, "{rows:?}");
        };
        check(&[10_000, 0, 10_000], &[10_000, 10_000]);
        check(&[0, 1, 10_000, 0, 2, 3], &[10_001, 5]);
        check(&[4_096, 4_096, 4_096], &[8_192, 4_096]);
        check(&[20_000, 0], &[20_000]);
    }

    #[test]
    fn nothing_is_no_layer() {
        assert!(encode("x".to_owned(), &[]).unwrap().is_none());
        assert!(encode("x".to_owned(), &[batch(&[], &[])]).unwrap().is_none());
    }

    #[test]
    fn a_table_without_groups_is_a_mistake_of_ours() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("value", values)]).unwrap();
        let error = encode("x".to_owned(), &[batch]).err().unwrap();
        assert_eq!(error.code(), "IN0001");
    }

    #[test]
    fn damage_is_noticed() {
        let Encoded { layer, content } = encode("x".to_owned(), &[batch(&[1], &["a"])]).unwrap().unwrap();
        for at in 0..content.len() {
            let mut flipped = content.to_vec();
            flipped[at] ^= 1;
            assert_eq!(verify(&layer.file(), &flipped, "f").unwrap_err().code(), codes::DAMAGED);
        }
        let error = verify(&layer.file(), &content[1..], "f").unwrap_err();
        assert_eq!(error.code(), codes::MISSING);
        // A checksum over something else than a layer.
        for content in [b"".as_slice(), b"ARROW1", &content[..content.len() - 1]] {
            assert_eq!(
                decode(&layer, content.to_vec().into(), "f").unwrap_err().code(),
                codes::DAMAGED
            );
        }
    }
}
