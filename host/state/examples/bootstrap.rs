//! Makes a savepoint from a Parquet table, for a job that counts by user:
//!
//! ```sh
//! cargo run --release --package millrace-state --example bootstrap -- savepoint
//! jobctl run --from savepoint pipeline.wasm
//! ```
//!
//! The table could come from anywhere; here it is made on the spot. `jobctl state import` does the same with the schemas
//! of a pipeline at hand.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use millrace_core::schema::{Declared, DeclaredState, KeyedKind, KeyedSchema};
use millrace_state::savepoint::{self, Writer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("where does the savepoint go?")?;

    // What a query has left: a column per field of the key, and one under the name of the state.
    let users: ArrayRef = Arc::new(StringArray::from(vec!["ada", "grace", "edsger"]));
    let counts: ArrayRef = Arc::new(Int64Array::from(vec![3, 1, 4]));
    let table = RecordBatch::try_from_iter([("user", users), ("count", counts)])?;
    let parquet = savepoint::to_parquet(&table.schema(), &[table])?;

    // What the operator keeps, as `jobctl inspect` shows it.
    let schema = KeyedSchema {
        kind: KeyedKind::Keyed,
        windows: None,
        key: vec![Declared::plain(Field::new("user", DataType::Utf8, false))],
        states: vec![DeclaredState {
            value: Declared::plain(Field::new("count", DataType::Int64, true)),
            migrations: Vec::new(),
            ttl: None,
            large: false,
            broadcast: false,
        }],
    };
    let mut writer = Writer::new(&url, "counts", 128, 0)?;
    writer.add_operator("counts", "count", &schema)?;
    writer.set_table("counts", "count", &savepoint::from_parquet(parquet)?)?;
    let manifest = writer.finish()?;
    println!("{} rows in {url}", manifest.operators[0].tables[0].rows);
    Ok(())
}
