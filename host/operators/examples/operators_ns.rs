//! Prints ns per row of the operators alone, with user code that does next to nothing.
//!
//!     cargo run --release --package millrace-operators --example operators_ns
//!
//! Rows come at 100 per ms of event time, in blocks of 1,024, with keys drawn evenly; the watermark follows
//! one second behind. Out-of-orderness is 0 or half a second.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use millrace_core::Result;
use millrace_core::block::{Block, Millis, WATERMARK_MAX};
use millrace_core::function::{
    Effects, KeyedFunction, Slot, StateFunction, TimerKind, TimerOperation, WindowFunction, touched,
};
use millrace_core::graph::{WindowAssigner, WindowDecl};
use millrace_operators::{KeyedOperator, WindowOperator};

const BLOCK_ROWS: usize = 1024;
const ROW_COUNT: usize = 10_000_000;

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn key_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false)]))
}

struct Rows {
    keys: [ArrayRef; 1],
    times: Vec<Millis>,
    block: Block,
    watermark: Millis,
}

fn rows(start: usize, key_count: u64, disorder: u64) -> Rows {
    let range = start as u64..(start + BLOCK_ROWS) as u64;
    let time = |row: u64| (row / 100) as Millis - (mix(row + 7) % (disorder + 1)) as Millis;
    let times = range.clone().map(time).collect::<Vec<_>>();
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(
        range.map(|row| (mix(row) % key_count) as i64),
    ));
    let batch = RecordBatch::try_new(key_schema(), vec![keys.clone()]).expect("one column of one schema");
    Rows {
        keys: [keys],
        times,
        block: Block::new(batch),
        watermark: (start as u64 / 100) as Millis - 1000,
    }
}

#[derive(Default)]
struct Windows {
    emitted: u64,
    merged: u64,
}

/// No snapshot is taken.
macro_rules! no_snapshots {
    ($function:ty) => {
        impl StateFunction for $function {
            fn export_state(&mut self, _: u32, _: &[Slot]) -> Result<ArrayRef> {
                unreachable!("no snapshot is taken")
            }

            fn import_state(&mut self, _: u32, _: &[Slot], _: &ArrayRef) -> Result<()> {
                unreachable!("nothing is restored")
            }

            fn drop_state(&mut self, _: &[Slot]) -> Result<()> {
                Ok(())
            }
        }
    };
}

no_snapshots!(Windows);
no_snapshots!(Timers);

impl WindowFunction for Windows {
    fn accumulate(&mut self, slots: &[Slot], _: &Block) -> Result<()> {
        std::hint::black_box(slots);
        Ok(())
    }

    fn merge(&mut self, targets: &[Slot], _: &[Slot]) -> Result<()> {
        self.merged += targets.len() as u64;
        Ok(())
    }

    fn emit(&mut self, slots: &[Slot], _: &[Millis], _: &[Millis], _: &[ArrayRef], _: bool) -> Result<()> {
        self.emitted += slots.len() as u64;
        Ok(())
    }
}

fn run_windows(name: &str, assigner: WindowAssigner, key_count: u64, disorder: u64) {
    let window = WindowDecl {
        assigner,
        allowed_lateness_ms: 0,
        late_ports: Vec::new(),
    };
    let mut operator = WindowOperator::new(key_schema(), &window).expect("a good window");
    let mut function = Windows::default();
    let mut spent = 0;
    for start in (0..ROW_COUNT).step_by(BLOCK_ROWS) {
        let rows = rows(start, key_count, disorder);
        let begin = Instant::now();
        operator
            .handle_block(&rows.keys, &rows.times, &rows.block, &mut function, &mut Vec::new())
            .expect("nothing here fails");
        operator.handle_watermark(rows.watermark);
        while operator.fire(&mut function).expect("nothing here fails") {}
        spent += begin.elapsed().as_nanos();
    }
    let (slots, memory) = (operator.slot_count(), operator.memory_bytes() >> 20);
    operator.handle_watermark(WATERMARK_MAX);
    while operator.fire(&mut function).expect("nothing here fails") {}
    let Windows { emitted, merged } = function;
    let ns = spent as f64 / ROW_COUNT as f64;
    println!(
        "{name:9} {key_count:8} keys, {disorder:3} ms out of order {ns:6.1} ns/row; {emitted} out, {merged} merged, {slots} slots, {memory} MB"
    );
}

/// Counts rows per key and sets one timer when a key is new; the timer clears it.
struct Timers {
    counts: Vec<u32>,
    time: Millis,
    fired: u64,
}

impl KeyedFunction for Timers {
    fn process(&mut self, _: u32, slots: &[Slot], _: &Block) -> Result<Effects> {
        let mut effects = Effects {
            touched: vec![touched::WRITTEN; slots.len()],
            ..Effects::default()
        };
        for (entry, &slot) in slots.iter().enumerate() {
            if slot as usize >= self.counts.len() {
                self.counts.resize((slot as usize + 1).next_power_of_two(), 0);
            }
            self.counts[slot as usize] += 1;
            if self.counts[slot as usize] == 1 {
                effects.timers.push(TimerOperation {
                    entry: entry as u32,
                    time: self.time + (entry / 100) as Millis + 10_000,
                    kind: TimerKind::EventTime,
                    set: true,
                });
            }
        }
        Ok(effects)
    }

    fn timers(&mut self, _: TimerKind, slots: &[Slot], _: &[Millis], _: &[ArrayRef]) -> Result<Effects> {
        self.fired += slots.len() as u64;
        slots.iter().for_each(|&slot| self.counts[slot as usize] = 0);
        Ok(Effects {
            touched: vec![touched::CLEARED; slots.len()],
            ..Effects::default()
        })
    }
}

fn run_timers(key_count: u64) {
    let mut operator = KeyedOperator::new(key_schema(), 1, false).expect("a good key");
    let mut function = Timers {
        counts: Vec::new(),
        time: 0,
        fired: 0,
    };
    let mut spent = 0;
    for start in (0..ROW_COUNT).step_by(BLOCK_ROWS) {
        let rows = rows(start, key_count, 0);
        function.time = rows.times[0];
        let begin = Instant::now();
        operator
            .handle_block(0, &rows.keys, &rows.block, &mut function)
            .expect("nothing here fails");
        operator.handle_watermark(rows.watermark);
        while operator.fire(&mut function).expect("nothing here fails") {}
        spent += begin.elapsed().as_nanos();
    }
    let ns = spent as f64 / ROW_COUNT as f64;
    let (slots, memory) = (operator.slot_count(), operator.memory_bytes() >> 20);
    println!(
        "timers    {key_count:8} keys {ns:6.1} ns/row; {} fired, {slots} slots, {memory} MB",
        function.fired
    );
}

fn main() {
    let tumbling = WindowAssigner::Tumbling {
        size_ms: 10_000,
        offset_ms: 0,
    };
    let sliding = WindowAssigner::Sliding {
        size_ms: 60_000,
        slide_ms: 5_000,
        offset_ms: 0,
    };
    for disorder in [0, 500] {
        run_windows("tumbling", tumbling, 10_000, disorder);
        run_windows("sliding", sliding, 10_000, disorder);
        run_windows("session", WindowAssigner::Session { gap_ms: 1000 }, 100_000, disorder);
    }
    run_timers(1_000_000);
}
