//! What a guest's imports do: the host side of `wit/imports.wit`.
//!
//! One [`HostState`] lives in each instance's store. Imports only read, except for logs, metrics, failure
//! reports and staged blocks, which the caller takes out after the call.

use std::rc::Rc;

use millrace_core::Error;
use millrace_core::random::SplitMix64;

use crate::bindings::{collections, diagnostics, emit, environment, types};
use crate::collections::{NoAnswer, Readable};
use crate::limits::{Limiter, Limits};

pub use crate::bindings::diagnostics::Level as LogLevel;

/// Where guests' log lines go.
pub type LogSink = std::sync::Arc<dyn Fn(LogLevel, &str) + Send + Sync>;

/// Kind of a user metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserMetricKind {
    /// Only grows.
    Counter,
    /// Last value.
    Gauge,
    /// Distribution: count and sum are kept.
    Histogram,
}

/// A metric that user code declared.
#[derive(Debug, Clone, PartialEq)]
pub struct UserMetric {
    /// Index of the operator in the graph.
    pub operator: u32,
    /// Name given by the user.
    pub name: String,
    /// Kind.
    pub kind: UserMetricKind,
    /// Sum of a counter, last value of a gauge, sum of a histogram.
    pub value: f64,
    /// Number of values of a histogram.
    pub count: u64,
}

/// Metrics that one instance may declare; more are refused.
const METRICS_MAX: usize = 1_000;

/// Log lines that one instance may write in a call; more are dropped, and their number is logged.
const LOG_LINES_PER_CALL_MAX: u32 = 1_000;

/// A failure that the guest reported before it trapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PanicReport {
    pub(crate) operator: Option<u32>,
    pub(crate) entry: Option<u32>,
    pub(crate) message: String,
}

/// State behind the imports of one instance.
pub(crate) struct HostState {
    pub(crate) limiter: Limiter,
    pub(crate) limits: Limits,
    pub(crate) now: i64,
    pub(crate) random: SplitMix64,
    pub(crate) staged: Vec<(u32, types::Block)>,
    pub(crate) staged_bytes: usize,
    pub(crate) staged_over_limit: bool,
    pub(crate) panic: Option<PanicReport>,
    pub(crate) position: Option<(u32, u32)>,
    pub(crate) metrics: Vec<UserMetric>,
    pub(crate) log: LogSink,
    /// Who writes log lines: task and subtask. `None`: the pipeline while it is built.
    pub(crate) place: Option<Rc<str>>,
    pub(crate) log_lines: u32,
    /// While a call runs that may read them.
    pub(crate) collections: Option<Readable>,
    /// How the guest broke the contract in an import.
    pub(crate) breach: Option<String>,
    /// Why an import could not be answered.
    pub(crate) failed_read: Option<Error>,
    /// Memory in use when the call began, bytes.
    pub(crate) memory_before: usize,
}

impl HostState {
    pub(crate) fn new(limits: Limits, seed: u64, log: LogSink) -> Self {
        HostState {
            limiter: Limiter {
                memory_bytes_max: limits.memory_bytes,
                memory_bytes: 0,
                denied: None,
            },
            limits,
            now: 0,
            random: SplitMix64::new(seed),
            staged: Vec::new(),
            staged_bytes: 0,
            staged_over_limit: false,
            panic: None,
            position: None,
            metrics: Vec::new(),
            log,
            place: None,
            log_lines: 0,
            collections: None,
            breach: None,
            failed_read: None,
            memory_before: 0,
        }
    }

    /// Forgets what belongs to the previous call.
    pub(crate) fn begin_call(&mut self, now: i64) {
        self.now = now;
        self.panic = None;
        self.limiter.denied = None;
        self.breach = None;
        self.failed_read = None;
        self.memory_before = self.limiter.memory_bytes;
        self.staged_bytes = 0;
        if self.log_lines > LOG_LINES_PER_CALL_MAX {
            let dropped = self.log_lines - LOG_LINES_PER_CALL_MAX;
            let message = format!("{dropped} more log lines of one call were dropped");
            self.tell(diagnostics::Level::Warn, &message);
        }
        self.log_lines = 0;
    }

    /// Writes a line for the chain that is being called.
    pub(crate) fn tell(&self, level: LogLevel, message: &str) {
        match &self.place {
            Some(place) => (self.log)(level, &format!("{place}: {message}")),
            None => (self.log)(level, message),
        }
    }

    /// Answers a read of collections.
    fn read<T>(&mut self, what: &str, read: impl FnOnce(&Readable) -> Result<T, NoAnswer>) -> wasmtime::Result<T> {
        let answer = match &self.collections {
            Some(collections) => read(collections),
            None => Err(NoAnswer::Breach("no keyed call with large states runs".to_owned())),
        };
        answer.map_err(|no_answer| match no_answer {
            NoAnswer::Breach(text) => {
                self.breach = Some(format!("`collections.{what}`: {text}"));
                wasmtime::Error::msg("a read of collections that is not allowed")
            }
            NoAnswer::Failed(error) => {
                let failed = wasmtime::Error::msg("collections cannot be read");
                self.failed_read = Some(error);
                failed
            }
        })
    }
}

impl diagnostics::Host for HostState {
    fn log(&mut self, level: diagnostics::Level, message: String) -> wasmtime::Result<()> {
        self.log_lines += 1;
        if self.log_lines <= LOG_LINES_PER_CALL_MAX {
            self.tell(level, &message);
        }
        Ok(())
    }

    fn panicked(&mut self, operator: Option<u32>, entry: Option<u32>, message: String) -> wasmtime::Result<()> {
        self.panic = Some(PanicReport {
            operator,
            entry,
            message,
        });
        Ok(())
    }

    fn position(&mut self, operator: u32, entry: u32) -> wasmtime::Result<()> {
        self.position = Some((operator, entry));
        Ok(())
    }

    fn register_metric(&mut self, operator: u32, name: String, kind: diagnostics::MetricKind) -> wasmtime::Result<u32> {
        let known = self
            .metrics
            .iter()
            .position(|metric| metric.operator == operator && metric.name == name);
        let index = match known {
            Some(index) => index,
            None if self.metrics.len() >= METRICS_MAX => {
                return Err(wasmtime::Error::msg(format!(
                    "more than {METRICS_MAX} metrics are declared"
                )));
            }
            None => {
                let kind = match kind {
                    diagnostics::MetricKind::Counter => UserMetricKind::Counter,
                    diagnostics::MetricKind::Gauge => UserMetricKind::Gauge,
                    diagnostics::MetricKind::Histogram => UserMetricKind::Histogram,
                };
                self.metrics.push(UserMetric {
                    operator,
                    name,
                    kind,
                    value: 0.0,
                    count: 0,
                });
                self.metrics.len() - 1
            }
        };
        Ok(u32::try_from(index).expect("at most METRICS_MAX"))
    }

    fn add_counters(&mut self, metrics: Vec<u32>, deltas: Vec<u64>) -> wasmtime::Result<()> {
        for (metric, delta) in metrics.into_iter().zip(deltas) {
            if let Some(metric) = self.metrics.get_mut(metric as usize) {
                metric.value += delta as f64;
            }
        }
        Ok(())
    }

    fn set_gauges(&mut self, metrics: Vec<u32>, values: Vec<f64>) -> wasmtime::Result<()> {
        for (metric, value) in metrics.into_iter().zip(values) {
            if let Some(metric) = self.metrics.get_mut(metric as usize) {
                metric.value = value;
            }
        }
        Ok(())
    }

    fn record_values(&mut self, metric: u32, values: Vec<f64>) -> wasmtime::Result<()> {
        if let Some(metric) = self.metrics.get_mut(metric as usize) {
            metric.count += values.len() as u64;
            metric.value += values.iter().sum::<f64>();
        }
        Ok(())
    }
}

impl environment::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<i64> {
        Ok(self.now)
    }

    fn random(&mut self, length: u32) -> wasmtime::Result<Vec<u8>> {
        if length as usize > self.limits.block_bytes {
            return Err(wasmtime::Error::msg(format!(
                "{length} random bytes at once are too many"
            )));
        }
        // Deterministic under replay, good enough for sampling; not for secrets.
        let mut bytes = Vec::with_capacity(length as usize + 8);
        while bytes.len() < length as usize {
            bytes.extend_from_slice(&self.random.draw().to_le_bytes());
        }
        bytes.truncate(length as usize);
        Ok(bytes)
    }
}

impl emit::Host for HostState {
    fn emit_block(&mut self, port: u32, rows: types::Block) -> wasmtime::Result<()> {
        self.staged_bytes += rows.data.len() + rows.ends.len() * 4;
        if self.staged_bytes > self.limits.staged_bytes {
            self.staged_over_limit = true;
            return Err(wasmtime::Error::msg("output limit of a call exceeded"));
        }
        self.staged.push((port, rows));
        Ok(())
    }
}

impl collections::Host for HostState {
    fn map_get(
        &mut self,
        chain: u32,
        state: u32,
        entries: Vec<u32>,
        keys: types::Block,
    ) -> wasmtime::Result<collections::MapValues> {
        self.read("map-get", |collections| {
            collections.map_get(chain, state, &entries, keys)
        })
    }

    fn map_scan(
        &mut self,
        chain: u32,
        state: u32,
        entry: u32,
        after: types::Block,
        limit: u32,
    ) -> wasmtime::Result<collections::MapEntries> {
        self.read("map-scan", |collections| {
            collections.map_scan(chain, state, entry, after, limit)
        })
    }

    fn list_length(&mut self, chain: u32, state: u32, entries: Vec<u32>) -> wasmtime::Result<Vec<u64>> {
        self.read("list-length", |collections| {
            collections.list_length(chain, state, &entries)
        })
    }

    fn list_read(
        &mut self,
        chain: u32,
        state: u32,
        entry: u32,
        start: u64,
        limit: u32,
    ) -> wasmtime::Result<types::Block> {
        self.read("list-read", |collections| {
            collections.list_read(chain, state, entry, start, limit)
        })
    }
}

impl types::Host for HostState {}
