//! A local folder, with writes that survive a power cut.
//!
//! `object_store` has a file system too, but it neither syncs files nor folders: after a power cut a file that
//! was renamed into place may be empty or gone. Here content is written beside its place, synced, renamed, and
//! the folder synced; so is the parent of each folder that had to be made.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Failure, Listing};
use crate::codes;

/// What the names of files begin with while they are written.
const UNFINISHED: &str = ".writing-";

#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Folders that are known to survive a power cut. That one exists says nothing: whoever made it may have been
    /// killed, or be another thread, before its parent was synced.
    durable: Mutex<BTreeSet<PathBuf>>,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        // The process may change its folder later on.
        let root = std::path::absolute(path).map_err(failure)?;
        make_folders(&root).map_err(failure)?;
        if !root.is_dir() {
            return Err(failure(ErrorKind::NotADirectory.into()));
        }
        let durable = Mutex::new([root.clone()].into());
        Ok(Folder { root, durable })
    }

    pub(super) fn write(&self, path: &str, content: &[u8]) -> Result<(), Failure> {
        let target = self.root.join(path);
        let folder = target.parent().expect("a file is in a folder");
        let name = target.file_name().expect("a file has a name").to_string_lossy();
        let staged = folder.join(format!("{UNFINISHED}{name}"));
        self.ensure(folder).map_err(failure)?;
        let written = stage(&staged, content).and_then(|()| fs::rename(&staged, &target));
        if let Err(error) = written {
            let _ = fs::remove_file(&staged); // the error matters more, and a next opening cleans up
            return Err(failure(error));
        }
        sync_folder(folder).map_err(failure)
    }

    /// Makes a folder below the root, durably.
    fn ensure(&self, folder: &Path) -> io::Result<()> {
        if self.durable().contains(folder) {
            return Ok(());
        }
        let parent = folder
            .parent()
            .expect("the root is durable, and all others are below it");
        self.ensure(parent)?;
        make_folder(folder)?;
        sync_folder(parent)?;
        self.durable().insert(folder.to_owned());
        Ok(())
    }

    fn durable(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, path: &str) -> Result<Option<Bytes>, Failure> {
        match fs::read(self.root.join(path)) {
            Ok(content) => Ok(Some(content.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    pub(super) fn list(&self, folder: &str) -> Result<Listing, Failure> {
        let mut listing = Listing::default();
        let entries = match fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(listing),
            Err(error) => return Err(failure(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failure)?;
            // What is hidden or not UTF-8 is not ours.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => listing.folders.push(name),
                Ok(metadata) => listing.files.push((name, metadata.len())),
                Err(error) if error.kind() == ErrorKind::NotFound => {} // deleted meanwhile
                Err(error) => return Err(failure(error)),
            }
        }
        listing.folders.sort();
        listing.files.sort();
        Ok(listing)
    }

    pub(super) fn delete(&self, path: &str) -> Result<(), Failure> {
        gone(fs::remove_file(self.root.join(path)))
    }

    pub(super) fn delete_folder(&self, path: &str) -> Result<(), Failure> {
        let folder = self.root.join(path);
        self.durable().remove(&folder);
        gone(fs::remove_dir(&folder))?;
        gone(sync_folder(folder.parent().expect("a folder is in the root")))
    }

    pub(super) fn delete_unfinished(&self, path: &str) -> Result<(), Failure> {
        let folder = self.root.join(path);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => return gone(Err(error)),
        };
        for entry in entries {
            let name = entry.map_err(failure)?.file_name();
            if name.to_string_lossy().starts_with(UNFINISHED) {
                gone(fs::remove_file(folder.join(name)))?;
            }
        }
        Ok(())
    }
}

fn stage(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the root and what is missing above it, each durably.
fn make_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().ok_or(ErrorKind::NotFound)?;
    make_folders(parent)?;
    make_folder(path)?;
    sync_folder(parent)
}

/// Makes a folder unless it is there.
fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

fn gone(deleted: io::Result<()>) -> Result<(), Failure> {
    match deleted {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failure(error)),
        _ => Ok(()),
    }
}

fn failure(error: io::Error) -> Failure {
    let code = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => codes::FULL,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => codes::DENIED,
        _ => codes::FAILED,
    };
    Failure {
        code,
        reason: error.to_string(),
    }
}
