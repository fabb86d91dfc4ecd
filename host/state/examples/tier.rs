//! What RocksDB does by itself for the reads and writes of a job whose keys are evenly drawn: the limit that
//! the state backend is measured against.
//!
//! `cargo run --release --example tier -- KEYS ROWS MEMORY_BYTES`: blocks of rows with random keys are read with
//! one multi-get, and as many other entries are written with one batch, in a database that holds all keys. What is read is
//! checked. `make bench ARGS="keyed --backend rocksdb ..."` does the same through a whole job.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is worth nothing")]

use millrace_core::backend::ByteRows;

/// Keys and values as an operator encodes them: group, tag, integer; and a tag, an integer and two empty lists.
fn entries(numbers: impl Iterator<Item = u64>) -> (ByteRows, ByteRows) {
    let (mut keys, mut values) = (ByteRows::default(), ByteRows::default());
    for number in numbers {
        keys.push_with(|bytes| {
            bytes.extend(((number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 57) as u16).to_be_bytes());
            bytes.push(1);
            bytes.extend(number.to_le_bytes());
        });
        values.push_with(|bytes| {
            bytes.push(1);
            bytes.extend(number.to_be_bytes());
            bytes.extend([1, 1]);
        });
    }
    (keys, values)
}

#[cfg(feature = "rocksdb")]
fn main() {
    use std::time::Instant;

    use millrace_core::backend::LowerTier;
    use millrace_state::tier::{RocksDb, RocksDbOptions};

    /// Rows of a block.
    const BLOCK: u64 = 2048;

    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u64>().unwrap());
    let keys = arguments.next().unwrap_or(5_000_000);
    let rows = arguments.next().unwrap_or(5_000_000);
    let memory_bytes = arguments.next().unwrap_or(32 << 20) as usize;

    let mut state = 0u64;
    let mut random = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % keys
    };

    let folder = tempfile::tempdir().unwrap();
    let database = RocksDb::open(RocksDbOptions {
        folder: folder.path().join("state"),
        memory_bytes,
        background_threads: 2,
    });
    let mut tier = database.unwrap().tier("tier").unwrap();
    let begin = Instant::now();
    for first in (0..keys).step_by(BLOCK as usize) {
        let (keys, values) = entries(first..keys.min(first + BLOCK));
        tier.put(&keys, &values).unwrap();
    }
    println!("filled with {keys} entries in {:.1} s", begin.elapsed().as_secs_f64());

    let (mut found, mut got) = (Vec::new(), ByteRows::default());
    let (mut reading, mut writing) = (0.0, 0.0);
    for _ in 0..rows / BLOCK {
        let mut block = (0..BLOCK).map(|_| random()).collect::<Vec<_>>();
        block.sort_unstable();
        block.dedup();
        let (keys, values) = entries(block.iter().copied());
        let begin = Instant::now();
        tier.get(&keys, &mut found, &mut got).unwrap();
        reading += begin.elapsed().as_secs_f64();
        assert!(
            found.iter().all(|found| *found) && got == values,
            "what was put comes back"
        );
        let (keys, values) = entries((0..BLOCK).map(|_| random()));
        let begin = Instant::now();
        tier.put(&keys, &values).unwrap();
        writing += begin.elapsed().as_secs_f64();
    }
    let blocks = rows / BLOCK * BLOCK;
    println!(
        "{blocks} reads and writes: {:.2} us a read, {:.2} us a write, {:.0} rows/s",
        reading * 1e6 / blocks as f64,
        writing * 1e6 / blocks as f64,
        blocks as f64 / (reading + writing)
    );
}

#[cfg(not(feature = "rocksdb"))]
fn main() {
    let _ = entries(0..1);
    eprintln!("this takes the feature `rocksdb`");
    std::process::exit(2);
}
