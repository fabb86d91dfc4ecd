//! Reads one split of a Parquet file.
//!
//! Only the declared columns are read, by name. A position is the number of rows of the split that were
//! given; a reader opened there skips them by the file's own indices, without decoding where it can.

use std::fs::File;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::{Schema, SchemaRef};
use arrow_select::take::take_record_batch;
use millrace_core::connector::{Elapsed, Poll, Position, Rows, SplitReader};
use millrace_core::{Error, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::PageIndexPolicy;

use super::convert;
use super::declared::Declared;
use super::listing::unreadable;
use super::splits::Piece;
use crate::position;

/// Checks that the file has the declared columns; the number of its row groups.
pub(crate) fn check(path: &str, schema: &SchemaRef) -> Result<usize> {
    let (_, metadata) = open(path)?;
    declared(path, metadata.schema(), schema)?;
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

fn declared(path: &str, file: &Schema, schema: &SchemaRef) -> Result<Declared> {
    Declared::find(path, file, schema, convert::is_possible, broken)
}

/// See the module's documentation.
pub(crate) struct ColumnReader {
    path: String,
    declared: Declared,
    /// The file until the first poll says how many rows a block may have.
    unopened: Option<(File, ArrowReaderMetadata)>,
    reader: Option<ParquetRecordBatchReader>,
    groups: Vec<usize>,
    /// Rows of the file before the split.
    rows_before: u64,
    /// Rows of the split that were given.
    given: u64,
    /// Read and not given, from this row on.
    pending: Option<(RecordBatch, usize)>,
    bytes_per_row: f64,
}

impl ColumnReader {
    /// Opens the piece of the file at the position.
    pub(crate) fn open(path: &str, piece: Piece, schema: &SchemaRef, position: &Position) -> Result<Self> {
        let (file, metadata) = open(path)?;
        let declared = declared(path, metadata.schema(), schema)?;
        let sources: Vec<usize> = declared.columns().collect();
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
        let wanted = |index| sources.contains(&root(index % metadata.parquet_schema().num_columns()));
        let bytes: i64 = columns
            .enumerate()
            .filter(|(i, _)| wanted(*i))
            .map(|(_, c)| c.compressed_size())
            .sum();
        let [given] = position::decode::<1>(position)?.unwrap_or([0]);
        Ok(ColumnReader {
            path: path.to_owned(),
            bytes_per_row: bytes as f64 / rows(&all[start..end]).max(1) as f64,
            rows_before: rows(&all[..start]),
            declared,
            reader: None,
            groups: (start..end).collect(),
            given,
            pending: None,
            unopened: Some((file, metadata)),
        })
    }

    fn next_batch(&mut self, rows_max: usize) -> Result<Option<RecordBatch>> {
        if let Some((file, metadata)) = self.unopened.take() {
            let mask = ProjectionMask::roots(metadata.parquet_schema(), self.declared.columns());
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
}

impl SplitReader for ColumnReader {
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
