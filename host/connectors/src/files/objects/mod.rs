//! The `files` sink on an object store: `s3://bucket/folder`, `gs://`, `az://`.
//!
//! ```text
//! write       a local temporary file without a name, growing
//! pre_commit  uploaded in pieces; what completes the upload goes into the checkpoint
//! commit      completed: the object is there; an empty object notes which part of the subtask was the last
//! ```
//!
//! A store forgets uploads that are completed. So that one whose object was taken away since is not taken for one that
//! was lost, the note is asked; it also keeps numbers from beginning anew.
//!
//! Uploads that were begun and never completed take room, and stores do not list them to clients such as this one.
//! A writer drops its own that no checkpoint holds. Those of a checkpoint that came to nothing and of a process that
//! was killed stay, until the store drops them by a rule of the bucket (on S3 and Google "abort incomplete multipart
//! uploads"; Azure does it after a week). A rule must wait longer than a job may be down, and longer than somebody may want
//! to go on from a savepoint that holds some.
//!
//! Of what a savepoint holds there is a note ([`kept`](crate::kept)), so that its numbers are not given again: who completes
//! an upload replaces the object that has its name.

mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use millrace_core::connector::{Committable, Delivery, Elapsed, KeptFor, Sink, SinkWriter, SubtaskContext};
use millrace_core::{Error, Result};
use serde_json::{Value, json};

use self::store::{Store, Upload};
use super::part::Part;
use super::part_writer::PartWriter;
use super::sink::{Existing, Settings, already_there, parse_name, parse_record, record_name};
use crate::kept::{self, Note};

/// What schemes of URLs stand for.
const SCHEMES: &[&str] = &["s3://", "s3a://", "gs://", "az://"];

/// Whether a path is the URL of an object store.
pub(super) fn is_url(path: &str) -> bool {
    SCHEMES.iter().any(|scheme| path.starts_with(scheme))
}

/// The sink for a URL.
pub(super) fn sink(settings: Settings, schema: SchemaRef) -> Result<Arc<dyn Sink>> {
    Ok(Arc::new(ObjectsSink {
        settings,
        schema,
        held: Arc::default(),
    }))
}

/// See the module's documentation.
struct ObjectsSink {
    settings: Settings,
    schema: SchemaRef,
    /// There may be notes of what savepoints hold.
    held: Arc<AtomicBool>,
}

impl ObjectsSink {
    fn store(&self) -> Result<Store> {
        Store::open(&self.settings.path)
    }
}

/// Objects that are parts, whatever their extension.
fn parts(store: &Store) -> Result<Vec<String>> {
    let mut names = store.list()?;
    names.retain(|name| parse_name(name).is_some());
    Ok(names)
}

impl Sink for ObjectsSink {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn check(&self) -> Result<()> {
        let store = self.store()?;
        let parts = parts(&store)?;
        let held: BTreeSet<u32> = held(&tidy(&store, &[])?).map(|(subtask, _)| subtask).collect();
        match self.settings.existing {
            Existing::Refuse if !parts.is_empty() => return Err(already_there(store.url(), parts.len())),
            Existing::Append => return Ok(()),
            Existing::Refuse => {}
            Existing::Overwrite => parts.iter().try_for_each(|name| store.delete(name))?,
        }
        // Numbers begin anew where nothing is there any more.
        let notes = Notes::read(&store)?;
        let notes = notes.0.iter().filter(|(subtask, _)| !held.contains(subtask));
        let mut notes = notes.map(|(subtask, number)| record_name(*subtask, *number));
        notes.try_for_each(|name| store.delete(&name))
    }

    fn recover(&self, prepared: &[Committable]) -> Result<()> {
        if prepared.is_empty() {
            return Ok(());
        }
        let store = self.store()?;
        Notes::read(&store)?.commit(&store, prepared)?;
        tidy(&store, prepared).map(drop)
    }

    fn keep(&self, savepoint: &KeptFor, prepared: &[Committable]) -> Result<()> {
        let store = self.store()?;
        let holds = prepared.iter().map(|committable| Ok(decode(committable)?.name));
        let holds: Vec<String> = holds.collect::<Result<_>>()?;
        let there = store.list()?;
        if holds.iter().all(|name| there.contains(name)) {
            return Ok(());
        }
        self.held.store(true, Ordering::Relaxed);
        let name = kept::name(kept::PREFIX, &savepoint.id);
        let savepoint = savepoint.clone();
        store.put(&name, Note { savepoint, holds }.encode())
    }

    fn kept(&self) -> Result<Vec<KeptFor>> {
        let notes = tidy(&self.store()?, &[])?.into_iter();
        Ok(notes.map(|note| note.savepoint).collect())
    }

    fn release(&self, id: &str) -> Result<()> {
        self.store()?.delete(&kept::name(kept::PREFIX, id))
    }

    fn open(&self, context: &SubtaskContext) -> Result<Box<dyn SinkWriter>> {
        let store = self.store()?;
        let (parts, notes) = (parts(&store)?, Notes::read(&store)?);
        let own = parts.iter().filter_map(|name| parse_name(name));
        let own = own.filter(|name| name.subtask == context.subtask);
        let kept = tidy(&store, &[])?;
        self.held.fetch_or(!kept.is_empty(), Ordering::Relaxed);
        let held = held(&kept).filter(|(subtask, _)| *subtask == context.subtask);
        let held = held.map(|(_, number)| number);
        let numbers = own.map(|name| name.number).chain(held);
        let numbers = numbers.chain(notes.0.get(&context.subtask).copied());
        Ok(Box::new(Writer {
            next_number: numbers.max().map_or(0, |last| last + 1),
            notes,
            store,
            settings: self.settings.clone(),
            schema: self.schema.clone(),
            subtask: context.subtask,
            held: self.held.clone(),
            part: None,
            uploads: Vec::new(),
            bytes: 0,
            committed_files: 0,
            poisoned: false,
        }))
    }
}

/// Removes the notes of savepoints all of whose uploads are objects, or were completed just now; the others.
fn tidy(store: &Store, completed: &[Committable]) -> Result<Vec<Note>> {
    let mut there: BTreeSet<String> = store.list()?.into_iter().collect();
    let notes: Vec<String> = there
        .iter()
        .filter(|name| kept::id(kept::PREFIX, name).is_some())
        .cloned()
        .collect();
    for committable in completed {
        there.insert(decode(committable)?.name);
    }
    let mut left = Vec::new();
    for name in notes {
        let (Some(id), Some(content)) = (kept::id(kept::PREFIX, &name), store.read(&name)?) else {
            continue;
        };
        let note = Note::decode(id, &content).ok_or_else(|| {
            let message = format!("`{}` is no note of a savepoint", store.shown(&name));
            Error::external("IO0130", message)
        })?;
        match note.holds.iter().all(|part| there.contains(part)) {
            true => store.delete(&name)?,
            false => left.push(note),
        }
    }
    Ok(left)
}

/// Subtasks and numbers of the parts that savepoints hold, whether they are committed or not.
fn held(notes: &[Note]) -> impl Iterator<Item = (u32, u64)> {
    let held = notes.iter().flat_map(|note| &note.holds);
    held.filter_map(|name| parse_name(name))
        .map(|name| (name.subtask, name.number))
}

/// The number of the last part that was committed, by subtask.
struct Notes(BTreeMap<u32, u64>);

impl Notes {
    fn read(store: &Store) -> Result<Self> {
        let mut notes = BTreeMap::new();
        for name in store.list()?.iter().filter_map(|name| parse_record(name)) {
            let last = notes.entry(name.subtask).or_insert(name.number);
            *last = name.number.max(*last);
        }
        Ok(Notes(notes))
    }

    /// Completes uploads; how many were not.
    fn commit(&mut self, store: &Store, committables: &[Committable]) -> Result<u64> {
        let (mut count, mut last) = (0, BTreeMap::<u32, u64>::new());
        for committable in committables {
            let upload = decode(committable)?;
            let Some(name) = parse_name(&upload.name) else {
                continue; // it was decoded as one
            };
            let known = self.0.get(&name.subtask).is_some_and(|last| *last >= name.number);
            count += u64::from(store.complete(&upload, known)?);
            let last = last.entry(name.subtask).or_insert(name.number);
            *last = name.number.max(*last);
        }
        for (subtask, number) in last {
            let before = self.0.get(&subtask).copied();
            if before.is_some_and(|before| before >= number) {
                continue;
            }
            store.put(&record_name(subtask, number), Vec::new())?;
            self.0.insert(subtask, number);
            if let Some(before) = before {
                store.delete(&record_name(subtask, before))?;
            }
        }
        Ok(count)
    }
}

fn encode(upload: &Upload) -> Committable {
    let value = json!({ "name": upload.name, "id": upload.id, "pieces": upload.pieces, "bytes": upload.bytes });
    Committable(value.to_string().into_bytes())
}

fn decode(committable: &Committable) -> Result<Upload> {
    let decoded = || {
        let value: Value = serde_json::from_slice(&committable.0).ok()?;
        let pieces = value["pieces"].as_array()?.iter();
        Some(Upload {
            name: value["name"]
                .as_str()
                .filter(|name| parse_name(name).is_some())?
                .to_owned(),
            id: value["id"].as_str()?.to_owned(),
            pieces: pieces
                .map(|piece| Some(piece.as_str()?.to_owned()))
                .collect::<Option<_>>()?,
            bytes: value["bytes"].as_u64()?,
        })
    };
    decoded().ok_or_else(|| Error::internal("a committable of a files sink is not an upload"))
}

/// A part that grows in a file that has no name any more: nothing of it outlives the process.
struct Growing {
    name: String,
    part: Part,
    content: File,
}

struct Writer {
    store: Store,
    settings: Settings,
    schema: SchemaRef,
    subtask: u32,
    next_number: u64,
    notes: Notes,
    held: Arc<AtomicBool>,
    part: Option<Growing>,
    /// Uploaded and not yet pre-committed.
    uploads: Vec<Upload>,
    bytes: u64,
    committed_files: u64,
    poisoned: bool,
}

impl Writer {
    fn grow(&self, name: String) -> Result<Growing> {
        let fail = |error: std::io::Error| {
            let shown = self.store.shown(&name);
            Error::external(
                "IO0105",
                format!("a temporary file for `{shown}` cannot be made: {error}"),
            )
        };
        let folder = tempfile::tempdir().map_err(fail)?;
        let Settings {
            format, compression, ..
        } = &self.settings;
        let part = Part::create(folder.path().join(&name), format, *compression, &self.schema)?;
        let content = File::open(part.path()).map_err(fail)?;
        folder.close().map_err(fail)?;
        Ok(Growing { name, part, content })
    }
}

impl PartWriter for Writer {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn part(&mut self) -> Result<&mut Part> {
        let growing = match self.part.take() {
            Some(growing) => growing,
            None => {
                let name = self.settings.part_name(self.subtask, self.next_number);
                self.next_number += 1;
                self.grow(name)?
            }
        };
        Ok(&mut self.part.insert(growing).part)
    }

    fn finish_part(&mut self) -> Result<()> {
        if let Some(Growing { name, part, content }) = self.part.take() {
            self.bytes += part.finish()?;
            self.uploads.push(self.store.upload(&name, content)?);
        }
        Ok(())
    }

    fn poisoned(&mut self) -> &mut bool {
        &mut self.poisoned
    }

    fn refusal(&self) -> Error {
        let url = self.store.url();
        Error::external(
            "IO0130",
            format!("`{url}` cannot be written: an earlier write to it failed"),
        )
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, rows: &RecordBatch, _now: Elapsed) -> Result<()> {
        self.guarded(|writer| writer.write_parts(rows))
    }

    fn pre_commit(&mut self) -> Result<Vec<Committable>> {
        self.guarded(Self::finish_part)?;
        Ok(std::mem::take(&mut self.uploads).iter().map(encode).collect())
    }

    fn commit(&mut self, committables: &[Committable]) -> Result<()> {
        self.committed_files += self.notes.commit(&self.store, committables)?;
        if !committables.is_empty() && self.held.load(Ordering::Relaxed) {
            let left = tidy(&self.store, committables)?;
            self.held.store(!left.is_empty(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn abort(&mut self, prepared: &[Committable]) -> Result<()> {
        self.part = None;
        for upload in std::mem::take(&mut self.uploads) {
            self.store.abort(&upload)?;
        }
        prepared
            .iter()
            .try_for_each(|committable| self.store.abort(&decode(committable)?))
    }

    fn bytes_written(&self) -> u64 {
        self.bytes + self.part.as_ref().map_or(0, |growing| growing.part.bytes())
    }

    fn summary(&self) -> Vec<(String, String)> {
        vec![("files".into(), self.committed_files.to_string())]
    }
}
