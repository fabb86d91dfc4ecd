//! Benchmarks of whole pipelines: user code in wasm, rows from the host's generator, results summed by the
//! sink and checked against known totals.
//!
//! One run prints one line of JSON. `--native` runs the same loop in plain native Rust on one thread: the
//! limit that the engine is measured against.

mod boundary;
mod known;
mod native;
mod nexmark;
mod pipeline;
mod restart;
mod tier;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use millrace_engine::CheckpointStatistics;
use serde::Serialize;

/// Runs one workload and prints one line of JSON.
#[derive(Debug, Clone, Parser)]
pub struct Arguments {
    /// What to run
    workload: Workload,
    /// Number of subtasks
    #[arg(long, default_value_t = 1)]
    parallelism: u32,
    /// Number of events [default: as in the table of known totals]
    #[arg(long)]
    rows: Option<u64>,
    /// Number of keys
    #[arg(long)]
    keys: Option<u64>,
    /// Events per ms of event time [default: 100; window-join: 2]
    #[arg(long)]
    per_ms: Option<u64>,
    /// Events per second of real time (latency)
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// Query: q0 to q8, q11, q12, q18 or q20; none: the events alone (nexmark)
    #[arg(long, default_value = "none")]
    query: String,
    /// Number of events: persons, auctions and bids (nexmark) [default: as in the table of known totals]
    #[arg(long)]
    events: Option<u64>,
    /// Events per second of event time (nexmark)
    #[arg(long, default_value_t = nexmark::EVENT_RATE)]
    event_rate: u64,
    /// Runs; the median and the spread are printed
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Rows per block
    #[arg(long)]
    block_rows: Option<usize>,
    /// Take a checkpoint every so many ms, in a temporary folder
    #[arg(long, value_name = "MS", conflicts_with = "native")]
    checkpoint_ms: Option<u64>,
    /// Let checkpoints overtake rows after so many ms; 0: at once
    #[arg(long, value_name = "MS", requires = "checkpoint_ms")]
    aligned_timeout_ms: Option<u64>,
    /// Where keyed state is
    #[arg(long, value_enum, default_value_t = BackendName::Memory, conflicts_with = "native")]
    backend: BackendName,
    /// Memory of each slot for guest, tables of keys and RocksDB (rocksdb)
    #[arg(long, value_name = "BYTES", default_value_t = 512 << 20)]
    cache_bytes: usize,
    /// Memory of each instance, MiB; above it entries go to the host's memory
    #[arg(long, value_name = "MIB", default_value_t = 4096, conflicts_with = "native")]
    memory_limit: usize,
    /// Draw keys by Zipf's law with this exponent instead of evenly (keyed, rocksdb)
    #[arg(long, value_name = "EXPONENT", conflicts_with = "native")]
    zipf: Option<f64>,
    /// Give state a time to live of so many ms; the sum is known only if nothing expires (keyed, timer)
    #[arg(long, value_name = "MS", conflicts_with = "native")]
    ttl_ms: Option<u64>,
    /// Run the native loop instead
    #[arg(long)]
    native: bool,
    /// Also print per-task times to standard error
    #[arg(long)]
    tasks: bool,
    /// The compiled pipeline
    #[arg(
        long,
        env = "MILLRACE_BENCH_PIPELINE",
        default_value = "benches/guest/bench-guest.wasm"
    )]
    pipeline: PathBuf,
    /// The compiled pipeline of nexmark
    #[arg(
        long,
        env = "MILLRACE_BENCH_NEXMARK",
        default_value = "examples/nexmark/nexmark.wasm"
    )]
    nexmark_pipeline: PathBuf,
}

/// The workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// value * 31 + 7, kept if not divisible by 3
    Stateless,
    /// Running sum per key, every sum emitted
    Keyed,
    /// The same in large maps of 16 keys: with 100 keys most entries are in the call's cache, with 100 million most are new
    LargeMap,
    /// Count, sum and max per key in windows of 10 s
    Tumbling,
    /// The same with a trigger, so that the guest does it over keyed state and timers
    Triggered,
    /// The same in windows of 10 s of processing time; those that are open at the end fire then
    ProcessingTime,
    /// The same in windows of 100 rows
    CountWindow,
    /// The same in windows of 60 s every 5 s
    Sliding,
    /// The same in sessions with a gap of 1 s
    Session,
    /// Two streams joined in windows of 10 s: with 2 events per ms and 10,000 keys a key has one row a window on each side, about
    WindowJoin,
    /// A pattern of three steps within 10 s, of which every row is one
    Cep,
    /// A timer 10 s after a key's first event emits the count
    Timer,
    /// A running sum per key behind which 20 us are spent on each row: everything before it backs up
    Slow,
    /// A query of the Nexmark benchmark, all tables made with all their columns
    Nexmark,
    /// Time from generator to sink through one key_by
    Latency,
    /// Time from a cached pipeline to its first row
    Startup,
    /// From a trap to the next row, with a checkpoint to go on from
    Restart,
    /// The same where keys are entries of large maps, a hundred each
    RestartLargeMap,
    /// Keyed sums in RocksDB, and what RocksDB does by itself for their reads and writes
    Tier,
    /// Cost of writing, checking and reading blocks at the boundary, and of an instance
    Boundary,
}

/// State backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// In memory
    Memory,
    /// In RocksDB, with the hot part in memory
    Rocksdb,
}

impl Arguments {
    fn per_ms(&self) -> u64 {
        let default = if self.workload == Workload::WindowJoin { 2 } else { 100 };
        self.per_ms.unwrap_or(default)
    }
}

impl Workload {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    fn rows(self) -> u64 {
        match self {
            Workload::Stateless => 40_000_000,
            Workload::Keyed | Workload::Tumbling | Workload::WindowJoin => 20_000_000,
            Workload::Sliding | Workload::Session => 5_000_000,
            Workload::Cep
            | Workload::Timer
            | Workload::Triggered
            | Workload::ProcessingTime
            | Workload::CountWindow => 10_000_000,
            Workload::LargeMap => 2_000_000,
            Workload::RestartLargeMap => 4_000_000,
            Workload::Restart => 8_000_000,
            Workload::Nexmark => nexmark::EVENTS,
            Workload::Latency => 500_000,
            Workload::Slow => 300_000,
            Workload::Startup | Workload::Tier | Workload::Boundary => 1,
        }
    }

    fn keys(self) -> u64 {
        match self {
            Workload::Tumbling | Workload::Sliding | Workload::Triggered | Workload::WindowJoin => 10_000,
            Workload::ProcessingTime | Workload::CountWindow => 10_000,
            Workload::Timer | Workload::Restart | Workload::RestartLargeMap => 1_000_000,
            _ => 100_000,
        }
    }
}

/// One run's result.
#[derive(Debug, Clone)]
pub struct Totals {
    seconds: f64,
    out_rows: u64,
    out_sum: i128,
    /// Longest time without output, where the sink measures it.
    gap_ms_max: Option<f64>,
    checkpoints: Option<CheckpointStatistics>,
}

#[derive(Debug, Serialize)]
struct Line {
    workload: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    native: bool,
    parallelism: u32,
    rows: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<u64>,
    seconds: f64,
    rows_per_s: f64,
    out_rows: u64,
    out_sum: i64,
    peak_rss_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap_ms_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoints: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_bytes: Option<u64>,
    /// The longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight_bytes: Option<u64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let workload = arguments.workload;
    match workload {
        Workload::Latency => return pipeline::latency(&arguments),
        Workload::Startup => return pipeline::startup(&arguments),
        Workload::Restart | Workload::RestartLargeMap => return restart::run(&arguments),
        Workload::Tier => return tier::run(&arguments),
        Workload::Boundary => return boundary::run(&arguments),
        _ => {}
    }
    let rows = arguments.events.or(arguments.rows);
    let rows = rows.unwrap_or_else(|| workload.rows());
    let keys = arguments.keys.unwrap_or_else(|| workload.keys());
    let mut all = Vec::new();
    for _ in 0..arguments.runs.max(1) {
        let totals = match workload {
            Workload::Nexmark => nexmark::run(&arguments, rows)?,
            _ if arguments.native => native::run(workload, rows, keys, arguments.per_ms()),
            _ => pipeline::run(&arguments, rows, keys)?,
        };
        known::check(&arguments, rows, keys, &totals)?;
        all.push(totals);
    }
    all.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let median = &all[all.len() / 2];
    let same = |totals: &Totals| (totals.out_rows, totals.out_sum) == (median.out_rows, median.out_sum);
    if is_ordered(&arguments) && !all.iter().all(same) {
        bail!("runs of the same workload gave different results: {all:?}");
    }
    let line = line(&arguments, rows, keys, &all)?;
    println!("{}", serde_json::to_string(&line)?);
    Ok(())
}

/// Whether two runs give the same. Several subtasks feed a key in the order in which the threads happen to run: running sums
/// then differ, as do the moments at which timers fire, and the windows of the clock.
fn is_ordered(arguments: &Arguments) -> bool {
    let alone = arguments.parallelism == 1;
    match arguments.workload {
        Workload::Timer | Workload::ProcessingTime => false,
        Workload::Keyed | Workload::LargeMap | Workload::Slow => alone && arguments.ttl_ms.is_none(),
        Workload::Nexmark => nexmark::is_ordered(&arguments.query, alone),
        _ => arguments.ttl_ms.is_none(),
    }
}

/// What is printed of runs, from the fastest to the slowest.
fn line(arguments: &Arguments, rows: u64, keys: u64, all: &[Totals]) -> Result<Line> {
    let median = &all[all.len() / 2];
    let several = all.len() > 1;
    let is_nexmark = arguments.workload == Workload::Nexmark;
    Ok(Line {
        workload: arguments.workload.name(),
        query: is_nexmark.then(|| arguments.query.clone()),
        native: arguments.native,
        parallelism: arguments.parallelism,
        rows,
        keys: (!is_nexmark).then_some(keys),
        seconds: median.seconds,
        rows_per_s: (rows as f64 / median.seconds).round(),
        out_rows: median.out_rows,
        out_sum: i64::try_from(median.out_sum).context("the sum leaves an i64")?,
        peak_rss_bytes: peak_rss_bytes()?,
        seconds_min: several.then(|| all[0].seconds),
        seconds_max: several.then(|| all[all.len() - 1].seconds),
        gap_ms_max: median.gap_ms_max,
        checkpoints: median.checkpoints.as_ref().map(|taken| taken.completed),
        checkpoint_bytes: median.checkpoints.as_ref().map(|taken| taken.last_bytes),
        checkpoint_seconds: median
            .checkpoints
            .as_ref()
            .map(|taken| taken.longest_duration.as_secs_f64()),
        in_flight_bytes: median.checkpoints.as_ref().map(|taken| taken.most_in_flight_bytes),
    })
}

fn peak_rss_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .context("no VmHWM in /proc/self/status")?;
    let kib: u64 = line.split_whitespace().nth(1).context("VmHWM has no number")?.parse()?;
    Ok(kib * 1024)
}
