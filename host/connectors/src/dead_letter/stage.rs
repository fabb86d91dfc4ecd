//! Dead letters of one subtask, as part of a checkpoint.
//!
//! ```text
//! append      .letters.jsonl.<job>-<stage>-3.staged   hidden, growing
//! pre_commit  the same, synced; its name goes into the checkpoint
//! commit      appended to letters.jsonl and removed, see the journal
//! ```

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::PathBuf;

use millrace_core::Result;
use millrace_core::connector::{Committable, Rejected};

use super::committable::Letters;
use super::journal::{folder_of, prefix, sync_folder};
use super::{BUFFER_BYTES_MAX, DeadLetter, unwritable};

/// See the module's documentation.
pub struct Stage {
    letters: DeadLetter,
    /// How the names of its files begin.
    prefix: String,
    number: u64,
    open: Option<Staged>,
}

/// A file that grows.
struct Staged {
    name: String,
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
}

impl Stage {
    pub(super) fn new(letters: DeadLetter, job: &str) -> Self {
        let stage = RandomState::new().hash_one(std::process::id());
        Stage {
            prefix: format!("{}{}-{stage:016x}-", prefix(letters.path()), job_hash(job)),
            letters,
            number: 0,
            open: None,
        }
    }

    fn open(&mut self) -> io::Result<&mut Staged> {
        let staged = match self.open.take() {
            Some(staged) => staged,
            None => {
                let name = format!("{}{}{STAGED}", self.prefix, self.number);
                let path = folder_of(self.letters.path()).join(&name);
                let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
                self.number += 1;
                Staged {
                    name,
                    path,
                    file,
                    buffer: Vec::new(),
                }
            }
        };
        Ok(self.open.insert(staged))
    }

    fn failed(&self, error: &io::Error) -> millrace_core::Error {
        unwritable(self.letters.path(), error)
    }

    /// Keeps a row that `source` (the name of a source or operator) rejected.
    pub fn append(&mut self, source: &str, rejected: &Rejected) -> Result<()> {
        let appended = self.open().and_then(|staged| {
            super::put_line(source, rejected, &mut staged.buffer);
            if staged.buffer.len() >= BUFFER_BYTES_MAX {
                staged.write()
            } else {
                Ok(())
            }
        });
        appended.map_err(|error| self.failed(&error))
    }

    /// Makes what was appended since the last time durable, but not visible.
    pub fn pre_commit(&mut self) -> Result<Option<Committable>> {
        let Some(mut staged) = self.open.take() else {
            return Ok(None);
        };
        let written = staged.write().and_then(|()| staged.file.sync_data());
        let written = written.and_then(|()| sync_folder(self.letters.path()));
        written.map_err(|error| self.failed(&error))?;
        let letters = Letters {
            path: self.letters.path().to_owned(),
            staged: staged.name,
        };
        Ok(Some(letters.encode()))
    }

    /// Drops what was appended since the last pre-commit.
    pub fn abort(&mut self) {
        if let Some(staged) = self.open.take() {
            // What stays behind is swept away by the next recovery.
            let _ = std::fs::remove_file(staged.path);
        }
    }
}

impl Staged {
    fn write(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// How the names of staged files end.
const STAGED: &str = ".staged";

/// Part of the names of a job's staged files.
fn job_hash(job: &str) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(job.as_bytes()))
}

/// How the names of notes begin that savepoints hold some of a job's staged files.
pub(super) fn note_prefix(letters: &DeadLetter, job: &str) -> String {
    format!("{}{}-savepoint-", prefix(letters.path()), job_hash(job))
}

/// Names of all staged files of a job for a dead-letter file.
pub(super) fn staged(letters: &DeadLetter, job: &str) -> io::Result<Vec<String>> {
    let prefix = format!("{}{}-", prefix(letters.path()), job_hash(job));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder_of(letters.path()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) && name.ends_with(STAGED) {
            names.push(name);
        }
    }
    Ok(names)
}
