//! Finding the checkpoint to begin with, and reading it.
//!
//! The newest checkpoint is taken whose metadata and layers are all there and sound; what had to be passed
//! over is reported, for going back further than to the last checkpoint may repeat what sinks have committed
//! since. Only damage is passed over: a store that cannot be reached, or a checkpoint of a newer Millrace, is an
//! error.
//!
//! Each byte is read once: what verifying the checksums read is kept until the [`RestoredCheckpoint`] is
//! dropped, compressed as it is in storage.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use millrace_core::checkpoint::{ChannelSnapshot, CheckpointId, GROUP_COLUMN};
use millrace_core::{Error, Result};

use crate::format::layer::LayerReader;
use crate::format::{FileRef, InFlightRows, Layer, Metadata, Operator, Run, layer, read_metadata, read_run};
use crate::names::{self, RunPaths};
use crate::redistribute::{CollectionRestore, Piece, Share, TaskRestore, share};
use crate::{Storage, codes};

/// How much of a checkpoint is verified before it is handed out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Depth {
    /// Metadata with its checksum, and that all layers are there with their sizes. Checksums of layers are
    /// verified as each is read.
    Sizes,
    /// The checksums of all layers too.
    #[default]
    Contents,
}

/// A checkpoint that was passed over.
#[derive(Debug, Clone)]
pub struct Skipped {
    /// Run that it is of.
    pub run: String,
    /// Its id.
    pub checkpoint: CheckpointId,
    /// What is wrong with it; names the file.
    pub error: Error,
}

/// Result of looking for the newest checkpoint of a job.
#[derive(Debug)]
pub struct Latest {
    /// It, if there is a sound one.
    pub found: Option<RestoredCheckpoint>,
    /// Newer ones that are damaged, the newest first. With nothing found and something skipped, starting from
    /// nothing loses state that the user may believe to be there.
    pub skipped: Vec<Skipped>,
}

/// A checkpoint that is ready to be restored from.
#[derive(Debug)]
pub struct RestoredCheckpoint {
    metadata: Metadata,
    storage: Storage,
    paths: RunPaths,
    /// Verified contents of files, if they were read already.
    contents: BTreeMap<String, Bytes>,
}

impl Storage {
    /// Ids of the runs of a job, the oldest first.
    ///
    /// # Errors
    /// If the storage refuses.
    pub fn runs(&self, job: &str) -> Result<Vec<String>> {
        Ok(self.list(&names::encode(job))?.folders)
    }

    /// What `run.json` says about a run.
    ///
    /// # Errors
    /// `CS0105` if there is none; if it is damaged, newer, or cannot be read.
    pub fn read_run(&self, job: &str, run: &str) -> Result<Run> {
        let path = RunPaths::new(job, run).description();
        let shown = self.shown(&path);
        let content = if names::is_plain(run) { self.read(&path)? } else { None };
        let content = content.ok_or_else(|| {
            Error::user(
                codes::NOT_FOUND,
                format!("job `{job}` has no run `{run}`: there is no `{shown}`"),
            )
        })?;
        let read = read_run(&content, &shown)?;
        if (read.job.as_str(), read.run.as_str()) != (job, run) {
            let why = format!("it describes run `{}` of job `{}`", read.run, read.job);
            return Err(Error::external(codes::METADATA, format!("`{shown}` is damaged: {why}")));
        }
        Ok(read)
    }

    /// The checkpoints of a job, whether they are sound or not, the oldest first.
    ///
    /// # Errors
    /// If the storage refuses.
    pub fn checkpoints(&self, job: &str) -> Result<Vec<(String, CheckpointId)>> {
        let mut found = Vec::new();
        for run in self.runs(job)? {
            let paths = RunPaths::new(job, &run);
            let folders = self.list(paths.folder())?.folders;
            let ids = folders.iter().filter_map(|folder| names::checkpoint_of_folder(folder));
            let mut ids: Vec<CheckpointId> = ids.collect();
            ids.sort();
            for id in ids {
                // Without metadata it is none, and never was one.
                let files = self.list(&paths.checkpoint(id))?.files;
                if files.iter().any(|(file, _)| file == names::METADATA_FILE) {
                    found.push((run.clone(), id));
                }
            }
        }
        Ok(found)
    }

    /// What `metadata.json` says about a checkpoint.
    ///
    /// # Errors
    /// `CS0105` if there is none; if it is damaged, newer, or cannot be read.
    pub fn read_checkpoint(&self, job: &str, run: &str, id: CheckpointId) -> Result<Metadata> {
        let path = RunPaths::new(job, run).metadata(id);
        let shown = self.shown(&path);
        let content = if names::is_plain(run) { self.read(&path)? } else { None };
        let content = content.ok_or_else(|| {
            let what = format!("run `{run}` of job `{job}` has no checkpoint {id}");
            Error::user(codes::NOT_FOUND, format!("{what}: there is no `{shown}`"))
        })?;
        let metadata = read_metadata(&content, &shown)?;
        if (metadata.job.as_str(), metadata.run.as_str(), metadata.checkpoint) != (job, run, id) {
            let Metadata {
                job, run, checkpoint, ..
            } = metadata;
            let why = format!("it describes checkpoint {checkpoint} of run `{run}` of job `{job}`");
            return Err(Error::external(codes::METADATA, format!("`{shown}` is damaged: {why}")));
        }
        Ok(metadata)
    }

    /// Opens a checkpoint to restore from it.
    ///
    /// # Errors
    /// Those of [`read_checkpoint`](Self::read_checkpoint); `CS0103` and `CS0104` if a layer is missing or damaged.
    pub fn open_checkpoint(&self, job: &str, run: &str, id: CheckpointId, depth: Depth) -> Result<RestoredCheckpoint> {
        let mut restored = RestoredCheckpoint::new(self.read_checkpoint(job, run, id)?, self);
        restored.verify_sizes()?;
        match depth {
            Depth::Sizes => {}
            Depth::Contents => restored.load()?,
        }
        Ok(restored)
    }

    /// Opens the newest sound checkpoint of a job.
    ///
    /// # Errors
    /// If the storage refuses, or if a newer Millrace wrote a checkpoint that would be taken.
    pub fn open_latest(&self, job: &str, depth: Depth) -> Result<Latest> {
        let mut skipped = Vec::new();
        for (run, id) in self.checkpoints(job)?.into_iter().rev() {
            match self.open_checkpoint(job, &run, id, depth) {
                Ok(restored) => {
                    let found = Some(restored);
                    return Ok(Latest { found, skipped });
                }
                Err(error) if codes::is_damage(error.code()) => skipped.push(Skipped {
                    run,
                    checkpoint: id,
                    error,
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(Latest { found: None, skipped })
    }
}

impl RestoredCheckpoint {
    /// Nothing of it is read yet.
    pub(crate) fn new(metadata: Metadata, storage: &Storage) -> Self {
        RestoredCheckpoint {
            paths: RunPaths::new(&metadata.job, &metadata.run),
            metadata,
            storage: storage.clone(),
            contents: BTreeMap::new(),
        }
    }

    /// What it is.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Where it is.
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The rows of one layer.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn read_layer(&self, layer: &Layer) -> Result<Vec<RecordBatch>> {
        let content = self.content(&layer.file())?;
        layer::decode(layer, content, &self.shown(layer.file().file))
    }

    /// A layer to be read batch by batch.
    pub(crate) fn open_layer(&self, layer: &Layer) -> Result<LayerReader> {
        let content = self.content(&layer.file())?;
        LayerReader::new(layer.clone(), content, self.shown(layer.file().file))
    }

    /// See [`layer::spans`].
    pub(crate) fn layer_spans(&self, layer: &Layer) -> Result<Vec<RangeInclusive<u32>>> {
        let content = self.content(&layer.file())?;
        layer::spans(layer, content, &self.shown(layer.file().file))
    }

    fn content(&self, file: &FileRef<'_>) -> Result<Bytes> {
        match self.contents.get(file.file) {
            Some(content) => Ok(content.clone()),
            None => self.verified(file, self.storage.read(&self.paths.layer(file.file))?),
        }
    }

    /// The input channels of a subtask of as many as there were, with what was under way in them.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    pub fn channels(&self, operator: &Operator, subtask: u32) -> Result<Vec<ChannelSnapshot>> {
        let Some(stored) = operator.subtasks.get(subtask as usize) else {
            return Ok(Vec::new());
        };
        let mut channels = Vec::new();
        for in_flight in &stored.in_flight {
            let file = in_flight.rows.as_ref().map(|rows| rows.file());
            let content = file.map(|file| self.content(&file)).transpose()?;
            let shown = file.map_or_else(String::new, |file| self.shown(file.file));
            channels.extend(in_flight.decode(content, &shown)?);
        }
        Ok(channels)
    }

    /// The columns of rows in flight, without event times and computed keys.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn in_flight_schema(&self, rows: &InFlightRows) -> Result<SchemaRef> {
        let file = rows.file();
        rows.decode_schema(self.content(&file)?, &self.shown(file.file))
    }

    /// What subtask `subtask` of `parallelism` of a keyed operator begins with.
    ///
    /// # Errors
    /// If a layer cannot be read or is damaged.
    ///
    /// # Panics
    /// See [`share`].
    pub fn restore_task(&self, operator: &Operator, parallelism: u32, subtask: u32) -> Result<TaskRestore> {
        let share = share(operator, self.metadata.max_parallelism, parallelism, subtask);
        Ok(TaskRestore {
            watermark: share.watermark,
            batches: self.read_pieces(&share.pieces, &share.groups)?,
            collections: self.read_collections(&share, |_| true)?,
        })
    }

    /// See [`Restorable::restore_resident`](crate::Restorable::restore_resident).
    pub(crate) fn restore_resident(&self, operator: &Operator, parallelism: u32, subtask: u32) -> Result<TaskRestore> {
        let share = share(operator, self.metadata.max_parallelism, parallelism, subtask);
        Ok(TaskRestore {
            watermark: share.watermark,
            batches: self.read_pieces(&share.pieces, &share.groups)?,
            collections: self.read_broadcast(operator, &share)?,
        })
    }

    /// Broadcast state of a share.
    pub(crate) fn read_broadcast(&self, operator: &Operator, share: &Share<'_>) -> Result<Vec<CollectionRestore>> {
        self.read_collections(share, |state| operator.is_broadcast(state))
    }

    fn read_collections(&self, share: &Share<'_>, wanted: impl Fn(&str) -> bool) -> Result<Vec<CollectionRestore>> {
        let wanted = share.collections.iter().filter(|(state, _)| wanted(state));
        let collections = wanted.map(|(state, pieces)| {
            Ok(CollectionRestore {
                state: (*state).to_owned(),
                batches: self.read_pieces(pieces, &share.groups)?,
            })
        });
        collections.collect()
    }

    /// Rows of these pieces in their order. They are decoded by several threads: nothing else runs yet.
    fn read_pieces(&self, pieces: &[Piece<'_>], groups: &Range<u32>) -> Result<Vec<RecordBatch>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(pieces.len()).max(1);
        let next = AtomicUsize::new(0);
        let read = || {
            let mut read = Vec::new();
            while let number = next.fetch_add(1, Relaxed)
                && let Some(piece) = pieces.get(number)
            {
                read.push((number, self.read_piece(piece, groups)));
            }
            read
        };
        let mut all = std::thread::scope(|scope| {
            let others = (1..threads).map(|_| scope.spawn(read)).collect::<Vec<_>>();
            let mut all = read();
            for other in others {
                let read = other
                    .join()
                    .map_err(|_| Error::internal("a thread that read layers panicked"))?;
                all.extend(read);
            }
            Ok::<_, Error>(all)
        })?;
        all.sort_by_key(|(number, _)| *number);
        let mut batches = Vec::new();
        for (_, rows) in all {
            batches.extend(rows?);
        }
        Ok(batches)
    }

    fn read_piece(&self, piece: &Piece<'_>, groups: &Range<u32>) -> Result<Vec<RecordBatch>> {
        let rows = self.read_layer(piece.layer)?;
        if piece.whole {
            return Ok(rows);
        }
        let own = rows.iter().map(|batch| layer::of_groups(batch, GROUP_COLUMN, groups));
        let own = own.filter(|batch| batch.as_ref().map_or(true, |batch| batch.num_rows() > 0));
        own.collect()
    }

    fn shown(&self, file: &str) -> String {
        self.storage.shown(&self.paths.layer(file))
    }

    fn verify_sizes(&self) -> Result<()> {
        if self.metadata.files().next().is_none() {
            return Ok(());
        }
        let files: BTreeMap<String, u64> = self.storage.list(&self.paths.shared())?.files.into_iter().collect();
        for file in self.metadata.files() {
            let shown = self.shown(file.file);
            match files.get(file.file) {
                Some(bytes) => layer::verify_size(&file, *bytes, &shown)?,
                None => return Err(missing(&shown)),
            }
        }
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        let files: BTreeMap<&str, FileRef<'_>> = self.metadata.files().map(|file| (file.file, file)).collect();
        let paths: Vec<String> = files.keys().map(|file| self.paths.layer(file)).collect();
        let mut contents = BTreeMap::new();
        for (read, (name, file)) in self.storage.read_all(&paths).into_iter().zip(files) {
            contents.insert(name.to_owned(), self.verified(&file, read?)?);
        }
        self.contents = contents;
        Ok(())
    }

    fn verified(&self, file: &FileRef<'_>, content: Option<Bytes>) -> Result<Bytes> {
        let shown = self.shown(file.file);
        let content = content.ok_or_else(|| missing(&shown))?;
        layer::verify(file, &content, &shown)?;
        Ok(content)
    }
}

pub(crate) fn missing(shown: &str) -> Error {
    Error::external(codes::MISSING, format!("`{shown}` is missing"))
}
