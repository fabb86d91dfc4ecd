//! The workloads of the benchmarks, one pipeline with a parameter that picks one.
//!
//! Event i has key = mix(i) mod keys, value = i mod 1000 and time = i / per_ms ms; the host's generator
//! makes them. What comes out is summed by the discarding sink.

use millrace::prelude::*;

#[derive(Record, Clone)]
struct Pair {
    key: i64,
    value: i64,
}

#[derive(Record, Clone)]
struct Event {
    key: i64,
    value: i64,
    time: i64,
}

#[derive(Record, Clone)]
struct Sent {
    key: i64,
    due_ns: i64,
}

/// Count, sum and greatest value of a window.
#[derive(Record, Clone)]
struct WindowResult {
    key: i64,
    start: i64,
    count: i64,
    sum: i64,
    max: i64,
}

#[derive(Parameters)]
struct Params {
    /// stateless, keyed, tumbling, sliding, session, timer or latency
    workload: String,
    /// Number of events
    rows: i64,
    /// Number of keys
    #[parameter(default = "100000")]
    keys: i64,
    /// Events per ms of event time
    #[parameter(default = "100")]
    per_ms: i64,
    /// Events per second of real time; 0: as fast as possible
    #[parameter(default = "0")]
    rate: i64,
}

/// The accumulator of all window workloads.
struct Stats;

#[derive(Record, Clone, Copy)]
struct StatsAcc {
    count: i64,
    sum: i64,
    max: i64,
}

impl Aggregate for Stats {
    type In = Event;
    type Key = i64;
    type Acc = StatsAcc;
    type Out = WindowResult;

    fn create(&self) -> StatsAcc {
        StatsAcc { count: 0, sum: 0, max: i64::MIN }
    }

    fn add(&self, acc: &mut StatsAcc, event: Event) {
        acc.count += 1;
        acc.sum += event.value;
        acc.max = acc.max.max(event.value);
    }

    fn merge(&self, acc: &mut StatsAcc, other: &StatsAcc) {
        acc.count += other.count;
        acc.sum += other.sum;
        acc.max = acc.max.max(other.max);
    }

    fn finish(&self, key: &i64, window: Window, acc: &StatsAcc) -> WindowResult {
        WindowResult { key: *key, start: window.start, count: acc.count, sum: acc.sum, max: acc.max }
    }
}
