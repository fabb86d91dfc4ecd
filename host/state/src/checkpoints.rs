//! Writing the checkpoints of one run, and deleting what nobody refers to any more.
//!
//! Order makes it safe: layers are durable before the metadata that names them is written, and metadata is
//! gone before layers are deleted. A crash in between leaves files that belong to nothing; the next opening
//! of the run collects them.

mod info;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use millrace_core::checkpoint::{ChannelSnapshot, CheckpointId, TableDelta};
use millrace_core::schema::KeyedSchema;
use millrace_core::{Error, Result};

pub use self::info::{CheckpointInfo, OperatorSnapshot, StackSize};
use crate::accounting::{Accounting, Owner, Refusal};
use crate::format::{
    Collection, InFlight, Layer, Metadata, Operator, Run, Subtask, encode_in_flight, layer, version_of, write_metadata,
    write_run,
};
use crate::names::{self, RunPaths};
use crate::savepoint::SavedSchema;
use crate::{RestoredCheckpoint, Skipped, Storage, codes};

/// Rows read from a lower tier are written as a layer of their own when they take this much memory.
const PIECE_BYTES: usize = 64 << 20;

/// The checkpoints of one run. Methods may be called from any thread.
///
/// For each checkpoint: [`write_layers`](Self::write_layers) as each subtask hands over its table, then
/// [`complete`](Self::complete), or [`abort`](Self::abort) at any time. The calls for one subtask come in the
/// order of checkpoints, one at a time; different subtasks may write at the same time. There is one writer to a
/// run: two would delete each other's files.
#[derive(Debug)]
pub struct Checkpoints {
    storage: Storage,
    run: Run,
    paths: RunPaths,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accounting: Accounting,
    /// What was written of the channels of subtasks, for pending checkpoints.
    in_flight: BTreeMap<(CheckpointId, Owner), Vec<InFlight>>,
    /// Greatest id that is known in this run.
    last: Option<CheckpointId>,
    /// Files that nobody needs and that could not be deleted yet.
    doomed: BTreeSet<String>,
}

impl Checkpoints {
    /// Starts a run: writes its `run.json`.
    ///
    /// # Errors
    /// If the storage refuses, or if there is such a run already.
    pub fn create(storage: &Storage, run: Run) -> Result<Checkpoints> {
        let checkpoints = Self::new(storage, run);
        let (paths, run) = (&checkpoints.paths, &checkpoints.run);
        let description = paths.description();
        if storage.read(&description)?.is_some() {
            return Err(Error::internal(format!(
                "`{}` is there already",
                storage.shown(&description)
            )));
        }
        storage.write(&description, write_run(run))?;
        Ok(checkpoints)
    }

    /// Goes on with a run that exists, and collects what a crash has left: layers that no checkpoint refers to
    /// and folders of checkpoints without metadata.
    ///
    /// Checkpoints that cannot be read are returned beside; as long as there are any no layer is collected,
    /// for they may need it.
    ///
    /// # Errors
    /// If the storage refuses, or if there is no such run.
    pub fn open(storage: &Storage, job: &str, run: &str) -> Result<(Checkpoints, Vec<Skipped>)> {
        let checkpoints = Self::new(storage, storage.read_run(job, run)?);
        let paths = &checkpoints.paths;
        let mut skipped = Vec::new();
        let mut state = State::default();
        let folders = storage.list(paths.folder())?.folders;
        for id in folders.iter().filter_map(|folder| names::checkpoint_of_folder(folder)) {
            state.last = state.last.max(Some(id));
            match storage.read_checkpoint(job, run, id) {
                Ok(metadata) => state
                    .accounting
                    .adopt(id, metadata.files().map(|file| file.file.to_owned())),
                Err(error) if error.code() == codes::NOT_FOUND => {
                    // Best effort, like all cleaning up.
                    let _ = storage.delete_unfinished(&paths.checkpoint(id));
                    let _ = storage.delete_folder(&paths.checkpoint(id));
                }
                Err(error) if codes::is_damage(error.code()) || error.code() == codes::NEWER => {
                    skipped.push(Skipped {
                        run: run.to_owned(),
                        checkpoint: id,
                        error,
                    });
                }
                Err(error) => return Err(error),
            }
        }
        let files: Vec<String> = storage
            .list(&paths.shared())?
            .files
            .into_iter()
            .map(|(file, _)| file)
            .collect();
        // A layer that is left over and cannot be deleted now must not share its name with a new one.
        let ids = files.iter().filter_map(|file| names::checkpoint_of_layer(file));
        state.last = state.last.max(ids.max());
        let unused = files.into_iter().filter(|file| !state.accounting.needs(file));
        if skipped.is_empty() {
            let _ = storage.delete_unfinished(&paths.shared());
            state.doomed = unused.collect();
        }
        if let Some(last) = state.last {
            state.accounting.resume(last, []);
        }
        *checkpoints.state() = state;
        checkpoints.clean_up(Vec::new());
        Ok((checkpoints, skipped))
    }

    fn new(storage: &Storage, run: Run) -> Checkpoints {
        Checkpoints {
            storage: storage.clone(),
            paths: RunPaths::new(&run.job, &run.run),
            run,
            state: Mutex::default(),
        }
    }

    /// The run that they are of.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Ids of the stored checkpoints that can be read, the oldest first.
    pub fn completed(&self) -> Vec<CheckpointId> {
        self.state().accounting.completed().collect()
    }

    /// The greatest id that this run has used, for a checkpoint that completed or not: a new one has to be greater.
    pub fn last_id(&self) -> Option<CheckpointId> {
        self.state().last
    }

    /// What the next increment of a subtask will lie on; `None`: its next snapshot has to be full.
    pub fn stack(&self, operator: &str, subtask: u32) -> Option<StackSize> {
        let state = self.state();
        let layers = state.accounting.stack(&owner(operator, subtask, None))?;
        Some(StackSize {
            layers: layers.len(),
            rows: layers.iter().map(|layer| layer.rows).sum(),
            bytes: layers.iter().map(|layer| layer.bytes).sum(),
        })
    }

    /// The subtasks have been restored from a checkpoint of this run, so that their next snapshots may be
    /// increments to it. What was pending is given up, and what still comes for it is refused. Not for restores at another parallelism: without this
    /// call, or after [`forget`](Self::forget), every subtask begins with a full snapshot.
    ///
    /// # Errors
    /// If the checkpoint is of another run, whose files this one must not depend on, or is not stored any more.
    pub fn resume(&self, metadata: &Metadata) -> Result<()> {
        let id = metadata.checkpoint;
        let mut state = self.state();
        if metadata.run != self.run.run || !state.accounting.completed().any(|completed| completed == id) {
            let (run, own) = (&metadata.run, &self.run.run);
            return Err(Error::internal(format!(
                "run `{own}` cannot build on checkpoint {id} of run `{run}`"
            )));
        }
        let mut stacks = Vec::new();
        for operator in &metadata.operators {
            for (subtask, number) in operator.subtasks.iter().zip(0..) {
                // Without layers its table was empty, and increments may lie on that too.
                stacks.push((owner(&operator.id, number, None), subtask.layers.clone()));
                for large in &subtask.collections {
                    stacks.push((owner(&operator.id, number, Some(&large.state)), large.layers.clone()));
                }
            }
        }
        let last = state.last.unwrap_or(id);
        state.in_flight.clear();
        let freed = state.accounting.resume(last, stacks);
        drop(state);
        self.clean_up(freed);
        Ok(())
    }

    /// The subtasks start from nothing or at another parallelism: every next snapshot has to be full, and what
    /// was pending is given up.
    pub fn forget(&self) {
        let mut state = self.state();
        let last = state.last.unwrap_or(CheckpointId(0));
        state.in_flight.clear();
        let freed = state.accounting.resume(last, []);
        drop(state);
        self.clean_up(freed);
    }

    /// Writes what a subtask hands over of its table. Returns the table as of this checkpoint: its layers, the
    /// oldest first.
    ///
    /// After an error the same delta may be written again; increments of later checkpoints are refused until
    /// that has happened or a full one has come ([`stack`](Self::stack) says so).
    ///
    /// # Errors
    /// If the storage refuses; `CS0008` for an increment to what could not be written.
    pub fn write_layers(
        &self,
        id: CheckpointId,
        operator: &str,
        subtask: u32,
        delta: &TableDelta,
    ) -> Result<Vec<Layer>> {
        let file = |piece| names::layer_file(id, operator, subtask, piece);
        self.write_table(id, owner(operator, subtask, None), &file, delta)
    }

    /// The same of a large state: its number among those of the operator, and its name.
    ///
    /// # Errors
    /// Those of [`write_layers`](Self::write_layers).
    pub fn write_collection(
        &self,
        id: CheckpointId,
        operator: &str,
        subtask: u32,
        (number, state): (usize, &str),
        delta: &TableDelta,
    ) -> Result<()> {
        let file = |piece| names::large_file(id, operator, subtask, number, piece);
        self.write_table(id, owner(operator, subtask, Some(state)), &file, delta)
            .map(drop)
    }

    /// Writes what is handed over of a table; `file` names each piece.
    fn write_table(
        &self,
        id: CheckpointId,
        owner: Owner,
        file: &dyn Fn(usize) -> String,
        delta: &TableDelta,
    ) -> Result<Vec<Layer>> {
        {
            let mut state = self.state();
            state.last = state.last.max(Some(id));
            let check = state.accounting.check(id, &owner, delta.full);
            check.map_err(|refusal| refused(id, &owner, refusal))?;
        }
        let mut new = Vec::new();
        let written = self.write_pieces(file, delta, &mut new);
        let mut state = self.state();
        // The job may have started again meanwhile.
        let refusal = state.accounting.check(id, &owner, delta.full).err();
        if written.is_err() || refusal.is_some() {
            if written.is_err() {
                state.accounting.lose(id, &owner);
            }
            let files = new.into_iter().map(|layer| layer.file);
            let unused = files.filter(|file| !state.accounting.needs(file)).collect();
            drop(state);
            self.clean_up(unused);
            written?;
            return refusal.map_or(Ok(Vec::new()), |refusal| Err(refused(id, &owner, refusal)));
        }
        let freed = state
            .accounting
            .add(id, owner.clone(), delta.full, new, delta.live_rows);
        let layers = state
            .accounting
            .written(id, &owner)
            .expect("it was just added")
            .layers
            .clone();
        drop(state);
        self.clean_up(freed);
        Ok(layers)
    }

    /// Writes what was under way in the input channels of a subtask of a pending checkpoint.
    ///
    /// # Errors
    /// If the storage refuses, or if the checkpoint was given up when the job started again.
    pub fn write_channels(
        &self,
        id: CheckpointId,
        operator: &str,
        subtask: u32,
        channels: &[ChannelSnapshot],
    ) -> Result<()> {
        let owner = owner(operator, subtask, None);
        {
            let mut state = self.state();
            state.last = state.last.max(Some(id));
        }
        let mut described = Vec::new();
        for (in_flight, content) in
            encode_in_flight(channels, |number| names::rows_file(id, operator, subtask, number))?
        {
            if let (Some(rows), Some(content)) = (&in_flight.rows, content) {
                self.storage.write(&self.paths.layer(&rows.file), content)?;
                let mut state = self.state();
                if state.accounting.is_stale(id) {
                    drop(state);
                    self.clean_up(vec![rows.file.clone()]);
                    return Err(given_up(id));
                }
                state.accounting.add_file(id, rows.file.clone());
            }
            described.push(in_flight);
        }
        self.state().in_flight.insert((id, owner), described);
        Ok(())
    }

    /// Writes the layers of a delta: what is cold as it is read, then the rest. `new` are those written, also after an
    /// error.
    fn write_pieces(&self, file: &dyn Fn(usize) -> String, delta: &TableDelta, new: &mut Vec<Layer>) -> Result<()> {
        let mut write = |batches: &[RecordBatch]| {
            if let Some(layer::Encoded { layer, content }) = layer::encode(file(new.len()), batches)? {
                self.storage.write(&self.paths.layer(&layer.file), content)?;
                new.push(layer);
            }
            Ok(())
        };
        let (mut piece, mut bytes) = (Vec::new(), 0);
        if let Some(cold) = &delta.cold {
            cold.read(&mut |batch| {
                bytes += batch.get_array_memory_size();
                piece.push(batch);
                if bytes >= PIECE_BYTES {
                    write(&piece)?;
                    piece.clear();
                    bytes = 0;
                }
                Ok(())
            })?;
            write(&piece)?;
        }
        write(&delta.batches)
    }

    /// Completes a checkpoint: all tables are written, and now what holds it together. When this returns it
    /// is durable, and a restart will begin there. `operators` have no tables and channels any more.
    ///
    /// After an error it may be tried again. Whoever gives up instead calls [`abort`](Self::abort); until that
    /// has succeeded in deleting, the checkpoint may be there all the same (an answer that is lost on a
    /// network does not undo the write), so what a sink prepared must not be rolled back before.
    ///
    /// # Errors
    /// If the storage refuses.
    pub fn complete(
        &self,
        id: CheckpointId,
        info: &CheckpointInfo,
        operators: &[OperatorSnapshot],
    ) -> Result<Metadata> {
        if self.completed().contains(&id) {
            return Err(Error::internal(format!("checkpoint {id} is complete already")));
        }
        if self.state().accounting.is_stale(id) {
            return Err(given_up(id));
        }
        let metadata = self.describe(id, info, operators)?;
        let path = self.paths.metadata(id);
        self.storage.write(&path, write_metadata(&metadata))?;
        let mut state = self.state();
        state.last = state.last.max(Some(id));
        let freed = state.accounting.complete(id);
        state.in_flight.retain(|(of, _), _| *of > id);
        drop(state);
        self.clean_up(freed);
        Ok(metadata)
    }

    /// What a savepoint is to be made of: as [`complete`](Self::complete), but nothing is stored that a restart would
    /// find. The layers stay until [`discard`](Self::discard); checkpoints before and after it are not concerned.
    ///
    /// # Errors
    /// If the checkpoint was given up or its tables are not written.
    pub fn hold(
        &self,
        id: CheckpointId,
        info: &CheckpointInfo,
        operators: &[OperatorSnapshot],
    ) -> Result<RestoredCheckpoint> {
        if self.state().accounting.is_stale(id) {
            return Err(given_up(id));
        }
        let metadata = self.describe(id, info, operators)?;
        let mut state = self.state();
        state.in_flight.retain(|(of, _), _| *of != id);
        let freed = state.accounting.hold(id);
        drop(state);
        self.clean_up(freed);
        Ok(self.opened(metadata))
    }

    /// A checkpoint of this run that was just written, to be read.
    pub fn opened(&self, metadata: Metadata) -> RestoredCheckpoint {
        RestoredCheckpoint::new(metadata, &self.storage)
    }

    /// Stores a whole checkpoint: writes the tables in `operators`, then completes it.
    ///
    /// # Errors
    /// Those of [`write_layers`](Self::write_layers) and [`complete`](Self::complete).
    pub fn store(
        &self,
        id: CheckpointId,
        info: &CheckpointInfo,
        mut operators: Vec<OperatorSnapshot>,
    ) -> Result<Metadata> {
        for operator in &mut operators {
            for (subtask, number) in operator.subtasks.iter_mut().zip(0..) {
                if let Some(delta) = subtask.table.take() {
                    self.write_layers(id, &operator.id, number, &delta)?;
                }
                let states = operator.keyed.iter().flat_map(KeyedSchema::collections);
                let deltas = std::mem::take(&mut subtask.collections);
                for ((at, state), delta) in states.enumerate().zip(&deltas) {
                    self.write_collection(id, &operator.id, number, (at, &state.name), delta)?;
                }
                let channels = std::mem::take(&mut subtask.channels);
                self.write_channels(id, &operator.id, number, &channels)?;
            }
        }
        self.complete(id, info, &operators)
    }

    /// Gives a pending checkpoint up. Its layers stay as far as increments lie on them.
    ///
    /// # Errors
    /// If metadata of it may be there, after a failed [`complete`](Self::complete), and cannot be deleted.
    pub fn abort(&self, id: CheckpointId) -> Result<()> {
        if self.completed().contains(&id) {
            return Err(Error::internal(format!(
                "checkpoint {id} is complete and cannot be aborted"
            )));
        }
        self.storage.delete(&self.paths.metadata(id))?;
        let _ = self.storage.delete_folder(&self.paths.checkpoint(id)); // an empty folder does no harm
        let mut state = self.state();
        let freed = state.accounting.abort(id);
        state.in_flight.retain(|(of, _), _| *of != id);
        drop(state);
        self.clean_up(freed);
        Ok(())
    }

    /// Deletes a stored checkpoint, and what only it needed.
    ///
    /// # Errors
    /// If its metadata cannot be deleted; then it is there as before. Layers that cannot be deleted are tried
    /// again later and are no error.
    pub fn discard(&self, id: CheckpointId) -> Result<()> {
        self.storage.delete(&self.paths.metadata(id))?;
        // Layers may go only if the metadata cannot come back in a power cut.
        let synced = self.storage.delete_folder(&self.paths.checkpoint(id));
        let mut state = self.state();
        let freed = state.accounting.discard(id);
        if synced.is_err() {
            state.doomed.extend(freed);
            return Ok(());
        }
        drop(state);
        self.clean_up(freed);
        Ok(())
    }

    fn describe(&self, id: CheckpointId, info: &CheckpointInfo, operators: &[OperatorSnapshot]) -> Result<Metadata> {
        let state = self.state();
        let mut described = Vec::with_capacity(operators.len());
        for operator in operators {
            let mut subtasks = Vec::with_capacity(operator.subtasks.len());
            for (snapshot, number) in operator.subtasks.iter().zip(0..) {
                let owner = owner(&operator.id, number, None);
                let unwritten = snapshot.table.is_some() || !snapshot.collections.is_empty();
                if unwritten || !snapshot.channels.is_empty() {
                    return Err(Error::internal(format!(
                        "the tables or the channels of {owner:?} at checkpoint {id} are not written"
                    )));
                }
                let written = state.accounting.written(id, &owner).cloned().unwrap_or_default();
                let states = operator.keyed.iter().flat_map(KeyedSchema::collections);
                let collections = states.filter_map(|schema| {
                    let owner = self::owner(&operator.id, number, Some(&schema.name));
                    let written = state.accounting.written(id, &owner)?.clone();
                    Some(Collection {
                        state: schema.name,
                        live_rows: written.live_rows,
                        layers: written.layers,
                    })
                });
                let collections = collections.collect();
                subtasks.push(Subtask {
                    watermark: snapshot.watermark,
                    finished: snapshot.finished,
                    splits: snapshot.splits.iter().cloned().map(Into::into).collect(),
                    committables: snapshot.committables.iter().cloned().map(Into::into).collect(),
                    live_rows: written.live_rows,
                    layers: written.layers,
                    collections,
                    in_flight: state.in_flight.get(&(id, owner)).cloned().unwrap_or_default(),
                });
            }
            described.push(Operator {
                id: operator.id.clone(),
                name: operator.name.clone(),
                parallelism: u32::try_from(subtasks.len()).expect("subtasks are numbered with 32 bits"),
                connector: operator.connector.clone(),
                keyed: operator.keyed.as_ref().map(SavedSchema::of).transpose()?,
                subtasks,
            });
        }
        Ok(Metadata {
            format_version: version_of(&described),
            job: self.run.job.clone(),
            run: self.run.run.clone(),
            checkpoint: id,
            kind: info.kind,
            pipeline: self.run.pipeline.clone(),
            parameters: info.parameters.clone(),
            max_parallelism: info.max_parallelism,
            started_ms: info.started_ms,
            completed_ms: info.completed_ms,
            operators: described,
        })
    }

    /// Deletes files that nobody needs, as far as it works now. The lock is not held meanwhile.
    fn clean_up(&self, freed: Vec<String>) {
        let mut doomed = std::mem::take(&mut self.state().doomed);
        doomed.extend(freed);
        doomed.retain(|file| self.storage.delete(&self.paths.layer(file)).is_err());
        self.state().doomed.extend(doomed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No method leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owner(operator: &str, subtask: u32, state: Option<&str>) -> Owner {
    Owner {
        operator: operator.to_owned(),
        subtask,
        state: state.map(str::to_owned),
    }
}

fn given_up(id: CheckpointId) -> Error {
    Error::internal(format!("checkpoint {id} was given up when the job started again"))
}

fn refused(id: CheckpointId, owner: &Owner, refusal: Refusal) -> Error {
    let Owner {
        operator,
        subtask,
        state,
    } = owner;
    let state = state.as_ref().map(|state| format!(", state `{state}`"));
    let state = state.unwrap_or_default();
    let what = format!("subtask {subtask} of operator `{operator}`{state} at checkpoint {id}");
    match refusal {
        Refusal::NoBase => Error::internal(format!("{what}: its first snapshot is not full")),
        Refusal::OutOfOrder(last) => Error::internal(format!("{what}: it comes too late, after checkpoint {last}")),
        Refusal::Lost(lost) => Error::external(
            codes::LOST,
            format!("{what}: a full snapshot is needed, for that of checkpoint {lost} could not be written"),
        ),
    }
}
