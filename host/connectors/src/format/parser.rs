//! Bytes in, rows out: a framer and a decoder with the header between them.
//!
//! Whoever has the bytes (a file, standard input) appends them and calls [`RowParser::frame`] until there is
//! a block's worth, then [`RowParser::take`]. The parser does no I/O.

use std::io::Read;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use millrace_core::connector::Rejected;
use millrace_core::{Error, Result};

use super::csv::CsvDecoder;
use super::decode::{Decode, decode};
use super::framer::{Framer, Framing, Record};
use super::ndjson::NdjsonDecoder;
use super::text::TextDecoder;
use super::{CsvOptions, Format};

/// A block of records is decoded once it has this many bytes, even if it has few rows.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Raw text kept of a rejected record.
const RAW_BYTES_MAX: usize = 4096;

/// Bytes read at once while looking for a header.
const HEADER_READ_BYTES: u64 = 8 * 1024;

/// Where in a stream a parser starts, and where it stops.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Range {
    /// Offset of the first byte that it is given.
    pub(crate) offset: u64,
    /// Number of line ends before it.
    pub(crate) lines_before: u64,
    /// Records that start here or later are not wanted.
    pub(crate) limit: Option<u64>,
}

/// See the module's documentation.
pub(crate) struct RowParser {
    framer: Framer,
    schema: SchemaRef,
    decoder: Option<Box<dyn Decode>>,
    /// Options of a CSV whose header has not been seen.
    header: Option<CsvOptions>,
    records: Vec<Record>,
    /// Records of the last block taken.
    taken: Vec<Record>,
    /// Those of them that were rejected, by where they start.
    rejected: Vec<usize>,
    name: String,
}

impl RowParser {
    /// A parser of a text format; `name` is what errors call the stream. `header` is the header record if it
    /// was read apart, because the range starts after it.
    pub(crate) fn new(
        name: &str,
        format: &Format,
        schema: &SchemaRef,
        header: Option<&[u8]>,
        range: Range,
    ) -> Result<Self> {
        let (framing, decoder, awaited): (_, Option<Box<dyn Decode>>, _) = match format {
            Format::Text => (Framing::Lines, Some(Box::new(TextDecoder::new(schema.clone()))), None),
            Format::Ndjson => (
                Framing::FilledLines,
                Some(Box::new(NdjsonDecoder::new(schema.clone()))),
                None,
            ),
            Format::Csv(options) => {
                let CsvOptions { delimiter, quote, .. } = *options;
                let framing = Framing::Csv { delimiter, quote };
                if options.header && header.is_none() {
                    (framing, None, Some(options.clone()))
                } else {
                    let decoder = CsvDecoder::new(schema.clone(), options.clone(), header);
                    (
                        framing,
                        Some(Box::new(decoder.map_err(|error| error.context(name))?)),
                        None,
                    )
                }
            }
            Format::Parquet | Format::Avro(_) => return Err(Error::internal("it is not read as text")),
        };
        Ok(RowParser {
            framer: Framer::new(framing, range.offset, range.lines_before + 1, range.limit),
            schema: schema.clone(),
            decoder,
            header: awaited,
            records: Vec::new(),
            taken: Vec::new(),
            rejected: Vec::new(),
            name: name.to_owned(),
        })
    }

    /// Begins with another stream from its start, which has no header.
    #[cfg(feature = "http")]
    pub(crate) fn restart(&mut self, name: String) {
        self.framer = self.framer.restarted();
        self.records.clear();
        self.taken.clear();
        self.rejected.clear();
        self.name = name;
    }

    /// Where bytes are appended.
    pub(crate) fn buffer_mut(&mut self) -> &mut Vec<u8> {
        self.framer.buffer_mut()
    }

    /// Nothing more is appended.
    pub(crate) fn close(&mut self) {
        self.framer.close();
    }

    /// Skips the rest of a line that belongs to the split before; whether its end was there.
    pub(crate) fn skip_line(&mut self) -> bool {
        self.framer.skip_line()
    }

    /// Finds records in what was appended; whether there are enough for a block.
    pub(crate) fn frame(&mut self, rows_max: usize) -> Result<bool> {
        if let Some(options) = self.header.take() {
            self.find_records(1)?;
            match self.records.pop() {
                None => self.header = Some(options),
                Some(record) => {
                    let header = &self.framer.bytes()[record.start..record.end];
                    let decoder = CsvDecoder::new(self.schema.clone(), options, Some(header));
                    self.decoder = Some(Box::new(decoder.map_err(|error| error.context(&self.name))?));
                    self.framer.consume();
                }
            }
        }
        if self.header.is_none() {
            self.find_records(rows_max)?;
        }
        let full = self.records.len() >= rows_max;
        let large = !self.records.is_empty() && self.framer.bytes().len() >= BLOCK_BYTES_MAX;
        Ok(full || large || self.framer.is_finished())
    }

    fn find_records(&mut self, records_max: usize) -> Result<()> {
        self.framer.frame(records_max, &mut self.records).map_err(|bytes| {
            let place = format!("{}:{}", self.name, self.framer.line());
            Error::external(
                "RW0101",
                format!("{place}: a row is over {bytes} bytes long; is a quote not closed, or the file not text?"),
            )
        })
    }

    /// Decodes the records found; `None` if there are none. `line_base` is added to line numbers, and asked
    /// for only when a record is rejected.
    pub(crate) fn take(&mut self, line_base: &mut dyn FnMut() -> u64) -> Result<Option<(RecordBatch, Vec<Rejected>)>> {
        let records = std::mem::take(&mut self.records);
        let Some(decoder) = self.decoder.as_mut().filter(|_| !records.is_empty()) else {
            self.framer.consume();
            return Ok(None);
        };
        let bytes = self.framer.bytes();
        let mut rejected = Vec::new();
        self.rejected.clear();
        let (name, starts) = (&self.name, &mut self.rejected);
        let rows = decode(decoder.as_mut(), &self.schema, bytes, &records, &mut |record, cause| {
            starts.push(record.start);
            let raw = &bytes[record.start..record.end.min(record.start + RAW_BYTES_MAX)];
            rejected.push(Rejected {
                place: format!("{name}:{}", record.line + line_base()),
                cause,
                raw: String::from_utf8_lossy(raw).into_owned(),
            });
        })?;
        self.framer.consume();
        self.records = std::mem::replace(&mut self.taken, records);
        self.records.clear();
        Ok(Some((rows, rejected)))
    }

    /// Where a row of the last block taken came from. `line_base` as with [`take`](Self::take).
    pub(crate) fn row_place(&self, row: usize, line_base: u64) -> Option<String> {
        let mut given = self
            .taken
            .iter()
            .filter(|record| !self.rejected.contains(&record.start));
        let record = given.nth(row)?;
        Some(format!("{}:{}", self.name, record.line + line_base))
    }

    /// Whether every record there will be was taken.
    pub(crate) fn is_finished(&self) -> bool {
        self.framer.is_finished() && self.records.is_empty()
    }

    /// Offset of the next record not taken, and the line ends before it.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.framer.offset(), self.framer.line() - 1)
    }
}

/// The first record of a CSV stream; `None` if it is empty.
pub(crate) fn read_header(input: &mut dyn Read, options: &CsvOptions) -> std::io::Result<Option<Vec<u8>>> {
    let CsvOptions { delimiter, quote, .. } = *options;
    let mut framer = Framer::new(Framing::Csv { delimiter, quote }, 0, 1, None);
    let mut records = Vec::new();
    loop {
        if (&mut *input).take(HEADER_READ_BYTES).read_to_end(framer.buffer_mut())? == 0 {
            framer.close();
        }
        let too_long = |_| std::io::Error::other("its header has no end");
        framer.frame(1, &mut records).map_err(too_long)?;
        if let Some(record) = records.first() {
            return Ok(Some(framer.bytes()[record.start..record.end].to_vec()));
        }
        if framer.is_finished() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests;
