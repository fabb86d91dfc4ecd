//! `manifest.json`: what a savepoint is of, and which files it has. `SAVEPOINT.md` documents it.

use std::collections::BTreeMap;

use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use millrace_core::Result;
use millrace_core::block::Millis;
use millrace_core::checkpoint::CheckpointId;
use millrace_core::key::ENCODING_VERSION;
use millrace_core::schema::KeyedSchema;
use serde::{Deserialize, Serialize};

use super::keyed::{SavedSchema, SavedSlices};
use super::layout::Layout;
use super::schema::Column;
use crate::format::{
    Blob, Kind, Layer, Metadata, Operator, Split, Subtask, WITHOUT_IN_FLIGHT, damaged, envelope, open_envelope,
};
use crate::names;

/// The newest version of savepoints that this crate reads. What has no large states is written as version 1, which older
/// ones read too.
pub const SAVEPOINT_VERSION: u32 = 2;

/// The version without large states.
const WITHOUT_LARGE: u32 = 1;

/// The oldest version that has a place for these operators.
pub(crate) fn version_of(operators: &[SavedOperator]) -> u32 {
    let tables = operators.iter().flat_map(|operator| &operator.tables);
    match tables.into_iter().any(SavedTable::is_large) {
        true => SAVEPOINT_VERSION,
        false => WITHOUT_LARGE,
    }
}

const ENVELOPE: &str = "savepoint";

/// Name of the file.
pub(crate) const MANIFEST_FILE: &str = "manifest.json";

/// What a savepoint is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SAVEPOINT_VERSION`] of who wrote it.
    pub format_version: u32,
    /// Name of the job.
    pub job: String,
    /// Run of the job whose state it is.
    pub run: String,
    /// Checkpoint of that run whose state it is.
    pub checkpoint: CheckpointId,
    /// SHA-256 of the pipeline's component, hexadecimal.
    pub pipeline: String,
    /// Parameters of the job by name.
    pub parameters: BTreeMap<String, String>,
    /// When the state was taken.
    pub taken_ms: Millis,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Version of the key encoding that key groups follow from.
    pub key_encoding: u32,
    /// The operators.
    pub operators: Vec<SavedOperator>,
}

impl Manifest {
    /// Bytes of all tables.
    pub fn bytes(&self) -> u64 {
        let tables = self.operators.iter().flat_map(|operator| &operator.tables);
        tables.map(SavedTable::bytes).sum()
    }

    /// Keys that are in it, and keys of windows.
    pub fn entries(&self) -> u64 {
        let subtasks = self.operators.iter().flat_map(|operator| &operator.subtasks);
        subtasks.map(|subtask| subtask.entries).sum()
    }
}

/// One operator in a savepoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedOperator {
    /// Its uid, or what stands for it.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Number of its subtasks.
    pub parallelism: u32,
    /// What its state is.
    pub kind: StateKind,
    /// Kind of its connector, if it is a source or sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// How time was cut, of windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<SavedSlices>,
    /// The windows that its states are of, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<String>,
    /// Fields of its key; none if there is no keyed state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<Column>,
    /// Its tables: states in order, then timers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<SavedTable>,
    /// Its subtasks by number.
    pub subtasks: Vec<SavedSubtask>,
}

/// What the keyed state of an operator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateKind {
    /// It has none, or had none yet.
    None,
    /// States and timers by key.
    Keyed,
    /// Accumulators by key and slice of time.
    Windows,
    /// Accumulators by key and session.
    Sessions,
}

/// A table of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTable {
    /// Name of its folder.
    pub name: String,
    /// The state that it holds; none: timers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Column>,
    /// Columns of its files.
    pub columns: Vec<Column>,
    /// Rows in all files.
    pub rows: u64,
    /// Its files in the order of their rows; names are paths from the savepoint.
    pub files: Vec<Layer>,
}

/// One subtask in a savepoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSubtask {
    /// Watermark that it had reached, if any.
    pub watermark: Option<Millis>,
    /// All its inputs had ended.
    pub finished: bool,
    /// Splits that it read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<Split>,
    /// What it had pre-committed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub committables: Vec<Blob>,
    /// Entries that it held, those of large states among them.
    pub entries: u64,
}

impl SavedOperator {
    /// What it keeps by key, if it keeps something.
    pub fn schema(&self) -> Option<KeyedSchema> {
        let states = self.tables.iter().filter_map(|table| table.state.clone());
        let saved = SavedSchema {
            kind: self.kind,
            slices: self.slices,
            windows: self.windows.clone(),
            key: self.key.clone(),
            states: states.collect(),
        };
        saved.schema()
    }

    /// What its keyed state looks like, if it has some.
    pub fn layout(&self) -> Option<Layout> {
        self.schema().map(|schema| Layout::of_schema(&schema))
    }

    /// Its table for a state of this name, or of this name.
    pub fn table(&self, name: &str) -> Option<&SavedTable> {
        let of_state = |table: &&SavedTable| table.state.as_ref().is_some_and(|state| state.name == name);
        let found = self.tables.iter().find(of_state);
        found.or_else(|| self.tables.iter().find(|table| table.name == name))
    }
}

impl SavedTable {
    /// Whether it is a large state: a row for each entry.
    pub fn is_large(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.large)
    }

    /// Schema of its files; of the table of a savepoint that was opened it is there.
    pub fn schema(&self) -> Option<SchemaRef> {
        Some(SchemaRef::new(Schema::new(Column::fields(&self.columns)?)))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Manifest {
    /// The operator of this id.
    pub fn operator(&self, id: &str) -> Option<&SavedOperator> {
        self.operators.iter().find(|operator| operator.id == id)
    }

    /// All files of all tables.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Layer> {
        let tables = self.operators.iter().flat_map(|operator| &operator.tables);
        tables.flat_map(|table| &table.files)
    }

    /// The same as metadata of a checkpoint; its tables have no layers.
    pub(crate) fn metadata(&self) -> Metadata {
        let subtask = |saved: &SavedSubtask| Subtask {
            watermark: saved.watermark,
            finished: saved.finished,
            splits: saved.splits.clone(),
            committables: saved.committables.clone(),
            live_rows: saved.entries,
            layers: Vec::new(),
            collections: Vec::new(),
            in_flight: Vec::new(),
        };
        let operator = |saved: &SavedOperator| Operator {
            id: saved.id.clone(),
            name: saved.name.clone(),
            parallelism: saved.parallelism,
            connector: saved.connector.clone(),
            keyed: saved.schema().and_then(|schema| SavedSchema::of(&schema).ok()),
            subtasks: saved.subtasks.iter().map(subtask).collect(),
        };
        Metadata {
            format_version: WITHOUT_IN_FLIGHT,
            job: self.job.clone(),
            run: self.run.clone(),
            checkpoint: self.checkpoint,
            kind: Kind::Savepoint,
            pipeline: self.pipeline.clone(),
            parameters: self.parameters.clone(),
            max_parallelism: self.max_parallelism,
            started_ms: self.taken_ms,
            completed_ms: self.taken_ms,
            operators: self.operators.iter().map(operator).collect(),
        }
    }
}

pub(crate) fn write_manifest(manifest: &Manifest) -> Bytes {
    envelope(ENVELOPE, manifest)
}

/// The savepoint that `content` describes; `shown` names the file.
pub(crate) fn read_manifest(content: &[u8], shown: &str) -> Result<Manifest> {
    let manifest: Manifest = open_envelope(ENVELOPE, SAVEPOINT_VERSION, content, shown)?;
    match unsound(&manifest) {
        Some(why) => Err(damaged(shown, &why)),
        None => Ok(manifest),
    }
}

/// What a file with a sound checksum must not say all the same: others compute with it.
fn unsound(manifest: &Manifest) -> Option<String> {
    if manifest.max_parallelism == 0 {
        return Some("no key groups".to_owned());
    }
    if manifest.key_encoding != ENCODING_VERSION {
        return Some(format!("key encoding {}", manifest.key_encoding));
    }
    for operator in &manifest.operators {
        let SavedOperator { id, parallelism, .. } = operator;
        if operator.subtasks.len() != *parallelism as usize {
            let count = operator.subtasks.len();
            return Some(format!(
                "{count} subtasks of operator `{id}` with parallelism {parallelism}"
            ));
        }
        if operator.kind == StateKind::None {
            if !operator.tables.is_empty() {
                return Some(format!("tables of operator `{id}`, which has no keyed state"));
            }
            continue;
        }
        if !(1..=manifest.max_parallelism).contains(parallelism) {
            return Some(format!("operator `{id}` with {parallelism} subtasks"));
        }
        let Some(layout) = operator.layout().filter(|layout| !layout.key.is_empty()) else {
            return Some(format!("the schemas of operator `{id}` cannot be understood"));
        };
        let expected = layout.tables();
        let same = expected.len() == operator.tables.len()
            && expected.iter().zip(&operator.tables).all(|(expected, table)| {
                let schema = table.schema();
                expected.name == table.name && schema.is_some_and(|schema| schema == expected.schema)
            });
        if !same {
            return Some(format!("the tables of operator `{id}` do not follow from its schemas"));
        }
    }
    manifest.files().find_map(|file| {
        let [first, last] = file.groups;
        let plain = file.file.split('/').all(names::is_plain);
        let sound = plain && first <= last && last < manifest.max_parallelism;
        (!sound).then(|| format!("file `{}` with key groups {first} to {last}", file.file))
    })
}
