//! Object stores as the sink needs them: uploads in pieces that become an object when they are completed.
//!
//! A small runtime drives the client; callers block, but no request is repeated for longer than some minutes.

use std::future::Future;
use std::io::Read;
use std::sync::Arc;

use millrace_core::{Error, Result};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;

/// Every piece but the last; stores want at least 5 MiB, and pieces of one size.
const PIECE_BYTES: usize = 8 << 20;

/// A folder in a bucket.
pub(super) struct Store {
    url: String,
    prefix: Path,
    objects: Arc<dyn ObjectStore>,
    uploads: Arc<dyn MultipartStore>,
    runtime: Runtime,
}

/// An upload that has all of its pieces and is not completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upload {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) pieces: Vec<String>,
    pub(super) bytes: u64,
}

impl Store {
    /// Nothing is asked of the store yet; settings come from the environment, as for checkpoints.
    pub(super) fn open(url: &str) -> Result<Self> {
        let url = url.trim_end_matches('/');
        let refuse = |why: &str| Error::user("CN0130", format!("option `path` is `{url}`: {why}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("not a URL"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(refuse("a bucket is needed, as in `s3://bucket/folder`"));
        }
        let prefix = Path::parse(prefix).map_err(|error| refuse(&error.to_string()))?;
        let (objects, uploads) = client(scheme, bucket).map_err(|error| {
            let why = format!("the settings in the environment do not do: {error}");
            refuse(&why)
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("objects")
            .enable_all()
            .build();
        Ok(Store {
            url: url.to_owned(),
            prefix,
            objects,
            uploads,
            runtime: runtime.map_err(|error| Error::external("IO0002", format!("no thread: {error}")))?,
        })
    }

    /// An object as the user would look for it.
    pub(super) fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn wait<T>(&self, name: &str, what: &str, request: impl Future<Output = object_store::Result<T>>) -> Result<T> {
        self.runtime.block_on(request).map_err(|error| {
            let text = error.to_string();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            Error::external("IO0130", format!("`{}` cannot be {what}: {text}", self.shown(name)))
        })
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    /// Names of the objects in the folder.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        let listed = self.wait("", "listed", self.objects.list_with_delimiter(Some(&self.prefix)))?;
        let names = listed.objects.iter().filter_map(|object| object.location.filename());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Deletes an object; one that is gone is no error.
    pub(super) fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match self.runtime.block_on(self.objects.delete(&path)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => self.wait(name, "deleted", async { Err(error) }),
        }
    }

    /// Sends all that a reader gives; it is durable afterwards, and not to be seen.
    pub(super) fn upload(&self, name: &str, mut from: impl Read) -> Result<Upload> {
        let path = self.path(name);
        let id = self.wait(name, "written", self.uploads.create_multipart(&path))?;
        let mut upload = Upload {
            name: name.to_owned(),
            id,
            pieces: Vec::new(),
            bytes: 0,
        };
        let sent = self.send(&path, &mut upload, &mut from);
        if sent.is_err() {
            let _ = self.abort(&upload); // the first error says why
        }
        sent.map(|()| upload)
    }

    fn send(&self, path: &Path, upload: &mut Upload, from: &mut impl Read) -> Result<()> {
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let read = from.take(PIECE_BYTES as u64).read_to_end(&mut piece);
            read.map_err(|error| Error::external("IO0105", format!("a part for `{}`: {error}", self.url)))?;
            if piece.is_empty() {
                return Ok(());
            }
            upload.bytes += piece.len() as u64;
            let put = self
                .uploads
                .put_part(path, &upload.id, upload.pieces.len(), PutPayload::from(piece));
            let put = self.wait(&upload.name, "written", put)?;
            upload.pieces.push(put.content_id);
        }
    }

    /// Makes a small object, or replaces it.
    pub(super) fn put(&self, name: &str, content: Vec<u8>) -> Result<()> {
        let path = self.path(name);
        let put = self.objects.put(&path, PutPayload::from(content));
        self.wait(name, "written", put).map(drop)
    }

    /// The content of an object; `None`: it is not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        let read = async {
            match self.objects.get(&path).await {
                Ok(found) => Ok(Some(found.bytes().await?.to_vec())),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.wait(name, "read", read)
    }

    /// Makes an upload an object; false: it was, or is `known` to have been, though somebody has taken it away since.
    pub(super) fn complete(&self, upload: &Upload, known: bool) -> Result<bool> {
        let path = self.path(&upload.name);
        let pieces = upload.pieces.iter().map(|id| PartId { content_id: id.clone() });
        let completed = self.uploads.complete_multipart(&path, &upload.id, pieces.collect());
        let Err(error) = self.wait(&upload.name, "committed", completed) else {
            return Ok(true);
        };
        // Completed before, the store does not know the upload any more; but the object is there.
        match self.runtime.block_on(self.objects.head(&path)) {
            Ok(object) if object.size == upload.bytes => Ok(false),
            Err(object_store::Error::NotFound { .. }) if known => Ok(false),
            _ => Err(error),
        }
    }

    /// Drops an upload; one that is gone is no error.
    pub(super) fn abort(&self, upload: &Upload) -> Result<()> {
        let path = self.path(&upload.name);
        match self.runtime.block_on(self.uploads.abort_multipart(&path, &upload.id)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => self.wait(&upload.name, "dropped", async { Err(error) }),
        }
    }
}

type Clients = (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>);

fn client(scheme: &str, bucket: &str) -> object_store::Result<Clients> {
    Ok(match scheme {
        "gs" => {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
            both(builder.build()?)
        }
        "az" => {
            let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
            both(builder.build()?)
        }
        _ => {
            let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
            // Whoever names an endpoint without encryption means it.
            let plain = |name: &&str| std::env::var(name).is_ok_and(|endpoint| endpoint.starts_with("http://"));
            let endpoints = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
            if endpoints.iter().any(plain) {
                builder = builder.with_allow_http(true);
            }
            both(builder.build()?)
        }
    })
}

fn both<S: ObjectStore + MultipartStore>(store: S) -> Clients {
    let store = Arc::new(store);
    (store.clone(), store)
}
