//! Reads one split of a Parquet file.
//!
//! Only the declared columns are read, by name. A position is the number of rows of the split that were
//! given; a reader opened there skips them by the file's own indices, without decoding where it can.

use std::fs::File;

use arrow_array::{BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow_cast::display::array_value_to_string;
use arrow_schema::{Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take_record_batch;
use millrace_core::connector::{Elapsed, Poll, Position, Rejected, Rows, SplitReader};
use millrace_core::{Error, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::PageIndexPolicy;

use super::convert::{self, BadRows, plain};
use super::listing::unreadable;
use super::splits::Piece;
use crate::format::{json_row, type_name};
use crate::position;

/// Checks that the file has the declared columns; the number of its row groups.
pub(crate) fn check(path: &str, schema: &Schema) -> Result<usize> {
    let (_, metadata) = open(path)?;
    sources(path, metadata.schema(), schema)?;
    Ok(metadata.metadata().num_row_groups())
}

fn open(path: &str) -> Result<(File, ArrowReaderMetadata)> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let metadata = ArrowReaderMetadata::load(&file, options).map_err(|error| broken(path, &error))?;
    Ok((file, metadata))
}

fn broken(path: &str, error: &dyn std::fmt::Display) -> Error {
    Error::external("IO0104", format!("`{path}` is not a sound Parquet file: {error}"))
}

/// For each declared column its index in the file; `None` if it is not there and may be null.
fn sources(path: &str, file: &Schema, declared: &Schema) -> Result<Vec<Option<usize>>> {
    let source = |to: &arrow_schema::FieldRef| match file.column_with_name(to.name()) {
        Some((index, from)) if convert::is_possible(from.data_type(), to.data_type()) => Ok(Some(index)),
        Some((_, from)) => Err(Error::user(
            "CN0114",
            format!(
                "`{path}`: column `{}` is {} in the file and declared as {}, which cannot be converted without loss",
                to.name(),
                type_name(from.data_type()),
                type_name(to.data_type())
            ),
        )),
        None if to.is_nullable() => Ok(None),
        None => {
            let names: Vec<&str> = file.fields().iter().map(|field| field.name().as_str()).collect();
            Err(Error::user(
                "CN0112",
                format!(
                    "`{path}`: column `{}` is not in the file, which has: {}",
                    to.name(),
                    names.join(", ")
                ),
            ))
        }
    };
    declared.fields().iter().map(source).collect()
}

/// See the module's documentation.
pub(crate) struct ColumnReader {
    path: String,
    schema: SchemaRef,
    sources: Vec<Option<usize>>,
    /// The file until the first poll says how many rows a block may have.
    unopened: Option<(File, ArrowReaderMetadata)>,
    reader: Option<ParquetRecordBatchReader>,
    groups: Vec<usize>,
    /// Rows of the file before the split.
    rows_before: u64,
    /// Rows of the split that were given.
    given: u64,
    /// Rows of the last poll that were rejected, and how many rows of the split were before it.
    last_rejected: Vec<usize>,
    last_given: u64,
    /// Read and not given, from this row on.
    pending: Option<(RecordBatch, usize)>,
    bytes_per_row: f64,
}

impl ColumnReader {
    /// Opens the piece of the file at the position.
    pub(crate) fn open(path: &str, piece: Piece, schema: &SchemaRef, position: &Position) -> Result<Self> {
        let (file, metadata) = open(path)?;
        let sources = sources(path, metadata.schema(), schema)?;
        let all = metadata.metadata().row_groups();
        let (start, end) = match piece {
            Piece::Whole => (0, all.len()),
            Piece::Groups(start, end) if start <= end && end <= all.len() => (start, end),
            Piece::Groups(_, _) => return Err(broken(path, &"it has fewer row groups than when the job started")),
            Piece::Bytes(_, _) => return Err(Error::internal("Parquet is not split by bytes")),
        };
        let rows = |groups: &[parquet::file::metadata::RowGroupMetaData]| -> u64 {
            groups.iter().map(|group| group.num_rows() as u64).sum()
        };
        let columns = all[start..end].iter().flat_map(|group| group.columns());
        let root = |index| metadata.parquet_schema().get_column_root_idx(index);
        let wanted = |index| sources.contains(&Some(root(index % metadata.parquet_schema().num_columns())));
        let bytes: i64 = columns
            .enumerate()
            .filter(|(i, _)| wanted(*i))
            .map(|(_, c)| c.compressed_size())
            .sum();
        let [given] = position::decode::<1>(position)?.unwrap_or([0]);
        Ok(ColumnReader {
            path: path.to_owned(),
            schema: schema.clone(),
            bytes_per_row: bytes as f64 / rows(&all[start..end]).max(1) as f64,
            rows_before: rows(&all[..start]),
            sources,
            reader: None,
            groups: (start..end).collect(),
            given,
            last_rejected: Vec::new(),
            last_given: given,
            pending: None,
            unopened: Some((file, metadata)),
        })
    }

    fn next_batch(&mut self, rows_max: usize) -> Result<Option<RecordBatch>> {
        if let Some((file, metadata)) = self.unopened.take() {
            let columns = self.sources.iter().filter_map(|source| *source);
            let mask = ProjectionMask::roots(metadata.parquet_schema(), columns);
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
                .with_projection(mask)
                .with_row_groups(std::mem::take(&mut self.groups))
                .with_batch_size(rows_max)
                .with_offset(self.given as usize)
                .build()
                .map_err(|error| broken(&self.path, &error))?;
            self.reader = Some(reader);
        }
        let next = self.reader.as_mut().and_then(Iterator::next);
        next.transpose().map_err(|error| broken(&self.path, &error))
    }

    /// At most `rows_max` rows as the file has them.
    fn next_rows(&mut self, rows_max: usize) -> Result<Option<RecordBatch>> {
        let (batch, start) = match self.pending.take() {
            Some(pending) => pending,
            None => match self.next_batch(rows_max)? {
                Some(batch) => (batch, 0),
                None => return Ok(None),
            },
        };
        let end = batch.num_rows().min(start + rows_max);
        if (start, end) == (0, batch.num_rows()) {
            return Ok(Some(batch));
        }
        let indices = UInt32Array::from_iter_values(start as u32..end as u32);
        let rows = take_record_batch(&batch, &indices).map_err(|error| broken(&self.path, &error))?;
        if end < batch.num_rows() {
            self.pending = Some((batch, end));
        }
        Ok(Some(rows))
    }

    fn convert(&mut self, rows: &RecordBatch) -> Result<(RecordBatch, Vec<Rejected>)> {
        let mut bad = BadRows::new();
        let mut columns = Vec::with_capacity(self.sources.len());
        for (field, source) in self.schema.fields().iter().zip(&self.sources) {
            let found = source.and_then(|_| rows.column_by_name(field.name()));
            columns.push(match found {
                Some(array) => convert::column(array, field, &mut bad)
                    .map_err(|error| broken(&self.path, &format!("column `{}`: {error}", field.name())))?,
                None => new_null_array(field.data_type(), rows.num_rows()),
            });
        }
        self.last_rejected = bad.keys().copied().collect();
        self.last_given = self.given;
        let rejected = bad.iter().map(|(row, cause)| self.reject(rows, *row, cause)).collect();
        let schema = if bad.is_empty() {
            self.schema.clone()
        } else {
            nullable(&self.schema)
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let fail = |error| broken(&self.path, &error);
        let mut converted = RecordBatch::try_new_with_options(schema, columns, &options).map_err(fail)?;
        if !bad.is_empty() {
            let good: BooleanArray = (0..rows.num_rows()).map(|row| Some(!bad.contains_key(&row))).collect();
            let kept = filter_record_batch(&converted, &good).map_err(fail)?;
            let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
            let columns = kept.columns().iter().cloned().map(plain).collect();
            converted = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(fail)?;
        }
        Ok((converted, rejected))
    }

    /// Row of the last poll, counted with those that were rejected.
    fn row_place(&self, row: usize) -> String {
        let number = self.rows_before + self.last_given + row as u64 + 1;
        format!("{} row {number}", self.path)
    }

    fn reject(&self, rows: &RecordBatch, row: usize, cause: &str) -> Rejected {
        Rejected {
            place: self.row_place(row),
            cause: cause.to_owned(),
            raw: json_row(&rows.slice(row, 1)).unwrap_or_else(|_| values_text(rows, row)),
        }
    }
}

/// A row for people, where it has columns that JSON lines do not know.
fn values_text(rows: &RecordBatch, row: usize) -> String {
    let schema = rows.schema();
    let values = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
        let value = array_value_to_string(column, row).unwrap_or_default();
        format!("{}: {value}", field.name())
    });
    values.collect::<Vec<_>>().join(", ")
}

/// The schema while forbidden nulls are still in.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true));
    SchemaRef::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl SplitReader for ColumnReader {
    fn poll(&mut self, rows_max: usize, _now: Elapsed) -> Result<Poll> {
        let Some(rows) = self.next_rows(rows_max)? else {
            return Ok(Poll::End);
        };
        let (converted, rejected) = self.convert(&rows)?;
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
        let mut good = (0..).filter(|row| !self.last_rejected.contains(row));
        good.nth(row).map(|row| self.row_place(row))
    }
}
