//! How long a checkpoint of a million entries takes: full, an increment of 1 per cent, and back.
//!
//! `cargo run --release --package millrace-state --example storage_throughput -- URL`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use millrace_core::checkpoint::{CheckpointId, DELETED_COLUMN, GROUP_COLUMN, SubtaskSnapshot, TableDelta};
use millrace_core::key::KeyGroup;
use millrace_state::{CheckpointInfo, Checkpoints, Depth, Kind, OperatorSnapshot, Run, Storage};

const ROWS: u64 = 1_000_000;
const BATCH_ROWS: usize = 8_192;

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB)
}

fn table(rows: u64, full: bool) -> TableDelta {
    let keys: Vec<u64> = (0..rows).collect();
    let batch = |keys: &[u64]| {
        let groups: UInt32Array = keys
            .iter()
            .map(|key| Some(KeyGroup::of_hash(mix(*key), 128).0))
            .collect();
        let deleted = BooleanArray::from(vec![false; keys.len()]);
        let values: Int64Array = keys.iter().map(|key| Some((mix(*key) >> 24) as i64)).collect();
        let keys: Int64Array = keys.iter().map(|key| Some(*key as i64)).collect();
        let columns: [(&str, ArrayRef, bool); 4] = [
            (GROUP_COLUMN, Arc::new(groups), false),
            (DELETED_COLUMN, Arc::new(deleted), false),
            ("key", Arc::new(keys), false),
            ("value", Arc::new(values), false),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
    };
    TableDelta {
        full,
        cold: None,
        batches: keys.chunks(BATCH_ROWS).map(batch).collect(),
        live_rows: ROWS,
    }
}

fn main() -> millrace_core::Result<()> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory://throughput".to_owned());
    let storage = Storage::open(&url)?;
    let run = Run::new("throughput", "00", 0, std::process::id());
    let checkpoints = Checkpoints::create(&storage, run)?;
    let info = CheckpointInfo {
        kind: Kind::Checkpoint,
        parameters: [].into(),
        max_parallelism: 128,
        started_ms: 0,
        completed_ms: 0,
    };
    let shown = |what: &str, start: Instant, bytes: u64| {
        let ms = start.elapsed().as_secs_f64() * 1e3;
        println!("{what:36} {ms:8.1} ms {:8.1} MB", bytes as f64 / 1e6);
    };
    let changes = table(ROWS / 100, false);
    for (id, what, table) in [
        (1, "store, full", table(ROWS, true)),
        (2, "store, an increment of 1 per cent", changes),
        (3, "store, nothing changed", table(0, false)),
    ] {
        let subtask = SubtaskSnapshot {
            table: Some(table),
            ..SubtaskSnapshot::default()
        };
        let operators = vec![OperatorSnapshot {
            id: "count".to_owned(),
            name: "count".to_owned(),
            subtasks: vec![subtask],
            ..OperatorSnapshot::default()
        }];
        let start = Instant::now();
        let metadata = checkpoints.store(CheckpointId(id), &info, operators)?;
        shown(what, start, metadata.bytes());
    }
    let start = Instant::now();
    let latest = storage.open_latest("throughput", Depth::Contents)?;
    let restored = latest.found.expect("it was just stored");
    shown("open and verify", start, restored.metadata().bytes());
    let operator = restored.metadata().operator("count").expect("it was just stored");
    for parallelism in [1, 4] {
        let start = Instant::now();
        for subtask in 0..parallelism {
            black_box(restored.restore_task(operator, parallelism, subtask)?);
        }
        shown(
            &format!("read, for parallelism {parallelism}"),
            start,
            restored.metadata().bytes(),
        );
    }
    Ok(())
}
