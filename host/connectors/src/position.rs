//! The bytes of positions: a version, then numbers in little-endian order.
//!
//! Every connector here keeps its place as one to three numbers; the version byte leaves room to change what
//! they mean while old checkpoints can still be read.

use millrace_core::connector::Position;
use millrace_core::{Error, Result};

const VERSION: u8 = 1;

/// A position of these numbers.
pub(crate) fn encode<const N: usize>(numbers: [u64; N]) -> Position {
    let mut bytes = Vec::with_capacity(1 + 8 * N);
    bytes.push(VERSION);
    numbers
        .iter()
        .for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    Position(bytes)
}

/// The numbers of a position; `None` at the start of a split.
pub(crate) fn decode<const N: usize>(position: &Position) -> Result<Option<[u64; N]>> {
    if *position == Position::START {
        return Ok(None);
    }
    match position.0.split_first() {
        Some((&VERSION, rest)) if rest.len() == 8 * N => {
            let mut numbers = [0; N];
            for (number, bytes) in numbers.iter_mut().zip(rest.as_chunks().0) {
                *number = u64::from_le_bytes(*bytes);
            }
            Ok(Some(numbers))
        }
        _ => Err(Error::user(
            "CN0103",
            format!(
                "a checkpointed position of {} bytes was not written by this connector and version",
                position.0.len()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_and_strangers_are_refused() {
        assert_eq!(decode::<2>(&encode([1, u64::MAX])).unwrap(), Some([1, u64::MAX]));
        assert_eq!(decode::<2>(&Position::START).unwrap(), None);
        for bytes in [vec![2; 9], vec![1; 8], vec![1]] {
            assert_eq!(decode::<1>(&Position(bytes)).unwrap_err().code(), "CN0103");
        }
    }
}
