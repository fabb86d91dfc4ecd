//! What an attempt begins with: from nothing, or from a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_connectors::is_dead_letters;
use millrace_core::block::Millis;
use millrace_core::checkpoint::{CheckpointId, SplitSnapshot, Trap};
use millrace_core::connector::Split;
use millrace_core::graph::{Graph, OperatorIndex};
use millrace_core::plan::{self, Plan, TaskKind};
use millrace_core::upgrade::{self, DeclaredOperator, Upgrade};
use millrace_core::{Error, Result};
use millrace_state::codes::{NOT_FOUND, is_damage};
use millrace_state::convert::Converter;
use millrace_state::{Depth, Metadata, Restorable, Storage, redistribute};
use millrace_wasm::LogLevel;

use crate::backend::Backend;
use crate::in_flight::Conversions;
use crate::kept;
use crate::snapshot_tasks::SnapshotTask;
use crate::worker::{SlotJob, SourceSplits, Start};

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
    kept::with_sinks(job, |_, sink| sink.check().and_then(|()| sink.recover(&[])))?;
    job.rejects.recover(&[])
}

/// Has each sink commit what a checkpoint holds and drop everything else but what it keeps for savepoints, and so with
/// dead letters.
pub(crate) fn recover_sinks(job: &SlotJob, checkpoint: Option<&Metadata>) -> Result<()> {
    kept::with_sinks(job, |operator, sink| {
        let prepared = checkpoint.map(|metadata| kept::of_sink(job, metadata, operator));
        sink.recover(&prepared.unwrap_or_default())
    })?;
    job.rejects
        .recover(&checkpoint.map(kept::of_dead_letters).unwrap_or_default())
}

/// What a run goes on from.
pub(crate) struct Latest {
    pub(crate) restorable: Restorable,
    /// Which run it is.
    pub(crate) run: String,
    /// The run has no checkpoint yet: it is what the run began with.
    pub(crate) is_beginning: bool,
}

/// The newest sound checkpoint of the newest run of a job, or what this run began with. `None`: it has neither.
///
/// Only the newest run counts: an older one was replaced by it, though it may not have completed a checkpoint.
pub(crate) fn find_latest(storage: &Storage, job: &SlotJob) -> Result<Option<Latest>> {
    let name = &job.graph.name;
    let Some(run) = storage.runs(name)?.pop() else {
        return Ok(None);
    };
    let checkpoints = storage.checkpoints(name)?.into_iter().rev();
    let ids = checkpoints.filter(|(of, _)| *of == run).map(|(_, id)| id);
    if let Some(restorable) = open_newest(storage, job, &run, ids)? {
        return Ok(Some(Latest {
            restorable,
            run,
            is_beginning: false,
        }));
    }
    // A run that was killed at once may lack its description.
    let from = match storage.read_run(name, &run).map(|run| run.from) {
        Ok(from) => from.as_deref().map(open).transpose()?,
        Err(error) if error.code() == NOT_FOUND => None,
        Err(error) => return Err(error),
    };
    Ok(from.map(|restorable| Latest {
        restorable,
        run,
        is_beginning: true,
    }))
}

/// Opens a savepoint or checkpoint to begin with.
pub(crate) fn open(url: &str) -> Result<Restorable> {
    Restorable::open(url, Depth::Contents)
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

/// What becomes of what a checkpoint or savepoint holds.
pub(crate) fn decide(tasks: &[SnapshotTask], max_parallelism: u32, restorable: &Restorable) -> Result<Upgrade> {
    let declared = tasks.iter().map(|task| DeclaredOperator {
        id: task.id.clone(),
        name: task.name.clone(),
        parallelism: task.parallelism,
        keyed: task.keyed.clone(),
        connector: task.connector.clone(),
    });
    let groups = (restorable.metadata().max_parallelism, max_parallelism);
    Ok(upgrade::decide(
        // Dead letters find their file without the operator.
        &restorable.stored(|committable| !is_dead_letters(committable))?,
        &declared.collect::<Vec<_>>(),
        groups,
    ))
}

/// Why a job cannot go on from there, if so. `may_lose`: state that it does not declare may be left behind.
pub(crate) fn refusal(
    upgrade: &Upgrade,
    (graph, plan): (&Graph, &Plan),
    tasks: &[SnapshotTask],
    restorable: &Restorable,
    may_lose: bool,
    now: Millis,
) -> Option<Error> {
    let channels = match Conversions::decide(graph, plan, tasks, restorable) {
        Ok(channels) => channels,
        Err(error) => return Some(error),
    };
    let refusal = upgrade.refusal(&named(restorable), may_lose);
    let refusal = refusal.or_else(|| channels.check(restorable).err());
    refusal.or_else(|| check_values(upgrade, restorable, now).err())
}

/// Whether all values can be converted, where only they can say.
fn check_values(upgrade: &Upgrade, restorable: &Restorable, now: Millis) -> Result<()> {
    for operator in &upgrade.operators {
        let stored = restorable.metadata().operator(&operator.id);
        let (Some(plan), Some(stored)) = (&operator.plan, stored) else {
            continue;
        };
        if !plan.looks_at_values() {
            continue;
        }
        let converter = Converter::new(plan);
        for subtask in 0..stored.parallelism {
            let rows = restorable.restore_task(stored, stored.parallelism, subtask)?;
            converter.check(rows, now).map_err(|error| {
                let context = error.context(format!("operator `{}` (id `{}`)", operator.name, operator.id));
                context.context(format!("{} does not fit the pipeline", named(restorable)))
            })?;
        }
    }
    Ok(())
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

/// Rows under way need an aligned checkpoint behind them before other numbers of subtasks take over.
pub(crate) fn nowhere_to_settle(restorable: &Restorable) -> Error {
    let message = format!(
        "{} holds rows in flight, and the job has another parallelism than it was taken with: to get them through first, \
         the job needs a place for checkpoints",
        named(restorable)
    );
    Error::user("CK0015", message)
}

/// Whether snapshots may go on as increments to a checkpoint: every task has as many subtasks as it had, and their
/// rows are of the same schema.
pub(crate) fn is_same_shape(tasks: &[SnapshotTask], metadata: &Metadata) -> bool {
    let same = |task: &SnapshotTask| {
        metadata.operator(&task.id).is_some_and(|stored| {
            let keyed = stored.keyed.as_ref().and_then(|saved| saved.schema());
            let same = match (&keyed, &task.keyed) {
                (Some(then), Some(now)) => then.is_same(now),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            same && stored.parallelism == task.parallelism
        })
    };
    tasks.iter().all(same)
}

/// What an attempt of a plan, whose tasks these are, begins with. `settles`: only to let rows under way through.
pub(crate) fn start(
    job: &SlotJob,
    (plan, tasks): (Arc<Plan>, &[SnapshotTask]),
    settles: bool,
    found: &Splits,
    (attempt, checkpoint, careful): (u32, Option<Arc<Restorable>>, BTreeMap<u32, Trap>),
) -> Result<Arc<Start>> {
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
    let enumerators = enumerators(job, &plan, &splits)?;
    let (options, limit) = (&job.options, job.options.limits.memory_bytes);
    let (mut converters, mut conversions) = (BTreeMap::new(), Conversions::default());
    if let Some(checkpoint) = &checkpoint {
        if channels {
            conversions = Conversions::decide(&job.graph, &plan, tasks, checkpoint)?;
        }
        for operator in decide(tasks, plan.max_parallelism, checkpoint)?.operators {
            if let Some(plan) = operator.plan.filter(|plan| !plan.is_same()) {
                converters.insert(operator.id, Arc::new(Converter::new(&plan)));
            }
        }
    }
    Ok(Arc::new(Start {
        attempt,
        backend: Backend::open(&options.backend, limit, plan.placement.slot_count())?,
        plan,
        settles,
        channels,
        splits,
        enumerators,
        checkpoint,
        converters,
        conversions,
        careful,
    }))
}

/// What finds more splits of the sources of a plan than these.
fn enumerators(job: &SlotJob, plan: &Plan, splits: &Splits) -> Result<BTreeMap<OperatorIndex, Arc<SourceSplits>>> {
    let mut enumerators = BTreeMap::new();
    for task in &plan.tasks {
        let TaskKind::Source { operator, .. } = task.kind else {
            continue;
        };
        // Dealt out in turn, as the subtasks take them.
        let begin = splits[&operator].iter().zip((0..task.parallelism).cycle());
        let begin = begin.map(|(split, subtask)| {
            let (id, position) = (split.id.clone(), split.position.clone());
            (subtask, Split { id, position })
        });
        let begin: Vec<(u32, Split)> = begin.collect();
        let enumerator = job.connectors.sources[&operator].enumerator(&begin, task.parallelism);
        let enumerator = enumerator.map_err(|error| error.context(format!("source `{}`", task.name)))?;
        if let Some(enumerator) = enumerator {
            let begin = begin.iter().map(|(_, split)| split.id.as_str());
            enumerators.insert(operator, Arc::new(SourceSplits::new(enumerator, begin)));
        }
    }
    Ok(enumerators)
}

/// Says what is lost if a job that takes checkpoints has to go on from one.
pub(crate) fn warn_of_losses(job: &SlotJob) {
    for (operator, source) in &job.connectors.sources {
        if let Some(lost) = source.lost_on_restart() {
            let name = &job.graph.operators[operator.0 as usize].name;
            (job.options.log)(LogLevel::Warn, &format!("source `{name}`: {lost}"));
        }
    }
}
