//! Reads a file of records while it grows.
//!
//! Only whole records are given: what stands behind the last line end waits for its own. A position is the offset of the
//! next record, the line ends before it, and whether everything that was there had been given. The file is known by its
//! identity, not by its path:
//!
//! ```text
//! renamed, replaced    read to its end, and given up when nothing was written to it for a while
//! gone while closed    if everything had been given: its end; otherwise a rejected row says what is lost
//! cut                  a rejected row says so, and reading goes on from the beginning
//! ```
//!
//! A file to which nothing was written for a while is closed until it grows; at once, if there are too many.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use millrace_core::connector::{Elapsed, Poll, Position, Rejected, Rows, SplitReader};
use millrace_core::{Error, Result};

use super::discovery::{FINISHED, locate, parse};
use super::listing::{self, unreadable};
use super::permits::{PERMIT_INTERVAL, Permit, Permits};
use super::whole::{gone, only};
use crate::format::{Format, Range, RowParser, read_header};
use crate::position;

/// Bytes read at once.
const READ_BYTES: u64 = 256 * 1024;

/// A file that has another name, or none, is read for so long after it was last written to.
const LINGER: Duration = Duration::from_secs(5);

/// A file that nobody writes to is closed after so long.
const CLOSE_AFTER: Duration = Duration::from_secs(30);

/// See the module's documentation.
pub(crate) struct FollowReader {
    path: String,
    identity: String,
    /// Where the file is looked for if it has another name.
    pattern: String,
    format: Arc<Format>,
    schema: SchemaRef,
    interval: Duration,
    permits: Permits,
    open: Option<Open>,
    place: Place,
    /// When something was last read.
    grown: Elapsed,
}

#[derive(Clone, Copy)]
enum Place {
    /// Offset of the next record, line ends before it, and whether everything had been given.
    At(u64, u64, bool),
    Finished,
}

struct Open {
    file: File,
    parser: RowParser,
    /// Bytes of the file that went to the parser, from its beginning.
    read: u64,
    closed: bool,
    _permit: Permit,
}

/// What became of a file that was read to its end.
enum Fate {
    Same,
    Cut(u64),
    /// Another file, or none, has its path.
    Left,
}

impl FollowReader {
    /// Opens the split at its position.
    pub(crate) fn open(
        split: &str,
        position: &Position,
        pattern: &str,
        (format, schema): (&Arc<Format>, &SchemaRef),
        interval: Duration,
        permits: &Permits,
    ) -> Result<Self> {
        let (path, identity) = parse(split)?;
        let place = if position.0 == FINISHED {
            Place::Finished
        } else {
            let [offset, lines, given] = position::decode::<3>(position)?.unwrap_or([0, 0, 0]);
            Place::At(offset, lines, given == 1)
        };
        Ok(FollowReader {
            path: path.to_owned(),
            identity: identity.to_owned(),
            pattern: pattern.to_owned(),
            format: format.clone(),
            schema: schema.clone(),
            interval,
            permits: permits.clone(),
            open: None,
            place,
            grown: Duration::ZERO,
        })
    }

    /// Opens the file if it has grown; `Some`: what there is to say instead of reading.
    fn reopen(&mut self, (offset, lines, given): (u64, u64, bool), now: Elapsed) -> Result<Option<Poll>> {
        let Some(found) = locate(&self.path, &self.identity, &self.pattern)? else {
            self.place = Place::Finished;
            return Ok(Some(match given {
                true => Poll::End,
                false => only(gone(&self.path), &self.schema),
            }));
        };
        self.path = found.path;
        if found.bytes < offset {
            return Ok(Some(self.restart(found.bytes, offset)));
        }
        if found.bytes == offset && offset > 0 {
            self.place = Place::At(offset, lines, true);
            return Ok(Some(self.pending()));
        }
        let Some(permit) = self.permits.take() else {
            return Ok(Some(Poll::Pending {
                wake_after: Some(PERMIT_INTERVAL),
            }));
        };
        let fail = |error: std::io::Error| unreadable(&self.path, &error);
        let mut file = File::open(&self.path).map_err(fail)?;
        let header = match self.format.as_ref() {
            Format::Csv(options) if options.header && offset > 0 => read_header(&mut file, options).map_err(fail)?,
            _ => None,
        };
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        let range = Range {
            offset,
            lines_before: lines,
            limit: None,
        };
        self.open = Some(Open {
            file,
            parser: RowParser::new(&self.path, &self.format, &self.schema, header.as_deref(), range)?,
            read: offset,
            closed: false,
            _permit: permit,
        });
        self.grown = now;
        Ok(None)
    }

    /// The file has been cut.
    fn restart(&mut self, bytes: u64, offset: u64) -> Poll {
        self.open = None;
        self.place = Place::At(0, 0, false);
        let cause = format!(
            "the file was cut to {bytes} bytes when {offset} had been read: reading goes on from its beginning, and what \
             was behind the position is lost"
        );
        let rejected = Rejected {
            place: self.path.clone(),
            cause,
            raw: String::new(),
        };
        only(rejected, &self.schema)
    }

    fn pending(&self) -> Poll {
        Poll::Pending {
            wake_after: Some(self.interval),
        }
    }

    /// Everything was read that is there.
    fn wait(&mut self, now: Elapsed) -> Result<Poll> {
        let Some(open) = &mut self.open else {
            return Ok(self.pending());
        };
        let (quiet, read) = (now.saturating_sub(self.grown), open.read);
        match fate(&open.file, read, &self.path, &self.identity)? {
            Fate::Cut(bytes) => return Ok(self.restart(bytes, read)),
            Fate::Left if quiet >= LINGER => {
                // Nobody will end its last line any more.
                open.closed = true;
                open.parser.close();
                return self.poll(1, now);
            }
            Fate::Same if quiet >= CLOSE_AFTER || self.permits.are_scarce() => self.open = None,
            Fate::Left | Fate::Same => {}
        }
        Ok(self.pending())
    }
}

fn fate(file: &File, read: u64, path: &str, its_identity: &str) -> Result<Fate> {
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    if metadata.len() < read {
        return Ok(Fate::Cut(metadata.len()));
    }
    let stays = listing::find(path).is_some_and(|found| found.identity == its_identity);
    Ok(if stays { Fate::Same } else { Fate::Left })
}

impl SplitReader for FollowReader {
    fn poll(&mut self, rows_max: usize, now: Elapsed) -> Result<Poll> {
        let place = match self.place {
            Place::Finished => return Ok(Poll::End),
            Place::At(offset, lines, given) => (offset, lines, given),
        };
        if self.open.is_none()
            && let Some(poll) = self.reopen(place, now)?
        {
            return Ok(poll);
        }
        let Some(open) = &mut self.open else {
            return Err(Error::internal("a file that was just opened is closed"));
        };
        let before = open.read;
        while !open.parser.frame(rows_max)? && !open.closed {
            let mut input = (&open.file).take(READ_BYTES);
            let bytes = input.read_to_end(open.parser.buffer_mut()).map_err(|error| {
                let message = format!("`{}` cannot be read on: {error}", self.path);
                Error::external("IO0103", message)
            })?;
            open.read += bytes as u64;
            if bytes == 0 {
                break;
            }
        }
        let taken = open.parser.take(&mut || 0)?;
        let (offset, lines) = open.parser.place();
        self.place = Place::At(offset, lines, offset == open.read);
        let bytes = open.read - before;
        if bytes > 0 {
            self.grown = now;
        }
        match taken {
            Some((rows, rejected)) => Ok(Poll::Rows(Rows { rows, rejected, bytes })),
            None if open.closed => {
                self.open = None;
                self.place = Place::Finished;
                Ok(Poll::End)
            }
            None => self.wait(now),
        }
    }

    fn position(&self) -> Position {
        match self.place {
            Place::At(offset, lines, given) => position::encode([offset, lines, u64::from(given)]),
            Place::Finished => Position(FINISHED.to_vec()),
        }
    }

    fn place(&mut self, row: usize) -> Option<String> {
        self.open.as_ref()?.parser.row_place(row, 0)
    }
}

#[cfg(test)]
mod tests;
