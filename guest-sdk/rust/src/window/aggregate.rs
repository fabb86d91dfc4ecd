//! Aggregates of windows, written as a type.

use super::Window;
use crate::value::{Owned, Record, Value};

/// An aggregate of the rows of a window: what is kept is an accumulator, not the rows.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Reading { sensor: i64, celsius: f64, at: Timestamp }
///
/// #[derive(Record, Clone)]
/// struct Sum { total: f64, rows: i64 }
///
/// #[derive(Record)]
/// struct Mean { sensor: i64, celsius: f64, until: Timestamp }
///
/// struct MeanTemperature;
///
/// impl Aggregate for MeanTemperature {
///     type In = Reading;
///     type Key = i64;
///     type Acc = Sum;
///     type Out = Mean;
///
///     fn create(&self) -> Sum {
///         Sum { total: 0.0, rows: 0 }
///     }
///
///     fn add(&self, sum: &mut Sum, row: Reading) {
///         sum.total += row.celsius;
///         sum.rows += 1;
///     }
///
///     fn merge(&self, sum: &mut Sum, other: &Sum) {
///         sum.total += other.total;
///         sum.rows += other.rows;
///     }
///
///     fn finish(&self, sensor: i64, window: Window, sum: &Sum) -> Mean {
///         Mean { sensor, celsius: sum.total / sum.rows as f64, until: window.end }
///     }
/// }
///
/// fn means(readings: Stream<Rows<Reading>>) {
///     readings
///         .watermarks(Watermarks::monotonic(Reading::FIELDS.at))
///         .key_by(Reading::FIELDS.sensor)
///         .window(Tumbling::of(Duration::from_secs(60)))
///         .aggregate(MeanTemperature)
///         .uid("means")
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub trait Aggregate: 'static {
    /// Rows that it takes.
    type In: Record;
    /// What they are keyed by.
    type Key: Owned + Clone;
    /// What is kept for a window.
    type Acc: Owned + Clone;
    /// The result of a window.
    type Out: Record + Owned;

    /// Of no rows.
    fn create(&self) -> Self::Acc;

    /// Adds a row.
    fn add(&self, acc: &mut Self::Acc, row: <Self::In as Value>::Of<'_>);

    /// Adds what was kept for other rows: of sessions that grew together, of slices of a sliding window.
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc);

    /// The result. With allowed lateness it may be asked for again, with more rows.
    fn finish(&self, key: Self::Key, window: Window, acc: &Self::Acc) -> Self::Out;
}
