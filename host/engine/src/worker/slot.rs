//! The slot loop: one thread, one sandboxed instance, one subtask of every task that runs there.
//!
//! The loop visits its subtasks in plan order, senders before receivers. A subtask steps only if its
//! outputs have room, so nothing in a slot ever waits inside a step; when a whole round did nothing, the
//! slot shows what sinks hold back and sleeps until an element, room, a timer or its waker comes.

mod opening;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millrace_connectors::http::Client;
use millrace_core::checkpoint::{SplitSnapshot, Trap};
use millrace_core::graph::{Graph, OperatorIndex};
use millrace_core::plan::{Plan, SlotIndex, TaskKind};
use millrace_core::{Error, Fault, Result};
use millrace_net::queue::Sleeper;
use millrace_state::Restorable;
use millrace_state::convert::Converter;
use millrace_wasm::{Instance, Pipeline, UserMetric};

use super::careful::CarefulSlot;
use super::discovery::SourceSplits;
use super::instance::instantiate;
use super::outputs::LocalElement;
use super::rejects::{RejectPolicies, Rejects};
use super::shared::{Command, Event, Outcome, Shared};
use super::subtask::{Body, Subtask, Turn};
use super::wiring::{SlotWiring, SubtaskWiring};
use crate::backend::Backend;
use crate::in_flight::Conversions;
use crate::metrics::{Activity, TaskMetrics};
use crate::prepare::{Connectors, JobOptions};
use crate::tables::OpenTable;

/// Elements that a subtask may leave waiting in one channel to a neighbour in the same slot.
const INBOX_ELEMENTS_MAX: usize = 64;

/// Elements that a subtask takes in one visit before the slot looks at the others again.
const ELEMENTS_PER_VISIT: usize = 16;

/// Below this, yielding is more punctual than sleeping: a sleeping thread wakes some 60 us late.
const SLEEP_MIN: Duration = Duration::from_micros(200);

/// What a slot needs to know of the job.
pub(crate) struct SlotJob {
    pub(crate) pipeline: Pipeline,
    pub(crate) options: JobOptions,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) graph: Graph,
    /// What runs, if it is not [`Start::plan`] for a while.
    pub(crate) plan: Arc<Plan>,
    pub(crate) connectors: Connectors,
    /// Who makes the requests of each operator that has some.
    pub(crate) clients: BTreeMap<OperatorIndex, Client>,
    /// Tables that rows are looked up in.
    pub(crate) tables: BTreeMap<OperatorIndex, OpenTable>,
    /// Identity of each operator in checkpoints.
    pub(crate) ids: Vec<String>,
    pub(crate) rejects: Arc<RejectPolicies>,
    pub(crate) metrics: Vec<TaskMetrics>,
}

/// What an attempt begins with.
pub(crate) struct Start {
    /// How often the job was restarted.
    pub(crate) attempt: u32,
    /// What runs.
    pub(crate) plan: Arc<Plan>,
    /// What was under way is let through and nothing else: sources give nothing.
    pub(crate) settles: bool,
    /// The channels of the checkpoint are those of the plan.
    pub(crate) channels: bool,
    /// Splits of each source with where to go on, by subtask in turn.
    pub(crate) splits: BTreeMap<OperatorIndex, Vec<SplitSnapshot>>,
    /// What finds more splits of a source, for those where more may turn up.
    pub(crate) enumerators: BTreeMap<OperatorIndex, Arc<SourceSplits>>,
    /// Where the state of keys and windows is.
    pub(crate) backend: Backend,
    /// The checkpoint to go on from.
    pub(crate) checkpoint: Option<Arc<Restorable>>,
    /// By identity of the operator: how its state is converted, where it is not the same any more.
    pub(crate) converters: BTreeMap<String, Arc<Converter>>,
    /// How rows in flight become what they are now.
    pub(crate) conversions: Conversions,
    /// Chains that take one row, timer or window a call, for they have trapped.
    pub(crate) careful: BTreeMap<u32, Trap>,
}

/// What a slot leaves behind.
#[derive(Debug, Default)]
pub(crate) struct SlotReport {
    pub(crate) user_metrics: Vec<UserMetric>,
    pub(crate) memory_bytes: usize,
}

/// One slot, on its thread.
pub(crate) struct Slot {
    index: SlotIndex,
    /// Number of all its subtasks.
    subtask: u32,
    job: Arc<SlotJob>,
    start: Arc<Start>,
    shared: Arc<Shared>,
    /// Commands carried out.
    commands: usize,
    sleeper: Sleeper,
    instance: Rc<RefCell<Instance>>,
    rejects: Rc<Rejects>,
    /// In careful mode; and whether that is to end.
    careful: Option<Rc<CarefulSlot>>,
    careful_over: bool,
    subtasks: Vec<Subtask>,
    targets: Vec<Vec<(usize, usize)>>,
    local: Vec<LocalElement>,
}

impl Slot {
    /// Makes the instance and opens every subtask.
    pub(crate) fn open(
        index: SlotIndex,
        job: Arc<SlotJob>,
        start: Arc<Start>,
        shared: Arc<Shared>,
        wiring: SlotWiring,
    ) -> Result<Self> {
        let sleeper = shared.sleepers[index.0 as usize].clone();
        sleeper.adopt_current_thread();
        let instance = Rc::new(RefCell::new(instantiate(&job, index)?));
        let has_trapped = |subtask: &SubtaskWiring| match &start.plan.tasks[subtask.task].kind {
            TaskKind::Chain { chain, .. } => start.careful.contains_key(&chain.0),
            TaskKind::Source { .. }
            | TaskKind::Watermarks { .. }
            | TaskKind::Requests { .. }
            | TaskKind::Lookup { .. }
            | TaskKind::Sink { .. } => false,
        };
        let careful = wiring.subtasks.iter().any(has_trapped).then(|| {
            let careful = CarefulSlot::new(job.clone(), index, instance.clone());
            Rc::new(careful)
        });
        let rejects = Rc::new(Rejects::new(job.rejects.clone(), shared.mode.is_some()));
        let mut slot = Slot {
            index,
            subtask: start.plan.placement.subtask_in(index),
            job,
            start,
            shared,
            commands: 0,
            sleeper,
            instance,
            rejects,
            careful,
            careful_over: false,
            subtasks: Vec::new(),
            targets: Vec::new(),
            local: Vec::new(),
        };
        for wiring in wiring.subtasks {
            let subtask = slot.open_subtask(wiring)?;
            slot.targets.push(subtask.outputs.local_targets());
            slot.subtasks.push(subtask);
        }
        Ok(slot)
    }

    /// Runs until all subtasks are done and the supervisor has decided how that ends.
    pub(crate) fn run(mut self) -> Result<SlotReport> {
        let outcome = match self.run_subtasks() {
            Ok(Some(outcome)) => outcome,
            Ok(None) => self.shared.wait_outcome(),
            Err(error) => {
                let trap = self.trap();
                self.shared.fail_by(error, trap);
                self.shared.wait_outcome()
            }
        };
        for subtask in &mut self.subtasks {
            let finished = match &mut subtask.body {
                Body::Sink(sink) => sink.finish(outcome),
                Body::Source(source) => {
                    let told = source.finish(outcome);
                    told.and(subtask.letters.finish(outcome))
                }
                Body::Watermarks(_) | Body::Requests(_) | Body::Lookup(_) | Body::Chain(_) => {
                    subtask.letters.finish(outcome)
                }
            };
            if outcome == Outcome::Commit {
                finished.map_err(|error| error.context(format!("task `{}`", subtask.name)))?;
            }
        }
        let instance = self.instance.borrow();
        Ok(SlotReport {
            user_metrics: instance.metrics().to_vec(),
            memory_bytes: instance.memory_bytes(),
        })
    }

    /// `None`: the attempt failed.
    fn run_subtasks(&mut self) -> Result<Option<Outcome>> {
        let mut finished = false;
        while !self.shared.has_failed() {
            let mut worked = self.handle_commands()?;
            worked |= self.answer_questions()?;
            self.end_careful();
            let mut wait: Option<Duration> = None;
            // Rows that come before an overtaken barrier is seen are copied: the sooner the fewer. And entries that no
            // row has touched yet are exported in order, which costs less than where rows touch them.
            let snapshots = |subtask: &Subtask| subtask.is_recording() || subtask.is_exporting();
            let turn = Turn {
                elements: if self.subtasks.iter().any(snapshots) {
                    1
                } else {
                    ELEMENTS_PER_VISIT
                },
                commands: self.commands,
            };
            for index in 0..self.subtasks.len() {
                let visit = self.visit(index, turn)?;
                worked |= visit.0;
                wait = match (wait, visit.1) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            if self.subtasks.iter().all(|subtask| subtask.done) {
                if !std::mem::replace(&mut finished, true) {
                    self.shared.send(Event::Finished);
                }
                if let Some(outcome) = self.shared.outcome() {
                    return Ok(Some(outcome));
                }
            }
            if !worked {
                self.rest(wait)?;
            }
        }
        Ok(None)
    }

    /// Says what chains hold for keys, to whoever has asked.
    fn answer_questions(&mut self) -> Result<bool> {
        if !self.shared.questions.has_some(self.index) {
            return Ok(false);
        }
        let now = self.shared.clock.now_millis();
        for question in self.shared.questions.take(self.index) {
            let mut subtasks = self.subtasks.iter_mut();
            let subtask = subtasks.find(|subtask| subtask.place.task == question.task);
            let held = match subtask.map(|subtask| &mut subtask.body) {
                Some(Body::Chain(chain)) => chain.look_up(&question.key, question.limit, now),
                Some(Body::Source(_) | Body::Watermarks(_) | Body::Requests(_) | Body::Lookup(_) | Body::Sink(_))
                | None => Err(Error::internal(
                    "a slot was asked for the state of a task that has none",
                )),
            };
            // What the guest does wrong is the end of the attempt, whoever had it do that.
            let failed = held
                .as_ref()
                .err()
                .filter(|error| error.fault() != Fault::User)
                .cloned();
            // Who does not wait any more need not know.
            let _ = question.answer.send(held);
            failed.map_or(Ok(()), Err)?;
        }
        Ok(true)
    }

    /// The trap that an error was, if it was one.
    fn trap(&mut self) -> Option<Trap> {
        let subtask = self.subtask;
        self.subtasks.iter_mut().find_map(|of| match &mut of.body {
            Body::Chain(task) => task.take_trap(subtask),
            Body::Source(_) | Body::Watermarks(_) | Body::Requests(_) | Body::Lookup(_) | Body::Sink(_) => None,
        })
    }

    /// Leaves careful mode, if it is over: all chains at once, for each needs the copies of all.
    fn end_careful(&mut self) {
        if !self.careful_over {
            return;
        }
        let mut tasks = Vec::new();
        for subtask in &mut self.subtasks {
            if let Body::Chain(task) = &mut subtask.body {
                tasks.push(task);
            }
        }
        if tasks.iter().all(|task| task.can_end_careful()) {
            tasks.into_iter().for_each(|task| task.end_careful());
            self.careful = None;
            self.careful_over = false;
        }
    }

    /// Carries out what the supervisor has said since the last time.
    fn handle_commands(&mut self) -> Result<bool> {
        if self.shared.command_count() == self.commands {
            return Ok(false);
        }
        let commands = self.shared.commands_from(self.commands);
        self.commands += commands.len();
        for command in commands {
            self.careful_over |= self.careful.is_some() && command == Command::EndCareful;
            for index in 0..self.subtasks.len() {
                let subtask = &mut self.subtasks[index];
                let place = subtask.place.subtask;
                let done = Self::handle_command(subtask, command, &self.shared);
                done.map_err(|error| error.context(format!("task `{}`, subtask {place}", subtask.name)))?;
                self.deliver_local(index);
            }
        }
        Ok(true)
    }

    fn handle_command(subtask: &mut Subtask, command: Command, shared: &Shared) -> Result<()> {
        match (command, &mut subtask.body) {
            (Command::Announce { id, stop, .. }, _) => {
                subtask.handle_announced(id, shared)?;
                if stop {
                    subtask.stop_source();
                }
                Ok(())
            }
            (Command::Unalign(id), _) => subtask.handle_unaligned(id, shared),
            (Command::Complete(id), Body::Sink(sink)) => sink.commit(id),
            (Command::Complete(id), Body::Source(source)) => {
                source.handle_complete(id)?;
                subtask.letters.commit(id)
            }
            (Command::Complete(id), _) => subtask.letters.commit(id),
            (Command::EndCareful, _) => Ok(()),
            (Command::Drain, _) => {
                subtask.drain_source();
                Ok(())
            }
            (Command::Cancel(id), _) => {
                subtask.handle_cancelled(id, shared);
                Ok(())
            }
        }
    }

    /// Hands what a subtask put out for this slot to its neighbours.
    fn deliver_local(&mut self, index: usize) {
        self.subtasks[index].outputs.take_local(&mut self.local);
        for (target, channel, element) in self.local.drain(..) {
            self.subtasks[target].deliver(channel, element);
        }
    }

    /// One subtask's turn: whether it worked, and how long it can wait.
    fn visit(&mut self, index: usize, turn: Turn) -> Result<(bool, Option<Duration>)> {
        self.subtasks[index].look_ahead(&self.shared)?;
        let exported = self.subtasks[index].export_piece(&self.shared)?;
        if self.subtasks[index].done {
            return Ok((exported, None));
        }
        let full = self.targets[index]
            .iter()
            .any(|&(target, channel)| self.subtasks[target].waiting(channel) > INBOX_ELEMENTS_MAX);
        let subtask = &mut self.subtasks[index];
        if (full || !subtask.outputs.has_room()) && !subtask.hurries() {
            subtask.set_activity(Activity::Backpressured, &self.shared);
            return Ok((exported, None));
        }
        subtask.set_activity(Activity::Busy, &self.shared);
        let visit = subtask.visit(turn, &self.shared, &self.rejects);
        let visit =
            visit.map_err(|error| error.context(format!("task `{}`, subtask {}", subtask.name, self.subtask)))?;
        subtask.set_activity(Activity::Idle, &self.shared);
        self.deliver_local(index);
        Ok((visit.worked || exported, visit.wait))
    }

    /// Nothing to do: show what sinks hold, then wait.
    fn rest(&mut self, wait: Option<Duration>) -> Result<()> {
        for subtask in &mut self.subtasks {
            if let Body::Sink(sink) = &mut subtask.body {
                sink.flush()
                    .map_err(|error| error.context(format!("task `{}`", subtask.name)))?;
            }
        }
        if wait.is_some_and(|wait| wait < SLEEP_MIN) {
            std::thread::yield_now();
            return Ok(());
        }
        self.sleeper.announce();
        let ready = self.shared.has_failed()
            || self.shared.command_count() > self.commands
            || self.shared.questions.has_some(self.index)
            || self.shared.outcome().is_some()
            || self.subtasks.iter().any(|subtask| {
                !subtask.done && subtask.has_input() && (subtask.outputs.has_room() || subtask.hurries())
            })
            || self.subtasks.iter().any(Subtask::has_sight);
        if ready || self.source_must_stop() || self.blocked_source_has_room() {
            self.sleeper.retract();
            return Ok(());
        }
        self.sleeper.sleep(wait.map(|wait| wait - SLEEP_MIN / 2));
        Ok(())
    }

    /// A stop may have come between the last visit and the announcement.
    fn source_must_stop(&self) -> bool {
        self.shared.sources_end()
            && self
                .subtasks
                .iter()
                .any(|subtask| !subtask.done && matches!(subtask.body, Body::Source(_)))
    }

    /// A queue may have emptied between the last visit and the announcement.
    fn blocked_source_has_room(&self) -> bool {
        self.subtasks
            .iter()
            .any(|subtask| subtask.was_blocked() && subtask.outputs.has_room())
    }
}
