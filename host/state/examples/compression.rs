//! What compression of layers costs and saves: a million rows of (group, key, value), as a table hands them over.
//!
//! `cargo run --release --package millrace-state --example compression`

use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow_ipc::CompressionType;
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use millrace_core::key::KeyGroup;

const ROWS: u64 = 1_000_000;
const BATCH_ROWS: u64 = 8_192;
const REPEATS: usize = 7;

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB)
}

/// Keys as they come (numbers of customers in some order), values as counts or sums are.
fn batches(key: fn(u64) -> i64, value: fn(u64) -> i64) -> Vec<RecordBatch> {
    let starts = (0..ROWS).step_by(BATCH_ROWS as usize);
    let batch = |start: u64| {
        let rows = start..ROWS.min(start + BATCH_ROWS);
        let keys: Int64Array = rows.clone().map(key).collect::<Vec<_>>().into();
        let groups = keys
            .values()
            .iter()
            .map(|key| KeyGroup::of_hash(mix(*key as u64), 128).0);
        let groups: UInt32Array = groups.collect::<Vec<_>>().into();
        let values: Int64Array = rows.map(value).collect::<Vec<_>>().into();
        let columns: [(&str, ArrayRef); 3] = [
            ("$group", Arc::new(groups)),
            ("key", Arc::new(keys)),
            ("value", Arc::new(values)),
        ];
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    };
    starts.map(batch).collect()
}

fn encode(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default()
        .try_with_compression(compression)
        .expect("built in");
    let mut writer =
        FileWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).expect("memory takes it");
    for batch in batches {
        writer.write(batch).expect("memory takes it");
    }
    writer.into_inner().expect("memory takes it")
}

fn median<T>(run: impl Fn() -> T) -> Duration {
    let mut times: Vec<Duration> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed()
        })
        .collect();
    times.sort();
    times[REPEATS / 2]
}

fn main() {
    let ordered: fn(u64) -> i64 = |row| row as i64;
    let hashed: fn(u64) -> i64 = |row| mix(row) as i64;
    let small: fn(u64) -> i64 = |row| (mix(row + 7) % 1_000) as i64;
    let sum: fn(u64) -> i64 = |row| (mix(row + 9) >> 24) as i64;
    println!(
        "{:24} {:12} {:>8} {:>10} {:>10}",
        "table", "compression", "MB", "write ms", "read ms"
    );
    for (name, batches) in [
        ("ordered keys, counts", batches(ordered, small)),
        ("ordered keys, sums", batches(ordered, sum)),
        ("hashed keys, counts", batches(hashed, small)),
        ("hashed keys, sums", batches(hashed, sum)),
    ] {
        for (compression, shown) in [
            (None, "none"),
            (Some(CompressionType::LZ4_FRAME), "lz4"),
            (Some(CompressionType::ZSTD), "zstd"),
        ] {
            let bytes = encode(&batches, compression);
            let write = median(|| encode(&batches, compression));
            let read = median(|| {
                let reader = FileReader::try_new(Cursor::new(&bytes), None).expect("it was just written");
                reader
                    .map(|batch| batch.expect("it was just written").num_rows())
                    .sum::<usize>()
            });
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let mb = bytes.len() as f64 / 1e6;
            println!("{name:24} {shown:12} {mb:8.1} {:10.1} {:10.1}", ms(write), ms(read));
        }
    }
}
