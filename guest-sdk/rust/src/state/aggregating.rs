//! What values per key have come to, by a function of one's own.

use super::scope::{OfKey, Scope};
use super::{State, ValueState, WholeState};
use crate::value::Owned;

/// How values become a result, by way of something smaller than all of them: Flink's interface of this name.
///
/// For rows of windows see [`Aggregate`](crate::window::Aggregate).
pub trait AggregateFunction: 'static {
    /// What is added.
    type In;
    /// What is kept of it.
    type Acc: Owned + Clone;
    /// What it comes to.
    type Out;

    /// Of no values.
    fn create(&self) -> Self::Acc;

    /// Adds a value.
    fn add(&self, acc: &mut Self::Acc, value: Self::In);

    /// The result.
    fn finish(&self, acc: &Self::Acc) -> Self::Out;
}

/// What the values per key have come to that were added to it.
///
/// Stored as the accumulator alone, so that a [`ValueState`] of the same name goes on from it, and the other way round.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Reading { sensor: i64, celsius: f64 }
///
/// #[derive(Record, Clone, Default)]
/// struct Sum { celsius: f64, count: i64 }
///
/// struct Mean;
///
/// impl AggregateFunction for Mean {
///     type In = f64;
///     type Acc = Sum;
///     type Out = f64;
///
///     fn create(&self) -> Sum {
///         Sum::default()
///     }
///
///     fn add(&self, sum: &mut Sum, celsius: f64) {
///         sum.celsius += celsius;
///         sum.count += 1;
///     }
///
///     fn finish(&self, sum: &Sum) -> f64 {
///         sum.celsius / sum.count as f64
///     }
/// }
///
/// /// Puts out readings that are far from the mean of their sensor so far.
/// struct Outliers { mean: AggregatingState<Mean> }
///
/// impl KeyedProcess for Outliers {
///     type In = Reading;
///     type Key = i64;
///     type Out = Reading;
///
///     fn process(&mut self, row: Reading, cx: &mut Context<'_, Self>) {
///         if self.mean.get().is_some_and(|mean| (row.celsius - mean).abs() > 10.0) {
///             cx.push(row.clone());
///         }
///         self.mean.add(row.celsius);
///     }
/// }
///
/// fn outliers(readings: Stream<Rows<Reading>>) {
///     readings
///         .key_by(Reading::FIELDS.sensor)
///         .process(|setup| Outliers { mean: setup.aggregating_state("mean", Mean) })
///         .uid("outliers")
///         .sink("out", Stdout::ndjson());
/// }
/// ```
///
/// With [`OfWindow`](crate::window::OfWindow) it is of the values of each window of a key.
pub struct AggregatingState<A: AggregateFunction, S: Scope = OfKey> {
    value: ValueState<A::Acc, S>,
    function: A,
}

impl<A: AggregateFunction, S: Scope> std::fmt::Debug for AggregatingState<A, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AggregatingState")
    }
}

impl<A: AggregateFunction> State for AggregatingState<A> {
    fn place(&self) -> *const () {
        self.value.place()
    }
}

impl<A: AggregateFunction> WholeState for AggregatingState<A> {
    type Stored = A::Acc;
}

impl<A: AggregateFunction, S: Scope> AggregatingState<A, S> {
    pub(crate) fn new(value: ValueState<A::Acc, S>, function: A) -> Self {
        AggregatingState { value, function }
    }

    /// Adds a value.
    pub fn add(&self, value: A::In) {
        let function = &self.function;
        self.value
            .update_from(|| function.create(), |acc| function.add(acc, value));
    }

    /// What all values since the last [`clear`](Self::clear) have come to; nothing if there was none.
    pub fn get(&self) -> Option<A::Out> {
        self.value.with(|acc| acc.map(|acc| self.function.finish(acc)))
    }

    /// The same, and forgets them.
    pub fn take(&self) -> Option<A::Out> {
        self.value.take().map(|acc| self.function.finish(&acc))
    }

    /// Forgets all values.
    pub fn clear(&self) {
        self.value.clear();
    }
}
