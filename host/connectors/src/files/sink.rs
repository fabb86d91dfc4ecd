//! The `files` sink: rolling part files in a folder, visible only when committed.
//!
//! ```text
//! write       .part-0-3.csv.inprogress          hidden, growing
//! pre_commit  .part-0-3.csv.inprogress          hidden, complete, synced; its name goes into the checkpoint
//! commit      part-0-3.csv                      renamed, folder synced
//!             .part-0-3.committed               empty: of subtask 0 all parts up to number 3 were committed
//! ```
//!
//! A part that was committed may be taken away by whoever reads it. The record says so to a job that goes on from a
//! checkpoint, and keeps its number from being given again.
//!
//! Parts that a savepoint holds stay hidden, whoever starts a job here, as long as a note beside them says so
//! ([`kept`](crate::kept)); nor are their numbers given again.
//!
//! A folder that already has parts is refused before anything runs, unless `overwrite` = `true` (they are
//! removed) or `append` = `true` (they stay, new parts get new numbers). The rule is applied by
//! [`Sink::check`], once: a job that goes on from a checkpoint must not be checked again, or the parts that it
//! committed itself would count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use millrace_core::connector::{Committable, Delivery, Elapsed, KeptFor, Options, Sink, SinkWriter, SubtaskContext};
use millrace_core::{Error, Result};

use super::avro;
use super::compression::Compression;
use super::part::{Part, unwritable};
use super::part_writer::PartWriter;
use crate::format::{AvroCodec, Format};
use crate::kept::{self, Note, Notes};

const ROLL_BYTES_DEFAULT: u64 = 128 << 20;
const IN_PROGRESS: &str = ".inprogress";
const COMMITTED: &str = ".committed";

/// What is done about parts of an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Refuse,
    Append,
    Overwrite,
}

/// What the pipeline asks for, wherever the parts go.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) path: String,
    pub(super) format: Format,
    pub(super) compression: Compression,
    pub(super) roll_bytes: u64,
    pub(super) roll_rows: u64,
    pub(super) existing: Existing,
}

/// See the module's documentation.
pub(crate) struct FilesSink {
    layout: Arc<Layout>,
    schema: SchemaRef,
}

/// Where parts go and what they look like.
struct Layout {
    folder: PathBuf,
    settings: Settings,
}

impl Layout {
    fn hidden(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}{IN_PROGRESS}"))
    }

    /// Makes a part visible; false: it was. `was_committed`: and may have been taken away since.
    fn commit(&self, name: &str, was_committed: bool) -> Result<bool> {
        let (hidden, visible) = (self.hidden(name), self.folder.join(name));
        match std::fs::rename(&hidden, &visible) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && (was_committed || visible.exists()) => {
                Ok(false)
            }
            Err(error) => Err(uncommitted(&visible, &error)),
        }
    }

    /// Makes parts visible, durably; how many were not.
    fn commit_all(&self, committables: &[Committable]) -> Result<u64> {
        let mut last = BTreeMap::new();
        let mut count = 0;
        let records = match committables {
            [] => return Ok(0),
            _ => self.records()?,
        };
        for committable in committables {
            let (file, Name { subtask, number, .. }) = part_name(committable)?;
            let was_committed = records.get(&subtask).is_some_and(|last| *last >= number);
            count += u64::from(self.commit(file, was_committed)?);
            let last = last.entry(subtask).or_insert(number);
            *last = number.max(*last);
        }
        for (subtask, number) in last {
            self.record(subtask, number, records.get(&subtask).copied())?;
        }
        self.notes()?;
        self.sync_folder()?;
        Ok(count)
    }

    /// What savepoints hold here that is not committed.
    fn notes(&self) -> Result<Vec<Note>> {
        let notes = Notes::new(&self.folder, kept::PREFIX).tidy(|name| self.hidden(name).exists());
        notes.map_err(|error| no_folder(&self.folder, &error))
    }

    /// Subtasks and numbers of the parts that savepoints hold, whether they are committed or not.
    fn held(&self) -> Result<BTreeSet<(u32, u64)>> {
        let notes = self.notes()?;
        let held = notes.iter().flat_map(|note| &note.holds);
        let held = held.filter_map(|file| parse_name(file));
        Ok(held.map(|name| (name.subtask, name.number)).collect())
    }

    fn recorded(&self, subtask: u32, number: u64) -> PathBuf {
        self.folder.join(record_name(subtask, number))
    }

    /// Notes that all parts of a subtask up to this were committed.
    fn record(&self, subtask: u32, number: u64, before: Option<u64>) -> Result<()> {
        if before.is_some_and(|before| before >= number) {
            return Ok(());
        }
        let path = self.recorded(subtask, number);
        File::create(&path).map_err(|error| uncommitted(&path, &error))?;
        match before.map(|before| std::fs::remove_file(self.recorded(subtask, before))) {
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(uncommitted(&path, &error)),
            _ => Ok(()),
        }
    }

    /// The number of the last part that was committed, by subtask.
    fn records(&self) -> Result<BTreeMap<u32, u64>> {
        let mut records = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder).map_err(|error| no_folder(&self.folder, &error))? {
            let entry = entry.map_err(|error| no_folder(&self.folder, &error))?;
            if let Some(name) = entry.file_name().to_str().and_then(parse_record) {
                let last = records.entry(name.subtask).or_insert(name.number);
                *last = name.number.max(*last);
            }
        }
        Ok(records)
    }

    /// But for those of subtasks of which a savepoint holds something.
    fn forget_records(&self, held: &BTreeSet<(u32, u64)>) -> Result<()> {
        let is_held = |subtask| held.range((subtask, 0)..).next().is_some_and(|(of, _)| *of == subtask);
        for (subtask, number) in self.records()?.into_iter().filter(|(subtask, _)| !is_held(*subtask)) {
            let path = self.recorded(subtask, number);
            std::fs::remove_file(&path).map_err(|error| unwritable(&path, &error))?;
        }
        Ok(())
    }

    fn remove(&self, file: &str) -> Result<()> {
        let path = self.folder.join(file);
        std::fs::remove_file(&path).map_err(|error| unwritable(&path, &error))
    }

    fn sync_folder(&self) -> Result<()> {
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| uncommitted(&self.folder, &error))
    }
}

impl Settings {
    /// From the options in the pipeline.
    pub(super) fn take(mut options: Options, schema: &SchemaRef) -> Result<Self> {
        let path = options.required("path")?;
        let mut format = Format::take(&mut options, None, true)?;
        let compression = Compression::take(&mut options)?;
        if let Format::Avro(codec) = &mut format {
            *codec = AvroCodec::take(&mut options)?;
            if compression != Compression::None {
                let message = "option `compression` does not go with format avro: its codec is option `avro.codec`";
                return Err(Error::user("CN0110", message));
            }
            avro::check_sink(schema)?;
        }
        let roll_bytes = options
            .parsed("roll.bytes", "a number of bytes")?
            .unwrap_or(ROLL_BYTES_DEFAULT);
        let roll_rows = options.parsed("roll.rows", "a number of rows")?.unwrap_or(u64::MAX);
        let overwrite = options.parsed("overwrite", "`true` or `false`")?.unwrap_or(false);
        let append = options.parsed("append", "`true` or `false`")?.unwrap_or(false);
        options.finish()?;
        format.check_schema(schema)?;
        if roll_bytes == 0 || roll_rows == 0 {
            return Err(Error::user(
                "CN0110",
                "options `roll.bytes` and `roll.rows` must be above 0",
            ));
        }
        let existing = match (overwrite, append) {
            (false, false) => Existing::Refuse,
            (false, true) => Existing::Append,
            (true, false) => Existing::Overwrite,
            (true, true) => {
                return Err(Error::user(
                    "CN0110",
                    "options `overwrite` and `append` exclude each other",
                ));
            }
        };
        Ok(Settings {
            path,
            format,
            compression,
            roll_bytes,
            roll_rows,
            existing,
        })
    }

    /// Name of a part.
    pub(super) fn part_name(&self, subtask: u32, number: u64) -> String {
        let suffix = match self.format {
            Format::Parquet | Format::Avro(_) => "",
            Format::Text | Format::Csv(_) | Format::Ndjson => self.compression.suffix(),
        };
        format!("part-{subtask}-{number}.{}{suffix}", self.format.extension())
    }
}

/// The refusal to mix old parts and new.
pub(super) fn already_there(place: &str, parts: usize) -> Error {
    let message = format!(
        "folder `{place}` already has {parts} part files of an earlier run: empty it, choose another, or set option \
         `overwrite` or `append` to `true`"
    );
    Error::user("CN0115", message)
}

impl FilesSink {
    /// Into a local folder.
    pub(super) fn new(settings: Settings, schema: SchemaRef) -> Self {
        let layout = Layout {
            folder: PathBuf::from(&settings.path),
            settings,
        };
        FilesSink {
            layout: Arc::new(layout),
            schema,
        }
    }
}

impl Sink for FilesSink {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn check(&self) -> Result<()> {
        let folder = &self.layout.folder;
        std::fs::create_dir_all(folder).map_err(|error| no_folder(folder, &error))?;
        let probe = folder.join(format!(".probe-{}", std::process::id()));
        File::create(&probe)
            .and_then(|_| std::fs::remove_file(&probe))
            .map_err(|error| no_folder(folder, &error))?;
        let parts: Vec<(String, Name)> = parts(folder)?;
        let visible = parts.iter().filter(|(_, name)| !name.in_progress).count();
        let held = self.layout.held()?;
        let is_kept = |name: &Name| name.in_progress && held.contains(&name.place());
        match self.layout.settings.existing {
            Existing::Refuse if visible > 0 => Err(already_there(&folder.display().to_string(), visible)),
            Existing::Refuse | Existing::Append => Ok(()),
            Existing::Overwrite => parts.iter().try_for_each(|(file, name)| match is_kept(name) {
                true => Ok(()),
                false => self.layout.remove(file),
            }),
        }?;
        // Numbers begin anew where nothing is there any more.
        match self.layout.settings.existing {
            Existing::Append => Ok(()),
            Existing::Refuse | Existing::Overwrite => self.layout.forget_records(&held),
        }
    }

    fn recover(&self, prepared: &[Committable]) -> Result<()> {
        let folder = &self.layout.folder;
        std::fs::create_dir_all(folder).map_err(|error| no_folder(folder, &error))?;
        self.layout.commit_all(prepared)?;
        let held = self.layout.held()?;
        let is_left_over = |name: &Name| name.in_progress && !held.contains(&name.place());
        for (file, _) in parts(folder)?.iter().filter(|(_, name)| is_left_over(name)) {
            self.layout.remove(file)?;
        }
        let swept = Notes::new(folder, kept::PREFIX).sweep();
        swept.map_err(|error| no_folder(folder, &error))?;
        self.layout.sync_folder()
    }

    fn keep(&self, savepoint: &KeptFor, prepared: &[Committable]) -> Result<()> {
        let holds = prepared
            .iter()
            .map(|committable| Ok(part_name(committable)?.0.to_owned()));
        let holds: Vec<String> = holds.collect::<Result<_>>()?;
        if !holds.iter().any(|name| self.layout.hidden(name).exists()) {
            return Ok(());
        }
        let savepoint = savepoint.clone();
        let noted = Notes::new(&self.layout.folder, kept::PREFIX).put(&Note { savepoint, holds });
        noted.map_err(|error| no_folder(&self.layout.folder, &error))
    }

    fn kept(&self) -> Result<Vec<KeptFor>> {
        let notes = self.layout.notes()?.into_iter();
        Ok(notes.map(|note| note.savepoint).collect())
    }

    fn release(&self, id: &str) -> Result<()> {
        let removed = Notes::new(&self.layout.folder, kept::PREFIX).remove(id);
        removed.map_err(|error| no_folder(&self.layout.folder, &error))
    }

    fn open(&self, context: &SubtaskContext) -> Result<Box<dyn SinkWriter>> {
        let folder = &self.layout.folder;
        std::fs::create_dir_all(folder).map_err(|error| no_folder(folder, &error))?;
        let committed = self.layout.records()?.get(&context.subtask).copied();
        let parts = parts(folder)?.into_iter();
        let own = parts.filter(|(_, name)| name.subtask == context.subtask);
        let held = self
            .layout
            .held()?
            .into_iter()
            .filter(|(subtask, _)| *subtask == context.subtask);
        let held = held.map(|(_, number)| number);
        let numbers = own.map(|(_, name)| name.number).chain(committed).chain(held);
        Ok(Box::new(Writer {
            layout: self.layout.clone(),
            schema: self.schema.clone(),
            subtask: context.subtask,
            next_number: numbers.max().map_or(0, |last| last + 1),
            part: None,
            completed: Vec::new(),
            finished_bytes: 0,
            committed_files: 0,
            poisoned: false,
        }))
    }
}

fn no_folder(folder: &Path, error: &std::io::Error) -> Error {
    Error::external(
        "IO0106",
        format!("folder `{}` cannot be created or written to: {error}", folder.display()),
    )
}

/// What the name of a part says.
pub(super) struct Name {
    pub(super) subtask: u32,
    pub(super) number: u64,
    in_progress: bool,
}

impl Name {
    fn place(&self) -> (u32, u64) {
        (self.subtask, self.number)
    }
}

/// `part-<subtask>-<number>.<extension>`, or the hidden form of it.
pub(super) fn parse_name(file: &str) -> Option<Name> {
    let hidden = file.strip_prefix('.').and_then(|name| name.strip_suffix(IN_PROGRESS));
    let (stem, _) = hidden.unwrap_or(file).strip_prefix("part-")?.split_once('.')?;
    let (subtask, number) = stem.split_once('-')?;
    Some(Name {
        subtask: subtask.parse().ok()?,
        number: number.parse().ok()?,
        in_progress: hidden.is_some(),
    })
}

/// The name of what notes that all parts of a subtask up to this were committed: whoever reads parts may take them away.
pub(super) fn record_name(subtask: u32, number: u64) -> String {
    format!(".part-{subtask}-{number}{COMMITTED}")
}

/// What such a name says.
pub(super) fn parse_record(file: &str) -> Option<Name> {
    let part = file.strip_prefix('.')?.strip_suffix(COMMITTED)?;
    parse_name(&format!("{part}."))
}

/// All parts in the folder, of whatever extension, in name order.
fn parts(folder: &Path) -> Result<Vec<(String, Name)>> {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| no_folder(folder, &error))? {
        let entry = entry.map_err(|error| no_folder(folder, &error))?;
        if let Some(file) = entry.file_name().to_str()
            && let Some(name) = parse_name(file)
        {
            parts.push((file.to_owned(), name));
        }
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(parts)
}

/// The visible name in a committable, and what it says.
fn part_name(committable: &Committable) -> Result<(&str, Name)> {
    let file = std::str::from_utf8(&committable.0).ok();
    file.filter(|file| !file.contains('/'))
        .and_then(|file| Some((file, parse_name(file)?)))
        .filter(|(_, name)| !name.in_progress)
        .ok_or_else(|| Error::internal("a committable of a files sink is not the name of a part"))
}

struct Writer {
    layout: Arc<Layout>,
    schema: SchemaRef,
    subtask: u32,
    next_number: u64,
    part: Option<(String, Part)>,
    /// Finished and not yet pre-committed, by their final names.
    completed: Vec<String>,
    finished_bytes: u64,
    committed_files: u64,
    poisoned: bool,
}

impl PartWriter for Writer {
    fn settings(&self) -> &Settings {
        &self.layout.settings
    }

    fn part(&mut self) -> Result<&mut Part> {
        let (_, part) = match self.part.take() {
            Some(open) => self.part.insert(open),
            None => {
                let settings = &self.layout.settings;
                let name = settings.part_name(self.subtask, self.next_number);
                self.next_number += 1;
                let hidden = self.layout.hidden(&name);
                let part = Part::create(hidden, &settings.format, settings.compression, &self.schema)?;
                self.part.insert((name, part))
            }
        };
        Ok(part)
    }

    fn finish_part(&mut self) -> Result<()> {
        if let Some((name, part)) = self.part.take() {
            // It stays listed if finishing fails, so that `abort` removes it.
            self.completed.push(name);
            self.finished_bytes += part.finish()?;
        }
        Ok(())
    }

    fn poisoned(&mut self) -> &mut bool {
        &mut self.poisoned
    }

    fn refusal(&self) -> Error {
        unwritable(&self.layout.folder, &"an earlier write to it failed")
    }
}

fn uncommitted(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::external("IO0110", format!("`{}` cannot be committed: {error}", path.display()))
}

impl SinkWriter for Writer {
    fn write(&mut self, rows: &RecordBatch, _now: Elapsed) -> Result<()> {
        self.guarded(|writer| writer.write_parts(rows))
    }

    fn pre_commit(&mut self) -> Result<Vec<Committable>> {
        self.guarded(Self::finish_part)?;
        let completed = std::mem::take(&mut self.completed);
        Ok(completed
            .into_iter()
            .map(|name| Committable(name.into_bytes()))
            .collect())
    }

    fn commit(&mut self, committables: &[Committable]) -> Result<()> {
        self.committed_files += self.layout.commit_all(committables)?;
        Ok(())
    }

    fn abort(&mut self, prepared: &[Committable]) -> Result<()> {
        let mut paths = Vec::new();
        for committable in prepared {
            paths.push(self.layout.hidden(part_name(committable)?.0));
        }
        for name in std::mem::take(&mut self.completed) {
            paths.push(self.layout.hidden(&name));
        }
        paths.extend(self.part.take().map(|(_, part)| part.path().to_owned()));
        for path in paths {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unwritable(&path, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        self.finished_bytes + self.part.as_ref().map_or(0, |(_, part)| part.bytes())
    }

    fn summary(&self) -> Vec<(String, String)> {
        vec![("files".into(), self.committed_files.to_string())]
    }
}

#[cfg(test)]
mod tests;
