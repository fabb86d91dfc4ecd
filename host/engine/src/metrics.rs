//! The metrics core: counters that subtasks write and anyone may read.
//!
//! Each subtask has one [`SubtaskMetrics`], written by its slot's thread alone (plain stores, no contention)
//! and read at any time. Time is measured, never sampled: a subtask is busy while it steps, backpressured
//! while an output has no room, idle otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use millrace_core::block::{Millis, WATERMARK_MIN};

/// A number written by one thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning thread may.
    pub fn add(&self, delta: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + delta, Ordering::Relaxed);
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a subtask spends its time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Working.
    Busy,
    /// An output has no room.
    Backpressured,
    /// Nothing to do, or waiting for its turn in the slot.
    Idle,
}

/// Counters of one subtask.
#[derive(Debug)]
pub struct SubtaskMetrics {
    /// Rows taken in; of a source: rows read.
    pub rows_in: Counter,
    /// Rows put out; of a sink: rows written.
    pub rows_out: Counter,
    /// Bytes taken in; of a source: bytes read from outside.
    pub bytes_in: Counter,
    /// Bytes put out; of a sink: bytes written.
    pub bytes_out: Counter,
    /// Rows that came after their window's watermark.
    pub late: Counter,
    /// Rows dropped: too late for any window, without a late output.
    pub dropped: Counter,
    /// Matches of a pattern that had begun and were given up: a key had too many.
    pub dropped_matches: Counter,
    /// Rows that wait for answers to their requests.
    pub requests_in_flight: Counter,
    /// Attempts of requests after the first.
    pub request_retries: Counter,
    /// Rows whose requests had no response in time.
    pub request_timeouts: Counter,
    /// Rows whose requests had no response for another reason.
    pub request_failures: Counter,
    /// Keys of blocks that were remembered.
    pub lookup_hits: Counter,
    /// Keys of blocks that a table was asked for.
    pub lookup_misses: Counter,
    /// How often a table was read whole, or asked for keys.
    pub lookup_reads: Counter,
    /// How often that failed, and rows went on with what was read before.
    pub lookup_failures: Counter,
    /// Rows of a table that could not be read and were skipped.
    pub lookup_rejected: Counter,
    /// Rows of a table that are in memory.
    pub lookup_rows: Counter,
    /// Rows rejected by functions or formats.
    pub rejected: Counter,
    /// Rows, timers and windows set aside in careful mode.
    pub quarantined: Counter,
    /// Most bytes that the host's copy of the state took in careful mode.
    pub shadow_bytes_max: Counter,
    /// Live state slots.
    pub state_slots: Counter,
    /// Those of them that are in the guest, the others being in the lower tier of the state backend.
    pub state_resident: Counter,
    /// Time spent working, ns.
    pub busy_ns: Counter,
    /// Time spent waiting for room, ns.
    pub backpressured_ns: Counter,
    /// Time spent waiting for rows, ns.
    pub idle_ns: Counter,
    /// Rows put out by each operator of a chain.
    pub emitted: Vec<Counter>,
    watermark: AtomicI64,
    /// What it does now and since when: the time shifted by two bits, and the activity.
    current: AtomicU64,
}

impl SubtaskMetrics {
    /// For a subtask of a chain of that many operators.
    pub fn new(operators: usize) -> Self {
        SubtaskMetrics {
            rows_in: Counter::default(),
            rows_out: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            late: Counter::default(),
            dropped: Counter::default(),
            dropped_matches: Counter::default(),
            requests_in_flight: Counter::default(),
            request_retries: Counter::default(),
            request_timeouts: Counter::default(),
            request_failures: Counter::default(),
            lookup_hits: Counter::default(),
            lookup_misses: Counter::default(),
            lookup_reads: Counter::default(),
            lookup_failures: Counter::default(),
            lookup_rejected: Counter::default(),
            lookup_rows: Counter::default(),
            rejected: Counter::default(),
            quarantined: Counter::default(),
            shadow_bytes_max: Counter::default(),
            state_slots: Counter::default(),
            state_resident: Counter::default(),
            busy_ns: Counter::default(),
            backpressured_ns: Counter::default(),
            idle_ns: Counter::default(),
            emitted: (0..operators).map(|_| Counter::default()).collect(),
            watermark: AtomicI64::new(WATERMARK_MIN),
            current: AtomicU64::new(Activity::Idle as u64),
        }
    }

    /// Current watermark.
    pub fn watermark(&self) -> Millis {
        self.watermark.load(Ordering::Relaxed)
    }

    pub(crate) fn set_watermark(&self, watermark: Millis) {
        self.watermark.store(watermark, Ordering::Relaxed);
    }
}

impl SubtaskMetrics {
    /// Time spent busy, backpressured and idle, in ns, with what has not ended `now`, on the job's clock. A call that
    /// takes long is seen while it runs.
    pub fn spent(&self, now: Duration) -> [u64; 3] {
        let current = self.current.load(Ordering::Relaxed);
        let mut spent = [self.busy_ns.get(), self.backpressured_ns.get(), self.idle_ns.get()];
        spent[(current & 3) as usize % 3] += nanos(now).saturating_sub(current >> 2);
        spent
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Attributes a subtask's wall time to what it does.
#[derive(Debug)]
pub(crate) struct Meter {
    activity: Activity,
    since: Duration,
}

impl Meter {
    /// Goes on where an earlier attempt ended, for which there are the same metrics.
    pub(crate) fn start(metrics: &SubtaskMetrics) -> Self {
        let current = metrics.current.load(Ordering::Relaxed);
        Meter {
            activity: Activity::Idle,
            since: Duration::from_nanos(current >> 2),
        }
    }

    pub(crate) fn activity(&self) -> Activity {
        self.activity
    }

    /// The subtask does something else from `now` on.
    pub(crate) fn enter(&mut self, activity: Activity, now: Duration, metrics: &SubtaskMetrics) {
        let counter = match self.activity {
            Activity::Busy => &metrics.busy_ns,
            Activity::Backpressured => &metrics.backpressured_ns,
            Activity::Idle => &metrics.idle_ns,
        };
        counter.add(nanos(now.saturating_sub(self.since)));
        let current = (nanos(now) << 2) | activity as u64;
        metrics.current.store(current, Ordering::Relaxed);
        self.activity = activity;
        self.since = now;
    }
}

/// What a task is, for whoever reads the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskRole {
    /// Reads from outside.
    Source,
    /// Runs functions or assigns watermarks.
    Operator,
    /// Writes to the outside.
    Sink,
}

/// Metrics of all subtasks of a task.
#[derive(Debug, Clone)]
pub struct TaskMetrics {
    /// Names of its operators.
    pub name: String,
    /// Role.
    pub role: TaskRole,
    /// Names of the operators behind [`SubtaskMetrics::emitted`].
    pub operators: Vec<String>,
    /// One per subtask.
    pub subtasks: Vec<Arc<SubtaskMetrics>>,
}

impl TaskMetrics {
    /// Sum of a counter over the subtasks.
    pub fn total(&self, counter: impl Fn(&SubtaskMetrics) -> &Counter) -> u64 {
        self.subtasks.iter().map(|subtask| counter(subtask).get()).sum()
    }

    /// Sum of [`SubtaskMetrics::spent`] over the subtasks.
    pub fn spent(&self, now: Duration) -> [u64; 3] {
        let mut all = [0; 3];
        for subtask in &self.subtasks {
            for (sum, spent) in all.iter_mut().zip(subtask.spent(now)) {
                *sum += spent;
            }
        }
        all
    }

    /// Least watermark of the subtasks.
    pub fn watermark(&self) -> Millis {
        self.subtasks
            .iter()
            .map(|subtask| subtask.watermark())
            .min()
            .unwrap_or(WATERMARK_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_counts() {
        let metrics = SubtaskMetrics::new(1);
        let mut meter = Meter::start(&metrics);
        let at = Duration::from_nanos;
        assert_eq!(metrics.spent(at(5)), [0, 0, 5]);
        meter.enter(Activity::Busy, at(10), &metrics);
        assert_eq!(metrics.spent(at(17)), [7, 0, 10]);
        meter.enter(Activity::Backpressured, at(20), &metrics);
        assert_eq!(metrics.spent(at(21)), [10, 1, 10]);
        assert_eq!(metrics.busy_ns.get(), 10);
        let mut again = Meter::start(&metrics);
        again.enter(Activity::Busy, at(30), &metrics);
        assert_eq!(metrics.spent(at(32)), [12, 0, 20]);
    }
}
