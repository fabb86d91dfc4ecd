//! Files under a URL: a local folder, memory or an object store.
//!
//! The interface blocks: callers are plain threads. Paths are relative, with `/`. A write is all or nothing
//! and, once it has returned, survives a crash of the process and of the machine. What was read, listed or
//! deleted is as of the call; nothing is cached.

mod local;
mod objects;
mod place;

use std::sync::Arc;

use bytes::Bytes;
use millrace_core::{Error, Result};

use local::Folder;
use objects::Objects;
use place::Place;

/// A place for checkpoints. Cheap to clone; may be used from any thread that is not part of an async runtime.
#[derive(Debug, Clone)]
pub struct Storage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: String,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Folder(Folder),
    Objects(Objects),
}

/// What is in a folder, each sorted by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) folders: Vec<String>,
    pub(crate) files: Vec<(String, u64)>,
}

/// Why the storage cannot do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) reason: String,
}

impl Storage {
    /// Opens a storage and checks that it is there.
    ///
    /// | URL | what it is |
    /// | --- | --- |
    /// | a path, `file:///path` | a local folder, made if it is missing |
    /// | `memory://NAME` | memory of this process, for tests; the same name is the same storage |
    /// | `s3://bucket/prefix` | S3; settings from `AWS_*` variables |
    /// | `gs://bucket/prefix` | Google Cloud Storage; settings from `GOOGLE_*` variables |
    /// | `az://container/prefix` | Azure; settings from `AZURE_*` variables |
    ///
    /// # Errors
    /// `CS0001` and `CS0002` if the URL cannot be used, `CS0003` to `CS0007` if the store cannot.
    pub fn open(url: &str) -> Result<Storage> {
        let unusable = |failure: Failure| {
            Error::external(
                failure.code,
                format!("checkpoint storage `{url}` cannot be used: {}", failure.reason),
            )
        };
        let backend = match Place::parse(url)? {
            Place::Folder(path) => Backend::Folder(Folder::open(&path).map_err(unusable)?),
            Place::Memory(name) => Backend::Objects(Objects::memory(&name).map_err(unusable)?),
            #[cfg(feature = "cloud")]
            Place::Cloud(cloud) => Backend::Objects(Objects::cloud(url, &cloud).map_err(unusable)?),
        };
        Ok(Storage(Arc::new(Inner {
            url: url.trim_end_matches('/').to_owned(),
            backend,
        })))
    }

    /// Opens a storage that has to be there: a missing folder is not made. `None`: it is not there.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub(crate) fn open_present(url: &str) -> Result<Option<Storage>> {
        match Place::parse(url)? {
            Place::Folder(path) if !path.is_dir() => Ok(None),
            _ => Storage::open(url).map(Some),
        }
    }

    /// The URL that it was opened with.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// A file as the user would look for it.
    pub(crate) fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.0.url)
    }

    fn error(&self, path: &str, what: &str, failure: Failure) -> Error {
        let shown = self.shown(path);
        Error::external(failure.code, format!("`{shown}` cannot be {what}: {}", failure.reason))
    }

    /// Writes or replaces a file; it is there with all of its content or not at all.
    pub(crate) fn write(&self, path: &str, content: Bytes) -> Result<()> {
        let written = match &self.0.backend {
            Backend::Folder(folder) => folder.write(path, &content),
            Backend::Objects(objects) => objects.write(path, content),
        };
        written.map_err(|failure| self.error(path, "written", failure))
    }

    /// The content of a file, `None` if it is not there.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Bytes>> {
        let read = match &self.0.backend {
            Backend::Folder(folder) => folder.read(path),
            Backend::Objects(objects) => objects.read(path),
        };
        read.map_err(|failure| self.error(path, "read", failure))
    }

    /// The contents of files, in their order; over a network several at a time.
    pub(crate) fn read_all(&self, paths: &[String]) -> Vec<Result<Option<Bytes>>> {
        let read = match &self.0.backend {
            Backend::Folder(folder) => paths.iter().map(|path| folder.read(path)).collect(),
            Backend::Objects(objects) => objects.read_all(paths),
        };
        let named = read.into_iter().zip(paths);
        named
            .map(|(read, path)| read.map_err(|failure| self.error(path, "read", failure)))
            .collect()
    }

    /// What is in a folder; nothing if it is not there.
    pub(crate) fn list(&self, folder: &str) -> Result<Listing> {
        let listed = match &self.0.backend {
            Backend::Folder(root) => root.list(folder),
            Backend::Objects(objects) => objects.list(folder),
        };
        listed.map_err(|failure| self.error(folder, "listed", failure))
    }

    /// Removes a file; it may be gone already.
    pub(crate) fn delete(&self, path: &str) -> Result<()> {
        let deleted = match &self.0.backend {
            Backend::Folder(folder) => folder.delete(path),
            Backend::Objects(objects) => objects.delete(path),
        };
        deleted.map_err(|failure| self.error(path, "deleted", failure))
    }

    /// Removes an empty folder where folders exist by themselves. What was deleted in it stays deleted after a
    /// power cut.
    pub(crate) fn delete_folder(&self, path: &str) -> Result<()> {
        match &self.0.backend {
            Backend::Folder(folder) => folder
                .delete_folder(path)
                .map_err(|failure| self.error(path, "deleted", failure)),
            Backend::Objects(_) => Ok(()),
        }
    }

    /// Removes what writes that never ended have left in a folder.
    pub(crate) fn delete_unfinished(&self, path: &str) -> Result<()> {
        match &self.0.backend {
            Backend::Folder(folder) => folder
                .delete_unfinished(path)
                .map_err(|failure| self.error(path, "cleaned up", failure)),
            Backend::Objects(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
