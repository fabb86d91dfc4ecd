//! How files become splits, and what a split's name says.
//!
//! One split per file. With fewer files than subtasks, large files are cut further: Parquet by row groups,
//! plain text and JSON lines at line ends, and CSV too if no quote is in it (a quoted line end must not be
//! taken for a record's end). The name is the path, with the piece behind it: `a.txt#bytes=0-1000`,
//! `b.parquet#groups=2-4`. The end is exclusive. Opening a split needs nothing but its name.

use millrace_core::{Error, Result};

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// All of it.
    Whole,
    /// Records that start in these bytes.
    Bytes(u64, u64),
    /// These row groups.
    Groups(usize, usize),
}

/// The name of a split.
pub(crate) fn name(path: &str, piece: Piece) -> String {
    match piece {
        Piece::Whole if path.contains('#') => format!("{path}#all"),
        Piece::Whole => path.to_owned(),
        Piece::Bytes(start, end) => format!("{path}#bytes={start}-{end}"),
        Piece::Groups(start, end) => format!("{path}#groups={start}-{end}"),
    }
}

/// The path and piece that a split's name says.
pub(crate) fn parse(name: &str) -> Result<(&str, Piece)> {
    let Some((path, piece)) = name.rsplit_once('#') else {
        return Ok((name, Piece::Whole));
    };
    let piece = match piece.split_once('=') {
        None if piece == "all" => Some(Piece::Whole),
        Some(("bytes", range)) => numbers(range).map(|(start, end)| Piece::Bytes(start, end)),
        Some(("groups", range)) => numbers(range).map(|(start, end)| Piece::Groups(start as usize, end as usize)),
        _ => None,
    };
    piece
        .map(|piece| (path, piece))
        .ok_or_else(|| Error::internal(format!("`{name}` is not a split of files")))
}

fn numbers(range: &str) -> Option<(u64, u64)> {
    let (start, end) = range.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

/// Number of pieces per file so that all subtasks have one.
pub(crate) fn pieces_wanted(files: usize, parallelism: u32) -> u64 {
    u64::from(parallelism).div_ceil(files.max(1) as u64)
}

/// Cuts `length` things into at most `wanted` even ranges of at least `smallest`.
pub(crate) fn cut(length: u64, wanted: u64, smallest: u64) -> Vec<(u64, u64)> {
    let count = wanted.min(length / smallest.max(1)).max(1);
    (0..count)
        .map(|index| {
            let at = |index: u64| (u128::from(length) * u128::from(index) / u128::from(count)) as u64;
            (at(index), at(index + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are() {
        for (path, piece, expected) in [
            ("a.txt", Piece::Whole, "a.txt"),
            ("a#b.txt", Piece::Whole, "a#b.txt#all"),
            ("a#all", Piece::Bytes(3, 9), "a#all#bytes=3-9"),
            ("a", Piece::Groups(0, 2), "a#groups=0-2"),
        ] {
            assert_eq!(name(path, piece), expected);
            assert_eq!(parse(expected).unwrap(), (path, piece));
        }
        assert!(parse("a#lines=1-2").is_err());
    }

    #[test]
    fn cuts_cover_everything_once() {
        assert_eq!(cut(10, 4, 3), [(0, 3), (3, 6), (6, 10)]);
        assert_eq!(cut(2, 4, 3), [(0, 2)]);
        assert_eq!(cut(0, 4, 1), [(0, 0)]);
        assert_eq!(pieces_wanted(3, 8), 3);
        assert_eq!(pieces_wanted(9, 8), 1);
    }
}
