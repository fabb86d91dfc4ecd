//! How a slot opens its subtasks: what each is made of, and what it goes on from.

use std::rc::Rc;
use std::sync::Arc;

use millrace_core::connector::{SubtaskContext, Waker};
use millrace_core::graph::{OperatorIndex, OperatorKind, WatermarkStrategy};
use millrace_core::plan::{Task, TaskKind};
use millrace_core::{Error, Result};
use millrace_operators::RequestsOperator;
use millrace_state::Restorable;
use millrace_state::format::Operator;
use millrace_wasm::{GuestChain, OpenConfig};

use super::Slot;
use crate::metrics::SubtaskMetrics;
use crate::prepare::input_schema;
use crate::worker::chain::{ChainTask, SubtaskOf};
use crate::worker::lookup::LookupTask;
use crate::worker::pace::Pace;
use crate::worker::rejects::Letters;
use crate::worker::requests::RequestsTask;
use crate::worker::sink::SinkTask;
use crate::worker::source::{ReadingRate, SourceTask, rows_per_poll};
use crate::worker::subtask::{Body, Place, Subtask};
use crate::worker::watermarks::WatermarksTask;
use crate::worker::wiring::SubtaskWiring;

impl Slot {
    /// Opens its subtask of a task, with what the checkpoint holds of it.
    pub(super) fn open_subtask(&self, wiring: SubtaskWiring) -> Result<Subtask> {
        let task = &self.start.plan.tasks[wiring.task];
        let waker = self.sleeper.clone();
        let context = SubtaskContext {
            subtask: self.subtask,
            parallelism: task.parallelism,
            waker: Waker(Arc::new(move || waker.wake())),
            checkpoints: self.shared.mode.is_some(),
        };
        let body = self
            .open_body(task, &context)
            .map_err(|error| error.context(format!("task `{}`", task.name)))?;
        let known = &self.job.metrics[wiring.task];
        // Of a plan that only lets rows through there may be more than the job has.
        let surplus = || Arc::new(SubtaskMetrics::new(known.operators.len()));
        let metrics = known
            .subtasks
            .get(self.subtask as usize)
            .cloned()
            .unwrap_or_else(surplus);
        let operator = task.kind.first_operator(&self.job.graph);
        let stored = self.restored(operator).filter(|_| self.start.channels);
        let place = Place {
            task: wiring.task,
            subtask: self.subtask,
        };
        let mut subtask = Subtask::new(
            task.name.clone(),
            place,
            self.shared.mode.unwrap_or_default(),
            body,
            Letters::new(self.rejects.clone(), &self.job.graph, &task.kind),
            wiring,
            metrics,
        );
        if let Some((checkpoint, operator)) = stored {
            let channels = self.start.conversions.channels(checkpoint, operator, self.subtask)?;
            subtask.restore_channels(channels, self.start.settles)?;
        }
        Ok(subtask)
    }

    fn open_source(
        &self,
        operator: OperatorIndex,
        strategy: Option<WatermarkStrategy>,
        context: &SubtaskContext,
    ) -> Result<SourceTask> {
        let (job, start) = (&self.job, &self.start);
        let (source, splits) = (&job.connectors.sources[&operator], &start.splits[&operator]);
        let rate = ReadingRate {
            rows_per_poll: rows_per_poll(&start.plan, job.options.block_rows),
            pace: job.options.source_rate.map(|rows| Pace::new(rows, context.parallelism)),
            still: start.settles,
        };
        let alignment = self.shared.alignment.clone();
        let splits = (splits.as_slice(), start.enumerators.get(&operator).cloned());
        SourceTask::open(operator, source, splits, strategy, context, rate, alignment)
    }

    fn open_body(&self, task: &Task, context: &SubtaskContext) -> Result<Body> {
        let job = &self.job;
        Ok(match &task.kind {
            TaskKind::Source { operator, watermarks } => {
                let strategy = watermarks.as_ref().map(|(_, strategy)| strategy.clone());
                Body::Source(Box::new(self.open_source(*operator, strategy, context)?))
            }
            TaskKind::Watermarks { operator, strategy } => {
                let mut watermarks = WatermarksTask::new(strategy);
                if let Some((_, operator)) = self.restored(*operator)
                    && operator.parallelism == task.parallelism
                    && let Some(split) = operator.subtasks[self.subtask as usize].splits.first()
                {
                    watermarks.restore(&split.clone().into());
                }
                Body::Watermarks(watermarks)
            }
            TaskKind::Requests { operator } => Body::Requests(Box::new(self.open_requests(*operator, context)?)),
            TaskKind::Lookup { operator } => {
                let OperatorKind::Lookup(declared) = &job.graph.operators[operator.0 as usize].kind else {
                    return Err(Error::internal("a task of a lookup is of another operator"));
                };
                Body::Lookup(Box::new(LookupTask::open(
                    &task.name,
                    declared,
                    &job.tables[operator],
                    context,
                )?))
            }
            TaskKind::Sink { operator } => Body::Sink(SinkTask::new(job.connectors.sinks[operator].open(context)?)),
            TaskKind::Chain {
                chain,
                time_in,
                time_out,
            } => {
                let config = OpenConfig {
                    subtask: context.subtask,
                    parallelism: context.parallelism,
                    max_parallelism: self.start.plan.max_parallelism,
                    attempt: self.start.attempt,
                    time_in: *time_in,
                    time_out: *time_out,
                    careful: false,
                };
                let parameters: Rc<[(String, String)]> = job.parameters.clone().into();
                let instance = self.instance.clone();
                let guest = GuestChain::open(job.pipeline.clone(), parameters, instance, &job.graph, chain.0, config)?;
                let declared = &job.graph.chains[chain.0 as usize];
                let careful = self.careful.as_ref();
                let careful = careful.map(|slot| slot.add(chain.0, config, self.start.careful.get(&chain.0)));
                let subtask = SubtaskOf {
                    number: context.subtask,
                    parallelism: context.parallelism,
                };
                let max_parallelism = self.start.plan.max_parallelism;
                let mut chain = ChainTask::new(guest, chain.0, declared, subtask, max_parallelism, careful)?;
                if self.shared.mode.is_some() {
                    chain.track_changes();
                }
                let name = format!("chain-{}-subtask-{}", declared.operators[0].0, context.subtask);
                chain.open_backend(&self.start.backend, &name)?;
                if let Some((checkpoint, operator)) = self.restored(declared.operators[0]) {
                    self.restore_chain(&mut chain, checkpoint, operator, context)?;
                }
                Body::Chain(Box::new(chain))
            }
        })
    }

    fn open_requests(&self, operator: OperatorIndex, context: &SubtaskContext) -> Result<RequestsTask> {
        let (job, plan) = (&self.job, &self.start.plan);
        let OperatorKind::Requests(declared) = &job.graph.operators[operator.0 as usize].kind else {
            return Err(Error::internal("a task of requests is of another operator"));
        };
        let place = (context.subtask, context.parallelism);
        let input = input_schema(&job.graph, plan, &TaskKind::Requests { operator });
        let operator_of = RequestsOperator::new(declared, input, place, plan.max_parallelism);
        let requester = job.clients[&operator].requester(context.waker.clone());
        let mut task = RequestsTask::new(operator_of, requester);
        if let Some((checkpoint, stored)) = self.restored(operator) {
            let converter = self.start.converters.get(&stored.id).map(Arc::as_ref);
            let stored = checkpoint.restore_task(stored, context.parallelism, context.subtask)?;
            task.restore(stored, converter, self.start.settles, self.shared.clock.now_millis())?;
        }
        Ok(task)
    }

    /// Has a chain go on from what is stored: what can come while rows do does so, the rest comes now.
    fn restore_chain(
        &self,
        chain: &mut ChainTask,
        checkpoint: &Arc<Restorable>,
        operator: &Operator,
        context: &SubtaskContext,
    ) -> Result<()> {
        let (parallelism, subtask) = (context.parallelism, context.subtask);
        let now = self.shared.clock.now_millis();
        let converter = self.start.converters.get(&operator.id);
        let resident_bytes = chain.restored_bytes_max().filter(|_| !self.start.settles);
        let (mut layers, mut groups) = (None, None);
        if let Some(bytes) = resident_bytes {
            let converter = converter.map(|converter| (converter.clone(), now));
            if converter.is_none() {
                layers = checkpoint.newest_first(operator, parallelism, subtask, bytes)?;
            }
            groups = checkpoint.by_group(operator, (parallelism, subtask), converter)?;
        }
        match layers {
            Some(layers) => chain.begin_restore(layers, now)?,
            None => {
                let stored = match groups {
                    Some(_) => checkpoint.restore_resident(operator, parallelism, subtask)?,
                    None => checkpoint.restore_task(operator, parallelism, subtask)?,
                };
                if self.shared.mode.is_none() {
                    // What is restored is told by the same table as what changes.
                    chain.track_changes();
                }
                let converter = converter.map(Arc::as_ref);
                chain.restore(stored, operator.parallelism, converter, self.start.settles, now)?;
                if self.shared.mode.is_none() {
                    chain.forget_changes();
                }
            }
        }
        chain.begin_restore_collections(groups);
        Ok(())
    }

    /// What the checkpoint says of an operator.
    fn restored(&self, operator: OperatorIndex) -> Option<(&Arc<Restorable>, &Operator)> {
        let checkpoint = self.start.checkpoint.as_ref()?;
        let operator = checkpoint.metadata().operator(&self.job.ids[operator.0 as usize])?;
        Some((checkpoint, operator))
    }
}
