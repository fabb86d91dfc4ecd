//! Appends to a dead-letter file that others append to as well, so that a crash in the middle leaves no trace.
//!
//! ```text
//! lock the file                                other processes wait
//! settle: is there a journal, and the staged file that it names? then cut the file to the length in it
//! write the journal: length of the file, name of the staged file
//! append what is staged, sync
//! remove the staged file                       this is the moment from which it is done
//! remove the journal
//! ```
//!
//! The journal of `letters.jsonl` is `.letters.jsonl.journal` beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A dead-letter file that nobody else changes.
pub(super) struct Locked<'p> {
    path: &'p Path,
    file: File,
}

impl<'p> Locked<'p> {
    /// Waits for others and clears away what a crash left behind. Makes the file if need be.
    pub(super) fn new(path: &'p Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        // Let go when the file is closed, however that happens.
        file.lock()?;
        let locked = Locked { path, file };
        locked.settle()?;
        Ok(locked)
    }

    fn settle(&self) -> io::Result<()> {
        let journal = beside(self.path, "journal");
        let text = match std::fs::read(&journal) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        // It was renamed into place: one that cannot be read is not ours.
        let entry: Value = serde_json::from_slice(&text).map_err(io::Error::other)?;
        if let (Some(length), Some(staged)) = (entry["length"].as_u64(), entry["staged"].as_str())
            && folder_of(self.path).join(staged).exists()
            && self.file.metadata()?.len() > length
        {
            self.file.set_len(length)?;
            self.file.sync_all()?;
        }
        std::fs::remove_file(&journal)?;
        sync_folder(self.path)
    }

    /// Appends bytes that no checkpoint knows of.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Appends a staged file of the same folder and removes it. Nothing to do if it is not there: that was done.
    pub(super) fn take(&mut self, staged: &str) -> io::Result<()> {
        let from = folder_of(self.path).join(staged);
        let mut content = match File::open(&from) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let entry = json!({ "length": self.file.metadata()?.len(), "staged": staged });
        let (draft, journal) = (beside(self.path, "journal.draft"), beside(self.path, "journal"));
        let mut draft_file = File::create(&draft)?;
        draft_file.write_all(entry.to_string().as_bytes())?;
        draft_file.sync_data()?;
        std::fs::rename(&draft, &journal)?;
        sync_folder(self.path)?;
        io::copy(&mut content, &mut self.file)?;
        self.file.sync_data()?;
        std::fs::remove_file(&from)?;
        sync_folder(self.path)?;
        // Of no use any more, and no harm.
        let _ = std::fs::remove_file(journal);
        Ok(())
    }
}

/// The folder that a file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// How the names of all files of a dead-letter file begin.
pub(super) fn prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.")
}

fn beside(path: &Path, what: &str) -> PathBuf {
    folder_of(path).join(format!("{}{what}", prefix(path)))
}

/// Makes new, renamed and removed files durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}
