//! Metrics of user code, gathered during a call and reported once at its end.
//!
//! A metric belongs to an operator. Process functions declare theirs in [`Setup`](crate::Setup).

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use crate::abi::host::{self, MetricKind};

thread_local! {
    /// All metrics of the instance.
    static METRICS: RefCell<Vec<Weak<Metric>>> = const { RefCell::new(Vec::new()) };
    /// Something was gathered since the last report.
    static CHANGED: Cell<bool> = const { Cell::new(false) };
}

/// What was gathered for one metric.
struct Metric {
    operator: u32,
    name: String,
    kind: MetricKind,
    /// The host's number, from the first report on.
    number: Cell<Option<u32>>,
    gathered: Gathered,
}

enum Gathered {
    Count(Cell<u64>),
    Last(Cell<Option<f64>>),
    Values(RefCell<Vec<f64>>),
}

impl Metric {
    fn register(operator: u32, name: &str, kind: MetricKind, gathered: Gathered) -> Rc<Metric> {
        let metric = Rc::new(Metric {
            operator,
            name: name.to_owned(),
            kind,
            number: Cell::new(None),
            gathered,
        });
        METRICS.with_borrow_mut(|metrics| metrics.push(Rc::downgrade(&metric)));
        metric
    }

    fn number(&self) -> u32 {
        self.number.get().unwrap_or_else(|| {
            let number = host::register_metric(self.operator, &self.name, self.kind);
            self.number.set(Some(number));
            number
        })
    }
}

/// A number that only grows: rows skipped, bytes read.
///
/// ```
/// # use millrace::prelude::*;
/// fn skip(skipped: &Counter) { skipped.add(1); }
/// ```
#[derive(Clone)]
pub struct Counter(Rc<Metric>);

/// A number that goes up and down: the last temperature, the length of a queue.
///
/// ```
/// # use millrace::prelude::*;
/// fn measure(temperature: &Gauge) { temperature.set(21.5); }
/// ```
#[derive(Clone)]
pub struct Gauge(Rc<Metric>);

/// A distribution of numbers: sizes, delays.
///
/// ```
/// # use millrace::prelude::*;
/// fn measure(size: &Histogram) { size.record(1500.0); }
/// ```
#[derive(Clone)]
pub struct Histogram(Rc<Metric>);

macro_rules! debug {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.0.name).finish()
            }
        }
    )*};
}
debug!(Counter, Gauge, Histogram);

impl Counter {
    pub(crate) fn new(operator: u32, name: &str) -> Self {
        let gathered = Gathered::Count(Cell::new(0));
        Counter(Metric::register(operator, name, MetricKind::Counter, gathered))
    }

    /// Adds to it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn read(bytes: &Counter, line: &str) { bytes.add(line.len() as u64); }
    /// ```
    pub fn add(&self, count: u64) {
        if let Gathered::Count(gathered) = &self.0.gathered {
            gathered.set(gathered.get() + count);
            CHANGED.set(true);
        }
    }
}

impl Gauge {
    pub(crate) fn new(operator: u32, name: &str) -> Self {
        let gathered = Gathered::Last(Cell::new(None));
        Gauge(Metric::register(operator, name, MetricKind::Gauge, gathered))
    }

    /// Sets it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn measure(temperature: &Gauge) { temperature.set(21.5); }
    /// ```
    pub fn set(&self, value: f64) {
        if let Gathered::Last(gathered) = &self.0.gathered {
            gathered.set(Some(value));
            CHANGED.set(true);
        }
    }
}

impl Histogram {
    pub(crate) fn new(operator: u32, name: &str) -> Self {
        let gathered = Gathered::Values(RefCell::default());
        Histogram(Metric::register(operator, name, MetricKind::Histogram, gathered))
    }

    /// Adds a value.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn measure(size: &Histogram, line: &str) { size.record(line.len() as f64); }
    /// ```
    pub fn record(&self, value: f64) {
        if let Gathered::Values(gathered) = &self.0.gathered {
            gathered.borrow_mut().push(value);
            CHANGED.set(true);
        }
    }
}

/// Reports what was gathered.
pub(crate) fn flush() {
    if !CHANGED.replace(false) {
        return;
    }
    let (mut counters, mut deltas) = (Vec::new(), Vec::new());
    let (mut gauges, mut lasts) = (Vec::new(), Vec::new());
    METRICS.with_borrow_mut(|metrics| {
        metrics.retain(|metric| metric.strong_count() > 0);
        for metric in metrics.iter().filter_map(Weak::upgrade) {
            match &metric.gathered {
                Gathered::Count(count) if count.get() > 0 => {
                    counters.push(metric.number());
                    deltas.push(count.take());
                }
                Gathered::Last(last) => {
                    if let Some(last) = last.take() {
                        gauges.push(metric.number());
                        lasts.push(last);
                    }
                }
                Gathered::Values(values) if !values.borrow().is_empty() => {
                    host::record_values(metric.number(), &values.take());
                }
                Gathered::Count(_) | Gathered::Values(_) => {}
            }
        }
    });
    if !counters.is_empty() {
        host::add_counters(&counters, &deltas);
    }
    if !gauges.is_empty() {
        host::set_gauges(&gauges, &lasts);
    }
}
