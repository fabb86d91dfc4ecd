//! Rejected rows kept as JSON lines, for the reject policy `dead-letter(path)`.
//!
//! One line per row: `{"source":...,"place":...,"cause":...,"raw":...}`. Any number of operators, jobs and processes may
//! append to a file. Without checkpoints rows are appended as they come; all subtasks of a process that name the same
//! file share one buffer, so that lines never interleave. With checkpoints a subtask's rows wait in a [`Stage`] and are
//! appended when the checkpoint that they belong to is complete, so that each is there once.

mod committable;
mod journal;
mod stage;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use millrace_core::connector::{Committable, KeptFor, Rejected};
use millrace_core::{Error, Result};

use committable::Letters;
pub use committable::is_dead_letters;
use journal::Locked;
pub use stage::Stage;

use crate::kept::{Note, Notes};

/// Bytes collected before they are written without being asked to.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

static OPEN: Mutex<BTreeMap<PathBuf, Weak<Shared>>> = Mutex::new(BTreeMap::new());

struct Shared {
    /// Without links: the same for all who name the file.
    path: PathBuf,
    buffer: Mutex<Vec<u8>>,
}

/// A dead-letter file; clones write to the same one. Flushes when the last clone is dropped.
#[derive(Clone)]
pub struct DeadLetter(Arc<Shared>);

impl DeadLetter {
    /// Opens the file for appending and creates it, and its folder, if need be.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let fail = |error: std::io::Error| {
            Error::external(
                "IO0111",
                format!("dead-letter file `{}` cannot be opened: {error}", path.display()),
            )
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        OpenOptions::new().create(true).append(true).open(path).map_err(fail)?;
        let path = path.canonicalize().map_err(fail)?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, shared| shared.strong_count() > 0);
        if let Some(shared) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(DeadLetter(shared));
        }
        let shared = Arc::new(Shared {
            path: path.clone(),
            buffer: Mutex::default(),
        });
        open.insert(path, Arc::downgrade(&shared));
        Ok(DeadLetter(shared))
    }

    fn path(&self) -> &Path {
        &self.0.path
    }

    /// Appends a row that `source` (the name of a source or operator) rejected.
    pub fn append(&self, source: &str, rejected: &Rejected) -> Result<()> {
        let mut buffer = self.0.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        put_line(source, rejected, &mut buffer);
        if buffer.len() >= BUFFER_BYTES_MAX {
            self.0.write(&mut buffer, false)
        } else {
            Ok(())
        }
    }

    /// Writes what was appended so far to the file and makes it durable.
    pub fn flush(&self) -> Result<()> {
        let mut buffer = self.0.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.write(&mut buffer, true)
    }

    /// Where a subtask of a job keeps rows until their checkpoint is complete.
    pub fn stage(&self, job: &str) -> Stage {
        Stage::new(self.clone(), job)
    }

    /// Makes visible what a [`Stage`] pre-committed, in this process or another. Idempotent.
    pub fn commit(prepared: &[Committable]) -> Result<()> {
        for committable in prepared {
            let letters = Letters::decode(committable)?;
            let taken = Locked::new(&letters.path).and_then(|mut file| file.take(&letters.staged));
            taken.map_err(|error| unwritable(&letters.path, &error))?;
        }
        Ok(())
    }

    /// Tidies up after an earlier attempt of the job, before there are stages: drops what was staged for this file, but
    /// for what is [kept](Self::keep). What is to be committed was.
    pub fn sweep(&self, job: &str) -> Result<()> {
        let sweep = || {
            // What a crash left in the file itself goes first: it can be told by the staged file.
            let _locked = Locked::new(self.path())?;
            let (folder, prefix) = (journal::folder_of(self.path()), stage::note_prefix(self, job));
            let notes = Notes::new(folder, &prefix);
            let kept = notes.tidy(|name| folder.join(name).exists())?;
            for name in stage::staged(self, job)? {
                if !kept.iter().any(|note| note.holds.contains(&name)) {
                    std::fs::remove_file(folder.join(name))?;
                }
            }
            notes.sweep()
        };
        sweep().map_err(|error: io::Error| unwritable(self.path(), &error))
    }

    /// As [`Sink::keep`](millrace_core::connector::Sink::keep), of what a job has staged for this file.
    pub fn keep(&self, job: &str, savepoint: &KeptFor, prepared: &[Committable]) -> Result<()> {
        let letters = prepared.iter().map(Letters::decode).collect::<Result<Vec<_>>>()?;
        let own = letters.into_iter().filter(|letters| letters.path == self.path());
        let holds: Vec<String> = own.map(|letters| letters.staged).collect();
        let (folder, prefix) = (journal::folder_of(self.path()), stage::note_prefix(self, job));
        if !holds.iter().any(|name| folder.join(name).exists()) {
            return Ok(());
        }
        let savepoint = savepoint.clone();
        let noted = Notes::new(folder, &prefix).put(&Note { savepoint, holds });
        noted.map_err(|error| unwritable(self.path(), &error))
    }

    /// As [`Sink::kept`](millrace_core::connector::Sink::kept), of what a job has staged for this file.
    pub fn kept(&self, job: &str) -> Result<Vec<KeptFor>> {
        let (folder, prefix) = (journal::folder_of(self.path()), stage::note_prefix(self, job));
        let notes = Notes::new(folder, &prefix).tidy(|name| folder.join(name).exists());
        let notes = notes.map_err(|error| unwritable(self.path(), &error))?;
        Ok(notes.into_iter().map(|note| note.savepoint).collect())
    }

    /// As [`Sink::release`](millrace_core::connector::Sink::release), of what a job has staged for this file.
    pub fn release(&self, job: &str, id: &str) -> Result<()> {
        let (folder, prefix) = (journal::folder_of(self.path()), stage::note_prefix(self, job));
        let removed = Notes::new(folder, &prefix).remove(id);
        removed.map_err(|error| unwritable(self.path(), &error))
    }
}

/// A row as a line.
fn put_line(source: &str, rejected: &Rejected, out: &mut Vec<u8>) {
    let line = serde_json::json!({
        "source": source,
        "place": rejected.place,
        "cause": rejected.cause,
        "raw": rejected.raw,
    });
    out.extend_from_slice(line.to_string().as_bytes());
    out.push(b'\n');
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    let message = format!("dead-letter file `{}` cannot be written: {error}", path.display());
    Error::external("IO0111", message)
}

impl Shared {
    fn write(&self, buffer: &mut Vec<u8>, durable: bool) -> Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let write = || {
            let mut file = Locked::new(&self.path)?;
            file.append(buffer)?;
            if durable { file.sync() } else { Ok(()) }
        };
        let written = write();
        buffer.clear();
        written.map_err(|error| unwritable(&self.path, &error))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Whoever must know has called `flush`; this is for a task that ends by an error of its own.
        let mut buffer = std::mem::take(self.buffer.get_mut().unwrap_or_else(PoisonError::into_inner));
        let _ = self.write(&mut buffer, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(number: usize) -> Rejected {
        Rejected {
            place: format!("a.csv:{number}"),
            cause: "column `x`: `\"` is no number".into(),
            raw: "1,\"".repeat(number % 50),
        }
    }

    #[test]
    fn lines_of_several_subtasks_do_not_interleave() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/letters.jsonl");
        std::thread::scope(|scope| {
            for subtask in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    let letters = DeadLetter::open(path).unwrap();
                    for number in 0..2000 {
                        letters.append(&format!("source-{subtask}"), &rejected(number)).unwrap();
                    }
                    letters.flush().unwrap();
                });
            }
        });
        let again = DeadLetter::open(&path).unwrap();
        again.append("later", &rejected(3)).unwrap();
        drop(again);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 8001);
        for subtask in 0..4 {
            let name = format!("source-{subtask}");
            let places: Vec<&str> = lines
                .iter()
                .filter(|l| l["source"] == *name)
                .map(|l| l["place"].as_str().unwrap())
                .collect();
            assert_eq!(places.len(), 2000);
            assert_eq!((places[0], places[1999]), ("a.csv:0", "a.csv:1999"));
        }
        assert_eq!(lines[8000]["raw"], "1,\"1,\"1,\"");
    }

    fn places(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let place = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["place"].as_str().unwrap().to_owned()
        };
        text.lines().map(place).collect()
    }

    fn stage_some(letters: &DeadLetter, numbers: &[usize]) -> Committable {
        let mut stage = letters.stage("job");
        for number in numbers {
            stage.append("source", &rejected(*number)).unwrap();
        }
        stage.pre_commit().unwrap().unwrap()
    }

    fn hidden(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).unwrap();
        entries
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .ends_with(".staged")
            })
            .count()
    }

    #[test]
    fn staged_rows_are_there_once_and_stale_ones_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let letters = DeadLetter::open(&path).unwrap();
        let mut stage = letters.stage("job");
        assert_eq!(stage.pre_commit().unwrap(), None);
        stage.append("source", &rejected(1)).unwrap();
        let one = stage.pre_commit().unwrap().unwrap();
        stage.append("source", &rejected(2)).unwrap();
        assert!(places(&path).is_empty());
        DeadLetter::commit(std::slice::from_ref(&one)).unwrap();
        DeadLetter::commit(std::slice::from_ref(&one)).unwrap();
        // Another job, and one without checkpoints, append to the same file.
        let mut other = letters.stage("other");
        other.append("source", &rejected(7)).unwrap();
        letters.append("source", &rejected(8)).unwrap();
        letters.flush().unwrap();
        let two = stage.pre_commit().unwrap().unwrap();
        stage.append("source", &rejected(3)).unwrap();
        drop(stage);
        // A crash, after which only the first two are part of a checkpoint.
        DeadLetter::commit(&[one.clone(), two.clone()]).unwrap();
        letters.sweep("job").unwrap();
        assert_eq!(hidden(folder.path()), 1);
        let other = other.pre_commit().unwrap().unwrap();
        DeadLetter::commit(&[other]).unwrap();
        assert_eq!(places(&path), ["a.csv:1", "a.csv:8", "a.csv:2", "a.csv:7"]);
        assert!(!is_dead_letters(b"{}"));
    }

    #[test]
    fn what_a_savepoint_holds_is_not_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let letters = DeadLetter::open(&path).unwrap();
        let [held, _stale, also_held] = [1, 2, 3].map(|number| stage_some(&letters, &[number]));
        let savepoint = |id: &str| KeptFor {
            id: id.to_owned(),
            savepoint: "/s".to_owned(),
            is_written: true,
        };
        letters
            .keep("job", &savepoint("one"), std::slice::from_ref(&held))
            .unwrap();
        let both = [held.clone(), also_held.clone()];
        letters.keep("job", &savepoint("two"), &both).unwrap();
        for _ in 0..2 {
            letters.sweep("job").unwrap();
            assert_eq!(hidden(folder.path()), 2);
            assert_eq!(letters.kept("job").unwrap(), [savepoint("one"), savepoint("two")]);
            assert_eq!(letters.kept("other").unwrap(), []);
        }
        DeadLetter::commit(&[held]).unwrap();
        assert_eq!(letters.kept("job").unwrap(), [savepoint("two")]);
        letters.release("job", "two").unwrap();
        letters.sweep("job").unwrap();
        assert_eq!(hidden(folder.path()), 0);
        DeadLetter::commit(&both).unwrap();
        assert_eq!(places(&path), ["a.csv:1"]);
        // Of what is committed nothing is noted.
        letters.keep("job", &savepoint("late"), &both).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_crash_in_the_middle_of_a_commit_leaves_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let letters = DeadLetter::open(&path).unwrap();
        let first = stage_some(&letters, &[1]);
        DeadLetter::commit(&[first]).unwrap();
        let length = std::fs::metadata(&path).unwrap().len();
        for (cut, settled_by_others) in [(0, true), (1, true), (30, false), (10_000, true), (10_000, false)] {
            let committable = stage_some(&letters, &[40, 41, 42]);
            let staged = Letters::decode(&committable).unwrap().staged;
            let content = std::fs::read(folder.path().join(&staged)).unwrap();
            // What the file and the journal look like when a process dies there.
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            std::io::Write::write_all(&mut file, &content[..cut.min(content.len())]).unwrap();
            let journal = serde_json::json!({ "length": length, "staged": staged });
            std::fs::write(folder.path().join(".letters.jsonl.journal"), journal.to_string()).unwrap();
            let mut expected = vec!["a.csv:1".to_owned()];
            if settled_by_others {
                letters.append("source", &rejected(9)).unwrap();
                letters.flush().unwrap();
                expected.push("a.csv:9".to_owned());
                assert_eq!(places(&path), expected);
            }
            DeadLetter::commit(&[committable]).unwrap();
            expected.extend(["a.csv:40", "a.csv:41", "a.csv:42"].map(str::to_owned));
            assert_eq!(places(&path), expected);
            letters.sweep("job").unwrap();
            assert_eq!(places(&path), expected);
            OpenOptions::new()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(length)
                .unwrap();
        }
    }

    #[test]
    fn an_unusable_path_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = DeadLetter::open(folder.path()).err().unwrap();
        assert_eq!(error.code(), "IO0111");
        assert!(error.to_string().contains(folder.path().to_str().unwrap()));
    }
}
