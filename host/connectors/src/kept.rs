//! Notes of what savepoints hold of an output, beside it: see [`Sink::keep`](millrace_core::connector::Sink::keep).
//!
//! ```text
//! .savepoint-<id>.kept       {"savepoint": URL, "written": true, "holds": ["part-0-3.csv"]}
//! ```
//!
//! A note names what was pre-committed, in the words of its connector. Where nothing of it waits to be committed any more it
//! says nothing, and whoever comes by removes it; nobody needs to know which savepoint a job goes on from. Removing it by hand
//! gives up what it holds.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use millrace_core::connector::KeptFor;
use serde_json::{Value, json};

/// What comes before the id in the name of a note that is alone with its output.
pub(crate) const PREFIX: &str = ".savepoint-";

const SUFFIX: &str = ".kept";
const DRAFT: &str = ".draft";

/// What one savepoint holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) savepoint: KeptFor,
    pub(crate) holds: Vec<String>,
}

impl Note {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let KeptFor {
            savepoint, is_written, ..
        } = &self.savepoint;
        json!({ "savepoint": savepoint, "written": is_written, "holds": self.holds })
            .to_string()
            .into_bytes()
    }

    /// `None`: nothing that a note says.
    pub(crate) fn decode(id: &str, content: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(content).ok()?;
        let holds = value["holds"].as_array()?.iter();
        Some(Note {
            savepoint: KeptFor {
                id: id.to_owned(),
                savepoint: value["savepoint"].as_str()?.to_owned(),
                is_written: value["written"].as_bool()?,
            },
            holds: holds
                .map(|name| Some(name.as_str()?.to_owned()))
                .collect::<Option<_>>()?,
        })
    }
}

/// The name of a note.
pub(crate) fn name(prefix: &str, id: &str) -> String {
    format!("{prefix}{id}{SUFFIX}")
}

/// The id in the name of a note.
pub(crate) fn id<'n>(prefix: &str, name: &'n str) -> Option<&'n str> {
    name.strip_prefix(prefix)?.strip_suffix(SUFFIX)
}

/// The notes in a local folder.
pub(crate) struct Notes<'f> {
    folder: &'f Path,
    prefix: &'f str,
}

impl<'f> Notes<'f> {
    /// Those whose names begin so.
    pub(crate) fn new(folder: &'f Path, prefix: &'f str) -> Self {
        Notes { folder, prefix }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(name(self.prefix, id))
    }

    fn names(&self, suffix: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(self.prefix) && name.ends_with(suffix) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// All of them, by id; none where there is no folder.
    pub(crate) fn read(&self) -> io::Result<Vec<Note>> {
        let mut notes = Vec::new();
        for name in self.names(SUFFIX)? {
            let content = match std::fs::read(self.folder.join(&name)) {
                // Somebody has seen that it says nothing any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                content => content?,
            };
            // It was renamed into place: one that cannot be read is not ours.
            let note = id(self.prefix, &name).and_then(|id| Note::decode(id, &content));
            notes.push(note.ok_or_else(|| io::Error::other(format!("`{name}` is no note of a savepoint")))?);
        }
        Ok(notes)
    }

    /// Makes a note, or replaces it, durably.
    pub(crate) fn put(&self, note: &Note) -> io::Result<()> {
        let draft = self.folder.join(format!("{}{}{DRAFT}", self.prefix, note.savepoint.id));
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(&note.encode())?;
            file.sync_all()?;
            std::fs::rename(&draft, self.path(&note.savepoint.id))
        };
        if let Err(error) = write() {
            let _ = std::fs::remove_file(&draft); // the first error says why
            return Err(error);
        }
        File::open(self.folder)?.sync_all()
    }

    /// Removes a note; one that is gone is no error.
    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        removed(&self.path(id))
    }

    /// Removes the notes that hold nothing that is left to commit; the others.
    pub(crate) fn tidy(&self, is_left: impl Fn(&str) -> bool) -> io::Result<Vec<Note>> {
        let (left, over): (Vec<_>, Vec<_>) = self
            .read()?
            .into_iter()
            .partition(|note| note.holds.iter().any(|name| is_left(name)));
        over.iter().try_for_each(|note| self.remove(&note.savepoint.id))?;
        Ok(left)
    }

    /// Removes what a process that was killed has left of notes that it did not come to make.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let mut drafts = self.names(DRAFT)?.into_iter();
        drafts.try_for_each(|name| removed(&self.folder.join(name)))
    }
}

fn removed(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(id: &str, is_written: bool, holds: &[&str]) -> Note {
        Note {
            savepoint: KeptFor {
                id: id.to_owned(),
                savepoint: "s3://bucket/\"a\"".to_owned(),
                is_written,
            },
            holds: holds.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn notes_are_there_until_nothing_is_left_of_what_they_hold() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::new(folder.path(), PREFIX);
        let (one, two) = (note("r.1-1", false, &["a", "b"]), note("r.1-2", true, &["b", "c"]));
        notes.put(&two).unwrap();
        notes.put(&one).unwrap();
        assert_eq!(notes.read().unwrap(), [one.clone(), two.clone()]);
        let one = Note {
            savepoint: KeptFor {
                is_written: true,
                ..one.savepoint
            },
            ..one
        };
        notes.put(&one).unwrap();
        assert_eq!(notes.tidy(|name| name == "b").unwrap(), [one, two.clone()]);
        assert_eq!(notes.tidy(|name| name == "c").unwrap(), [two]);
        notes.remove("r.1-1").unwrap();
        notes.remove("r.1-2").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_note_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::new(folder.path(), PREFIX);
        std::fs::write(folder.path().join(".savepoint-1.draft"), "").unwrap();
        assert_eq!(notes.read().unwrap(), []);
        notes.sweep().unwrap();
        for text in ["", "{}", "{\"savepoint\":\"s\",\"written\":true,\"holds\":[1]}"] {
            std::fs::write(folder.path().join(".savepoint-1.kept"), text).unwrap();
            let error = notes.read().unwrap_err();
            assert!(error.to_string().contains("`.savepoint-1.kept`"), "{error}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(Notes::new(&folder.path().join("none"), PREFIX).read().unwrap(), []);
    }
}
