//! The workloads through the engine.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use millrace_core::checkpoint::{CheckpointConfig, RestartStrategy};
use millrace_engine::metrics::TaskMetrics;
use millrace_engine::{CheckpointOptions, JobOptions, Loaded, Report, Restore, StateBackend};
use serde_json::json;

use crate::{Arguments, BackendName, Totals};

pub(crate) fn options(arguments: &Arguments) -> JobOptions {
    let mut options = JobOptions {
        parallelism: arguments.parallelism,
        cache: std::env::home_dir().map(|home| home.join(".cache/millrace/code")),
        log: Arc::new(|_, line| eprintln!("{line}")),
        ..JobOptions::default()
    };
    if let Some(block_rows) = arguments.block_rows {
        options.block_rows = block_rows;
    }
    options.limits.memory_bytes = arguments.memory_limit << 20;
    options.backend = match arguments.backend {
        BackendName::Memory => StateBackend::Memory,
        BackendName::Rocksdb => StateBackend::RocksDb {
            folder: folder("state"),
            cache_bytes: arguments.cache_bytes,
        },
    };
    options.checkpoints = arguments.checkpoint_ms.map(|interval| CheckpointOptions {
        storage: folder("checkpoints").display().to_string(),
        config: CheckpointConfig {
            interval: Some(Duration::from_millis(interval)),
            aligned_timeout: arguments.aligned_timeout_ms.map(Duration::from_millis),
            ..CheckpointConfig::default()
        },
        restore: Restore::Nothing,
        restart: RestartStrategy::None,
    });
    options
}

/// Where checkpoints or state go; emptied after each run.
pub(crate) fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("millrace-bench-{}-{name}", std::process::id()))
}

pub(crate) fn execute(arguments: &Arguments, rows: u64, keys: u64, rate: u64) -> Result<Report> {
    let parameters = [
        ("workload", arguments.workload.name()),
        ("rows", rows.to_string()),
        ("keys", keys.to_string()),
        ("per_ms", arguments.per_ms().to_string()),
        ("rate", rate.to_string()),
        ("ttl_ms", arguments.ttl_ms.unwrap_or(0).to_string()),
        (
            "zipf",
            arguments.zipf.map(|exponent| exponent.to_string()).unwrap_or_default(),
        ),
    ];
    execute_pipeline(arguments, &arguments.pipeline, &parameters)
}

/// Runs a pipeline to its end.
pub(crate) fn execute_pipeline(arguments: &Arguments, path: &Path, parameters: &[(&str, String)]) -> Result<Report> {
    let bytes = std::fs::read(path).with_context(|| format!("{} (make bench builds it)", path.display()))?;
    let parameters = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    let parameters: Vec<(String, String)> = parameters.collect();
    let loaded = Loaded::new(&bytes, options(arguments)).map_err(|error| anyhow!("{error}"))?;
    let prepared = loaded.prepare(&parameters).map_err(|error| anyhow!("{error}"))?;
    let job = prepared.start().map_err(|error| anyhow!("{error}"))?;
    let report = job.wait().map_err(|error| anyhow!("{error}"))?;
    if arguments.tasks {
        print_tasks(&report);
    }
    for name in ["checkpoints", "state"] {
        match std::fs::remove_dir_all(folder(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context("files of the benchmark"),
            _ => {}
        }
    }
    Ok(report)
}

fn print_tasks(report: &Report) {
    for task in &report.tasks {
        let seconds = |ns: fn(&millrace_engine::metrics::SubtaskMetrics) -> &millrace_engine::metrics::Counter| {
            task.total(ns) as f64 / 1e9
        };
        eprintln!(
            "{:30} in {:10} out {:10} busy {:.3} s backpressured {:.3} s idle {:.3} s",
            task.name,
            TaskMetrics::total(task, |metrics| &metrics.rows_in),
            TaskMetrics::total(task, |metrics| &metrics.rows_out),
            seconds(|metrics| &metrics.busy_ns),
            seconds(|metrics| &metrics.backpressured_ns),
            seconds(|metrics| &metrics.idle_ns),
        );
    }
}

pub(crate) fn value(report: &Report, name: &str) -> Result<String> {
    let values = report.sinks.iter().flat_map(|sink| &sink.values);
    let found = values.into_iter().find(|(known, _)| known == name);
    found
        .map(|(_, value)| value.clone())
        .with_context(|| format!("no sink reports `{name}`: {:?}", report.sinks))
}

/// Runs a workload once.
pub(crate) fn run(arguments: &Arguments, rows: u64, keys: u64) -> Result<Totals> {
    totals(arguments, &execute(arguments, rows, keys, 0)?)
}

pub(crate) fn totals(arguments: &Arguments, report: &Report) -> Result<Totals> {
    Ok(Totals {
        seconds: report.elapsed.as_secs_f64(),
        out_rows: value(report, "rows")?.parse()?,
        out_sum: value(report, "sum")?.parse()?,
        gap_ms_max: value(report, "gap-ms-max").ok().and_then(|value| value.parse().ok()),
        checkpoints: arguments.checkpoint_ms.map(|_| report.checkpoints.clone()),
    })
}

/// Percentiles from generator to sink at a fixed rate.
pub(crate) fn latency(arguments: &Arguments) -> Result<()> {
    let rows = arguments.rows.unwrap_or(arguments.workload.rows());
    let keys = arguments.keys.unwrap_or(arguments.workload.keys());
    let report = execute(arguments, rows, keys, arguments.rate)?;
    let mut line = json!({
        "workload": "latency", "parallelism": arguments.parallelism, "rows": rows, "rate": arguments.rate,
        "seconds": report.elapsed.as_secs_f64(),
    });
    for (name, value) in report.sinks.iter().flat_map(|sink| &sink.values) {
        line[name] = value
            .parse::<f64>()
            .map_or_else(|_| json!(value), |number| json!(number));
    }
    println!("{line}");
    Ok(())
}

/// From reading a pipeline whose code is cached to the end of a job of one row.
pub(crate) fn startup(arguments: &Arguments) -> Result<()> {
    let arguments = Arguments {
        workload: crate::Workload::Stateless,
        ..arguments.clone()
    };
    execute(&arguments, 1, 1, 0)?;
    let mut all = Vec::new();
    for _ in 0..arguments.runs.max(5) {
        let start = Instant::now();
        execute(&arguments, 1, 1, 0)?;
        all.push(start.elapsed().as_secs_f64());
    }
    all.sort_by(f64::total_cmp);
    println!(
        "{}",
        json!({ "workload": "startup", "seconds": all[all.len() / 2], "seconds_min": all[0], "seconds_max": all[all.len() - 1] })
    );
    Ok(())
}
