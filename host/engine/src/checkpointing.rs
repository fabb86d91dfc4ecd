//! Carries out what the checkpoint coordinator decides: commands to slots, files to storage.
//!
//! ```text
//!   slots --Acknowledged--> layers written --handle_ack--> Store --> metadata written --handle_stored-->
//!   Complete --> slots: sinks commit
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millrace_core::block::Millis;
use millrace_core::checkpoint::{
    Action, CheckpointConfig, CheckpointId, CheckpointKind, Coordinator, DeclineReason, Participant, SubtaskSnapshot,
    TableDelta,
};
use millrace_core::connector::without_passwords;
use millrace_core::control::{Controller, OperationId, Order, State};
use millrace_core::schema::KeyedSchema;
use millrace_core::{Error, Result};
use millrace_state::{CheckpointInfo, Checkpoints, Kind, Metadata, OperatorSnapshot, Restorable};
use millrace_wasm::{LogLevel, LogSink};

use crate::control::Control;
use crate::env::Clock;
use crate::kept::Keeping;
use crate::savepoints::Savepoints;
use crate::snapshot_tasks::SnapshotTask;
use crate::worker::{Command, Shared, SlotJob};

/// Checkpoints of a job so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointStatistics {
    /// Completed ones.
    pub completed: u64,
    /// Those that came to nothing.
    pub failed: u64,
    /// Id of the last completed one.
    pub last_id: u64,
    /// When that was.
    pub last_completed_ms: Millis,
    /// From its trigger until it was durable.
    pub last_duration: Duration,
    /// Bytes that a restart from it reads.
    pub last_bytes: u64,
    /// Longest time that one of its subtasks waited for its barriers, from when it heard of the checkpoint.
    pub last_alignment: Duration,
    /// Rows under way that it holds, for its barriers overtook them.
    pub last_in_flight_rows: u64,
    /// Bytes of their files.
    pub last_in_flight_bytes: u64,
    /// Completed ones that hold rows under way.
    pub unaligned: u64,
    /// Longest from trigger to durable of all completed ones.
    pub longest_duration: Duration,
    /// Longest [`last_alignment`](Self::last_alignment) of all.
    pub longest_alignment: Duration,
    /// Most bytes in flight that one held.
    pub most_in_flight_bytes: u64,
    /// Times that the job was restarted.
    pub restarts: u32,
    /// Rows, timers and windows that were set aside because user code traps on them, each counted once.
    pub quarantined: u64,
}

/// The savepoint of a stop is given up that much before its checkpoint, so that the two agree.
const DEADLINE_MARGIN: Duration = Duration::from_millis(1);

struct Pending {
    started: Duration,
    started_ms: i64,
    /// By task and subtask.
    snapshots: Vec<Vec<SubtaskSnapshot>>,
    alignment: Duration,
}

/// See the module's documentation.
pub(crate) struct Checkpointing {
    pub(crate) coordinator: Coordinator,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) savepoints: Savepoints,
    job: Arc<SlotJob>,
    control: Arc<Control>,
    /// Checkpoints are kept to restart from; otherwise all is gone with the job, but savepoints.
    durable: bool,
    timeout: Duration,
    tasks: Vec<SnapshotTask>,
    parameters: BTreeMap<String, String>,
    max_parallelism: u32,
    clock: Clock,
    log: LogSink,
    pending: BTreeMap<CheckpointId, Pending>,
    /// Checkpoints that may have been stored though nobody heard of it, and could not be deleted.
    doubtful: Vec<CheckpointId>,
    /// The next snapshots have nothing to lie on.
    full: bool,
    settling: Settling,
    /// Where the run began, which is its own to delete once it retains as many checkpoints as it is to.
    claimed: Option<String>,
    retained: usize,
    statistics: CheckpointStatistics,
}

/// Whether rows under way are let through, so that the job can go on with other subtasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settling {
    No,
    /// A checkpoint behind them is waited for.
    Yes,
    /// It is complete.
    Done,
}

/// What does not change while a job runs.
pub(crate) struct CheckpointedJob {
    job: Arc<SlotJob>,
    control: Arc<Control>,
    durable: bool,
    tasks: Vec<SnapshotTask>,
    parameters: Vec<(String, String)>,
    max_parallelism: u32,
    clock: Clock,
    /// Where the run began, if it is to delete that when it needs it no more.
    claimed: Option<String>,
}

impl CheckpointedJob {
    /// `durable`: a restart may begin with its checkpoints.
    pub(crate) fn new(
        job: &Arc<SlotJob>,
        tasks: &[SnapshotTask],
        clock: Clock,
        control: &Arc<Control>,
        durable: bool,
    ) -> Self {
        CheckpointedJob {
            job: job.clone(),
            control: control.clone(),
            durable,
            tasks: tasks.to_vec(),
            parameters: shown_parameters(&job.parameters),
            max_parallelism: job.plan.max_parallelism,
            clock,
            claimed: None,
        }
    }

    /// The run owns what it began with.
    pub(crate) fn claiming(self, claimed: Option<String>) -> Self {
        CheckpointedJob { claimed, ..self }
    }
}

/// Parameters as checkpoints hold them, where people read them: nobody goes on from these.
fn shown_parameters(parameters: &[(String, String)]) -> Vec<(String, String)> {
    let shown = |(name, value): &(String, String)| (name.clone(), without_passwords(value));
    parameters.iter().map(shown).collect()
}

impl Checkpointing {
    /// For a run that begins, or goes on from checkpoint `latest`.
    pub(crate) fn new(
        config: CheckpointConfig,
        checkpoints: Checkpoints,
        latest: Option<CheckpointId>,
        job: CheckpointedJob,
    ) -> Result<Self> {
        let next = CheckpointId(checkpoints.last_id().map_or(1, |id| id.0 + 1));
        let (retained, timeout) = (config.retained as usize, config.timeout);
        let mut coordinator = Coordinator::new(config, next)?;
        if let Some(latest) = latest {
            coordinator = coordinator.resuming(latest, checkpoints.completed());
        }
        let checkpoints = Arc::new(checkpoints);
        Ok(Checkpointing {
            coordinator,
            savepoints: Savepoints::new(checkpoints.clone(), job.control.clone(), job.clock, &job.job),
            log: job.job.options.log.clone(),
            job: job.job,
            checkpoints,
            control: job.control,
            durable: job.durable,
            timeout,
            tasks: job.tasks,
            parameters: job.parameters.into_iter().collect(),
            max_parallelism: job.max_parallelism,
            clock: job.clock,
            pending: BTreeMap::new(),
            doubtful: Vec::new(),
            full: true,
            settling: Settling::No,
            claimed: job.claimed,
            retained,
            statistics: CheckpointStatistics::default(),
        })
    }

    pub(crate) fn statistics(&self) -> &CheckpointStatistics {
        &self.statistics
    }

    fn participants(&self) -> u32 {
        self.tasks.iter().map(|task| task.parallelism).sum()
    }

    fn participant(&self, task: usize, subtask: u32) -> Participant {
        Participant(self.tasks[task].first + subtask)
    }

    /// An attempt is to begin with these tasks. `settles`: only to let rows under way through; a checkpoint is taken
    /// behind them, and that is all.
    pub(crate) fn prepare(&mut self, tasks: &[SnapshotTask], settles: bool) {
        self.tasks = tasks.to_vec();
        self.settling = if settles { Settling::Yes } else { Settling::No };
    }

    /// Whether the attempt only lets rows under way through.
    pub(crate) fn settles(&self) -> bool {
        self.settling != Settling::No
    }

    /// Whether it has let through what it was to.
    pub(crate) fn has_settled(&self) -> bool {
        self.settling == Settling::Done
    }

    /// The slots run. `stacked`: their next snapshots may lie on the checkpoint that they were restored from.
    pub(crate) fn handle_running(&mut self, stacked: bool, shared: &Shared) {
        self.full = !stacked;
        let actions = self
            .coordinator
            .handle_running(self.participants(), self.clock.elapsed());
        self.act(actions, shared);
        if self.settling == Settling::Yes {
            self.trigger(CheckpointKind::Periodic, None, shared);
        }
    }

    pub(crate) fn handle_time(&mut self, shared: &Shared) {
        let actions = self.coordinator.handle_time(self.clock.elapsed());
        self.act(actions, shared);
    }

    /// Asks for a checkpoint now, maybe for an operation.
    pub(crate) fn trigger(&mut self, kind: CheckpointKind, operation: Option<OperationId>, shared: &Shared) {
        match self.coordinator.trigger(kind, self.clock.elapsed()) {
            Ok((id, actions)) => {
                self.tell(|controller| {
                    controller.handle_triggered(operation, id);
                    Vec::new()
                });
                self.act(actions, shared);
            }
            Err(refused) => self.tell(|controller| controller.handle_not_triggered(operation, refused)),
        }
    }

    fn tell(&self, tell: impl FnOnce(&mut Controller) -> Vec<Order>) {
        self.control.tell(tell);
    }

    /// A subtask's part has come.
    pub(crate) fn handle_snapshot(
        &mut self,
        id: CheckpointId,
        task: usize,
        subtask: u32,
        mut snapshot: SubtaskSnapshot,
        alignment: Duration,
        shared: &Shared,
    ) {
        let participant = self.participant(task, subtask);
        let name = &self.tasks[task].id;
        let mut written = Ok(());
        if let Some(table) = snapshot.table.take() {
            // Also for a checkpoint that was given up: later increments lie on this one.
            written = self.checkpoints.write_layers(id, name, subtask, &table).map(|_| ());
            let collections = std::mem::take(&mut snapshot.collections);
            written = written.and(self.write_collections(id, task, subtask, &collections));
            self.full |= written.is_err();
        }
        let channels = std::mem::take(&mut snapshot.channels);
        if !channels.is_empty() && self.pending.contains_key(&id) {
            written = written.and_then(|()| self.checkpoints.write_channels(id, name, subtask, &channels));
        }
        if let Err(error) = written {
            let reason = DeclineReason::Failed(error.to_string());
            let now = self.clock.elapsed();
            let actions = self.coordinator.handle_decline(id, participant, reason, now);
            self.act(actions, shared);
            return;
        }
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.alignment = pending.alignment.max(alignment);
            pending.snapshots[task][subtask as usize] = snapshot;
        }
        let actions = self.coordinator.handle_ack(id, participant, self.clock.elapsed());
        self.act(actions, shared);
    }

    /// Writes what a subtask hands over of its large states: all of them, whatever becomes of the first.
    fn write_collections(&self, id: CheckpointId, task: usize, subtask: u32, deltas: &[TableDelta]) -> Result<()> {
        let SnapshotTask {
            id: operator, keyed, ..
        } = &self.tasks[task];
        let states = keyed.iter().flat_map(KeyedSchema::collections);
        let mut result = Ok(());
        for ((number, state), delta) in states.enumerate().zip(deltas) {
            let state = (number, state.name.as_str());
            let written = self.checkpoints.write_collection(id, operator, subtask, state, delta);
            result = result.and(written);
        }
        result
    }

    pub(crate) fn handle_superseded(&mut self, id: CheckpointId, task: usize, subtask: u32, shared: &Shared) {
        let (participant, now) = (self.participant(task, subtask), self.clock.elapsed());
        let reason = DeclineReason::Superseded;
        let actions = self.coordinator.handle_decline(id, participant, reason, now);
        self.act(actions, shared);
    }

    /// The attempt has failed.
    pub(crate) fn handle_failed(&mut self, shared: &Shared) {
        let actions = self.coordinator.handle_failed(self.clock.elapsed());
        self.act(actions, shared);
        self.pending.clear();
    }

    /// Another attempt follows.
    pub(crate) fn count_restart(&mut self) {
        self.statistics.restarts += 1;
        self.control.set_statistics(self.statistics.clone());
    }

    /// Before a restart: a checkpoint that was given up must not turn up later, after its transactions were
    /// thrown away.
    pub(crate) fn settle(&mut self) -> Result<()> {
        while let Some(&id) = self.doubtful.last() {
            let context = |error: Error| error.context(format!("checkpoint {id} was given up and cannot be deleted"));
            let deleted = if self.checkpoints.completed().contains(&id) {
                self.checkpoints.discard(id)
            } else {
                self.checkpoints.abort(id)
            };
            deleted.map_err(context)?;
            self.doubtful.pop();
        }
        Ok(())
    }

    fn act(&mut self, actions: Vec<Action>, shared: &Shared) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Trigger { id, kind } => self.begin(id, kind, shared),
                // What holds rows under way again would settle nothing.
                Action::Unalign { .. } if self.settling != Settling::No => {}
                Action::Unalign { id } => shared.command(Command::Unalign(id)),
                Action::Store { id, kind } => actions.extend(self.store(id, kind)),
                Action::Complete { id, kind } => {
                    self.tell(|controller| {
                        controller.handle_complete(kind);
                        Vec::new()
                    });
                    if kind.commits() {
                        if self.settling == Settling::Yes {
                            self.settling = Settling::Done;
                        }
                        self.statistics.completed += 1;
                        self.statistics.last_id = id.0;
                        shared.command(Command::Complete(id));
                        self.delete_claimed();
                    } else {
                        self.savepoints.write(id);
                    }
                }
                Action::Abort { id, reason } => {
                    self.pending.remove(&id);
                    self.savepoints.give_up(id);
                    self.statistics.failed += 1;
                    (self.log)(LogLevel::Warn, &format!("checkpoint {id} came to nothing: {reason}"));
                    self.tell(|controller| controller.handle_aborted(id, &reason));
                    shared.command(Command::Cancel(id));
                    self.tidy(id, self.checkpoints.abort(id));
                }
                Action::Discard { id } => self.discard(id),
                Action::FailJob { reason } => {
                    let message = format!("a checkpoint failed: {reason}");
                    shared.fail(Error::external("CK0003", message));
                }
            }
        }
    }

    fn begin(&mut self, id: CheckpointId, kind: CheckpointKind, shared: &Shared) {
        let none = |task: &SnapshotTask| vec![SubtaskSnapshot::default(); task.parallelism as usize];
        self.pending.insert(
            id,
            Pending {
                started: self.clock.elapsed(),
                started_ms: self.clock.now_millis(),
                snapshots: self.tasks.iter().map(none).collect(),
                alignment: Duration::ZERO,
            },
        );
        let stop = kind == CheckpointKind::Stop;
        // Behind a drain nothing is left to end.
        if stop && !self.control.ask(|controller| controller.state() == State::Draining) {
            // Before the announcement: what ends because of it must not fire windows.
            shared.stop_at_checkpoint();
        }
        let full = std::mem::take(&mut self.full) || !self.durable;
        shared.command(Command::Announce { id, full, stop });
    }

    fn store(&mut self, id: CheckpointId, kind: CheckpointKind) -> Vec<Action> {
        let Some(mut pending) = self.pending.remove(&id) else {
            return Vec::new();
        };
        let info = CheckpointInfo {
            kind: match kind {
                CheckpointKind::Periodic => Kind::Checkpoint,
                CheckpointKind::Savepoint => Kind::Savepoint,
                CheckpointKind::Stop | CheckpointKind::Final => Kind::Final,
            },
            parameters: self.parameters.clone(),
            max_parallelism: self.max_parallelism,
            started_ms: pending.started_ms,
            completed_ms: self.clock.now_millis(),
        };
        let operators = self.tasks.iter().zip(std::mem::take(&mut pending.snapshots));
        let operators = operators.map(|(task, subtasks)| OperatorSnapshot {
            id: task.id.clone(),
            name: task.name.clone(),
            connector: task.connector.clone(),
            keyed: task.keyed.clone(),
            subtasks,
        });
        let operators = operators.collect::<Vec<_>>();
        let deadline = pending.started + self.timeout;
        let stored = match kind {
            CheckpointKind::Savepoint => {
                let held = self.checkpoints.hold(id, &info, &operators);
                let held = held.and_then(|held| self.savepoints.hold(id, held, deadline));
                held.map(|()| self.clock.elapsed())
            }
            CheckpointKind::Periodic | CheckpointKind::Stop | CheckpointKind::Final => {
                self.keep(id, &info, &operators, &pending)
            }
        };
        match stored {
            Ok(at) => self.coordinator.handle_stored(id, at),
            Err(error) => {
                let now = self.clock.elapsed();
                self.coordinator.handle_store_failed(id, error.to_string(), now)
            }
        }
    }

    /// Stores what a restart begins with, and the savepoint of a stop behind it: should that fail, there was no stop.
    /// Returns when that was.
    fn keep(
        &mut self,
        id: CheckpointId,
        info: &CheckpointInfo,
        operators: &[OperatorSnapshot],
        pending: &Pending,
    ) -> Result<Duration> {
        let checkpoint = if self.durable {
            let metadata = self.checkpoints.complete(id, info, operators)?;
            self.count_stored(&metadata, pending);
            self.checkpoints.opened(metadata)
        } else {
            self.checkpoints.hold(id, info, operators)?
        };
        let Some((operation, target)) = self.control.savepoint_of(id) else {
            return Ok(self.clock.elapsed());
        };
        let noted = Keeping::begin(&self.job, checkpoint.metadata(), &target);
        let deadline = (pending.started + self.timeout).saturating_sub(DEADLINE_MARGIN);
        let writer = self.savepoints.writer(deadline);
        let written = writer.write(&checkpoint, noted, (operation, &target));
        if written.is_err() {
            self.discard(id);
        }
        // What was begun in time counts, though the last of it took longer: the savepoint is there.
        written.map(|()| self.clock.elapsed().min(deadline))
    }

    fn count_stored(&mut self, metadata: &Metadata, pending: &Pending) {
        let (taken, in_flight) = (&mut self.statistics, metadata.in_flight());
        taken.last_duration = self.clock.elapsed().saturating_sub(pending.started);
        taken.last_completed_ms = self.clock.now_millis();
        taken.last_bytes = metadata.bytes();
        taken.last_alignment = pending.alignment;
        taken.last_in_flight_rows = in_flight.rows;
        taken.last_in_flight_bytes = in_flight.bytes;
        taken.unaligned += u64::from(in_flight.rows > 0);
        taken.longest_duration = taken.longest_duration.max(taken.last_duration);
        taken.longest_alignment = taken.longest_alignment.max(taken.last_alignment);
        taken.most_in_flight_bytes = taken.most_in_flight_bytes.max(taken.last_in_flight_bytes);
    }

    /// What the run began with is one of its checkpoints, and gives way to newer ones as they do.
    fn delete_claimed(&mut self) {
        if self.checkpoints.completed().len() < self.retained {
            return;
        }
        let Some(url) = self.claimed.take() else { return };
        match Restorable::delete(&url) {
            Ok(()) => (self.log)(LogLevel::Info, &format!("`{url}` was claimed and is deleted")),
            Err(error) => (self.log)(
                LogLevel::Warn,
                &format!("`{url}` was claimed and cannot be deleted: {error}"),
            ),
        }
    }

    /// Deletes a checkpoint, whatever there is of it.
    fn discard(&mut self, id: CheckpointId) {
        let completed = self.checkpoints.completed().contains(&id);
        let discarded = match completed {
            true => self.checkpoints.discard(id),
            false => self.checkpoints.abort(id),
        };
        self.savepoints.give_up(id);
        if discarded.is_err() && (!completed || self.coordinator.latest() < Some(id)) {
            self.doubtful.push(id);
        }
        self.tidy(id, discarded);
    }

    /// Files that stay behind are collected when the run is opened the next time.
    fn tidy(&self, id: CheckpointId, result: Result<()>) {
        if let Err(error) = result {
            let message = format!("files of checkpoint {id} could not be deleted: {error}");
            (self.log)(LogLevel::Warn, &message);
        }
    }
}
