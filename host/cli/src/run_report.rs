//! What a finished job leaves for people and for programs: results of the sinks and metrics of user code.

use millrace_engine::metrics::TaskMetrics;
use millrace_engine::{Report, UserMetricKind};
use serde_json::{Value, json};

use crate::format;
use crate::output::{Align, Table};

/// Sinks' results and user metrics as text; empty if there are none. `operators`: all names, in the graph's order.
pub fn text(report: &Report, operators: &[String]) -> String {
    let mut table = Table::new(&[("result", Align::Left), ("", Align::Left), ("value", Align::Right)]);
    let mut rows = 0;
    for (index, sink) in report.sinks.iter().enumerate() {
        // Several sinks may have one name.
        let same = report.sinks[..index].iter().filter(|other| other.name == sink.name);
        let sink_name = match same.count() {
            0 => sink.name.clone(),
            before => format!("{} ({})", sink.name, before + 1),
        };
        for (name, value) in &sink.values {
            table.row(vec![sink_name.clone(), name.clone(), value.clone()]);
            rows += 1;
        }
    }
    for metric in &report.user_metrics {
        let value = match metric.kind {
            UserMetricKind::Counter | UserMetricKind::Gauge => format!("{}", metric.value),
            UserMetricKind::Histogram => {
                format!(
                    "{} values, mean {:.3}",
                    metric.count,
                    metric.value / (metric.count.max(1) as f64)
                )
            }
        };
        let operator = operators.get(metric.operator as usize);
        let operator = operator.map_or("metric", String::as_str);
        table.row(vec![operator.to_owned(), metric.name.clone(), value]);
        rows += 1;
    }
    for task in &report.tasks {
        for (name, count) in noteworthy(task).into_iter().filter(|(_, count)| *count > 0) {
            table.row(vec![task.name.clone(), name.to_owned(), format::count(count)]);
            rows += 1;
        }
    }
    let taken = &report.checkpoints;
    if taken.completed + taken.failed > 0 || taken.restarts > 0 {
        let millis = taken.last_duration.as_millis();
        let last = format!("{} in {millis} ms", format::bytes(taken.last_bytes));
        let failed = taken.failed.to_string();
        let longest = format!("{} ms", taken.longest_duration.as_millis());
        let alignment = format!("{} ms", taken.longest_alignment.as_millis());
        let in_flight = format::bytes(taken.most_in_flight_bytes);
        for (name, value) in [
            ("completed", taken.completed.to_string()),
            ("last", last),
            ("longest", longest),
            ("longest wait for barriers", alignment),
            ("most in flight", in_flight),
            ("with rows in flight", taken.unaligned.to_string()),
            ("failed", failed),
            ("restarts", taken.restarts.to_string()),
        ] {
            table.row(vec!["checkpoints".to_owned(), name.to_owned(), value]);
            rows += 1;
        }
    }
    if taken.quarantined > 0 {
        let value = taken.quarantined.to_string();
        table.row(vec!["quarantine".to_owned(), "rows".to_owned(), value]);
        rows += 1;
    }
    if rows == 0 { String::new() } else { table.render() }
}

/// What is said of a task if it happened.
fn noteworthy(task: &TaskMetrics) -> [(&'static str, u64); 6] {
    [
        (
            "partial matches given up",
            task.total(|metrics| &metrics.dropped_matches),
        ),
        ("requests made again", task.total(|metrics| &metrics.request_retries)),
        ("requests timed out", task.total(|metrics| &metrics.request_timeouts)),
        ("requests failed", task.total(|metrics| &metrics.request_failures)),
        (
            "reads of the table that failed",
            task.total(|metrics| &metrics.lookup_failures),
        ),
        (
            "rows of the table skipped",
            task.total(|metrics| &metrics.lookup_rejected),
        ),
    ]
}

/// Everything as JSON.
pub fn json(report: &Report) -> Value {
    let tasks: Vec<Value> = report.tasks.iter().map(task_json).collect();
    let sinks: Vec<Value> = report
        .sinks
        .iter()
        .map(|sink| {
            let values: serde_json::Map<String, Value> = sink
                .values
                .iter()
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect();
            json!({ "name": sink.name, "results": values })
        })
        .collect();
    let metrics: Vec<Value> = report
        .user_metrics
        .iter()
        .map(|metric| json!({ "name": metric.name, "operator": metric.operator, "value": metric.value, "count": metric.count }))
        .collect();
    let taken = &report.checkpoints;
    json!({
        "checkpoints": {
            "completed": taken.completed,
            "failed": taken.failed,
            "last_id": taken.last_id,
            "last_seconds": taken.last_duration.as_secs_f64(),
            "last_bytes": taken.last_bytes,
            "last_alignment_seconds": taken.last_alignment.as_secs_f64(),
            "last_in_flight_rows": taken.last_in_flight_rows,
            "last_in_flight_bytes": taken.last_in_flight_bytes,
            "unaligned": taken.unaligned,
            "longest_seconds": taken.longest_duration.as_secs_f64(),
            "longest_alignment_seconds": taken.longest_alignment.as_secs_f64(),
            "most_in_flight_bytes": taken.most_in_flight_bytes,
            "restarts": taken.restarts,
            "quarantined": taken.quarantined,
        },
        "seconds": report.elapsed.as_secs_f64(),
        "guest_memory_bytes": report.guest_memory_bytes,
        "tasks": tasks,
        "sinks": sinks,
        "metrics": metrics,
    })
}

fn task_json(task: &TaskMetrics) -> Value {
    json!({
        "name": task.name,
        "subtasks": task.subtasks.len(),
        "rows_in": task.total(|metrics| &metrics.rows_in),
        "rows_out": task.total(|metrics| &metrics.rows_out),
        "bytes_in": task.total(|metrics| &metrics.bytes_in),
        "bytes_out": task.total(|metrics| &metrics.bytes_out),
        "late": task.total(|metrics| &metrics.late),
        "dropped": task.total(|metrics| &metrics.dropped),
        "dropped_matches": task.total(|metrics| &metrics.dropped_matches),
        "requests_in_flight": task.total(|metrics| &metrics.requests_in_flight),
        "request_retries": task.total(|metrics| &metrics.request_retries),
        "request_timeouts": task.total(|metrics| &metrics.request_timeouts),
        "request_failures": task.total(|metrics| &metrics.request_failures),
        "lookup_hits": task.total(|metrics| &metrics.lookup_hits),
        "lookup_misses": task.total(|metrics| &metrics.lookup_misses),
        "lookup_reads": task.total(|metrics| &metrics.lookup_reads),
        "lookup_failures": task.total(|metrics| &metrics.lookup_failures),
        "lookup_rejected": task.total(|metrics| &metrics.lookup_rejected),
        "lookup_rows": task.total(|metrics| &metrics.lookup_rows),
        "rejected": task.total(|metrics| &metrics.rejected),
        "quarantined": task.total(|metrics| &metrics.quarantined),
        "shadow_bytes_max": task.total(|metrics| &metrics.shadow_bytes_max),
        "state_slots": task.total(|metrics| &metrics.state_slots),
        "state_resident": task.total(|metrics| &metrics.state_resident),
        "busy_ns": task.total(|metrics| &metrics.busy_ns),
        "backpressured_ns": task.total(|metrics| &metrics.backpressured_ns),
        "idle_ns": task.total(|metrics| &metrics.idle_ns),
        "operators": task.operators.iter().enumerate().map(|(index, name)| json!({
            "name": name,
            "rows_out": task.subtasks.iter().map(|subtask| subtask.emitted[index].get()).sum::<u64>(),
        })).collect::<Vec<_>>(),
    })
}
