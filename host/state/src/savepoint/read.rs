//! Reading a savepoint: as what a job begins with, and table by table.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use bytes::Bytes;
use millrace_core::schema::KeyedSchema;
use millrace_core::{Error, Result};

use super::join::{Unsound, join};
use super::layout::KEY_GROUP;
use super::manifest::{MANIFEST_FILE, Manifest, SavedTable, read_manifest};
use super::split::broken;
use super::{collections, file};
use crate::format::{Layer, Metadata, Operator, layer};
use crate::redistribute::{CollectionRestore, TaskRestore, share};
use crate::restore::missing;
use crate::{Depth, Storage, codes};

/// A savepoint that is ready to be read.
#[derive(Debug)]
pub struct Savepoint {
    manifest: Manifest,
    metadata: Metadata,
    storage: Storage,
    /// Verified contents of files, if they were read already.
    contents: BTreeMap<String, Bytes>,
}

impl Savepoint {
    /// Opens the savepoint at a URL.
    ///
    /// # Errors
    /// `CS0201` if there is none; `CS0101` and `CS0102` if its manifest cannot be understood; `CS0103` and `CS0104`
    /// if a file is missing or damaged.
    pub fn open(url: &str, depth: Depth) -> Result<Savepoint> {
        let none = || {
            let message = format!("there is no savepoint at `{url}`: it has no `{MANIFEST_FILE}`");
            Error::user(codes::NO_SAVEPOINT, message)
        };
        let storage = Storage::open_present(url)?.ok_or_else(none)?;
        let content = storage.read(MANIFEST_FILE)?.ok_or_else(none)?;
        let manifest = read_manifest(&content, &storage.shown(MANIFEST_FILE))?;
        let mut savepoint = Savepoint {
            metadata: manifest.metadata(),
            manifest,
            storage,
            contents: BTreeMap::new(),
        };
        savepoint.verify_sizes()?;
        match depth {
            Depth::Sizes => {}
            Depth::Contents => savepoint.load()?,
        }
        Ok(savepoint)
    }

    /// What it is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it is, as of a checkpoint. There are no layers.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The URL that it was opened with.
    pub fn url(&self) -> &str {
        self.storage.url()
    }

    /// What subtask `subtask` of `parallelism` of a keyed operator begins with; `operator` is one of the
    /// [metadata](Self::metadata).
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    ///
    /// # Panics
    /// See [`share`].
    pub fn restore_task(&self, operator: &Operator, parallelism: u32, subtask: u32) -> Result<TaskRestore> {
        let share = share(operator, self.manifest.max_parallelism, parallelism, subtask);
        let saved = self.manifest.operator(&operator.id);
        let mut restore = TaskRestore {
            watermark: share.watermark,
            batches: Vec::new(),
            collections: Vec::new(),
        };
        let Some((saved, layout)) = saved.and_then(|saved| Some((saved, saved.layout()?))) else {
            return Ok(restore);
        };
        let mut tables = Vec::with_capacity(saved.tables.len());
        for table in saved.tables.iter().filter(|table| !table.is_large()) {
            let schema = table.schema().ok_or_else(unchecked)?;
            let rows = self.read_table(table, share.groups.clone())?;
            tables.push(concat_batches(&schema, &rows).map_err(broken)?);
        }
        let batches = join(&layout, &tables).map_err(|unsound| match unsound {
            Unsound::Content(why) => {
                let message = format!("savepoint `{}`, operator `{}`: {why}", self.url(), saved.name);
                Error::external(codes::DAMAGED, message)
            }
            Unsound::Error(error) => error,
        })?;
        restore.batches = batches.into_iter().filter(|rows| rows.num_rows() > 0).collect();
        for large in saved.schema().iter().flat_map(KeyedSchema::collections) {
            let table = saved.table(&large.name).ok_or_else(unchecked)?;
            let groups = match large.broadcast {
                true => 0..self.manifest.max_parallelism,
                false => share.groups.clone(),
            };
            let rows = self.read_table(table, groups)?;
            let rows = rows.iter().map(|rows| collections::to_rows(&layout.key, &large, rows));
            restore.collections.push(CollectionRestore {
                batches: rows.collect::<Result<_>>()?,
                state: large.name,
            });
        }
        Ok(restore)
    }

    /// Rows of a table whose key groups are in a range, in the table's order.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged.
    pub fn read_table(&self, table: &SavedTable, groups: Range<u32>) -> Result<Vec<RecordBatch>> {
        let schema = table.schema().ok_or_else(unchecked)?;
        let mut found = Vec::new();
        for part in &table.files {
            let [first, last] = part.groups;
            if last < groups.start || groups.end <= first {
                continue;
            }
            let shown = self.storage.shown(&part.file);
            let rows = file::decode(part, &schema, self.read_file(part)?, &shown)?;
            if groups.start <= first && last < groups.end {
                found.extend(rows);
                continue;
            }
            for rows in &rows {
                let own = layer::of_groups(rows, KEY_GROUP, &groups)?;
                if own.num_rows() > 0 {
                    found.push(own);
                }
            }
        }
        Ok(found)
    }

    /// The verified content of one of its files.
    pub(crate) fn read_file(&self, part: &Layer) -> Result<Bytes> {
        match self.contents.get(&part.file) {
            Some(content) => Ok(content.clone()),
            None => self.verified(part, self.storage.read(&part.file)?),
        }
    }

    /// Deletes it: the manifest first, without which the rest is none.
    pub(crate) fn delete(&self) -> Result<()> {
        self.storage.delete(MANIFEST_FILE)?;
        let mut folders = BTreeSet::from([""]);
        for part in self.manifest.files() {
            self.storage.delete(&part.file)?;
            let ends = part.file.match_indices('/').map(|(end, _)| end);
            folders.extend(ends.map(|end| &part.file[..end]));
        }
        // Inner ones first: they are greater.
        let mut folders = folders.into_iter().rev();
        folders.try_for_each(|folder| self.storage.delete_folder(folder))
    }

    fn verify_sizes(&self) -> Result<()> {
        let mut folders: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
        for part in self.manifest.files() {
            let (folder, name) = part.file.rsplit_once('/').unwrap_or(("", &part.file));
            if !folders.contains_key(folder) {
                folders.insert(folder, self.storage.list(folder)?.files.into_iter().collect());
            }
            let shown = self.storage.shown(&part.file);
            match folders[folder].get(name) {
                Some(bytes) => layer::verify_size(&part.file(), *bytes, &shown)?,
                None => return Err(missing(&shown)),
            }
        }
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        let paths: Vec<String> = self.manifest.files().map(|part| part.file.clone()).collect();
        let mut contents = BTreeMap::new();
        for (read, part) in self.storage.read_all(&paths).into_iter().zip(self.manifest.files()) {
            contents.insert(part.file.clone(), self.verified(part, read?)?);
        }
        self.contents = contents;
        Ok(())
    }

    fn verified(&self, part: &Layer, content: Option<Bytes>) -> Result<Bytes> {
        let shown = self.storage.shown(&part.file);
        let content = content.ok_or_else(|| missing(&shown))?;
        layer::verify(&part.file(), &content, &shown)?;
        Ok(content)
    }
}

fn unchecked() -> Error {
    Error::internal("a schema of a manifest was not checked")
}
