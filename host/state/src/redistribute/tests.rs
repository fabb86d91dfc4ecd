//! Shares by hand. That the rows are right is what `tests/it/rescaling.rs` says.

use super::*;
use crate::format::Subtask;

fn layer(file: &str, groups: [u32; 2]) -> Layer {
    Layer {
        file: file.to_owned(),
        rows: 1,
        bytes: 1,
        checksum: String::new(),
        groups,
    }
}

/// Two subtasks over 12 key groups: 0 to 5 and 6 to 11.
fn operator(watermarks: [Option<Millis>; 2]) -> Operator {
    let layers = [
        vec![layer("a1", [0, 5]), layer("a2", [4, 5])],
        vec![layer("b1", [6, 11]), layer("b2", [7, 7])],
    ];
    let subtasks = watermarks.into_iter().zip(layers).map(|(watermark, layers)| Subtask {
        watermark,
        layers,
        ..Subtask::default()
    });
    Operator {
        id: "x".to_owned(),
        name: "x".to_owned(),
        parallelism: 2,
        connector: None,
        keyed: None,
        subtasks: subtasks.collect(),
    }
}

fn check(parallelism: u32, subtask: u32, groups: Range<u32>, pieces: &[(&str, bool)], watermark: Option<Millis>) {
    let operator = operator([Some(5), Some(3)]);
    let share = share(&operator, 12, parallelism, subtask);
    assert_eq!((share.groups, share.watermark), (groups, watermark));
    let got: Vec<_> = share
        .pieces
        .iter()
        .map(|piece| (piece.layer.file.as_str(), piece.whole))
        .collect();
    assert_eq!(got, pieces, "{subtask} of {parallelism}");
}

#[test]
fn files_are_read_by_those_who_own_rows_in_them() {
    let all = [("a1", true), ("a2", true), ("b1", true), ("b2", true)];
    check(1, 0, 0..12, &all, Some(3));
    check(2, 0, 0..6, &all[..2], Some(5));
    check(2, 1, 6..12, &all[2..], Some(3));
    check(3, 0, 0..4, &[("a1", false)], Some(5));
    check(
        3,
        1,
        4..8,
        &[("a1", false), ("a2", true), ("b1", false), ("b2", true)],
        Some(3),
    );
    check(3, 2, 8..12, &[("b1", false)], Some(3));
    check(12, 5, 5..6, &[("a1", false), ("a2", false)], Some(5));
}

#[test]
fn no_watermark_is_less_than_any() {
    let operator = operator([Some(5), None]);
    assert_eq!(share(&operator, 12, 3, 0).watermark, Some(5));
    assert_eq!(share(&operator, 12, 3, 1).watermark, None);
}
