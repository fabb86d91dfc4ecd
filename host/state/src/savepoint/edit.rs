//! Making a savepoint without a job: from tables, or from another savepoint with some of its state replaced.
//!
//! ```text
//!   a savepoint --edit--+                         +-- remove_operator
//!   nothing -----new----+--> Writer <-- tables ---+-- add_operator
//!                               |                 +-- set_table
//!                               +--finish--> files, then the manifest
//! ```
//!
//! The rows of one table at a time are in memory, for they are put in the order of savepoints.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, PrimitiveArray, RecordBatch, UInt32Array, new_null_array};
use arrow_schema::FieldRef;
use arrow_select::interleave::interleave_record_batch;
use millrace_core::block::Millis;
use millrace_core::checkpoint::CheckpointId;
use millrace_core::collections::CollectionKind;
use millrace_core::key::{ENCODING_VERSION, KeyGroup, RowEncoder, hash_rows};
use millrace_core::schema::KeyedSchema;
use millrace_core::{Error, Result};

use super::Savepoint;
use super::adapt::adapt;
use super::collections::add_entries;
use super::file::TableWriter;
use super::keyed::SavedSchema;
use super::layout::{EXPIRES_MS, Layout};
use super::manifest::{
    MANIFEST_FILE, Manifest, SavedOperator, SavedSubtask, SavedTable, StateKind, version_of, write_manifest,
};
use super::order::Order;
use super::schema::Column;
use super::split::{BATCH_ROWS, broken};
use super::write::{open_target, store};
use crate::{Storage, codes, names};

/// Makes a savepoint. Nothing exists before [`finish`](Self::finish).
#[derive(Debug)]
pub struct Writer<'s> {
    storage: Storage,
    manifest: Manifest,
    /// Whose files are taken over, as far as the manifest still names them.
    source: Option<&'s Savepoint>,
    /// Tables written so far, which gives their files names of their own.
    written: usize,
}

impl<'s> Writer<'s> {
    /// A savepoint of no operator yet, at a URL at which there is nothing. `max_parallelism` is the number of key groups
    /// of the job that will begin with it.
    ///
    /// # Errors
    /// `CS0202` if something is there; if the storage refuses.
    pub fn new(url: &str, job: &str, max_parallelism: u32, now: Millis) -> Result<Self> {
        let manifest = Manifest {
            format_version: version_of(&[]),
            job: job.to_owned(),
            run: String::new(),
            checkpoint: CheckpointId(0),
            pipeline: String::new(),
            parameters: Default::default(),
            taken_ms: now,
            max_parallelism,
            key_encoding: ENCODING_VERSION,
            operators: Vec::new(),
        };
        Self::at(url, manifest, None)
    }

    /// A savepoint like another one, to be changed, at a URL at which there is nothing.
    ///
    /// # Errors
    /// `CS0202` if something is there; if the storage refuses.
    pub fn edit(source: &'s Savepoint, url: &str) -> Result<Self> {
        Self::at(url, source.manifest().clone(), Some(source))
    }

    fn at(url: &str, manifest: Manifest, source: Option<&'s Savepoint>) -> Result<Self> {
        Ok(Writer {
            storage: open_target(url)?,
            manifest,
            source,
            written: 0,
        })
    }

    /// What it will be.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Drops an operator with all that is kept of it; whether there was one.
    pub fn remove_operator(&mut self, id: &str) -> bool {
        let before = self.manifest.operators.len();
        self.manifest.operators.retain(|operator| operator.id != id);
        self.manifest.operators.len() < before
    }

    /// Adds an operator that keeps nothing yet. Its schema is that of the pipeline's operator.
    ///
    /// # Errors
    /// `CS0206` if there is one of this id.
    pub fn add_operator(&mut self, id: &str, name: &str, schema: &KeyedSchema) -> Result<()> {
        if self.manifest.operator(id).is_some() {
            return Err(unfit(format!("there is an operator `{id}` already")));
        }
        let saved = SavedSchema::of(schema)?;
        let tables = Layout::of_schema(schema).tables().into_iter().map(|spec| {
            let described =
                |value: arrow_schema::FieldRef| saved.states.iter().find(|state| state.name == *value.name());
            Ok(SavedTable {
                name: spec.name,
                state: spec.value.and_then(described).cloned(),
                columns: Column::all(spec.schema.fields())?,
                rows: 0,
                files: Vec::new(),
            })
        });
        self.manifest.operators.push(SavedOperator {
            id: id.to_owned(),
            name: name.to_owned(),
            parallelism: 1,
            kind: saved.kind,
            connector: None,
            slices: saved.slices,
            windows: saved.windows,
            tables: tables.collect::<Result<_>>()?,
            key: saved.key,
            subtasks: vec![SavedSubtask::default()],
        });
        Ok(())
    }

    /// Replaces a table, which is named like its state or by its own name, by these rows. They are in any order and have
    /// the table's columns by name, but for the key group, which is computed; others are left out. Types may be narrower.
    ///
    /// # Errors
    /// `CS0204` if there is no such table; `CS0206` if a column is missing or does not fit, a value is null that must not
    /// be, or a key has several values.
    pub fn set_table(&mut self, operator: &str, table: &str, rows: &[RecordBatch]) -> Result<()> {
        let max_parallelism = self.manifest.max_parallelism;
        let missing = |what: String| Error::user(codes::NO_STATE, what);
        let found = self.manifest.operators.iter_mut().find(|known| known.id == operator);
        let found = found.ok_or_else(|| missing(format!("there is no operator `{operator}`")))?;
        let keys = found.key.len();
        let name = found.table(table).map(|table| table.name.clone());
        let name = name.ok_or_else(|| missing(format!("operator `{operator}` has no state `{table}`")))?;
        let states = found.schema().into_iter();
        let large = states.flat_map(|schema| schema.collections().collect::<Vec<_>>());
        let large = large.into_iter().find(|large| format!("state-{}", large.name) == name);
        let single = found.kind == StateKind::Windows || name.starts_with("state-");
        let windows = found.kind == StateKind::Windows;
        let saved = found.tables.iter_mut().find(|known| known.name == name);
        let saved = saved.expect("it was just found");
        let schema = saved
            .schema()
            .ok_or_else(|| Error::internal("a schema of a manifest was not checked"))?;
        let context = |error: Error| error.context(format!("operator `{operator}`, state `{table}`"));
        let mut batches = Vec::new();
        let mut order = Order::default();
        for batch in rows {
            let columns = table_columns(batch, &schema.fields()[1..], keys).map_err(context)?;
            let groups = key_groups(&columns[..keys], max_parallelism)?;
            let starts = columns
                .get(keys)
                .filter(|_| windows)
                .map(|starts| starts.as_primitive::<Int64Type>());
            match (&large, starts) {
                (Some(large), _) => add_entries(&mut order, large.kind, &groups, &columns[..keys], &columns[keys])?,
                (None, Some(starts)) => order.add(&groups, &columns[..keys], Some(&|row| starts.value(row)))?,
                (None, None) => order.add(&groups, &columns[..keys], None)?,
            }
            let mut all: Vec<ArrayRef> = vec![std::sync::Arc::new(groups)];
            all.extend(columns);
            batches.push(RecordBatch::try_new(schema.clone(), all).map_err(broken)?);
        }
        let mut positions = Vec::new();
        let mut repeated = 0;
        order.runs(|run| {
            repeated += usize::from(single && run.len() > 1);
            positions.extend(run.iter().map(|entry| (entry.source, entry.row)));
        });
        if repeated > 0 {
            return Err(context(unfit(format!("{repeated} keys are there more than once"))));
        }
        // What has expired of a list is missing in it.
        if large.is_some_and(|large| large.kind == CollectionKind::List && large.ttl.is_none()) {
            check_indexes(&batches, &positions, keys).map_err(context)?;
        }
        let folder = format!(
            "tables/{}/{}.{}",
            names::encode(operator),
            names::encode(&name),
            self.written
        );
        let mut writer = TableWriter::new(folder, schema, keys, positions.len() as u64);
        self.written += 1;
        saved.files.clear();
        let sources: Vec<&RecordBatch> = batches.iter().collect();
        for piece in positions.chunks(BATCH_ROWS) {
            let rows = interleave_record_batch(&sources, piece).map_err(broken)?;
            let full = writer.push(&rows)?;
            store(
                |file, content| self.storage.write(file, content),
                &mut saved.files,
                full,
            )?;
        }
        let last = writer.finish()?;
        store(
            |file, content| self.storage.write(file, content),
            &mut saved.files,
            last,
        )?;
        saved.rows = positions.len() as u64;
        count_entries(found);
        Ok(())
    }

    /// Copies what is taken over from the savepoint that was edited, and writes the manifest: now it exists.
    ///
    /// # Errors
    /// If a file cannot be read or written, or is damaged.
    pub fn finish(mut self) -> Result<Manifest> {
        self.manifest.format_version = version_of(&self.manifest.operators);
        if let Some(source) = self.source {
            for part in self.manifest.files() {
                let own = source.manifest().files().any(|known| known == part);
                if own {
                    self.storage.write(&part.file, source.read_file(part)?)?;
                }
            }
        }
        self.storage.write(MANIFEST_FILE, write_manifest(&self.manifest))?;
        Ok(self.manifest)
    }
}

/// Whether the items of each list, which are in order, have the indexes from 0 on.
fn check_indexes(batches: &[RecordBatch], positions: &[(usize, usize)], keys: usize) -> Result<()> {
    let mut encoders = Vec::with_capacity(batches.len());
    let columns: Vec<Vec<ArrayRef>> = batches.iter().map(|rows| rows.columns()[1..=keys].to_vec()).collect();
    for columns in &columns {
        encoders.push(RowEncoder::new(columns)?);
    }
    let (mut last, mut key, mut next) = (Vec::new(), Vec::new(), 0);
    for &(batch, row) in positions {
        key.clear();
        encoders[batch].append_tagged(row, &mut key);
        if key != last {
            next = 0;
            last.clone_from(&key);
        }
        let indexes = batches[batch].column(1 + keys).as_primitive::<UInt64Type>();
        if indexes.value(row) != next {
            return Err(unfit(format!("a list has no item {next}, and one behind it")));
        }
        next += 1;
    }
    Ok(())
}

/// Of changed tables only the number of rows is known: the largest has no more keys than there are.
fn count_entries(operator: &mut SavedOperator) {
    let largest = operator.tables.iter().map(|table| table.rows).max();
    for (at, subtask) in operator.subtasks.iter_mut().enumerate() {
        subtask.entries = if at == 0 { largest.unwrap_or(0) } else { 0 };
    }
}

fn key_groups(keys: &[ArrayRef], max_parallelism: u32) -> Result<PrimitiveArray<UInt32Type>> {
    let mut hashes = Vec::new();
    hash_rows(keys, &mut hashes)?;
    let groups = hashes.iter().map(|hash| KeyGroup::of_hash(*hash, max_parallelism).0);
    Ok(UInt32Array::from_iter_values(groups))
}

/// The columns of a table by their names. When a state expires, which is said behind its value, need not be said.
fn table_columns(rows: &RecordBatch, fields: &[FieldRef], keys: usize) -> Result<Vec<ArrayRef>> {
    let known = fields.iter().any(|field| field.name() == EXPIRES_MS);
    if !known && rows.column_by_name(EXPIRES_MS).is_some() {
        let why = format!("it has a column `{EXPIRES_MS}`, and the state has no time to live");
        return Err(unfit(why));
    }
    let expires = |at: usize| at > keys && at + 1 == fields.len() && fields[at].name() == EXPIRES_MS;
    let columns = fields.iter().enumerate();
    columns.map(|(at, field)| column(rows, field, expires(at))).collect()
}

/// A column by its name; nulls if it is `optional` and not there.
fn column(rows: &RecordBatch, field: &FieldRef, optional: bool) -> Result<ArrayRef> {
    let name = field.name();
    match rows.column_by_name(name) {
        None if optional => Ok(new_null_array(field.data_type(), rows.num_rows())),
        None => Err(unfit(format!("the table has no column `{name}`"))),
        Some(values) => adapt(values, field, None).map_err(|why| unfit(format!("column `{name}`: {why}"))),
    }
}

fn unfit(message: String) -> Error {
    Error::user(codes::UNFIT, message)
}
