//! Columns as Redis has them: bytes. Text and binary as they are, numbers and times as CSV has them, lists, maps and
//! structs as JSON.

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, FixedSizeBinaryArray, RecordBatch, StringArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use millrace_core::{Error, Result};

use super::template::{Part, Template};
use crate::format::{Encoder, Format, json_texts, zones};

/// A column whose values can be had one by one.
pub(super) enum Column {
    Text(StringArray),
    Bytes(BinaryArray),
    Fixed(FixedSizeBinaryArray),
    Shown(ArrayRef),
}

impl Column {
    pub(super) fn new(rows: &RecordBatch, index: usize) -> Result<Self> {
        let (schema, array) = (rows.schema(), rows.column(index));
        let field = &schema.fields()[index];
        let fail = |error| Error::pipeline("RW0102", format!("column `{}`: {error}", field.name()));
        Ok(match array.data_type() {
            DataType::Utf8 => Column::Text(array.as_string().clone()),
            DataType::Binary => Column::Bytes(array.as_binary().clone()),
            DataType::FixedSizeBinary(_) => Column::Fixed(array.as_fixed_size_binary().clone()),
            DataType::List(_) | DataType::Map(_, _) | DataType::Struct(_) => {
                Column::Text(json_texts(array, field).map_err(fail)?)
            }
            _ => {
                let field = zones::textual(field);
                Column::Shown(zones::renamed(array, field.data_type()).map_err(fail)?)
            }
        })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        match self {
            Column::Text(array) => array.is_null(row),
            Column::Bytes(array) => array.is_null(row),
            Column::Fixed(array) => array.is_null(row),
            Column::Shown(array) => array.is_null(row),
        }
    }

    /// Appends a value; nothing for null.
    pub(super) fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if self.is_null(row) {
            return Ok(());
        }
        match self {
            Column::Text(array) => out.extend(array.value(row).as_bytes()),
            Column::Bytes(array) => out.extend(array.value(row)),
            Column::Fixed(array) => out.extend(array.value(row)),
            Column::Shown(array) => {
                let options = FormatOptions::default();
                let mut text = String::new();
                let shown = ArrayFormatter::try_new(array.as_ref(), &options)
                    .map_err(|error| error.to_string())
                    .and_then(|formatter| write!(text, "{}", formatter.value(row)).map_err(|error| error.to_string()));
                shown.map_err(|error| Error::pipeline("RW0102", format!("a value cannot be written: {error}")))?;
                out.extend(text.as_bytes());
            }
        }
        Ok(())
    }
}

/// A template over the columns of a block.
pub(super) enum Filled<'t> {
    Template(Vec<Piece<'t>>),
    /// Each row as a JSON object.
    Json {
        text: Vec<u8>,
        ends: Vec<usize>,
    },
}

/// A part of a template.
pub(super) enum Piece<'t> {
    Text(&'t str),
    Column(Column),
}

impl<'t> Filled<'t> {
    pub(super) fn new(template: &'t Template, rows: &RecordBatch) -> Result<Self> {
        let piece = |part: &'t Part| {
            Ok(match part {
                Part::Text(text) => Piece::Text(text),
                Part::Column(name) => Piece::Column(Column::new(rows, index_of(rows, name)?)?),
            })
        };
        Ok(Filled::Template(
            template.parts().iter().map(piece).collect::<Result<_>>()?,
        ))
    }

    pub(super) fn json(rows: &RecordBatch) -> Result<Self> {
        let mut text = Vec::new();
        Encoder::new(Format::Ndjson).encode(rows, &mut text)?;
        let ends = memchr::memchr_iter(b'\n', &text).collect();
        Ok(Filled::Json { text, ends })
    }

    /// The text of a row.
    pub(super) fn value(&self, row: usize) -> Result<Vec<u8>> {
        match self {
            Filled::Template(pieces) => {
                let mut out = Vec::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.extend(text.as_bytes()),
                        Piece::Column(column) => column.put(row, &mut out)?,
                    }
                }
                Ok(out)
            }
            Filled::Json { text, ends } => {
                let start = row.checked_sub(1).map_or(0, |before| ends[before] + 1);
                Ok(text[start..ends[row]].to_vec())
            }
        }
    }
}

/// Where a column is. Rows from an older version of the pipeline may lack it.
pub(super) fn index_of(rows: &RecordBatch, name: &str) -> Result<usize> {
    rows.schema().index_of(name).map_err(|_| {
        let message = format!(
            "rows that a checkpoint holds have no column `{name}`: they were written by an earlier version of the pipeline"
        );
        Error::user("CN0145", message)
    })
}
