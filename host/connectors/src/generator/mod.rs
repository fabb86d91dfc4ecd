//! The `generator` source: rows computed from their index.
//!
//! Split s of p makes the rows with index i mod p = s, in order, so any parallelism makes the same rows and
//! a position is simply the next index. With a `rate` a row is due at index / rate seconds after the job's
//! start and is not given earlier; a job that fell behind catches up. A reader opened at a position whose
//! row would be due only later (the clock is that of a new run) takes its first poll as that row's due time.

mod column;
mod expression;
mod kernel;
mod zipf;

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use millrace_core::connector::{
    Boundedness, Connector, Elapsed, Options, Poll, Position, Rows, Sink, SinkContext, Source, Split, SplitReader,
    SubtaskContext,
};
use millrace_core::{Error, Result};

use crate::interleaved::Interleaved;
use column::Column;
use expression::INDEX_END;
use kernel::{Indices, Stepper};

pub(crate) use expression::mix;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Connector kind `generator`.
pub(crate) struct GeneratorConnector;

impl Connector for GeneratorConnector {
    fn kind(&self) -> &'static str {
        "generator"
    }

    fn source(&self, options: Options, schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(Some(Arc::new(Generator::new(options, schema)?)))
    }

    fn sink(&self, _: Options, _: SchemaRef, _: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        Ok(None)
    }
}

#[derive(Clone)]
struct Generator {
    schema: SchemaRef,
    columns: Arc<[Column]>,
    rows: Option<u64>,
    rate: Option<u64>,
    seed: u64,
}

impl Generator {
    fn new(mut options: Options, schema: SchemaRef) -> Result<Self> {
        let rows = options.parsed("rows", "a number of rows")?;
        let rate = options.parsed("rate", "a number of rows per second")?;
        if rate == Some(0) {
            return Err(Error::user(
                "CN0003",
                "option `rate` is `0`, not a number of rows per second above 0",
            ));
        }
        let seed = options.parsed("seed", "a number from 0 to 2^64 - 1")?.unwrap_or(0);
        let mut expressions = options.prefixed("column.");
        options.finish()?;
        let mut columns = Vec::new();
        for field in schema.fields() {
            let found = expressions.iter().position(|(name, _)| name == field.name());
            let Some(found) = found else {
                let name = field.name();
                return Err(Error::user(
                    "CN0106",
                    format!("column `{name}` has no expression: give option `column.{name}`"),
                ));
            };
            columns.push(Column::parse(field, &expressions.swap_remove(found).1)?);
        }
        if let Some((name, _)) = expressions.first() {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::user(
                "CN0106",
                format!(
                    "option `column.{name}`: the schema has no such column; it has: {}",
                    names.join(", ")
                ),
            ));
        }
        Ok(Generator {
            schema,
            columns: columns.into(),
            rows,
            rate,
            seed,
        })
    }
}

impl Source for Generator {
    fn boundedness(&self) -> Boundedness {
        match self.rows {
            Some(_) => Boundedness::Bounded,
            None => Boundedness::Unbounded,
        }
    }

    fn splits(&self, parallelism: u32) -> Result<Vec<Split>> {
        Ok(Interleaved::splits(parallelism))
    }

    fn open(&self, split: &Split, _context: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        let place = Interleaved::open(split, "a generator")?;
        Ok(Box::new(Reader {
            generator: self.clone(),
            place,
            origin: if place.resumed { None } else { Some(0) },
        }))
    }
}

struct Reader {
    generator: Generator,
    place: Interleaved,
    /// When row 0 is due, in ns on the job's clock, possibly before its start; unknown until the first poll
    /// after a restart.
    origin: Option<i128>,
}

impl Reader {
    /// ns from row 0's due time to that of the row with this index.
    fn due_after(index: u64, rate: u64) -> u128 {
        u128::from(index) * u128::from(NANOS_PER_SECOND) / u128::from(rate)
    }

    /// Number of rows to make now, or the time to wait for the next.
    fn due(&mut self, rate: u64, now: Elapsed, rows_max: usize) -> std::result::Result<usize, Duration> {
        let now = now.as_nanos() as i128;
        let next_due = Self::due_after(self.place.next, rate) as i128;
        let origin = *self.origin.get_or_insert((now - next_due).min(0));
        if origin + next_due > now {
            let wait = u64::try_from(origin + next_due - now).unwrap_or(u64::MAX);
            return Err(Duration::from_nanos(wait));
        }
        // Row i is due once i * 10^9 / rate, rounded down, has passed: i * 10^9 < (passed + 1) * rate.
        let passed = (now - origin) as u128;
        let due_end = ((passed + 1) * u128::from(rate)).div_ceil(u128::from(NANOS_PER_SECOND));
        let due_rows = (due_end - u128::from(self.place.next)).div_ceil(u128::from(self.place.stride));
        Ok(due_rows.min(rows_max as u128) as usize)
    }

    /// Due times of rows, as they stand in a `now` column.
    fn due_times(&self, indices: Indices, now: Elapsed) -> Vec<u64> {
        let Some(rate) = self.generator.rate else {
            return vec![now.as_nanos() as u64; indices.count];
        };
        let step = u128::from(indices.stride) * u128::from(NANOS_PER_SECOND);
        let first = u128::from(indices.first) * u128::from(NANOS_PER_SECOND);
        let divisor = u128::from(rate);
        let stepper = Stepper {
            quotient: ((first / divisor) as u64).wrapping_add(self.origin.unwrap_or(0) as u64),
            remainder: (first % divisor) as u64,
            quotient_step: (step / divisor) as u64,
            remainder_step: (step % divisor) as u64,
            divisor: rate,
        };
        stepper.quotients(indices.count)
    }
}

impl SplitReader for Reader {
    fn poll(&mut self, rows_max: usize, now: Elapsed) -> Result<Poll> {
        let end = self.generator.rows.unwrap_or(INDEX_END).min(INDEX_END);
        if self.place.next >= end {
            return Ok(Poll::End);
        }
        let mut count = self.place.count(end, rows_max);
        if let Some(rate) = self.generator.rate {
            match self.due(rate, now, count) {
                Ok(due) => count = due,
                Err(wait) => return Ok(Poll::Pending { wake_after: Some(wait) }),
            }
        }
        let indices = Indices {
            first: self.place.next,
            stride: self.place.stride,
            count,
        };
        let arrays = self
            .generator
            .columns
            .iter()
            .map(|column| column.values(indices, self.generator.seed, || self.due_times(indices, now)))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(self.generator.schema.clone(), arrays, &options)
            .map_err(|error| Error::internal(format!("generated columns do not fit their schema: {error}")))?;
        self.place.advance(count);
        Ok(Poll::Rows(Rows {
            rows,
            rejected: Vec::new(),
            bytes: 0,
        }))
    }

    fn position(&self) -> Position {
        self.place.position()
    }
}

#[cfg(test)]
mod tests;
