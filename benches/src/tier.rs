//! State on disk against what the disk's database does by itself: keyed sums in RocksDB through a whole job, and then,
//! in the same process, the reads and writes that such a job must make of RocksDB, and nothing else.
//!
//! The second part plays the first one's rows: of each block the keys that are not in memory are read with one
//! multi-get, and as many random ones leave with one batched write. What was read is checked.

use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use millrace_core::backend::{ByteRows, LowerTier};
use millrace_engine::metrics::TaskMetrics;
use millrace_state::tier::{RocksDb, RocksDbOptions};
use serde_json::json;

use crate::native::mix;
use crate::{Arguments, BackendName, Workload, known, pipeline};

/// Entries leave memory in batches of as many.
const LEAVING: usize = 1024;

/// RocksDB's share of the memory in a job.
const ROCKSDB_PART: usize = 4;

/// Not in memory.
const BELOW: u32 = u32::MAX;

/// Runs both and prints one line of JSON.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (rows, keys) = (
        arguments.rows.unwrap_or(20_000_000),
        arguments.keys.unwrap_or(5_000_000),
    );
    let arguments = Arguments {
        workload: Workload::Keyed,
        backend: BackendName::Rocksdb,
        parallelism: 1,
        zipf: None,
        ..arguments.clone()
    };
    let report = pipeline::execute(&arguments, rows, keys, 0)?;
    let totals = pipeline::totals(&arguments, &report)?;
    known::check(&arguments, rows, keys, &totals)?;
    let resident: u64 = report
        .tasks
        .iter()
        .map(|task| TaskMetrics::total(task, |metrics| &metrics.state_resident))
        .sum();
    ensure!(
        resident < keys,
        "all {keys} keys stay in memory: nothing is to be measured"
    );
    let memory_bytes = arguments.cache_bytes / ROCKSDB_PART;
    let block = arguments
        .block_rows
        .unwrap_or(millrace_engine::JobOptions::default().block_rows);
    let bare = Bare::open(memory_bytes, keys as usize, resident as usize)?.play(rows, block)?;
    let bare_seconds = bare.reading + bare.writing;
    let line = json!({
        "workload": "tier", "rows": rows, "keys": keys, "cache_bytes": arguments.cache_bytes, "resident": resident,
        "seconds": totals.seconds, "rows_per_s": (rows as f64 / totals.seconds).round(),
        "reads": bare.reads, "writes": bare.writes, "bare_seconds": bare_seconds,
        "bare_read_us": bare.reading * 1e6 / bare.reads as f64, "bare_write_us": bare.writing * 1e6 / bare.writes as f64,
        "share_of_bare": bare_seconds / totals.seconds,
    });
    println!("{line}");
    Ok(())
}

/// RocksDB alone, and which keys would be in memory.
struct Bare {
    tier: Box<dyn LowerTier>,
    /// Where each key is among the resident ones.
    places: Vec<u32>,
    resident: Vec<u32>,
    resident_max: usize,
    /// Sum of each key: what is to be read.
    sums: Vec<u64>,
    seed: u64,
    reads: u64,
    writes: u64,
    reading: f64,
    writing: f64,
}

impl Bare {
    fn open(memory_bytes: usize, keys: usize, resident_max: usize) -> Result<Self> {
        let database = RocksDb::open(RocksDbOptions {
            folder: pipeline::folder("bare"),
            memory_bytes,
            background_threads: 2,
        });
        let tier = database.and_then(|database| database.tier("bare"));
        Ok(Bare {
            tier: Box::new(tier.map_err(|error| anyhow!("{error}"))?),
            places: vec![BELOW; keys],
            resident: Vec::new(),
            resident_max,
            sums: vec![0; keys],
            seed: 0,
            reads: 0,
            writes: 0,
            reading: 0.0,
            writing: 0.0,
        })
    }

    fn play(mut self, rows: u64, block: usize) -> Result<Self> {
        let keys = self.places.len() as u64;
        for first in (0..rows).step_by(block) {
            let indices = first..rows.min(first + block as u64);
            let missing = indices.clone().map(|index| (mix(index) % keys) as u32);
            let mut missing = missing
                .filter(|key| self.places[*key as usize] == BELOW)
                .collect::<Vec<_>>();
            missing.sort_unstable();
            missing.dedup();
            self.read(&missing)?;
            for index in indices {
                self.sums[(mix(index) % keys) as usize] += index % 1000 + 1;
            }
            while self.resident.len() > self.resident_max {
                self.evict()?;
            }
        }
        std::fs::remove_dir_all(pipeline::folder("bare")).context("files of the benchmark")?;
        Ok(self)
    }

    fn read(&mut self, missing: &[u32]) -> Result<()> {
        let mut keys = ByteRows::default();
        missing.iter().for_each(|key| push_key(&mut keys, *key));
        let (mut found, mut values) = (Vec::new(), ByteRows::default());
        let begin = Instant::now();
        self.tier
            .get(&keys, &mut found, &mut values)
            .map_err(|error| anyhow!("{error}"))?;
        self.reading += begin.elapsed().as_secs_f64();
        self.reads += missing.len() as u64;
        for ((&key, found), value) in missing.iter().zip(found).zip(values.iter()) {
            let sum = self.sums[key as usize];
            ensure!(
                found == (sum > 0),
                "key {key} is there, or not, against all expectation"
            );
            ensure!(!found || value[1..9] == sum.to_be_bytes(), "key {key} has another sum");
            self.places[key as usize] = self.resident.len() as u32;
            self.resident.push(key);
        }
        Ok(())
    }

    fn evict(&mut self) -> Result<()> {
        let count = LEAVING.min(self.resident.len());
        let (mut keys, mut values) = (ByteRows::default(), ByteRows::default());
        for _ in 0..count {
            self.seed += 1;
            let at = (mix(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)) % self.resident.len() as u64) as usize;
            let key = self.resident.swap_remove(at);
            if let Some(moved) = self.resident.get(at) {
                self.places[*moved as usize] = at as u32;
            }
            self.places[key as usize] = BELOW;
            push_key(&mut keys, key);
            values.push_with(|bytes| {
                bytes.push(1);
                bytes.extend(self.sums[key as usize].to_be_bytes());
                bytes.extend([1, 1]);
            });
        }
        let begin = Instant::now();
        self.tier.put(&keys, &values).map_err(|error| anyhow!("{error}"))?;
        self.writing += begin.elapsed().as_secs_f64();
        self.writes += count as u64;
        Ok(())
    }
}

/// As an operator encodes it: key group, tag, integer.
fn push_key(keys: &mut ByteRows, key: u32) {
    keys.push_with(|bytes| {
        bytes.extend(((u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 57) as u16).to_be_bytes());
        bytes.push(1);
        bytes.extend(u64::from(key).to_be_bytes());
    });
}
