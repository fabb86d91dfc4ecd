//! Reads a split of either source, and remembers that it has ended.
//!
//! The position of a split of the second source may hold the names of all its splits: some of them may not have been
//! given out when a checkpoint was taken, and asking the source once more could give others.

use millrace_core::connector::{Elapsed, Poll, Position, Rejected, SplitReader};
use millrace_core::{Error, Result};

/// What a position says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    At {
        /// Of the source itself.
        position: Position,
        /// All splits of the second source, if they are said here.
        all: Vec<String>,
    },
    Finished,
}

const AT: u8 = 1;
const FINISHED: u8 = 2;

impl Place {
    pub(super) fn encode(&self) -> Position {
        match self {
            Place::Finished => Position(vec![FINISHED]),
            Place::At { position, all } => {
                let mut bytes = vec![AT];
                bytes.extend((all.len() as u32).to_le_bytes());
                for id in all {
                    bytes.extend((id.len() as u32).to_le_bytes());
                    bytes.extend(id.as_bytes());
                }
                bytes.extend(&position.0);
                Position(bytes)
            }
        }
    }

    pub(super) fn decode(position: &Position) -> Result<Self> {
        let wrong = || Error::user("CN0103", "a checkpointed position was not written by a hybrid source");
        match position.0.split_first() {
            None => Ok(Place::At {
                position: Position::START,
                all: Vec::new(),
            }),
            Some((&FINISHED, [])) => Ok(Place::Finished),
            Some((&AT, rest)) => decode_at(rest).ok_or_else(wrong),
            Some(_) => Err(wrong()),
        }
    }
}

fn decode_at(mut bytes: &[u8]) -> Option<Place> {
    let number = |bytes: &mut &[u8]| {
        let (number, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        Some(u32::from_le_bytes(*number) as usize)
    };
    let mut all = Vec::new();
    for _ in 0..number(&mut bytes)? {
        let length = number(&mut bytes)?;
        let (id, rest) = bytes.split_at_checked(length)?;
        all.push(String::from_utf8(id.to_vec()).ok()?);
        bytes = rest;
    }
    Some(Place::At {
        position: Position(bytes.to_vec()),
        all,
    })
}

/// See the module's documentation.
pub(super) struct HybridReader {
    /// `None`: it has ended.
    reader: Option<Box<dyn SplitReader>>,
    all: Vec<String>,
}

impl HybridReader {
    pub(super) fn new(reader: Box<dyn SplitReader>, all: Vec<String>) -> Self {
        HybridReader {
            reader: Some(reader),
            all,
        }
    }

    pub(super) fn finished() -> Self {
        HybridReader {
            reader: None,
            all: Vec::new(),
        }
    }
}

impl SplitReader for HybridReader {
    fn poll(&mut self, rows_max: usize, now: Elapsed) -> Result<Poll> {
        let Some(reader) = &mut self.reader else {
            return Ok(Poll::End);
        };
        let poll = reader.poll(rows_max, now)?;
        if matches!(poll, Poll::End) && self.all.is_empty() {
            self.reader = None;
        }
        Ok(poll)
    }

    fn position(&self) -> Position {
        let place = match &self.reader {
            None => Place::Finished,
            Some(reader) => Place::At {
                position: reader.position(),
                all: self.all.clone(),
            },
        };
        place.encode()
    }

    fn place(&mut self, row: usize) -> Option<String> {
        self.reader.as_mut()?.place(row)
    }

    fn handle_complete(&mut self, position: &Position) -> Result<()> {
        match (&mut self.reader, Place::decode(position)?) {
            (Some(reader), Place::At { position, .. }) => reader.handle_complete(&position),
            (Some(_), Place::Finished) | (None, _) => Ok(()),
        }
    }

    fn refuse(&mut self, rejected: &Rejected) -> bool {
        self.reader.as_mut().is_some_and(|reader| reader.refuse(rejected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_and_strangers_are_refused() {
        for all in [vec![], vec!["a".to_owned(), String::new(), "ä/b".to_owned()]] {
            for position in [Position::START, Position(vec![0, 1, 2])] {
                let all = all.clone();
                let place = Place::At { position, all };
                assert_eq!(Place::decode(&place.encode()).unwrap(), place);
            }
        }
        assert_eq!(Place::decode(&Place::Finished.encode()).unwrap(), Place::Finished);
        for bytes in [
            vec![3],
            vec![2, 2],
            vec![1, 1, 0, 0, 0],
            vec![1, 1, 0, 0, 0, 9, 0, 0, 0, 1],
        ] {
            assert_eq!(Place::decode(&Position(bytes)).unwrap_err().code(), "CN0103");
        }
    }
}
