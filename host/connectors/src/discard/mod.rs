//! The `discard` sink: drops rows and says what they were.
//!
//! It counts rows and, when asked, sums a column, adds up a checksum that does not depend on order (so that
//! runs of different parallelism can be compared), records the latency of rows that carry a generator's
//! `now`, and the longest time between two blocks. Nothing outlives the process, so nothing is committed.

mod checksum;
mod histogram;
mod sum;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, Schema, SchemaRef};
use millrace_core::connector::{
    Committable, Connector, Delivery, Elapsed, Options, Sink, SinkContext, SinkWriter, Source, SubtaskContext,
};
use millrace_core::{Error, Result};

use histogram::Histogram;
use sum::Sum;

/// Connector kind `discard`.
pub(crate) struct DiscardConnector;

impl Connector for DiscardConnector {
    fn kind(&self) -> &'static str {
        "discard"
    }

    fn source(&self, _options: Options, _schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(None)
    }

    fn sink(&self, mut options: Options, schema: SchemaRef, _: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        let sum = options.text("sum");
        let checksum = options.parsed("checksum", "`true` or `false`")?.unwrap_or(false);
        let latency = options.text("latency");
        let gaps = options.parsed("gaps", "`true` or `false`")?.unwrap_or(false);
        options.finish()?;
        let sums = sum
            .map(|names| summed(&schema, &names))
            .transpose()?
            .unwrap_or_default();
        let latency = latency
            .map(|name| column(&schema, "latency", &name, |t| *t == DataType::Int64, "an int64"))
            .transpose()?;
        Ok(Some(Arc::new(Discard {
            schema,
            measures: Measures {
                sums: sums.into(),
                checksum,
                latency,
                gaps,
            },
            subtasks: Mutex::default(),
        })))
    }
}

/// The columns of option `sum`, which are separated by commas.
fn summed(schema: &SchemaRef, names: &str) -> Result<Vec<usize>> {
    let index = |name: &str| column(schema, "sum", name, Sum::is_possible, "a numeric");
    // A name may have a comma in it.
    if schema.column_with_name(names).is_some() {
        return Ok(vec![index(names)?]);
    }
    names.split(',').map(index).collect()
}

/// Index of a column that an option names.
fn column(schema: &SchemaRef, option: &str, name: &str, fits: fn(&DataType) -> bool, wanted: &str) -> Result<usize> {
    let wrong = |what: String| Err(Error::user("CN0107", format!("option `{option}`: {what}")));
    match schema.column_with_name(name) {
        Some((index, field)) if fits(field.data_type()) => Ok(index),
        Some((_, field)) => wrong(format!(
            "column `{name}` is of type {}, not {wanted} one",
            field.data_type()
        )),
        None => {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            wrong(format!("there is no column `{name}`; there are: {}", names.join(", ")))
        }
    }
}

/// What is measured, by column index.
#[derive(Debug, Clone)]
struct Measures {
    sums: Arc<[usize]>,
    checksum: bool,
    latency: Option<usize>,
    gaps: bool,
}

/// What one subtask has seen, or all of them.
#[derive(Debug, Clone, Default)]
struct Totals {
    rows: u64,
    bytes: u64,
    /// One for each column that is summed.
    sums: Vec<Sum>,
    checksum: u64,
    latency: Histogram,
    last: Option<Elapsed>,
    longest_gap: Elapsed,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.sums.resize(self.sums.len().max(other.sums.len()), Sum::default());
        for (sum, other) in self.sums.iter_mut().zip(&other.sums) {
            sum.add(other);
        }
        self.checksum = self.checksum.wrapping_add(other.checksum);
        self.latency.add(&other.latency);
        self.longest_gap = self.longest_gap.max(other.longest_gap);
    }

    fn summary(&self, measures: &Measures, schema: &Schema) -> Vec<(String, String)> {
        let mut summary = vec![("rows".to_owned(), self.rows.to_string())];
        for (number, &column) in measures.sums.iter().enumerate() {
            let sum = self.sums.get(number).copied().unwrap_or_default();
            let name = match measures.sums.len() {
                1 => "sum".to_owned(),
                _ => format!("sum({})", schema.field(column).name()),
            };
            summary.push((name, sum.to_string()));
        }
        if measures.checksum {
            summary.push(("checksum".into(), format!("{:016x}", self.checksum)));
        }
        if measures.gaps {
            let millis = self.longest_gap.as_secs_f64() * 1e3;
            summary.push(("gap-ms-max".into(), format!("{millis:.3}")));
        }
        if measures.latency.is_some() && self.rows > 0 {
            for (name, quantile) in [
                ("p50", 0.5),
                ("p90", 0.9),
                ("p99", 0.99),
                ("p99.9", 0.999),
                ("max", 1.0),
            ] {
                let micros = self.latency.quantile(quantile) as f64 / 1000.0;
                summary.push((format!("latency-us-{name}"), format!("{micros:.1}")));
            }
        }
        summary
    }
}

struct Discard {
    schema: SchemaRef,
    measures: Measures,
    /// By subtask; one that is opened again starts from nothing.
    subtasks: Mutex<BTreeMap<u32, Arc<Mutex<Totals>>>>,
}

impl Sink for Discard {
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn open(&self, context: &SubtaskContext) -> Result<Box<dyn SinkWriter>> {
        let totals = Arc::new(Mutex::new(Totals::default()));
        let mut subtasks = self.subtasks.lock().unwrap_or_else(PoisonError::into_inner);
        subtasks.insert(context.subtask, totals.clone());
        Ok(Box::new(Writer {
            schema: self.schema.clone(),
            measures: self.measures.clone(),
            totals,
        }))
    }

    fn summary(&self) -> Vec<(String, String)> {
        let mut all = Totals::default();
        for totals in self.subtasks.lock().unwrap_or_else(PoisonError::into_inner).values() {
            all.add(&totals.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all.summary(&self.measures, &self.schema)
    }
}

struct Writer {
    schema: SchemaRef,
    measures: Measures,
    /// Locked by this writer once a block, and by others only for summaries.
    totals: Arc<Mutex<Totals>>,
}

impl SinkWriter for Writer {
    fn write(&mut self, rows: &RecordBatch, now: Elapsed) -> Result<()> {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.rows += rows.num_rows() as u64;
        totals.bytes += rows.get_array_memory_size() as u64;
        if self.measures.gaps {
            let gap = now.saturating_sub(totals.last.unwrap_or(now));
            totals.longest_gap = totals.longest_gap.max(gap);
            totals.last = Some(now);
        }
        totals.sums.resize(self.measures.sums.len(), Sum::default());
        for (sum, &column) in totals.sums.iter_mut().zip(self.measures.sums.iter()) {
            sum.add_column(rows.column(column));
        }
        if self.measures.checksum {
            totals.checksum = totals.checksum.wrapping_add(checksum::of(rows)?);
        }
        if let Some(index) = self.measures.latency {
            let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
            let made = rows.column(index).as_primitive::<Int64Type>();
            made.iter()
                .flatten()
                .for_each(|made| totals.latency.record(now.saturating_sub(made).max(0) as u64));
        }
        Ok(())
    }

    fn pre_commit(&mut self) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }

    fn commit(&mut self, _committables: &[Committable]) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self, _prepared: &[Committable]) -> Result<()> {
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    fn summary(&self) -> Vec<(String, String)> {
        self.totals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .summary(&self.measures, &self.schema)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow_array::{Float64Array, Int64Array};
    use arrow_schema::Field;

    use super::*;
    use crate::testing::{context, identity, options};

    fn schema() -> SchemaRef {
        let made = Field::new("made", DataType::Int64, true);
        Arc::new(Schema::new(vec![made, Field::new("price", DataType::Float64, false)]))
    }

    fn rows(made: Vec<Option<i64>>, price: Vec<f64>) -> RecordBatch {
        let made = Arc::new(Int64Array::from(made));
        RecordBatch::try_new(schema(), vec![made, Arc::new(Float64Array::from(price))]).unwrap()
    }

    #[test]
    fn all_subtasks_are_summed_up() {
        let wanted = options(&[("sum", "price"), ("checksum", "true"), ("latency", "made")]);
        let sink = DiscardConnector.sink(wanted, schema(), &identity()).unwrap().unwrap();
        let mut writers = [0, 1].map(|subtask| sink.open(&context(subtask, 2)).unwrap());
        writers[0]
            .write(
                &rows(vec![Some(1_000), None], vec![1.5, 2.0]),
                Duration::from_micros(101),
            )
            .unwrap();
        writers[1]
            .write(&rows(vec![Some(0)], vec![3.0]), Duration::from_micros(200))
            .unwrap();
        let summary: BTreeMap<String, String> = sink.summary().into_iter().collect();
        assert_eq!((summary["rows"].as_str(), summary["sum"].as_str()), ("3", "6.5"));
        let p50: f64 = summary["latency-us-p50"].parse().unwrap();
        assert!((p50 - 100.0).abs() <= 2.0, "{p50}");
        let one = writers[1].summary();
        assert_eq!(one[0], ("rows".into(), "1".into()));
    }

    #[test]
    fn several_columns_are_summed() {
        let wanted = options(&[("sum", "price,made")]);
        let sink = DiscardConnector.sink(wanted, schema(), &identity()).unwrap().unwrap();
        let mut writers = [0, 1].map(|subtask| sink.open(&context(subtask, 2)).unwrap());
        let some = rows(vec![Some(7), None], vec![1.5, 2.0]);
        writers[1].write(&some, Duration::ZERO).unwrap();
        let expected = [("rows", "2"), ("sum(price)", "3.5"), ("sum(made)", "7")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(sink.summary(), expected);
        assert_eq!(writers[1].summary(), expected);
    }

    #[test]
    fn columns_are_checked() {
        for (option, name, says) in [
            ("sum", "cost", "no column `cost`; there are: made, price"),
            (
                "latency",
                "price",
                "column `price` is of type Float64, not an int64 one",
            ),
        ] {
            let error = DiscardConnector
                .sink(options(&[(option, name)]), schema(), &identity())
                .err()
                .unwrap();
            assert_eq!(error.code(), "CN0107");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
