//! Functions without state that are more than a closure: opened, closed, and with metrics.

use crate::chain::{Emit, RowContext, Stage};
use crate::metrics::{Counter, Gauge, Histogram};
use crate::stream::Out;
use crate::value::{Record, Value};
use crate::{OpenContext, position};

/// A function of rows without a key: what `RichMapFunction` and `RichFlatMapFunction` are in Flink, given to
/// [`Stream::process`](crate::Stream::process).
///
/// What it keeps between rows is lost when the job restarts, and each subtask has its own: it may be a cache, or what
/// was computed in `open`. For what must not be lost see [`StatefulProcess`](crate::StatefulProcess) and, with a key,
/// [`KeyedProcess`](crate::KeyedProcess).
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Call { number: String }
///
/// #[derive(Record, Clone)]
/// struct Placed { number: String, country: String }
///
/// /// Looks prefixes up in a table that takes a while to make.
/// struct Place { table: Vec<(String, String)>, unknown: Counter }
///
/// impl Process for Place {
///     type In = Call;
///     type Out = Placed;
///
///     fn open(&mut self, cx: &OpenContext) {
///         info!("subtask {} of {} begins", cx.subtask(), cx.parallelism());
///         self.table = vec![("+49".into(), "Germany".into())];
///     }
///
///     fn process(&mut self, call: Call, out: &mut Out<'_, Placed>) {
///         match self.table.iter().find(|(prefix, _)| call.number.starts_with(prefix.as_str())) {
///             Some((_, country)) => out.push(Placed { number: call.number, country: country.clone() }),
///             None => self.unknown.add(1),
///         }
///     }
///
///     fn close(&mut self) {
///         info!("all calls are placed");
///     }
/// }
///
/// fn placed(calls: Stream<Rows<Call>>) {
///     calls
///         .process(|setup| Place { table: Vec::new(), unknown: setup.counter("unknown") })
///         .sink("placed", Stdout::ndjson());
/// }
/// ```
pub trait Process: Sized + 'static {
    /// Rows that it takes.
    type In: Record;
    /// Rows that it puts out.
    type Out: Record;

    /// Prepares, before the first row. Heavy work belongs here.
    fn open(&mut self, cx: &OpenContext) {
        let _ = cx;
    }

    /// Takes a row.
    fn process(&mut self, row: <Self::In as Value>::Of<'_>, out: &mut Out<'_, Self::Out>);

    /// Ends, behind the last row of a job whose input ends. Not where it is stopped, or fails.
    fn close(&mut self) {}
}

/// Declares the metrics of a [`Process`].
#[derive(Debug)]
pub struct ProcessSetup {
    operator: u32,
}

impl ProcessSetup {
    /// A number that only grows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::stream::ProcessSetup;
    /// fn declare(setup: &mut ProcessSetup) -> Counter { setup.counter("late") }
    /// ```
    pub fn counter(&mut self, name: &str) -> Counter {
        Counter::new(self.operator, name)
    }

    /// A number that goes up and down.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::stream::ProcessSetup;
    /// fn declare(setup: &mut ProcessSetup) -> Gauge { setup.gauge("temperature") }
    /// ```
    pub fn gauge(&mut self, name: &str) -> Gauge {
        Gauge::new(self.operator, name)
    }

    /// A distribution of numbers.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # use millrace::stream::ProcessSetup;
    /// fn declare(setup: &mut ProcessSetup) -> Histogram { setup.histogram("size") }
    /// ```
    pub fn histogram(&mut self, name: &str) -> Histogram {
        Histogram::new(self.operator, name)
    }
}

/// See [`Stream::process`](crate::Stream::process).
pub struct Processed<P> {
    operator: u32,
    function: P,
    given: u64,
    marked: u64,
}

impl<P: Process> Processed<P> {
    pub(crate) fn new(operator: u32, make: impl FnOnce(&mut ProcessSetup) -> P) -> Self {
        Processed {
            operator,
            function: make(&mut ProcessSetup { operator }),
            given: 0,
            marked: 0,
        }
    }
}

impl<P> std::fmt::Debug for Processed<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processed")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl<P: Process> Stage for Processed<P> {
    type In = P::In;
    type Out = P::Out;

    #[inline(always)]
    fn push<E: Emit<P::Out>>(&mut self, row: <P::In as Value>::Of<'_>, cx: &mut RowContext, next: &mut E) {
        position::enter(self.operator);
        let mut out = Out::new(self.operator, next, cx);
        self.function.process(row, &mut out);
        self.given += out.given();
    }

    fn open(&mut self, cx: &OpenContext) {
        position::enter(self.operator);
        self.function.open(cx);
    }

    fn close(&mut self) {
        position::enter(self.operator);
        self.function.close();
    }

    fn take_emitted(&mut self) -> Option<u64> {
        self.marked = 0;
        Some(std::mem::take(&mut self.given))
    }

    #[inline(always)]
    fn mark(&mut self) {
        self.marked = self.given;
    }

    fn undo(&mut self) {
        self.given = self.marked;
    }
}
