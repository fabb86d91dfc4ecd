//! What a row costs at the boundary, without any function: writing a block for the guest, checking and
//! reading one from the guest, and making an instance.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use millrace_core::block::Block;
use millrace_wasm::codec::{self, Wire};
use millrace_wasm::{Limits, Runtime};
use serde_json::{Value, json};

use crate::Arguments;

const ROWS: usize = 2_048;
const ROUNDS: usize = 2_000;
const INSTANCES: usize = 1_000;
const BYTES_MAX: usize = 64 << 20;

/// Prints one line with all costs.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let line = json!({
        "workload": "boundary",
        "rows_per_block": ROWS,
        "two_integers": block_costs(&integers()?)?,
        "six_fields_two_strings": block_costs(&six_fields()?)?,
        "instance_us": instance_us(arguments)?,
    });
    println!("{line}");
    Ok(())
}

fn integers() -> Result<Block> {
    let column =
        |factor: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(|i| i * factor))) };
    Ok(Block::new(RecordBatch::try_from_iter([
        ("key", column(7)),
        ("value", column(1)),
    ])?))
}

fn six_fields() -> Result<Block> {
    let column =
        |factor: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(|i| i * factor))) };
    let text = |prefix: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            (0..ROWS).map(|i| format!("{prefix}{i:07}")),
        ))
    };
    let amounts: ArrayRef = Arc::new(Float64Array::from_iter_values((0..ROWS).map(|i| i as f64 * 0.5)));
    Ok(Block::new(RecordBatch::try_from_iter([
        ("id", column(1)),
        ("time", column(1_000)),
        ("status", column(3)),
        ("amount", amounts),
        ("user", text("user-")),
        ("url", text("/catalog/item/000")),
    ])?))
}

/// Median ns per row of writing, and of checking and reading, a block.
fn block_costs(block: &Block) -> Result<Value> {
    let schema = block.rows.schema();
    let mut wire = Wire {
        rows: 0,
        data: Vec::new(),
        ends: Vec::new(),
    };
    let (mut writing, mut checking) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        codec::encode(black_box(block), false, &mut wire);
        writing.push(start.elapsed());
        let lifted = wire.clone();
        let start = Instant::now();
        let read =
            codec::decode(lifted, &schema, false, None, BYTES_MAX).map_err(|malformed| anyhow!("{malformed}"))?;
        checking.push(start.elapsed());
        ensure!(read.rows == block.rows, "a block changed on its way");
    }
    let median = |mut times: Vec<std::time::Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_nanos() as f64 / ROWS as f64
    };
    Ok(json!({ "write_ns_per_row": median(writing), "check_and_read_ns_per_row": median(checking) }))
}

/// Median time to make an instance of the benchmarks' pipeline.
fn instance_us(arguments: &Arguments) -> Result<f64> {
    let bytes = std::fs::read(&arguments.pipeline).with_context(|| format!("{}", arguments.pipeline.display()))?;
    let runtime = Runtime::new(Limits::default(), None).map_err(|error| anyhow!("{error}"))?;
    let pipeline = runtime.load(&bytes).map_err(|error| anyhow!("{error}"))?;
    let mut times = Vec::new();
    for _ in 0..INSTANCES {
        let start = Instant::now();
        let instance = pipeline
            .instantiate(0, Arc::new(|_, _| ()))
            .map_err(|error| anyhow!("{error}"))?;
        times.push(start.elapsed());
        drop(black_box(instance));
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_nanos() as f64 / 1_000.0)
}
