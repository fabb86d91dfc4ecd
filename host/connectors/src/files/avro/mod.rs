//! Reads and writes Avro object container files.
//!
//! Reading: columns go by name, and only the declared ones are decoded. A position is the number of rows of the split
//! that were given; a reader opened there begins with the block that holds the next one. [`container`] finds the blocks.
//!
//! Writing: the file's schema is made from the declared one; rows gather in blocks, which the codec compresses.

mod container;

use std::fs::File;
use std::io::{BufReader, Chain, Cursor, Read, Seek, SeekFrom, Take};

use arrow_array::RecordBatch;
use arrow_avro::compression::CompressionCodec;
use arrow_avro::reader::{Reader, ReaderBuilder};
use arrow_avro::writer::{AvroWriter, WriterBuilder, format::AvroOcfFormat};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use millrace_core::connector::{Elapsed, Poll, Position, Rows, SplitReader};
use millrace_core::{Error, Result};

use super::convert;
use super::declared::Declared;
use super::listing::unreadable;
use super::splits::Piece;
use crate::format::{AvroCodec, type_name};
use crate::position;

use container::{Block, Container};

/// Rows of a block of a file that is written.
const BLOCK_ROWS: usize = 4096;

/// Bytes of them in memory, after which a block ends sooner.
const BLOCK_BYTES: usize = 1 << 20;

type Input = BufReader<Chain<Cursor<Vec<u8>>, Take<File>>>;

fn broken(path: &str, error: &dyn std::fmt::Display) -> Error {
    Error::external("IO0112", format!("`{path}` is not a sound Avro file: {error}"))
}

/// Checks that the file has the declared columns; the number of its blocks.
pub(super) fn check(path: &str, schema: &SchemaRef) -> Result<usize> {
    let container = Container::open(path)?;
    let file = schema_of(path, &container)?;
    Declared::find(path, &file, schema, is_possible, broken)?;
    Ok(container.blocks.len())
}

/// Avro has integers of two widths only: values that do not fit the declared one are bad rows.
fn is_possible(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    convert::is_possible(from, to)
        || matches!(
            (from, to),
            (Int32, Int8 | Int16 | UInt8 | UInt16 | UInt32) | (Int64, UInt32 | UInt64)
        )
}

fn schema_of(path: &str, container: &Container) -> Result<SchemaRef> {
    let header = Cursor::new(container.header.clone());
    let reader = ReaderBuilder::new().build(header);
    Ok(reader.map_err(|error| broken(path, &error))?.schema())
}

/// See the module's documentation.
pub(super) struct AvroReader {
    path: String,
    declared: Declared,
    header: Vec<u8>,
    /// Bytes to read, from the block with the next row on.
    range: (u64, u64),
    reader: Option<Reader<Input>>,
    /// Rows to pass over before the next one.
    skip: usize,
    /// Rows of the file before the split.
    rows_before: u64,
    /// Rows of the split that were given.
    given: u64,
    bytes_per_row: f64,
}

impl AvroReader {
    /// Opens the piece of the file at the position.
    pub(super) fn open(path: &str, piece: Piece, schema: &SchemaRef, position: &Position) -> Result<Self> {
        let container = Container::open(path)?;
        let file = schema_of(path, &container)?;
        let declared = Declared::find(path, &file, schema, is_possible, broken)?;
        let all = &container.blocks;
        let (start, end) = match piece {
            Piece::Whole => (0, all.len()),
            Piece::Groups(start, end) if start <= end && end <= all.len() => (start, end),
            Piece::Groups(_, _) => return Err(broken(path, &"it has fewer blocks than when the job started")),
            Piece::Bytes(_, _) => return Err(Error::internal("Avro is not split by bytes")),
        };
        let rows = |blocks: &[Block]| blocks.iter().map(|block| block.rows).sum::<u64>();
        let blocks = &all[start..end];
        let [given] = position::decode::<1>(position)?.unwrap_or([0]);
        let (mut passed, mut first) = (0, 0);
        while first < blocks.len() && passed + blocks[first].rows <= given {
            passed += blocks[first].rows;
            first += 1;
        }
        let range = match (blocks.get(first), blocks.last()) {
            (Some(first), Some(last)) => (first.start, last.end),
            _ => (0, 0),
        };
        let bytes: u64 = blocks.iter().map(|block| block.end - block.start).sum();
        Ok(AvroReader {
            path: path.to_owned(),
            declared,
            range,
            reader: None,
            skip: usize::try_from(given - passed).unwrap_or(usize::MAX),
            rows_before: rows(&all[..start]),
            given,
            bytes_per_row: bytes as f64 / rows(blocks).max(1) as f64,
            header: container.header,
        })
    }

    fn build(&self, rows_max: usize) -> Result<Reader<Input>> {
        let fail = |error: std::io::Error| unreadable(&self.path, &error);
        let mut file = File::open(&self.path).map_err(fail)?;
        file.seek(SeekFrom::Start(self.range.0)).map_err(fail)?;
        let blocks = file.take(self.range.1 - self.range.0);
        let input = Cursor::new(self.header.clone()).chain(blocks);
        let mut columns: Vec<usize> = self.declared.columns().collect();
        columns.sort_unstable();
        let builder = ReaderBuilder::new().with_batch_size(rows_max);
        // Without any column the number of rows would be lost.
        let builder = match columns.is_empty() {
            true => builder,
            false => builder.with_projection(columns),
        };
        builder
            .build(BufReader::new(input))
            .map_err(|error| broken(&self.path, &error))
    }

    fn next_rows(&mut self, rows_max: usize) -> Result<Option<RecordBatch>> {
        if self.reader.is_none() {
            self.reader = Some(self.build(rows_max)?);
        }
        while let Some(batch) = self.reader.as_mut().and_then(Iterator::next) {
            let batch = batch.map_err(|error| broken(&self.path, &error))?;
            let skipped = self.skip.min(batch.num_rows());
            self.skip -= skipped;
            if skipped < batch.num_rows() {
                return Ok(Some(batch.slice(skipped, batch.num_rows() - skipped)));
            }
        }
        Ok(None)
    }
}

impl SplitReader for AvroReader {
    fn poll(&mut self, rows_max: usize, _now: Elapsed) -> Result<Poll> {
        let Some(rows) = self.next_rows(rows_max)? else {
            return Ok(Poll::End);
        };
        let (converted, rejected) = self.declared.convert(&rows, self.rows_before + self.given)?;
        self.given += rows.num_rows() as u64;
        Ok(Poll::Rows(Rows {
            rows: converted,
            rejected,
            bytes: (self.bytes_per_row * rows.num_rows() as f64) as u64,
        }))
    }

    fn position(&self) -> Position {
        position::encode([self.given])
    }

    fn place(&mut self, row: usize) -> Option<String> {
        Some(self.declared.place(row))
    }
}

/// Refuses schemas that Avro cannot hold.
pub(super) fn check_sink(schema: &Schema) -> Result<()> {
    schema
        .fields()
        .iter()
        .try_for_each(|field| check_field(field, field.name()))
}

fn check_field(field: &Field, column: &str) -> Result<()> {
    let refuse = |why: &str| {
        Err(Error::user(
            "CN0109",
            format!("format avro cannot hold column `{column}`: {why}"),
        ))
    };
    let name = field.name();
    let is_name = |(index, character): (usize, char)| {
        character == '_' || character.is_ascii_alphabetic() || (index > 0 && character.is_ascii_digit())
    };
    if name.is_empty() || !name.chars().enumerate().all(is_name) {
        return refuse(&format!(
            "`{name}` is no name in Avro, which has letters, digits and `_`, and no digit first"
        ));
    }
    match field.data_type() {
        DataType::UInt64 => refuse("Avro has no uint64; int64 or a decimal would do"),
        DataType::List(item) => check_field(&Field::clone(item).with_name("item"), column),
        DataType::Struct(members) => members.iter().try_for_each(|member| check_field(member, column)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(entry) if *entry[0].data_type() == DataType::Utf8 => {
                check_field(&Field::clone(&entry[1]).with_name("value"), column)
            }
            _ => refuse(&format!("{}: the keys of a map are text", type_name(field.data_type()))),
        },
        _ => Ok(()),
    }
}

/// A file that is written.
pub(super) struct AvroFile {
    writer: AvroWriter<File>,
    schema: SchemaRef,
    block: Vec<RecordBatch>,
    block_rows: usize,
    block_bytes: usize,
}

impl AvroFile {
    pub(super) fn create(file: File, codec: AvroCodec, schema: &SchemaRef) -> std::result::Result<Self, String> {
        let codec = match codec {
            AvroCodec::None => None,
            AvroCodec::Deflate => Some(CompressionCodec::Deflate),
            AvroCodec::Snappy => Some(CompressionCodec::Snappy),
            AvroCodec::Zstd => Some(CompressionCodec::ZStandard),
        };
        let builder = WriterBuilder::new(schema.as_ref().clone()).with_compression(codec);
        let writer = builder
            .build::<_, AvroOcfFormat>(file)
            .map_err(|error| error.to_string())?;
        Ok(AvroFile {
            writer,
            schema: schema.clone(),
            block: Vec::new(),
            block_rows: 0,
            block_bytes: 0,
        })
    }

    /// Takes rows; whether a block went to the file.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> std::result::Result<bool, String> {
        let bytes = |column: &arrow_array::ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
        self.block_rows += rows.num_rows();
        self.block_bytes += rows.columns().iter().map(bytes).sum::<usize>();
        self.block.push(rows.clone());
        let full = self.block_rows >= BLOCK_ROWS || self.block_bytes >= BLOCK_BYTES;
        if full {
            self.flush()?;
        }
        Ok(full)
    }

    /// Bytes in memory of rows that have not gone to the file.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.block_bytes as u64
    }

    fn flush(&mut self) -> std::result::Result<(), String> {
        if self.block.is_empty() {
            return Ok(());
        }
        let rows = concat_batches(&self.schema, &self.block).map_err(|error| error.to_string())?;
        self.block.clear();
        (self.block_rows, self.block_bytes) = (0, 0);
        self.writer.write(&rows).map_err(|error| error.to_string())
    }

    /// Writes what is left, and gives back the file.
    pub(super) fn finish(mut self) -> std::result::Result<File, String> {
        self.flush()?;
        self.writer.finish().map_err(|error| error.to_string())?;
        Ok(self.writer.into_inner())
    }
}

#[cfg(test)]
mod tests;
