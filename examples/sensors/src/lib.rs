//! Tells which readings of sensors are over the limit of their kind. Limits come as a stream of their own, and change.

use millrace::prelude::*;

/// A reading, as it is in the file.
#[derive(Record, Clone)]
struct Reading {
    sensor: i64,
    time: Timestamp,
    kind: String,
    value: f64,
}

/// From a time on readings of a kind are not to be over this; without a value there is no limit.
#[derive(Record, Clone)]
struct Limit {
    kind: String,
    time: Timestamp,
    highest: Option<f64>,
}

/// A reading that is over the limit, the first one of its sensor in a row.
#[derive(Record, Clone)]
struct Alert {
    sensor: i64,
    time: Timestamp,
    kind: String,
    value: f64,
    limit: f64,
}

#[derive(Parameters)]
struct Params {
    /// Readings, CSV with the columns sensor, time, kind and value
    readings: String,
    /// Limits, CSV with the columns kind, time and highest
    limits: String,
    /// Folder to write to
    output: String,
}

/// Readings wait until all limits up to their time are known. So it does not matter which stream is read faster.
struct Alarm {
    /// By kind and the time from which on it holds.
    limits: BroadcastState<(String, Timestamp), Option<f64>>,
    waiting: ListState<Reading>,
    over: ValueState<bool>,
}

impl KeyedBroadcastProcess for Alarm {
    type In = Reading;
    type Broadcast = Limit;
    type Key = i64;
    type Out = Alert;

    fn process(&mut self, row: Reading, cx: &mut ReadOnlyContext<'_, Self>) {
        cx.set_event_timer(row.time);
        self.waiting.push(row);
    }

    fn process_broadcast(&mut self, limit: Limit, cx: &mut BroadcastContext<'_, Self>) {
        cx.writable(&self.limits)
            .insert((limit.kind, limit.time), limit.highest);
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut ReadOnlyContext<'_, Self>) {
        let is_due = |reading: &Reading| reading.time == timer.time;
        let (due, waiting): (Vec<_>, Vec<_>) = self.waiting.take().into_iter().partition(is_due);
        self.waiting.set(waiting);
        for reading in due {
            let limit = self.limit(&reading);
            let over = limit.filter(|limit| reading.value > *limit);
            let was_over = self.over.get().unwrap_or(false);
            self.over.set(over.is_some());
            if let (Some(limit), false) = (over, was_over) {
                let Reading {
                    sensor,
                    time,
                    kind,
                    value,
                } = reading;
                cx.push(Alert {
                    sensor,
                    time,
                    kind,
                    value,
                    limit,
                });
            }
        }
    }
}

impl Alarm {
    /// The limit at the time of a reading.
    fn limit(&self, reading: &Reading) -> Option<f64> {
        let first = (reading.kind.clone(), Timestamp::from_millis(i64::MIN));
        let last = (reading.kind.clone(), reading.time);
        self.limits
            .with(|limits| limits.range(first..=last).last().and_then(|(_, highest)| *highest))
    }
}

#[millrace::pipeline]
fn sensors(flow: &Flow, params: Params) -> Result<()> {
    let readings: Stream<Rows<Reading>> = flow.source("readings", Files::csv(&params.readings));
    let limits: Stream<Rows<Limit>> = flow.source("limits", Files::csv(&params.limits));
    let readings = readings.watermarks(Watermarks::monotonic(Reading::FIELDS.time));
    let limits = limits.watermarks(Watermarks::monotonic(Limit::FIELDS.time));
    readings
        .key_by(Reading::FIELDS.sensor)
        .connect_broadcast(limits)
        .process(|setup| Alarm {
            limits: setup.broadcast_state("limits"),
            waiting: setup.list_state("waiting"),
            over: setup.value_state("over"),
        })
        .name("alarm")
        .uid("alarm")
        .sink("alerts", Files::to_ndjson(format!("{}/alerts", params.output)));
    Ok(())
}
