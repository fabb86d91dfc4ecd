//! Reads a file that came while the job runs, as a whole, and remembers when it has.
//!
//! The reader under it is that of a file that was there from the start; it is opened when there is a [`Permit`], for
//! many files may come at once. A file that is gone before it was read to its end is a rejected row: rows behind the
//! position are lost, and the source's policy says what that means.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use millrace_core::Result;
use millrace_core::connector::{Elapsed, Poll, Position, Rejected, Rows, SplitReader};

use super::discovery::FINISHED;
use super::permits::{PERMIT_INTERVAL, Permit, Permits};

/// Opens the reader under it; `None`: the file is gone.
pub(super) type Open = Box<dyn FnOnce() -> Result<Option<Box<dyn SplitReader>>> + Send>;

/// See the module's documentation.
pub(super) struct WholeReader {
    path: String,
    state: State,
    schema: SchemaRef,
    permits: Permits,
}

enum State {
    /// Not opened yet.
    Waiting(Position, Open),
    Reading {
        reader: Box<dyn SplitReader>,
        /// Held while the file is open.
        _permit: Permit,
    },
    Lost(Position),
    Finished,
}

impl WholeReader {
    /// A reader of the file from the position on, which `open` opens.
    pub(super) fn new(path: &str, position: &Position, schema: &SchemaRef, permits: &Permits, open: Open) -> Self {
        let state = match position.0 == FINISHED {
            true => State::Finished,
            false => State::Waiting(position.clone(), open),
        };
        WholeReader {
            path: path.to_owned(),
            state,
            schema: schema.clone(),
            permits: permits.clone(),
        }
    }

    /// Opens the file; false: there is no permit.
    fn open(&mut self) -> Result<bool> {
        let Some(permit) = self.permits.take() else {
            return Ok(false);
        };
        if let State::Waiting(position, open) = std::mem::replace(&mut self.state, State::Finished) {
            self.state = match open()? {
                Some(reader) => State::Reading {
                    reader,
                    _permit: permit,
                },
                None => State::Lost(position),
            };
        }
        Ok(true)
    }
}

/// What stands for the rows of a file that is gone.
pub(super) fn gone(path: &str) -> Rejected {
    Rejected {
        place: path.to_owned(),
        cause: "the file is gone before it was read to its end: what was behind the position is lost".to_owned(),
        raw: String::new(),
    }
}

/// A row that was rejected, and no others.
pub(super) fn only(rejected: Rejected, schema: &SchemaRef) -> Poll {
    Poll::Rows(Rows {
        rows: RecordBatch::new_empty(schema.clone()),
        rejected: vec![rejected],
        bytes: 0,
    })
}

impl SplitReader for WholeReader {
    fn poll(&mut self, rows_max: usize, now: Elapsed) -> Result<Poll> {
        if matches!(self.state, State::Waiting(_, _)) && !self.open()? {
            return Ok(Poll::Pending {
                wake_after: Some(PERMIT_INTERVAL),
            });
        }
        let poll = match &mut self.state {
            State::Reading { reader, .. } => reader.poll(rows_max, now)?,
            State::Lost(_) => only(gone(&self.path), &self.schema),
            State::Waiting(_, _) | State::Finished => Poll::End,
        };
        if matches!((&self.state, &poll), (State::Lost(_), _) | (_, Poll::End)) {
            self.state = State::Finished;
        }
        Ok(poll)
    }

    fn position(&self) -> Position {
        match &self.state {
            State::Reading { reader, .. } => reader.position(),
            State::Waiting(position, _) | State::Lost(position) => position.clone(),
            State::Finished => Position(FINISHED.to_vec()),
        }
    }

    fn place(&mut self, row: usize) -> Option<String> {
        match &mut self.state {
            State::Reading { reader, .. } => reader.place(row),
            State::Waiting(_, _) | State::Lost(_) | State::Finished => None,
        }
    }
}
