//! A running job: its slots' threads, its metrics, its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_core::block::Millis;
use millrace_core::connector::Split;
use millrace_core::graph::OperatorIndex;
use millrace_core::plan::TaskKind;
use millrace_core::{Error, Result};
use millrace_wasm::UserMetric;

use crate::env::Clock;
use crate::metrics::{SubtaskMetrics, TaskMetrics, TaskRole};
use crate::prepare::Prepared;
use crate::worker::{Rejects, Shared, Slot, SlotJob, SlotReport, SlotWiring, wire};

/// Stack of a slot's thread: the wasm stack, the host's calls under it, and room for deep schemas.
const SLOT_STACK_BYTES: usize = 8 << 20;

/// A running job.
pub struct Job {
    shared: Arc<Shared>,
    job: Arc<SlotJob>,
    threads: Vec<JoinHandle<Result<SlotReport>>>,
}

/// What a sink says at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSummary {
    /// Name of the sink.
    pub name: String,
    /// Its results: rows, files, sums.
    pub values: Vec<(String, String)>,
}

/// What a job leaves behind.
#[derive(Debug)]
pub struct Report {
    /// From the first row asked for to the last commit.
    pub elapsed: Duration,
    /// Final metrics.
    pub tasks: Vec<TaskMetrics>,
    /// Results of the sinks.
    pub sinks: Vec<SinkSummary>,
    /// Metrics of user code, summed over the subtasks.
    pub user_metrics: Vec<UserMetric>,
    /// Linear memory of all instances, bytes.
    pub guest_memory_bytes: usize,
}

impl Job {
    /// Checks the outside world, opens all slots and lets them run.
    pub(crate) fn start(prepared: Prepared) -> Result<Self> {
        // Sources first: a sink's check may clear what an earlier run wrote.
        let splits = find_splits(&prepared)?;
        for (operator, sink) in &prepared.connectors.sinks {
            let name = &prepared.graph.operators[operator.0 as usize].name;
            sink.check().map_err(|error| error.context(format!("sink `{name}`")))?;
        }
        let shared = Arc::new(Shared::new(Clock::start(), prepared.plan.slots));
        let wirings = wire(&prepared.plan, &shared.sleepers);
        let metrics = task_metrics(&prepared);
        let rejects = Rejects::open(&prepared.graph)?;
        let Prepared {
            pipeline,
            options,
            parameters,
            graph,
            plan,
            connectors,
        } = prepared;
        let job = SlotJob {
            pipeline,
            options,
            parameters,
            graph,
            plan,
            connectors,
            splits,
            rejects,
            metrics,
        };
        let mut running = Job {
            shared,
            job: Arc::new(job),
            threads: Vec::new(),
        };
        for (index, wiring) in (0u32..).zip(wirings) {
            let spawned = running.spawn(index, wiring);
            if let Err(error) = spawned {
                // The slots already started wait for this one: let them go.
                running.shared.fail(error.clone());
                return Err(error);
            }
        }
        Ok(running)
    }

    fn spawn(&mut self, index: u32, wiring: SlotWiring) -> Result<()> {
        let (shared, job) = (self.shared.clone(), self.job.clone());
        let run = move || {
            let guard = FailOnPanic {
                shared: shared.clone(),
                slot: index,
            };
            let result = run_slot(index, job, shared.clone(), wiring);
            std::mem::forget(guard);
            shared.slot_ended();
            result
        };
        let thread = std::thread::Builder::new()
            .name(format!("slot-{index}"))
            .stack_size(SLOT_STACK_BYTES)
            .spawn(run);
        let thread = thread.map_err(|error| {
            Error::external(
                "IO0002",
                format!("a thread for slot {index} cannot be started: {error}"),
            )
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    /// Processing time.
    pub fn now_millis(&self) -> Millis {
        self.shared.clock.now_millis()
    }

    /// Metrics so far; the counters go on changing.
    pub fn tasks(&self) -> &[TaskMetrics] {
        &self.job.metrics
    }

    /// Asks the sources to end. Rows under way reach the sinks and are committed; windows that are still
    /// open do not fire.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Something that stops the job from elsewhere (a signal handler's thread).
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let shared = self.shared.clone();
        move || shared.stop()
    }

    /// Whether all slots have ended.
    pub fn is_finished(&self) -> bool {
        self.shared.all_ended()
    }

    /// Waits until all slots have ended, or for a while.
    pub fn wait_timeout(&self, longest: Duration) {
        self.shared.wait_ended(longest);
    }

    /// Waits for the end.
    pub fn wait(self) -> Result<Report> {
        let mut reports = Vec::new();
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(report)) => reports.push(report),
                Ok(Err(error)) => self.shared.fail(error),
                Err(_) => self.shared.fail(Error::internal("a slot's thread panicked")),
            }
        }
        let elapsed = self.shared.clock.elapsed();
        if let Some(error) = self.shared.error() {
            return Err(error);
        }
        self.job.rejects.flush()?;
        let sinks = self.job.connectors.sinks.iter().map(|(operator, sink)| SinkSummary {
            name: self.job.graph.operators[operator.0 as usize].name.clone(),
            values: sink.summary(),
        });
        Ok(Report {
            elapsed,
            sinks: sinks.collect(),
            tasks: self.job.metrics.clone(),
            user_metrics: sum_user_metrics(&reports),
            guest_memory_bytes: reports.iter().map(|report| report.memory_bytes).sum(),
        })
    }
}

/// A panic in a slot must not leave the others waiting for it.
struct FailOnPanic {
    shared: Arc<Shared>,
    slot: u32,
}

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        self.shared
            .fail(Error::internal(format!("slot {} panicked", self.slot)));
        self.shared.slot_ended();
    }
}

fn run_slot(index: u32, job: Arc<SlotJob>, shared: Arc<Shared>, wiring: SlotWiring) -> Result<SlotReport> {
    let slot = match Slot::open(index, job, shared.clone(), wiring) {
        Ok(slot) => slot,
        Err(error) => {
            shared.fail(error);
            return Ok(SlotReport::default());
        }
    };
    if !shared.wait_ready() {
        return Ok(SlotReport::default());
    }
    slot.run()
}

fn find_splits(prepared: &Prepared) -> Result<BTreeMap<OperatorIndex, Vec<Split>>> {
    let mut splits = BTreeMap::new();
    for task in &prepared.plan.tasks {
        let TaskKind::Source { operator, .. } = task.kind else {
            continue;
        };
        let found = prepared.connectors.sources[&operator].splits(task.parallelism);
        splits.insert(
            operator,
            found.map_err(|error| error.context(format!("source `{}`", task.name)))?,
        );
    }
    Ok(splits)
}

fn task_metrics(prepared: &Prepared) -> Vec<TaskMetrics> {
    let describe = |task: &millrace_core::plan::Task| {
        let (role, operators) = match &task.kind {
            TaskKind::Source { .. } => (TaskRole::Source, Vec::new()),
            TaskKind::Sink { .. } => (TaskRole::Sink, Vec::new()),
            TaskKind::Watermarks { .. } => (TaskRole::Operator, Vec::new()),
            TaskKind::Chain { chain, .. } => {
                let members = &prepared.graph.chains[chain.0 as usize].operators;
                let names = members
                    .iter()
                    .map(|member| prepared.graph.operators[member.0 as usize].name.clone());
                (TaskRole::Operator, names.collect())
            }
        };
        let subtasks = (0..task.parallelism)
            .map(|_| Arc::new(SubtaskMetrics::new(operators.len())))
            .collect();
        TaskMetrics {
            name: task.name.clone(),
            role,
            operators,
            subtasks,
        }
    };
    prepared.plan.tasks.iter().map(describe).collect()
}

/// The same metric of several slots is one; gauges keep the last slot's value.
fn sum_user_metrics(reports: &[SlotReport]) -> Vec<UserMetric> {
    let mut sums: Vec<UserMetric> = Vec::new();
    for metric in reports.iter().flat_map(|report| &report.user_metrics) {
        match sums
            .iter_mut()
            .find(|sum| sum.operator == metric.operator && sum.name == metric.name)
        {
            None => sums.push(metric.clone()),
            Some(sum) if sum.kind == crate::UserMetricKind::Gauge => sum.value = metric.value,
            Some(sum) => {
                sum.value += metric.value;
                sum.count += metric.count;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_panics_fails_the_job_and_ends_it() {
        let shared = Arc::new(Shared::new(Clock::start(), 1));
        let guard = FailOnPanic {
            shared: shared.clone(),
            slot: 0,
        };
        let slot = std::thread::spawn(move || {
            let _guard = guard;
            panic!("as a defect of the host would");
        });
        assert!(slot.join().is_err());
        assert!(shared.has_failed() && shared.all_ended());
    }
}
