//! What an attempt begins with: from nothing, or from a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::Schema;
use millrace_core::checkpoint::{CheckpointId, EdgeName, SplitSnapshot};
use millrace_core::connector::Split;
use millrace_core::graph::OperatorIndex;
use millrace_core::plan::{self, Exchange, Plan, TaskKind};
use millrace_core::{Error, Result};
use millrace_state::codes::{NOT_FOUND, is_damage};
use millrace_state::format::fingerprint;
use millrace_state::{Depth, Metadata, Restorable, Savepoint, Storage, redistribute};
use millrace_wasm::LogLevel;

use crate::checkpointing::SnapshotTask;
use crate::prepare::output_schema;
use crate::worker::{SlotJob, Start, edge_names};

/// Splits of a source, dealt out to its subtasks in turn.
pub(crate) type Splits = BTreeMap<OperatorIndex, Vec<SplitSnapshot>>;

/// Asks each source for its splits.
pub(crate) fn find_splits(job: &SlotJob) -> Result<Splits> {
    let mut splits = BTreeMap::new();
    for task in &job.plan.tasks {
        let TaskKind::Source { operator, .. } = task.kind else {
            continue;
        };
        let found = job.connectors.sources[&operator].splits(task.parallelism);
        let found = found.map_err(|error| error.context(format!("source `{}`", task.name)))?;
        let begin = |split: Split| SplitSnapshot {
            id: split.id,
            position: split.position,
            max_time: None,
        };
        splits.insert(operator, found.into_iter().map(begin).collect());
    }
    Ok(splits)
}

/// Sees to it that sinks can be written, and that nothing of an earlier run is in the way.
pub(crate) fn check_sinks(job: &SlotJob) -> Result<()> {
    for (operator, sink) in &job.connectors.sinks {
        let name = &job.graph.operators[operator.0 as usize].name;
        sink.check()
            .and_then(|()| sink.recover(&[]))
            .map_err(|error| error.context(format!("sink `{name}`")))?;
    }
    Ok(())
}

/// Has each sink commit what a checkpoint holds and drop everything else.
pub(crate) fn recover_sinks(job: &SlotJob, checkpoint: Option<&Metadata>) -> Result<()> {
    for (operator, sink) in &job.connectors.sinks {
        let name = &job.graph.operators[operator.0 as usize].name;
        let stored = checkpoint.and_then(|metadata| metadata.operator(&job.ids[operator.0 as usize]));
        let prepared = stored.map(redistribute::committables).unwrap_or_default();
        sink.recover(&prepared)
            .map_err(|error| error.context(format!("sink `{name}`")))?;
    }
    Ok(())
}

/// The newest sound checkpoint of the newest run of a job, or the savepoint that this run began with; and the run.
/// `None`: it has neither.
///
/// Only the newest run counts: an older one was replaced by it, though it may not have completed a checkpoint.
pub(crate) fn find_latest(storage: &Storage, job: &SlotJob) -> Result<Option<(Restorable, String)>> {
    let name = &job.graph.name;
    let Some(run) = storage.runs(name)?.pop() else {
        return Ok(None);
    };
    let checkpoints = storage.checkpoints(name)?.into_iter().rev();
    let ids = checkpoints.filter(|(of, _)| *of == run).map(|(_, id)| id);
    let found = match open_newest(storage, job, &run, ids)? {
        Some(checkpoint) => Some(checkpoint),
        // A run that was killed at once may lack its description.
        None => match storage.read_run(name, &run).map(|run| run.from) {
            Ok(from) => from.as_deref().map(open_savepoint).transpose()?,
            Err(error) if error.code() == NOT_FOUND => None,
            Err(error) => return Err(error),
        },
    };
    Ok(found.map(|found| (found, run)))
}

/// Opens a savepoint to begin with.
pub(crate) fn open_savepoint(url: &str) -> Result<Restorable> {
    Savepoint::open(url, Depth::Contents).map(Restorable::Savepoint)
}

/// Opens the first of these checkpoints that is sound, and says which were not.
pub(crate) fn open_newest(
    storage: &Storage,
    job: &SlotJob,
    run: &str,
    ids: impl Iterator<Item = CheckpointId>,
) -> Result<Option<Restorable>> {
    let mut damaged = None;
    for id in ids {
        match storage.open_checkpoint(&job.graph.name, run, id, Depth::Contents) {
            Ok(checkpoint) => return Ok(Some(Restorable::Checkpoint(checkpoint))),
            Err(error) if is_damage(error.code()) => {
                (job.options.log)(LogLevel::Warn, &format!("checkpoint {id} is passed over: {error}"));
                damaged.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    // Starting from nothing would lose state that the user believes to be there.
    damaged.map_or(Ok(None), |error| Err(error.context("no checkpoint is sound")))
}

/// What begins with a checkpoint or savepoint is called in messages.
pub(crate) fn named(restorable: &Restorable) -> String {
    match restorable {
        Restorable::Checkpoint(checkpoint) => format!("checkpoint {}", checkpoint.metadata().checkpoint),
        Restorable::Savepoint(savepoint) => format!("savepoint `{}`", savepoint.url()),
    }
}

/// Whether the job can go on from a checkpoint or savepoint. `may_lose`: it may lack operators that have state there.
pub(crate) fn check(job: &SlotJob, tasks: &[SnapshotTask], restorable: &Restorable, may_lose: bool) -> Result<()> {
    let (metadata, what) = (restorable.metadata(), named(restorable));
    let (then, now) = (metadata.max_parallelism, job.plan.max_parallelism);
    if then != now {
        let message =
            format!("{what} has {then} key groups (max parallelism), the job now has {now}; they cannot change");
        return Err(Error::user("CK0012", message));
    }
    check_channels(job, tasks, restorable)?;
    let lost = metadata.operators.iter().find(|operator| {
        let holds = millrace_state::format::Subtask::holds_state;
        operator.subtasks.iter().any(holds) && tasks.iter().all(|task| task.id != operator.id)
    });
    let lost = lost.filter(|_| !may_lose);
    match lost {
        None => Ok(()),
        Some(operator) => Err(Error::user(
            "CK0011",
            format!(
                "{what} holds state of operator `{}` (id `{}`), which the pipeline does not have",
                operator.name, operator.id
            ),
        )),
    }
}

/// Whether what was in flight at a checkpoint has somewhere to go: the same edges, with rows of the same schema.
fn check_channels(job: &SlotJob, tasks: &[SnapshotTask], restorable: &Restorable) -> Result<()> {
    let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
    let edges: Vec<_> = job.plan.exchanges.iter().zip(edge_names(&job.plan, &ids)).collect();
    let what = named(restorable);
    for operator in &restorable.metadata().operators {
        let in_flight = operator.subtasks.iter().flat_map(|subtask| &subtask.in_flight);
        for (in_flight, rows) in in_flight.filter_map(|in_flight| Some((in_flight, in_flight.rows.as_ref()?))) {
            let (to, from, count) = (&operator.name, &in_flight.edge.from, rows.rows);
            let between = format!("{what} holds {count} rows in flight from `{from}` to `{to}`");
            let is_it = |(exchange, name): &&(&Exchange, EdgeName)| {
                ids[exchange.to.0] == operator.id && *name == in_flight.edge
            };
            let Some((exchange, _)) = edges.iter().find(is_it) else {
                let message = format!("{between}, an edge that the pipeline does not have");
                return Err(Error::user("CK0013", message));
            };
            let schema = output_schema(&job.graph, &job.plan, exchange);
            if fingerprint(&schema)? != rows.schema {
                let message = format!("{between}, where rows now are of another schema: {}", describe(&schema));
                return Err(Error::user("CK0014", message));
            }
        }
    }
    Ok(())
}

fn describe(schema: &Schema) -> String {
    let fields = schema.fields().iter().map(|field| {
        let optional = if field.is_nullable() { "?" } else { "" };
        format!("`{}` {}{optional}", field.name(), field.data_type())
    });
    fields.collect::<Vec<_>>().join(", ")
}

/// Whether a task that a checkpoint knows has another number of subtasks than then.
fn is_rescaled(tasks: &[SnapshotTask], metadata: &Metadata) -> bool {
    let other = |task: &SnapshotTask| {
        let stored = metadata.operator(&task.id);
        stored.is_some_and(|stored| stored.parallelism != task.parallelism)
    };
    tasks.iter().any(other)
}

/// What has to run first: if rows were under way between other numbers of subtasks than the job has now, the job as it
/// was then, until they are through. Their order, and which windows have fired for whom, is right only there.
pub(crate) fn settling_plan(job: &SlotJob, tasks: &[SnapshotTask], metadata: &Metadata) -> Result<Option<Plan>> {
    if metadata.in_flight().elements == 0 || !is_rescaled(tasks, metadata) {
        return Ok(None);
    }
    let parallelism = |operator: OperatorIndex| {
        let stored = metadata.operator(&job.ids[operator.0 as usize]);
        stored.map(|stored| stored.parallelism)
    };
    plan::plan_as(&job.graph, job.options.parallelism, parallelism).map(Some)
}

/// Whether snapshots may go on as increments to a checkpoint: every task has as many subtasks as it had.
pub(crate) fn is_same_shape(tasks: &[SnapshotTask], metadata: &Metadata) -> bool {
    let same = |task: &SnapshotTask| {
        let stored = metadata.operator(&task.id);
        stored.is_some_and(|stored| stored.parallelism == task.parallelism)
    };
    tasks.iter().all(same)
}

/// What an attempt of a plan, whose tasks these are, begins with. `settles`: only to let rows under way through.
pub(crate) fn start(
    job: &SlotJob,
    (plan, tasks): (Arc<Plan>, &[SnapshotTask]),
    settles: bool,
    found: &Splits,
    attempt: u32,
    checkpoint: Option<Arc<Restorable>>,
) -> Arc<Start> {
    let metadata = checkpoint.as_ref().map(|checkpoint| checkpoint.metadata());
    let channels = metadata.is_some_and(|metadata| !is_rescaled(tasks, metadata));
    let mut splits = found.clone();
    for (operator, splits) in &mut splits {
        let metadata = checkpoint.as_ref().map(|checkpoint| checkpoint.metadata());
        let stored = metadata.and_then(|metadata| metadata.operator(&job.ids[operator.0 as usize]));
        if let Some(stored) = stored {
            *splits = redistribute::splits(stored);
        }
    }
    Arc::new(Start {
        attempt,
        plan,
        settles,
        channels,
        splits,
        checkpoint,
    })
}
