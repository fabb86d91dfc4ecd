//! A simulator of checkpoints: the real coordinator, aligners, restarts and watermarks in random jobs under random
//! failures, in virtual time. One seed is one run, byte for byte.
//!
//! Jobs are small, but have all that matters: unions, keyed, forward, rebalance and broadcast edges, windows, bounded
//! sources of several splits, several sinks with the two-phase protocol, channels that are short and slow, checkpoints
//! that are aligned, unaligned, or unaligned after a while, other parallelisms after restarts; and requests at any
//! moment: savepoints, stops that are resumed, with savepoints and drained, cancels, signals. What must hold
//! ([`world`]): what is committed equals
//! what a run without failures gives (at least once: covers it), whatever was prepared is committed or gone, the job
//! ends once failures stop, no restart goes behind what was committed, and each request comes to one end.
//!
//! `make simulate SEEDS=0..100000` runs more. A failure prints its seed and the last lines of its trace.

#![forbid(unsafe_code)]

mod attempt;
mod job;
mod outside;
mod process;
mod steps;
mod trace;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use trace::Trace;
use world::{Fault, Met, Point, Sabotage};

/// Seeds of `make test`.
const SEEDS: Range<u64> = 0..8_000;

/// Runs seeds on all cores; says what they met.
fn simulate(seeds: Range<u64>) -> Met {
    let next = AtomicU64::new(seeds.start);
    let met = Mutex::new(Met::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            let mut own = Met::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    break;
                }
                match catch_unwind(|| world::run(seed, Sabotage::Nothing, &mut Trace::new(false))) {
                    Ok(of_run) => own.merge(of_run),
                    Err(_) => explain(seed),
                }
            }
            met.lock().expect("no thread panics with it").merge(own);
        };
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    met.into_inner().expect("no thread panicked with it")
}

/// Runs a seed that failed once more, with the end of its trace.
fn explain(seed: u64) -> ! {
    let mut trace = Trace::new(true);
    let again = catch_unwind(AssertUnwindSafe(|| world::run(seed, Sabotage::Nothing, &mut trace)));
    let again = if again.is_err() {
        "fails"
    } else {
        "does not fail again: it is not one run"
    };
    panic!(
        "seed {seed} {again}; its trace (hash {:016x}) ends with\n{}",
        trace.hash(),
        trace.tail()
    );
}

#[test]
fn random_jobs_survive_random_failures() {
    let met = simulate(SEEDS);
    let mut missing = Vec::new();
    for point in [
        Point::Anywhere,
        Point::Prepared,
        Point::Acknowledged,
        Point::AllAcknowledged,
        Point::Durable,
        Point::Complete,
        Point::Committing,
        Point::Restoring,
        Point::RestoredCommits,
    ] {
        for fault in [Fault::Subtask, Fault::Process] {
            if met.faults.get(&(point, fault)).is_none_or(|times| *times < 20) {
                missing.push(format!("{fault:?} at {point:?}"));
            }
        }
    }
    for event in [
        "aborted: job failed",
        "aborted: timeout",
        "aborted: declined",
        "aborted: store failed",
        "aborted: subsumed",
        "complete: periodic",
        "complete: savepoint",
        "complete: stop",
        "complete: final",
        "failed for good",
        "job failed by checkpoints",
        "overtaken",
        "rows in flight",
        "settled",
        "rescaled",
        "cancelled",
        "drained",
        "not restarted",
        "operation completed",
        "operation failed",
        "refused",
        "store failed and was not there",
    ] {
        if met.events.get(event).is_none_or(|times| *times < 20) {
            missing.push(event.to_owned());
        }
    }
    assert!(missing.is_empty(), "hardly ever met: {missing:?}; met: {met:?}");
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..50 {
        let hash = || {
            let mut trace = Trace::new(false);
            world::run(seed, Sabotage::Nothing, &mut trace);
            trace.hash()
        };
        assert_eq!(hash(), hash(), "seed {seed}");
    }
}

/// What is broken is found within some hundred seeds.
#[test]
fn the_simulator_can_fail() {
    for sabotage in [
        Sabotage::NoBlocking,
        Sabotage::CompleteBeforeStored,
        Sabotage::CommitBeforeComplete,
        Sabotage::CommitTooMuch,
        Sabotage::ForgetDiscards,
        Sabotage::SkipARow,
        Sabotage::ForgetInFlight,
    ] {
        let fails = |seed: &u64| {
            let run = || world::run(*seed, sabotage, &mut Trace::new(false));
            catch_unwind(run).is_err()
        };
        let first = (0..500).find(fails);
        let first = first.unwrap_or_else(|| panic!("{sabotage:?} goes unnoticed"));
        println!("{sabotage:?} is noticed by seed {first}");
    }
}

/// `make simulate`: the seeds in `SEEDS`, as `from..to`.
#[test]
#[ignore = "runs as long as it is told to"]
fn more_seeds() {
    let text = std::env::var("SEEDS").expect("SEEDS=from..to");
    let bounds = text
        .split_once("..")
        .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let (from, to) = bounds.expect("SEEDS=from..to");
    let met = simulate(from..to);
    println!("{} runs met {:#?}", to - from, met.events);
    met.faults
        .iter()
        .for_each(|((point, fault), times)| println!("{fault:?} at {point:?}: {times}"));
    println!("hash of their traces: {:016x}", met.traces);
}
