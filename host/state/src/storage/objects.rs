//! Object stores: S3, Google Cloud Storage, Azure, and memory for tests.
//!
//! A small runtime drives the client; callers block. An object appears with all of its content or not at all,
//! and is durable once the store has said so.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use tokio::runtime::Runtime;

use super::{Failure, Listing};
use crate::codes;

/// Larger objects are written and read in parts: a request that takes too long is given up, and a part is
/// repeated sooner than the whole.
const PART_BYTES: usize = 8 << 20;

/// Parts or objects that are on their way at a time.
const REQUESTS_MAX: usize = 8;

/// Threads that drive requests of one storage.
const THREADS: usize = 2;

pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Empty, or a path without slashes at its ends.
    prefix: String,
    runtime: Runtime,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Objects {
    /// The memory of this name, shared by all who open it.
    pub(super) fn memory(name: &str) -> Result<Self, Failure> {
        static STORES: OnceLock<Mutex<BTreeMap<String, Arc<InMemory>>>> = OnceLock::new();
        let stores = STORES.get_or_init(Mutex::default);
        let mut stores = stores.lock().unwrap_or_else(PoisonError::into_inner);
        let store = Arc::clone(stores.entry(name.to_owned()).or_default());
        Self::new(store, "")
    }

    #[cfg(feature = "cloud")]
    pub(super) fn cloud(url: &str, cloud: &super::place::Cloud) -> Result<Self, Failure> {
        // The question whether the store is there is answered soon; what runs for weeks is patient.
        let probe = Self::new(cloud::client(url, cloud, cloud::Patience::Little)?, &cloud.prefix)?;
        probe.list("")?;
        Self::new(cloud::client(url, cloud, cloud::Patience::Much)?, &cloud.prefix)
    }

    fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("storage")
            .enable_all()
            .build();
        Ok(Objects {
            store,
            prefix: prefix.to_owned(),
            runtime: runtime.map_err(|error| Failure {
                code: codes::FAILED,
                reason: format!("no threads: {error}"),
            })?,
        })
    }

    fn path(&self, path: &str) -> Result<Path, Failure> {
        let joined = [self.prefix.as_str(), path]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/");
        Path::parse(joined).map_err(|error| Failure {
            code: codes::FAILED,
            reason: error.to_string(),
        })
    }

    fn wait<T>(&self, request: impl Future<Output = object_store::Result<T>>) -> Result<T, Failure> {
        self.runtime.block_on(request).map_err(|error| failure(&error))
    }

    pub(super) fn write(&self, path: &str, content: Bytes) -> Result<(), Failure> {
        let path = self.path(path)?;
        self.wait(async {
            if content.len() <= PART_BYTES {
                return self.store.put(&path, content.into()).await.map(drop);
            }
            let upload = self.store.put_multipart(&path).await?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            let mut rest = content;
            while !rest.is_empty() {
                if let Err(error) = upload.wait_for_capacity(REQUESTS_MAX).await {
                    let _ = upload.abort().await; // the first error says why
                    return Err(error);
                }
                upload.put(rest.split_to(PART_BYTES.min(rest.len())));
            }
            upload.finish().await.map(drop)
        })
    }

    pub(super) fn read(&self, path: &str) -> Result<Option<Bytes>, Failure> {
        let path = self.path(path)?;
        present(self.runtime.block_on(get(Arc::clone(&self.store), path)))
    }

    pub(super) fn read_all(&self, paths: &[String]) -> Vec<Result<Option<Bytes>, Failure>> {
        let mut contents = Vec::with_capacity(paths.len());
        for paths in paths.chunks(REQUESTS_MAX) {
            let start = |path| {
                let path = self.path(path)?;
                Ok(self.runtime.spawn(get(Arc::clone(&self.store), path)))
            };
            let started: Vec<Result<_, Failure>> = paths.iter().map(|path| start(path)).collect();
            contents.extend(started.into_iter().map(|task| {
                let joined = self.runtime.block_on(task?);
                present(joined.unwrap_or_else(|error| Err(error.into())))
            }));
        }
        contents
    }

    pub(super) fn list(&self, folder: &str) -> Result<Listing, Failure> {
        let folder = self.path(folder)?;
        let listed = self.wait(self.store.list_with_delimiter(Some(&folder)))?;
        let name = |path: &Path| path.filename().unwrap_or_default().to_owned();
        let mut listing = Listing {
            folders: listed.common_prefixes.iter().map(name).collect(),
            files: listed
                .objects
                .iter()
                .map(|object| (name(&object.location), object.size))
                .collect(),
        };
        listing.folders.sort();
        listing.files.sort();
        Ok(listing)
    }

    pub(super) fn delete(&self, path: &str) -> Result<(), Failure> {
        let path = self.path(path)?;
        present(self.runtime.block_on(self.store.delete(&path))).map(drop)
    }
}

async fn get(store: Arc<dyn ObjectStore>, path: Path) -> object_store::Result<Bytes> {
    let got = store.get(&path).await?;
    let size = got.meta.size;
    if size <= PART_BYTES as u64 {
        return got.bytes().await;
    }
    drop(got);
    let mut content = BytesMut::with_capacity(usize::try_from(size).unwrap_or(0));
    let mut start = 0;
    while start < size {
        let end = size.min(start + PART_BYTES as u64);
        content.extend_from_slice(&store.get_range(&path, start..end).await?);
        start = end;
    }
    Ok(content.freeze())
}

/// `None` if the object is not there; it is an error all the same if the bucket is not.
fn present<T>(got: object_store::Result<T>) -> Result<Option<T>, Failure> {
    match got {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let failure = failure(&error);
            match error {
                object_store::Error::NotFound { .. } if failure.code != codes::NO_BUCKET => Ok(None),
                _ => Err(failure),
            }
        }
    }
}

/// How stores say that there is no such bucket: S3, Google, Azure.
const NO_BUCKET: &[&str] = &[
    "NoSuchBucket",
    "The specified bucket does not exist",
    "ContainerNotFound",
];

/// Where clients look for credentials when none are set: the metadata servers of clouds.
const METADATA_SERVERS: &[&str] = &["169.254.169.254", "metadata.google.internal"];

fn failure(error: &object_store::Error) -> Failure {
    let text = error.to_string();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let (code, reason) = match error {
        _ if says(NO_BUCKET) => (codes::NO_BUCKET, "there is no such bucket".to_owned()),
        object_store::Error::Generic { .. } if says(METADATA_SERVERS) => {
            (codes::DENIED, "no credentials are set for it".to_owned())
        }
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            (codes::DENIED, text)
        }
        _ if lost_connection(error) => (codes::UNREACHABLE, root_cause(error)),
        _ => (codes::FAILED, text),
    };
    Failure {
        code,
        reason: reason.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

fn chain(error: &object_store::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
}

fn root_cause(error: &object_store::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(feature = "cloud")]
fn lost_connection(error: &object_store::Error) -> bool {
    use object_store::client::{HttpError, HttpErrorKind};
    chain(error)
        .filter_map(|error| error.downcast_ref::<HttpError>())
        .any(|error| {
            [
                HttpErrorKind::Connect,
                HttpErrorKind::Timeout,
                HttpErrorKind::Interrupted,
                HttpErrorKind::Request,
            ]
            .contains(&error.kind())
        })
}

#[cfg(not(feature = "cloud"))]
fn lost_connection(_error: &object_store::Error) -> bool {
    false // memory is always there
}

#[cfg(feature = "cloud")]
mod cloud;
