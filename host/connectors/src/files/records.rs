//! Reads one split of a text, CSV or JSON lines file.
//!
//! A position is the offset of the next record in the decompressed file and the number of line ends before
//! it. Plain files are sought to it; compressed ones are decompressed and skipped up to it. In a byte range
//! lines are counted from the range's start, and the lines before it only if a record is rejected.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_schema::SchemaRef;
use millrace_core::connector::{Elapsed, Poll, Position, Rows, SplitReader};
use millrace_core::{Error, Result};

use super::compression::Compression;
use super::listing::unreadable;
use super::splits::Piece;
use crate::format::{Format, Range, RowParser, read_header};
use crate::position;

/// Bytes read at once.
const READ_BYTES: u64 = 256 * 1024;

/// See the module's documentation.
pub(crate) struct RecordReader {
    path: String,
    input: Box<dyn Read + Send>,
    read_bytes: Arc<AtomicU64>,
    reported_bytes: u64,
    parser: RowParser,
    /// Line ends before the split, once they were counted.
    line_base: Option<u64>,
    /// Where the split starts.
    start: u64,
    ended: bool,
}

impl RecordReader {
    /// Opens the piece of the file at the position.
    pub(crate) fn open(
        path: &str,
        format: &Format,
        compression: Compression,
        piece: Piece,
        schema: &SchemaRef,
        position: &Position,
    ) -> Result<Self> {
        let fail = |error: std::io::Error| unreadable(path, &error);
        let (start, limit) = match piece {
            Piece::Whole => (0, None),
            Piece::Bytes(start, end) => (start, Some(end)),
            Piece::Groups(_, _) => return Err(Error::internal("text has no row groups")),
        };
        let resumed = position::decode::<2>(position)?;
        // A range begins one byte early: if that byte is a line end, its first record is its own.
        let (offset, lines_before) = match resumed {
            Some([offset, lines]) => (offset, lines),
            None => (start.saturating_sub(1), 0),
        };
        let header = match format {
            Format::Csv(options) if options.header && offset > 0 => {
                let file = File::open(path).map_err(fail)?;
                let (mut input, _) = compression.reader(file).map_err(fail)?;
                read_header(&mut input, options).map_err(fail)?
            }
            _ => None,
        };
        let mut file = File::open(path).map_err(fail)?;
        if compression == Compression::None {
            file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        }
        let (mut input, read_bytes) = compression.reader(file).map_err(fail)?;
        if compression != Compression::None && offset > 0 {
            std::io::copy(&mut input.by_ref().take(offset), &mut std::io::sink()).map_err(fail)?;
        }
        let range = Range {
            offset,
            lines_before,
            limit,
        };
        let mut reader = RecordReader {
            path: path.to_owned(),
            input,
            read_bytes,
            reported_bytes: 0,
            parser: RowParser::new(path, format, schema, header.as_deref(), range)?,
            line_base: (start == 0).then_some(0),
            start: start.saturating_sub(1),
            ended: false,
        };
        if resumed.is_none() && start > 0 {
            reader.skip_line()?;
        }
        Ok(reader)
    }

    fn skip_line(&mut self) -> Result<()> {
        while !self.ended {
            self.fill()?;
            if self.parser.skip_line() {
                break;
            }
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        let mut input = self.input.by_ref().take(READ_BYTES);
        let bytes = input.read_to_end(self.parser.buffer_mut()).map_err(|error| {
            Error::external("IO0103", format!("`{}` cannot be read to its end: {error}", self.path))
        })?;
        if bytes == 0 {
            self.ended = true;
            self.parser.close();
        }
        Ok(())
    }
}

/// Line ends in the first bytes of a file; as many as can be read.
fn lines_before(path: &str, bytes: u64) -> u64 {
    let Ok(file) = File::open(path) else { return 0 };
    let mut input = file.take(bytes);
    let mut buffer = vec![0; 1 << 20];
    let mut lines = 0;
    while let Ok(bytes @ 1..) = input.read(&mut buffer) {
        lines += memchr::memchr_iter(b'\n', &buffer[..bytes]).count() as u64;
    }
    lines
}

impl SplitReader for RecordReader {
    fn poll(&mut self, rows_max: usize, _now: Elapsed) -> Result<Poll> {
        while !self.parser.frame(rows_max)? {
            self.fill()?;
        }
        let (path, start, line_base) = (&self.path, self.start, &mut self.line_base);
        let taken = self
            .parser
            .take(&mut || *line_base.get_or_insert_with(|| lines_before(path, start)))?;
        let Some((rows, rejected)) = taken else {
            return Ok(Poll::End);
        };
        let read = self.read_bytes.load(Ordering::Relaxed);
        let bytes = read - std::mem::replace(&mut self.reported_bytes, read);
        Ok(Poll::Rows(Rows { rows, rejected, bytes }))
    }

    fn position(&self) -> Position {
        let (offset, lines) = self.parser.place();
        position::encode([offset, lines])
    }

    fn place(&mut self, row: usize) -> Option<String> {
        let (path, start) = (&self.path, self.start);
        let line_base = *self.line_base.get_or_insert_with(|| lines_before(path, start));
        self.parser.row_place(row, line_base)
    }
}
