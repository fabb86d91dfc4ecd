//! Prints ns per row of the key table: look-ups of random keys in blocks of 1,024 rows.
//!
//!     cargo run --release --package millrace-operators --example key_table_ns

use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema};
use millrace_operators::{KeyBatch, KeyTable};

const BLOCK_ROWS: usize = 1024;

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn run(name: &str, data_type: DataType, key_count: u64, column: impl Fn(&[u64]) -> ArrayRef) {
    let schema = Arc::new(Schema::new(vec![Field::new("key", data_type, false)]));
    let mut table = KeyTable::new(schema.clone(), 0).expect("the schema is a key's");
    let mut batch = KeyBatch::new(schema).expect("the schema is a key's");
    let (mut slots, mut fresh) = (Vec::new(), Vec::new());
    for round in ["fill", "find"] {
        let rows = if round == "fill" { key_count } else { 20_000_000 };
        let (mut spent, mut checksum, mut row) = (0, 0u64, 0);
        while row < rows {
            let key = |row| if round == "fill" { row } else { mix(row) % key_count };
            let keys = (row..row + BLOCK_ROWS as u64).map(key).collect::<Vec<_>>();
            let column = column(&keys);
            slots.clear();
            fresh.clear();
            let start = Instant::now();
            batch.load(&[column]).expect("the column fits");
            table.find_or_insert(&batch, 0..BLOCK_ROWS, &mut slots, &mut fresh);
            spent += start.elapsed().as_nanos();
            checksum += slots.iter().map(|&slot| u64::from(slot)).sum::<u64>();
            row += BLOCK_ROWS as u64;
        }
        let megabytes = table.memory_bytes() >> 20;
        println!(
            "{name:10} {key_count:9} keys {round} {:6.1} ns/row {megabytes:5} MB ({checksum})",
            spent as f64 / rows as f64
        );
    }
}

fn main() {
    for key_count in [10_000, 100_000, 1_000_000, 5_000_000] {
        run("int64", DataType::Int64, key_count, |keys| {
            Arc::new(Int64Array::from_iter_values(keys.iter().map(|&key| key as i64)))
        });
    }
    for key_count in [100_000, 1_000_000] {
        run("utf8", DataType::Utf8, key_count, |keys| {
            Arc::new(StringArray::from_iter_values(
                keys.iter().map(|key| format!("user-{key:07}")),
            ))
        });
    }
}
