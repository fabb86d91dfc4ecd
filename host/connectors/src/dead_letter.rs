//! Rejected rows kept as JSON lines, for the reject policy `dead-letter(path)`.
//!
//! One line per row: `{"source":...,"place":...,"cause":...,"raw":...}`. Files are appended to, never cut
//! short: a job that restarts repeats rows here rather than lose them. All subtasks of a process that name
//! the same file share one handle, so that lines never interleave.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use millrace_core::connector::Rejected;
use millrace_core::{Error, Result};

/// Bytes collected before they are written without being asked to.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

static OPEN: Mutex<BTreeMap<PathBuf, Weak<Shared>>> = Mutex::new(BTreeMap::new());

struct Shared {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    buffer: Vec<u8>,
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
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(fail)?;
        let key = path.canonicalize().map_err(fail)?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, shared| shared.strong_count() > 0);
        if let Some(shared) = open.get(&key).and_then(Weak::upgrade) {
            return Ok(DeadLetter(shared));
        }
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            state: Mutex::new(State {
                file,
                buffer: Vec::new(),
            }),
        });
        open.insert(key, Arc::downgrade(&shared));
        Ok(DeadLetter(shared))
    }

    /// Appends a row that `source` (the name of a source or operator) rejected.
    pub fn append(&self, source: &str, rejected: &Rejected) -> Result<()> {
        let line = serde_json::json!({
            "source": source,
            "place": rejected.place,
            "cause": rejected.cause,
            "raw": rejected.raw,
        });
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.buffer.extend_from_slice(line.to_string().as_bytes());
        state.buffer.push(b'\n');
        if state.buffer.len() >= BUFFER_BYTES_MAX {
            self.0.write(&mut state)
        } else {
            Ok(())
        }
    }

    /// Writes what was appended so far to the file and makes it durable.
    pub fn flush(&self) -> Result<()> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.write(&mut state)?;
        state.file.sync_data().map_err(|error| self.0.failed(&error))
    }
}

impl Shared {
    fn write(&self, state: &mut State) -> Result<()> {
        let result = state.file.write_all(&state.buffer);
        state.buffer.clear();
        result.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        let path = self.path.display();
        Error::external(
            "IO0111",
            format!("dead-letter file `{path}` cannot be written: {error}"),
        )
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Whoever must know has called `flush`; this is for a task that ends by an error of its own.
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = state.file.write_all(&state.buffer);
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

    #[test]
    fn an_unusable_path_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = DeadLetter::open(folder.path()).err().unwrap();
        assert_eq!(error.code(), "IO0111");
        assert!(error.to_string().contains(folder.path().to_str().unwrap()));
    }
}
