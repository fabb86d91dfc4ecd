//! The `nexmark` source: persons, auctions and bids of an online auction, each a table of its own.
//!
//! Events are numbered from 0; of each fifty the first is a person, three are auctions and the rest bids, and event n takes
//! place at n / `event-rate` seconds. What an event says depends on its number and the seed alone, so any parallelism
//! makes the same rows, tables that are read side by side belong together, and a position is the index of the next
//! row in its table. Proportions, skew and sizes are the defaults of the benchmark (<https://github.com/nexmark/nexmark>);
//! unlike there, ids of bidders are those of persons, for it adds the first id twice. Only columns that the schema
//! has are made, unless all are asked for. A table gives its part of as many events at a time as the others, so that tables
//! that are read side by side keep step.

mod columns;
mod events;
mod random;
mod text;

use std::hint::black_box;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use millrace_core::connector::{
    Boundedness, Connector, Elapsed, Options, Poll, Position, Rows, Sink, SinkContext, Source, Split, SplitReader,
    SubtaskContext,
};
use millrace_core::{Error, Result};

use self::columns::{Column, Making};
use self::events::{Clock, Table};
use self::text::Stock;
use crate::interleaved::Interleaved;

/// Events per second of event time, if nothing is said.
const EVENT_RATE_DEFAULT: u64 = 10_000;

/// Connector kind `nexmark`.
pub(crate) struct NexmarkConnector;

impl Connector for NexmarkConnector {
    fn kind(&self) -> &'static str {
        "nexmark"
    }

    fn source(&self, options: Options, schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(Some(Arc::new(Nexmark::new(options, schema)?)))
    }

    fn sink(&self, _: Options, _: SchemaRef, _: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        Ok(None)
    }
}

#[derive(Clone)]
struct Nexmark {
    schema: SchemaRef,
    table: Table,
    columns: Arc<[Column]>,
    /// That are made although nobody reads them.
    unread: Arc<[Column]>,
    /// Number of events of all tables; the source has its table's part of them.
    events: Option<u64>,
    clock: Clock,
    seed: u64,
}

impl Nexmark {
    fn new(mut options: Options, schema: SchemaRef) -> Result<Self> {
        let table = options.required("table")?;
        let table = Table::parse(&table)?;
        let events = options.parsed("events", "a number of events")?;
        let rate = options.parsed("event-rate", "a number of events per second")?;
        let first_ms = options.parsed("first-time", "a time in ms since 1970")?;
        let seed = options.parsed("seed", "a number from 0 to 2^64 - 1")?.unwrap_or(0);
        let all_columns = options.parsed("all-columns", "`true` or `false`")?.unwrap_or(false);
        options.finish()?;
        let clock = Clock {
            rate: rate.unwrap_or(EVENT_RATE_DEFAULT),
            first_ms: first_ms.unwrap_or(0),
        };
        if clock.rate == 0 {
            return Err(Error::user(
                "CN0003",
                "option `event-rate` is `0`, not a number of events per second above 0",
            ));
        }
        let unread = match all_columns {
            true => Column::others(table, schema.fields()),
            false => Vec::new(),
        };
        let columns = schema.fields().iter().map(|field| Column::find(table, field));
        Ok(Nexmark {
            table,
            columns: columns.collect::<Result<_>>()?,
            unread: unread.into(),
            events,
            clock,
            seed,
            schema,
        })
    }
}

impl Source for Nexmark {
    fn boundedness(&self) -> Boundedness {
        match self.events {
            Some(_) => Boundedness::Bounded,
            None => Boundedness::Unbounded,
        }
    }

    fn splits(&self, parallelism: u32) -> Result<Vec<Split>> {
        Ok(Interleaved::splits(parallelism))
    }

    fn open(&self, split: &Split, _context: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        let place = Interleaved::open(split, "nexmark")?;
        Ok(Box::new(Reader {
            end: self.events.map_or(u64::MAX >> 8, |events| self.table.rows_of(events)),
            stock: Stock::shared(),
            nexmark: self.clone(),
            place,
        }))
    }
}

struct Reader {
    nexmark: Nexmark,
    stock: &'static Stock,
    /// Its place in its table.
    place: Interleaved,
    end: u64,
}

impl SplitReader for Reader {
    fn poll(&mut self, rows_max: usize, _now: Elapsed) -> Result<Poll> {
        if self.place.next >= self.end {
            return Ok(Poll::End);
        }
        let count = self.place.count(self.end, self.nexmark.table.share(rows_max));
        let indices = (0..count as u64).map(|row| self.place.next + row * self.place.stride);
        let making = Making {
            events: indices.map(|index| self.nexmark.table.event(index)).collect(),
            clock: self.nexmark.clock,
            seed: self.nexmark.seed,
            stock: self.stock,
        };
        let columns = self.nexmark.columns.iter().zip(self.nexmark.schema.fields());
        let arrays = columns.map(|(column, field)| column.array(&making, field.data_type()));
        let arrays = arrays.collect::<Result<_>>()?;
        for column in &*self.nexmark.unread {
            drop(black_box(column.values(&making)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(self.nexmark.schema.clone(), arrays, &options)
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
