//! How long it takes after a trap until the next row is through: by a restart of the job from its checkpoint, by one into
//! careful mode, and by a fresh instance in careful mode.
//!
//! The guest logs a line as it traps; the first row is seen in the counters of the operator. The sum of all counts behind
//! the trap, which is computed here a second time, says that no key has lost or gained a row.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use millrace_engine::metrics::TaskMetrics;
use millrace_engine::{Job, Loaded, OnTrap};
use serde_json::json;

use crate::native::mix;
use crate::{Arguments, pipeline};

/// Time between two looks at the counters.
const POLL: Duration = Duration::from_micros(100);

/// How the line ends that the guest logs.
const TRAP_LINE: &str = "trap";

/// When the guest trapped.
type Traps = Arc<Mutex<Vec<Instant>>>;

/// Runs both ways and prints one line of JSON.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let rows = arguments.rows.unwrap_or(arguments.workload.rows());
    let keys = arguments.keys.unwrap_or(arguments.workload.keys());
    let mut arguments = arguments.clone();
    arguments.checkpoint_ms.get_or_insert(250);
    let restart = execute(&arguments, rows, keys, false)?;
    let careful = execute(&arguments, rows, keys, true)?;
    let ([restarted], [careful_restarted, replaced]) = (restart.as_slice(), careful.as_slice()) else {
        bail!(
            "traps were expected once and twice, and there were {} and {}",
            restart.len(),
            careful.len()
        );
    };
    let line = json!({
        "workload": arguments.workload.name(), "rows": rows, "keys": keys, "checkpoint_ms": arguments.checkpoint_ms,
        "restart_ms": restarted, "careful_restart_ms": careful_restarted, "careful_replace_ms": replaced,
    });
    println!("{line}");
    Ok(())
}

/// From each trap to the next row, ms.
fn execute(arguments: &Arguments, rows: u64, keys: u64, quarantine: bool) -> Result<Vec<f64>> {
    let trap = rows / 4 * 3;
    let traps = Traps::default();
    let mut options = pipeline::options(arguments);
    let letters = pipeline::folder("letters");
    if let Some(checkpoints) = &mut options.checkpoints {
        let strategy = "fixed-delay:attempts=3,delay=0ms".parse();
        checkpoints.restart = strategy.map_err(|error| anyhow!("{error}"))?;
    }
    if quarantine {
        options.on_trap = OnTrap::Quarantine {
            dead_letter: Some(letters.display().to_string()),
            rows_max: 1,
        };
    }
    let seen = traps.clone();
    options.log = Arc::new(move |_, line| {
        if line.ends_with(TRAP_LINE) {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        }
    });
    let bytes = std::fs::read(&arguments.pipeline)
        .with_context(|| format!("{} (make bench builds it)", arguments.pipeline.display()))?;
    let parameters = [
        ("workload", arguments.workload.name()),
        ("rows", rows.to_string()),
        ("keys", keys.to_string()),
        ("trap", trap.to_string()),
        ("traps", if quarantine { 1_000 } else { 1 }.to_string()),
    ];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value));
    let loaded = Loaded::new(&bytes, options).map_err(|error| anyhow!("{error}"))?;
    let prepared = loaded.prepare(&parameters).map_err(|error| anyhow!("{error}"))?;
    let job = prepared.start().map_err(|error| anyhow!("{error}"))?;
    let pauses = watch(&job, &traps)?;
    let report = job.wait().map_err(|error| anyhow!("{error}"))?;
    std::fs::remove_dir_all(pipeline::folder("checkpoints")).context("checkpoints of the benchmark")?;
    if quarantine {
        std::fs::remove_file(letters).context("dead letters of the benchmark")?;
    }
    let sum: u64 = pipeline::value(&report, "sum")?.parse()?;
    let expected = expected(rows, keys, trap, quarantine);
    if sum != expected || report.checkpoints.quarantined != u64::from(quarantine) {
        bail!("wrong result: {sum} instead of {expected}, {:?}", report.checkpoints);
    }
    Ok(pauses)
}

/// Follows a job to its end.
fn watch(job: &Job, traps: &Traps) -> Result<Vec<f64>> {
    let tasks = job.tasks();
    let counting = tasks
        .iter()
        .find(|task| task.operators.iter().any(|name| name == "process"));
    let counting = counting.context("no task counts")?;
    let emitted = |task: &TaskMetrics| {
        task.subtasks
            .iter()
            .map(|subtask| subtask.emitted[0].get())
            .sum::<u64>()
    };
    let (mut pauses, mut before) = (Vec::new(), None);
    while !job.is_finished() {
        std::thread::sleep(POLL);
        let trapped = traps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(pauses.len())
            .copied();
        let Some(trapped) = trapped else { continue };
        let (now, count) = (Instant::now(), emitted(counting));
        if count > *before.get_or_insert(count) {
            pauses.push((now - trapped).as_secs_f64() * 1e3);
            before = None;
        }
    }
    Ok(pauses)
}

/// The sum of the counts behind the trap.
fn expected(rows: u64, keys: u64, trap: u64, without: bool) -> u64 {
    let mut counts = vec![0u64; keys as usize];
    let mut sum = 0;
    for index in (0..rows).filter(|&index| index != trap || !without) {
        let count = &mut counts[(mix(index) % keys) as usize];
        *count += 1;
        sum += if index > trap { *count } else { 0 };
    }
    sum
}
