//! A running job: its handle, its metrics, its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_connectors::http::Client;
use millrace_core::block::Millis;
use millrace_core::checkpoint::Restarts;
use millrace_core::control::End;
use millrace_core::graph::{Graph, OperatorIndex, OperatorKind, Origin, operator_ids};
use millrace_core::plan::TaskKind;
use millrace_core::{Error, Result};
use millrace_state::{Checkpoints, Restorable, Run, Storage};
use millrace_wasm::{LogLevel, UserMetric};

use crate::checkpointing::{CheckpointStatistics, CheckpointedJob, Checkpointing};
use crate::control::{Control, JobControl, SavepointReport};
use crate::env::{Clock, keep_blocks, random_u32};
use crate::kept;
use crate::metrics::{SubtaskMetrics, TaskMetrics, TaskRole};
use crate::prepare::{JobOptions, Prepared, Restore};
use crate::quarantine::Traps;
use crate::rest::{Endpoint, JobView};
use crate::restore;
use crate::snapshot_tasks::{SnapshotTask, snapshot_tasks};
use crate::supervisor::{Durable, Supervisor};
use crate::tables;
use crate::worker::{RejectPolicies, SlotJob, SlotReport};

/// A running job.
pub struct Job {
    control: Arc<Control>,
    job: Arc<SlotJob>,
    clock: Clock,
    run: String,
    thread: JoinHandle<Result<Vec<SlotReport>>>,
    endpoint: Option<Endpoint>,
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
    /// Checkpoints taken, and restarts.
    pub checkpoints: CheckpointStatistics,
    /// How it ended.
    pub end: End,
    /// The savepoint that a stop has left.
    pub savepoint: Option<SavepointReport>,
}

impl Job {
    /// Checks the outside world, finds where to begin, and lets the job run.
    pub(crate) fn start(prepared: Prepared) -> Result<Self> {
        keep_blocks();
        let traps = Traps::new(&prepared.options)?;
        let job = slot_job(prepared)?;
        // Sources first: a sink's check may clear what an earlier run wrote.
        let splits = restore::find_splits(&job)?;
        if job.options.checkpoints.is_some() {
            restore::warn_of_losses(&job);
        }
        let clock = Clock::start();
        let tasks = snapshot_tasks(&job.plan, &job.graph, &job.ids);
        let control = Arc::new(Control::new(job.options.checkpoints.is_some()));
        let mut begin = begin(&job, &tasks, clock, &control)?;
        if let Some(durable) = &mut begin.durable {
            durable.traps = traps;
        }
        let Begin { run, mut endpoint, .. } = begin;
        let scratch = endpoint.as_ref().map(Endpoint::scratch);
        let supervisor = Supervisor {
            job: job.clone(),
            control: control.clone(),
            clock,
            tasks,
            splits,
            checkpointing: begin.checkpointing,
            scratch: scratch.unwrap_or_else(|| format!("memory://{run}")),
            run: run.clone(),
            durable: begin.durable,
            checkpoint: begin.checkpoint,
            trap: None,
        };
        if let Some(endpoint) = &mut endpoint {
            endpoint.serve(JobView::new(&job, &run, clock, JobControl(control.clone())))?;
        }
        let work = {
            let control = control.clone();
            move || {
                let ended = EndOnDrop(control);
                let result = supervisor.run();
                drop(ended);
                result
            }
        };
        let thread = std::thread::Builder::new().name("supervisor".into()).spawn(work);
        let thread = thread.map_err(|error| {
            let message = format!("a thread for the job cannot be started: {error}");
            Error::external("IO0002", message)
        })?;
        Ok(Job {
            control,
            job,
            clock,
            run,
            thread,
            endpoint,
        })
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Processing time.
    pub fn now_millis(&self) -> Millis {
        self.clock.now_millis()
    }

    /// Metrics so far; the counters go on changing.
    pub fn tasks(&self) -> &[TaskMetrics] {
        &self.job.metrics
    }

    /// Checkpoints taken so far, and restarts.
    pub fn checkpoints(&self) -> CheckpointStatistics {
        self.control.statistics()
    }

    /// Name of this run, unique among all of all jobs.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Asks for savepoints, stops and cancels, from anywhere.
    pub fn control(&self) -> JobControl {
        JobControl(self.control.clone())
    }

    /// Asks the sources to end. Rows under way reach the sinks and are committed; windows that are still
    /// open do not fire. With checkpoints the last one is taken here, and the job can go on from it.
    pub fn stop(&self) {
        self.control.signal();
    }

    /// Something that stops the job from elsewhere (a signal handler's thread).
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let control = self.control.clone();
        move || control.signal()
    }

    /// Whether the job has ended.
    pub fn is_finished(&self) -> bool {
        self.control.has_ended()
    }

    /// Waits until the job has ended, or for a while.
    pub fn wait_timeout(&self, longest: Duration) {
        self.control.wait_ended(longest);
    }

    /// Waits for the end.
    pub fn wait(self) -> Result<Report> {
        let reports = self.thread.join();
        let elapsed = self.clock.elapsed();
        if let Some(endpoint) = self.endpoint {
            endpoint.finish(&self.control);
        }
        let reports = reports.unwrap_or_else(|_| Err(Error::internal("the job's thread panicked")))?;
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
            checkpoints: self.control.statistics(),
            end: self.control.end_of_job(),
            savepoint: self.control.last_savepoint(),
        })
    }
}

/// Says that the job has ended, however it did.
struct EndOnDrop(Arc<Control>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(false);
    }
}

/// Where a job begins, and what it has from there on.
struct Begin {
    run: String,
    endpoint: Option<Endpoint>,
    checkpointing: Option<Checkpointing>,
    durable: Option<Durable>,
    checkpoint: Option<Restorable>,
}

/// Finds what to begin with, has sinks begin there too, and opens the storage of checkpoints.
fn begin(job: &Arc<SlotJob>, tasks: &[SnapshotTask], clock: Clock, control: &Arc<Control>) -> Result<Begin> {
    let options = job.options.checkpoints.as_ref();
    options.map_or(Ok(()), |options| options.config.validate())?;
    let storage = options.map(|options| Storage::open(&options.storage)).transpose()?;
    let latest = match (options.map(|options| options.restore), &storage) {
        (Some(Restore::Latest), Some(storage)) => restore::find_latest(storage, job)?,
        (_, _) => None,
    };
    // What to begin with, the run to go on with, and whether state may be left behind.
    let (restored, run, may_lose) = match (latest, &job.options.from) {
        // Whether it fits was decided when the run began.
        (Some(latest), _) => (Some(latest.restorable), Some(latest.run), latest.is_beginning),
        (None, Some(from)) => (Some(restore::open(&from.url)?), None, from.allow_non_restored_state),
        (None, None) => (None, None, false),
    };
    let new = Run::new(&job.graph.name, job.pipeline.hash(), clock.now_millis(), random_u32());
    // Before anything is touched that another process with this run may need.
    let name = run.as_ref().unwrap_or(&new.run).clone();
    let endpoint = Endpoint::claim(&job.options, &name)?;
    kept::settle(job)?;
    match &restored {
        Some(found) => {
            let upgrade = restore::decide(tasks, job.plan.max_parallelism, found)?;
            let (declared, now) = ((&job.graph, &*job.plan), clock.now_millis());
            if let Some(refusal) = restore::refusal(&upgrade, declared, tasks, found, may_lose, now) {
                return Err(refusal);
            }
            if options.is_none() && restore::settling_plan(job, tasks, found.metadata())?.is_some() {
                return Err(restore::nowhere_to_settle(found));
            }
            restore::recover_sinks(job, Some(found.metadata()))?;
            let (what, of) = (restore::named(found), &found.metadata().run);
            (job.options.log)(LogLevel::Info, &format!("going on from {what} of run {of}"));
        }
        None => restore::check_sinks(job)?,
    }
    kept::tell(job)?;
    let mut begin = Begin {
        run: name,
        endpoint,
        checkpointing: None,
        durable: None,
        checkpoint: restored,
    };
    if let (Some(options), Some(storage)) = (options, storage) {
        let checkpoints = open_run(job, &storage, run, new)?;
        let run = checkpoints.run();
        let (from, claimed) = (run.from.clone(), run.claimed);
        let latest = begin.checkpoint.as_ref().map(Restorable::metadata);
        let latest = latest.filter(|metadata| metadata.run == run.run);
        let latest = latest.map(|metadata| metadata.checkpoint);
        let checkpointed = CheckpointedJob::new(job, tasks, clock, control, true);
        let checkpointed = checkpointed.claiming(from.clone().filter(|_| claimed));
        begin.checkpointing = Some(Checkpointing::new(
            options.config.clone(),
            checkpoints,
            latest,
            checkpointed,
        )?);
        begin.durable = Some(Durable {
            storage,
            restarts: Restarts::new(options.restart.clone(), job.options.seed),
            traps: None,
            from,
        });
    }
    Ok(begin)
}

/// Opens the run that goes on, or the new one.
fn open_run(job: &SlotJob, storage: &Storage, run: Option<String>, new: Run) -> Result<Checkpoints> {
    if let Some(run) = run {
        return Ok(Checkpoints::open(storage, &job.graph.name, &run)?.0);
    }
    let from = job.options.from.as_ref();
    let run = Run {
        from: from.map(|from| from.url.clone()),
        claimed: from.is_some_and(|from| from.claim),
        ..new
    };
    Checkpoints::create(storage, run)
}

/// Who makes requests, of each operator that has some: if all that it asks for is granted.
fn clients(graph: &Graph, options: &JobOptions) -> Result<BTreeMap<OperatorIndex, Client>> {
    let mut clients = BTreeMap::new();
    for (index, operator) in (0..).map(OperatorIndex).zip(&graph.operators) {
        let OperatorKind::Requests(declared) = &operator.kind else {
            continue;
        };
        let name = &operator.name;
        let is_granted = |origin: &&Origin| options.allow_http.iter().any(|granted| granted.covers(origin));
        if let Some(origin) = declared.origins.iter().find(|origin| !is_granted(origin)) {
            let message = format!(
                "operator `{name}` asks for HTTP requests to {origin}, which this job is not allowed to make; to allow it \
                 add `--allow-http {origin}`"
            );
            return Err(Error::user("HT0001", message));
        }
        let client = Client::new(declared).map_err(|error| error.context(format!("operator `{name}`")))?;
        clients.insert(index, client);
    }
    Ok(clients)
}

/// What all slots share.
fn slot_job(prepared: Prepared) -> Result<Arc<SlotJob>> {
    let metrics = task_metrics(&prepared);
    let Prepared {
        pipeline,
        options,
        parameters,
        graph,
        plan,
        connectors,
    } = prepared;
    Ok(Arc::new(SlotJob {
        ids: operator_ids(&graph),
        rejects: Arc::new(RejectPolicies::open(&graph, &options.on_trap)?),
        clients: clients(&graph, &options)?,
        tables: tables::open(&graph, &connectors, &options)?,
        pipeline,
        options,
        parameters,
        graph,
        plan: Arc::new(plan),
        connectors,
        metrics,
    }))
}

fn task_metrics(prepared: &Prepared) -> Vec<TaskMetrics> {
    let describe = |task: &millrace_core::plan::Task| {
        let (role, operators) = match &task.kind {
            TaskKind::Source { .. } => (TaskRole::Source, Vec::new()),
            TaskKind::Sink { .. } => (TaskRole::Sink, Vec::new()),
            TaskKind::Watermarks { .. } | TaskKind::Requests { .. } | TaskKind::Lookup { .. } => {
                (TaskRole::Operator, Vec::new())
            }
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
