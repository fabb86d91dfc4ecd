//! A slow function holds up its source: what is between the two is bounded, however long the input.
//!
//! Rows between them are what the one has put out and the other not taken in. The source's count is read
//! first, so the difference can only be too small; if nothing held the source up, it would be far too large,
//! for the source takes nanoseconds for a row and the function ten microseconds.

use millrace_engine::JobOptions;
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{JobMetrics, blocks_of, number, start};

const ROWS: u64 = 20_000;
const BLOCK_ROWS: usize = 4;

/// Blocks that may wait in a slot's inbox or a queue, generously: several hundred for any pair of tasks.
const BLOCKS_MAX: u64 = 400;

fn check(kind: &str, from: &str, to: &str, parallelism: u32) {
    let options = JobOptions {
        parallelism,
        ..blocks_of(BLOCK_ROWS)
    };
    let rows = ROWS.to_string();
    let job = start(Guest::Flows, options, &[("kind", kind), ("rows", &rows)]);
    let mut looks = 0;
    let mut most = 0;
    while !job.is_finished() {
        let put_out = JobMetrics(job.tasks()).rows_out(from);
        let taken_in = JobMetrics(job.tasks()).rows_in(to);
        if taken_in > 0 && taken_in < ROWS / 2 {
            looks += 1;
            most = most.max(put_out.saturating_sub(taken_in));
        }
        std::thread::yield_now();
    }
    let report = job.wait().unwrap_or_else(|error| panic!("{kind}: {error}"));
    assert_eq!(number(&report, "out", "rows"), i128::from(ROWS));
    assert!(looks > 0, "{kind}: nobody looked while it ran");
    let bound = BLOCKS_MAX * u64::from(parallelism) * BLOCK_ROWS as u64;
    assert!(most < bound, "{kind}: {most} rows were under way, over {bound}");
}

#[test]
fn a_slow_function_holds_up_its_source_in_the_same_slot() {
    check("slow-function", "events", "slow", 1);
}

#[test]
fn a_slow_function_holds_up_its_source_across_slots() {
    check("slow-function", "events", "slow", 2);
}

#[test]
fn a_slow_subtask_holds_up_all_that_feed_it() {
    for parallelism in [1, 2] {
        check("slow-global", "quick", "slow", parallelism);
        check("slow-global", "events", "quick", parallelism);
    }
}
