//! Columns to bytes: text, CSV and JSON lines.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_csv::WriterBuilder;
use arrow_json::WriterBuilder as JsonWriterBuilder;
use arrow_json::writer::LineDelimited;
use millrace_core::{Error, Result};

use super::floats::FloatTexts;
use super::{CsvOptions, Format, zones};

/// Appends rows to a buffer in one format.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    format: Format,
    header_due: bool,
}

impl Encoder {
    /// An encoder at the start of a file. Format parquet has none.
    pub(crate) fn new(format: Format) -> Self {
        let header_due = matches!(&format, Format::Csv(options) if options.header);
        Encoder { format, header_due }
    }

    /// Leaves out the header that would come first.
    pub(crate) fn without_header(mut self) -> Self {
        self.header_due = false;
        self
    }

    /// Appends the rows.
    pub(crate) fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let header = std::mem::take(&mut self.header_due);
        let result = match &self.format {
            Format::Text => {
                encode_text(rows, out);
                Ok(())
            }
            Format::Csv(options) => zones::textual_rows(rows).and_then(|rows| encode_csv(&rows, options, header, out)),
            Format::Ndjson => zones::textual_rows(rows).and_then(|rows| encode_json(&rows, out)),
            Format::Parquet | Format::Avro(_) => return Err(Error::internal("it is not written as text")),
        };
        result.map_err(|error| Error::pipeline("RW0102", format!("rows cannot be written: {error}")))
    }
}

/// A null line is an empty one.
fn encode_text(rows: &RecordBatch, out: &mut Vec<u8>) {
    let lines = rows.column(0).as_string::<i32>();
    out.reserve(lines.value_data().len() + lines.len());
    for row in 0..lines.len() {
        if lines.is_valid(row) {
            out.extend_from_slice(lines.value(row).as_bytes());
        }
        out.push(b'\n');
    }
}

fn encode_json(rows: &RecordBatch, out: &mut Vec<u8>) -> std::result::Result<(), arrow_schema::ArrowError> {
    let builder = JsonWriterBuilder::new().with_encoder_factory(Arc::new(FloatTexts));
    builder.build::<_, LineDelimited>(out).write(rows)
}

fn encode_csv(
    rows: &RecordBatch,
    options: &CsvOptions,
    header: bool,
    out: &mut Vec<u8>,
) -> std::result::Result<(), arrow_schema::ArrowError> {
    let mut writer = WriterBuilder::new()
        .with_header(header)
        .with_delimiter(options.delimiter)
        .with_quote(options.quote)
        .with_null(options.null.clone())
        .build(out);
    writer.write(rows)
}
