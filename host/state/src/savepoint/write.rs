//! Writing a savepoint from a checkpoint.

use std::cell::RefCell;
use std::collections::BTreeSet;

use arrow_schema::FieldRef;
use bytes::Bytes;
use millrace_core::key::ENCODING_VERSION;
use millrace_core::{Error, Result};

use super::collections;
use super::file::{Encoded, TableWriter};
use super::keyed::SavedSchema;
use super::layout::{Layout, LayoutKind, TableSpec};
use super::manifest::{
    MANIFEST_FILE, Manifest, SavedOperator, SavedSubtask, SavedTable, StateKind, version_of, write_manifest,
};
use super::schema::Column;
use super::split::{lay_over, split};
use crate::format::{Layer, Operator, Subtask};
use crate::{RestoredCheckpoint, Storage, codes, names};

/// Whether a savepoint can be written to a URL: its storage is there, and there is nothing at it yet.
///
/// # Errors
/// `CS0202` if something is there; if the storage refuses.
pub fn check_target(url: &str) -> Result<()> {
    open_target(url).map(|_| ())
}

pub(super) fn open_target(url: &str) -> Result<Storage> {
    let storage = Storage::open(url)?;
    let present = storage.list("")?;
    if !present.files.is_empty() || !present.folders.is_empty() {
        let message = format!("`{url}` is not empty, and a savepoint has a folder of its own");
        return Err(Error::user(codes::OCCUPIED, message));
    }
    Ok(storage)
}

/// Writes the state of a checkpoint as a savepoint to a URL at which there is nothing yet.
///
/// The manifest is written last: what lacks one is no savepoint. One subtask's state at a time is in memory. If it
/// fails, what was written is deleted as far as possible.
///
/// # Errors
/// `CS0202` if something is there; `CS0207` if the checkpoint holds rows in flight; `CS0203` if an operator's state
/// cannot be written as tables; if the checkpoint is damaged or the storage refuses.
pub fn write(checkpoint: &RestoredCheckpoint, url: &str) -> Result<Manifest> {
    write_while(checkpoint, url, &|| Ok(()))
}

/// The same, as long as it is wanted: `still_wanted` is asked before each file, and may say why not.
///
/// # Errors
/// Those of [`write()`], and what `still_wanted` says.
pub fn write_while(
    checkpoint: &RestoredCheckpoint,
    url: &str,
    still_wanted: &dyn Fn() -> Result<()>,
) -> Result<Manifest> {
    let in_flight = checkpoint.metadata().in_flight();
    if in_flight.elements > 0 {
        let (id, rows) = (checkpoint.metadata().checkpoint, in_flight.rows);
        let message = format!(
            "checkpoint {id} is unaligned: it holds {rows} rows in flight between operators, for which a savepoint has \
             no place"
        );
        return Err(Error::user(codes::IN_FLIGHT, message));
    }
    let target = Target {
        storage: open_target(url)?,
        still_wanted,
        written: RefCell::default(),
    };
    let written = write_to(checkpoint, &target);
    if written.is_err() {
        target.clear();
    }
    written
}

/// Where a savepoint goes.
struct Target<'a> {
    storage: Storage,
    still_wanted: &'a dyn Fn() -> Result<()>,
    /// Files so far.
    written: RefCell<Vec<String>>,
}

impl Target<'_> {
    fn write(&self, file: &str, content: Bytes) -> Result<()> {
        (self.still_wanted)()?;
        self.written.borrow_mut().push(file.to_owned());
        self.storage.write(file, content)
    }

    /// Deletes what was written: without a manifest it is of no use, and in the way of another try. The error that led
    /// here says more than one of deleting would.
    fn clear(&self) {
        let mut folders = BTreeSet::new();
        for file in self.written.borrow().iter().rev() {
            let _ = self.storage.delete(file);
            let above = file.match_indices('/').map(|(at, _)| file[..at].to_owned());
            folders.extend(above);
        }
        // Those within others come after them.
        for folder in folders.iter().rev() {
            let _ = self.storage.delete_folder(folder);
        }
    }
}

fn write_to(checkpoint: &RestoredCheckpoint, target: &Target<'_>) -> Result<Manifest> {
    let metadata = checkpoint.metadata();
    let mut operators = Vec::with_capacity(metadata.operators.len());
    for operator in &metadata.operators {
        let writer = OperatorWriter::new(target, operator);
        let context = |error: Error| error.context(format!("operator `{}`", operator.name));
        operators.push(writer.write(checkpoint).map_err(context)?);
    }
    let manifest = Manifest {
        format_version: version_of(&operators),
        job: metadata.job.clone(),
        run: metadata.run.clone(),
        checkpoint: metadata.checkpoint,
        pipeline: metadata.pipeline.clone(),
        parameters: metadata.parameters.clone(),
        taken_ms: metadata.completed_ms,
        max_parallelism: metadata.max_parallelism,
        key_encoding: ENCODING_VERSION,
        operators,
    };
    target.write(MANIFEST_FILE, write_manifest(&manifest))?;
    Ok(manifest)
}

struct OperatorWriter<'a> {
    target: &'a Target<'a>,
    operator: &'a Operator,
    /// Known with the first rows.
    layout: Option<Layout>,
    tables: Vec<Table>,
}

struct Table {
    spec: TableSpec,
    writer: TableWriter,
    files: Vec<Layer>,
}

impl<'a> OperatorWriter<'a> {
    fn new(target: &'a Target<'a>, operator: &'a Operator) -> Self {
        OperatorWriter {
            target,
            operator,
            layout: None,
            tables: Vec::new(),
        }
    }

    /// Subtasks own ascending ranges of key groups: their rows one after the other are in order.
    fn write(mut self, checkpoint: &RestoredCheckpoint) -> Result<SavedOperator> {
        let known = self.operator.keyed.as_ref().and_then(SavedSchema::schema);
        if let Some(known) = known.filter(|known| known.collections().next().is_some()) {
            // Rows do not tell of large states, and may be of them alone.
            self.begin(Layout::of_schema(&known));
        }
        let mut subtasks = Vec::with_capacity(self.operator.subtasks.len());
        for (number, subtask) in self.operator.subtasks.iter().enumerate() {
            let entries = self.write_subtask(checkpoint, subtask)?;
            let entries = entries + self.write_collections(checkpoint, subtask, number == 0)?;
            subtasks.push(SavedSubtask {
                watermark: subtask.watermark,
                finished: subtask.finished,
                splits: subtask.splits.clone(),
                committables: subtask.committables.clone(),
                entries,
            });
        }
        let known = self.operator.keyed.as_ref();
        let states = known.map_or(&[][..], |known| &known.states);
        let mut tables = Vec::with_capacity(self.tables.len());
        for mut table in self.tables {
            let last = table.writer.finish()?;
            store(|file, content| self.target.write(file, content), &mut table.files, last)?;
            tables.push(SavedTable {
                name: table.spec.name,
                state: table.spec.value.map(|value| described(states, &value)).transpose()?,
                columns: Column::all(table.spec.schema.fields())?,
                rows: table.files.iter().map(|file| file.rows).sum(),
                files: table.files,
            });
        }
        let kind = match self.layout.as_ref().map(|layout| &layout.kind) {
            None => StateKind::None,
            Some(LayoutKind::Keyed(_)) => StateKind::Keyed,
            Some(LayoutKind::Windows(_)) => StateKind::Windows,
            Some(LayoutKind::Sessions(_)) => StateKind::Sessions,
        };
        let fields = self.layout.iter().flat_map(|layout| layout.key.iter());
        let known_key = known.map_or(&[][..], |known| &known.key);
        let key = fields.map(|field| described(known_key, field)).collect::<Result<_>>()?;
        Ok(SavedOperator {
            id: self.operator.id.clone(),
            name: self.operator.name.clone(),
            parallelism: self.operator.parallelism,
            kind,
            connector: self.operator.connector.clone(),
            slices: known.and_then(|known| known.slices),
            windows: known.and_then(|known| known.windows.clone()),
            key,
            tables,
            subtasks,
        })
    }

    /// Returns the number of entries.
    fn write_subtask(&mut self, checkpoint: &RestoredCheckpoint, subtask: &Subtask) -> Result<u64> {
        let mut layers = Vec::new();
        for layer in &subtask.layers {
            layers.extend(checkpoint.read_layer(layer)?);
        }
        let Some(first) = layers.first() else { return Ok(0) };
        let schema = first.schema();
        let layout = Layout::of_rows(&schema).ok_or_else(|| {
            let message = format!("its state has columns that savepoints do not know: {schema:?}");
            Error::user(codes::TABLE, message)
        })?;
        let described = self.operator.keyed.as_ref().and_then(SavedSchema::schema);
        let described = described.map_or(Vec::new(), |schema| Layout::of_schema(&schema).expiring);
        if described != layout.expiring {
            let message = "its rows say when they expire, and its description does not";
            return Err(Error::user(codes::TABLE, message));
        }
        let known = match &self.layout {
            Some(known) => known.clone(),
            None => self.begin(layout.clone()),
        };
        if known.key != layout.key || known.kind != layout.kind || layers.iter().any(|rows| rows.schema() != schema) {
            let message = "its state has different columns in different layers";
            return Err(Error::user(codes::TABLE, message));
        }
        let mut entries = 0;
        for rows in lay_over(&layout, &layers)? {
            entries += rows.num_rows() as u64;
            let tables = self.tables.iter_mut().filter(|table| table.spec.large.is_none());
            for (number, table) in tables.enumerate() {
                let part = split(&layout, number, &table.spec, &rows)?;
                let full = table.writer.push(&part)?;
                store(|file, content| self.target.write(file, content), &mut table.files, full)?;
            }
        }
        Ok(entries)
    }

    /// The same of its large states; of what all subtasks have only that of the first.
    fn write_collections(&mut self, checkpoint: &RestoredCheckpoint, subtask: &Subtask, is_first: bool) -> Result<u64> {
        let mut entries = 0;
        for table in &mut self.tables {
            let large = table.spec.large.as_ref();
            let stored = large.and_then(|large| Some((large, subtask.collection(&large.name)?)));
            let Some((large, stored)) = stored else { continue };
            if self.operator.is_broadcast(&large.name) && !is_first {
                continue;
            }
            let mut layers = Vec::new();
            for layer in &stored.layers {
                layers.extend(checkpoint.read_layer(layer)?);
            }
            for rows in collections::lay_over(large.kind, &layers)? {
                entries += rows.num_rows() as u64;
                let full = table.writer.push(&collections::to_table(&table.spec.schema, &rows)?)?;
                store(|file, content| self.target.write(file, content), &mut table.files, full)?;
            }
        }
        Ok(entries)
    }

    fn begin(&mut self, layout: Layout) -> Layout {
        let folder = format!("tables/{}", names::encode(&self.operator.id));
        let entries = |spec: &TableSpec| {
            let subtasks = self.operator.subtasks.iter();
            let live = subtasks.map(|subtask| match &spec.large {
                None => subtask.live_rows,
                Some(large) => subtask.collection(&large.name).map_or(0, |stored| stored.live_rows),
            });
            live.sum()
        };
        let keys = layout.key.len();
        let table = |spec: TableSpec| Table {
            writer: TableWriter::new(
                format!("{folder}/{}", names::encode(&spec.name)),
                spec.schema.clone(),
                keys,
                entries(&spec),
            ),
            spec,
            files: Vec::new(),
        };
        self.tables = layout.tables().into_iter().map(table).collect();
        self.layout = Some(layout.clone());
        layout
    }
}

/// A field as the checkpoint describes it, which knows more of it than rows do.
fn described(known: &[Column], field: &FieldRef) -> Result<Column> {
    let same = |column: &&Column| column.field().as_ref() == Some(field);
    match known.iter().find(same) {
        Some(column) => Ok(column.clone()),
        None => Column::of(field),
    }
}

/// Writes a file of a table, if there is one, and counts it among the table's.
pub(super) fn store(
    write: impl FnOnce(&str, Bytes) -> Result<()>,
    files: &mut Vec<Layer>,
    encoded: Option<Encoded>,
) -> Result<()> {
    if let Some(Encoded { file, content }) = encoded {
        write(&file.file, content)?;
        files.push(file);
    }
    Ok(())
}
