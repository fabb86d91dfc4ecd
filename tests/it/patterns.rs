//! Patterns of events: killed halfway, on every backend, and what is refused.

use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text};

use crate::every_operator::{kill_twice, outputs};

const SINKS: usize = 7;

#[test]
fn patterns_go_on_at_another_parallelism() {
    kill_twice("patterns", SINKS, &[]);
}

#[test]
fn patterns_go_on_from_unaligned_checkpoints() {
    kill_twice("patterns", SINKS, &["--unaligned-checkpoints"]);
}

#[test]
fn patterns_go_on_with_state_on_disk() {
    kill_twice("patterns", SINKS, &["--state-backend=rocksdb", "--state-cache=1"]);
}

/// What is found does not depend on how rows come, in blocks or one by one.
#[test]
fn blocks_make_no_difference() {
    let run = |block_rows: usize| {
        let folder = tempfile::tempdir().expect("temporary folder");
        let options = jobs::blocks_of(block_rows);
        let pairs = [
            ("kind", "patterns"),
            ("rows", "3000"),
            ("output", as_text(folder.path())),
        ];
        jobs::succeed(Guest::Flows, options, &pairs);
        outputs(folder.path())
    };
    let expected = run(4_096);
    assert!(expected["steps"].len() > 50, "{}", expected["steps"].len());
    assert_eq!(run(1), expected);
    assert_eq!(run(37), expected);
}
