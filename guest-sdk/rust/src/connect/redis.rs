//! A Redis server.

use super::Sink;
use super::options::{Options, any_option};
use crate::bindings::dataflow as wit;

/// Writes to a Redis server, version 6 or newer and not a cluster, or to what speaks like one.
///
/// A row becomes a string, a hash, an element of a list, of a stream or of a sorted set, or a message. Keys and values
/// are text with columns in braces: `user:{id}:visits`; a brace that is meant is doubled. Columns of keys must not be
/// null. Numbers and times are written as in CSV, lists, maps and structs as JSON, bytes as they are. The URL is
/// `redis://user:password@host:6379/0`, `rediss://` with TLS, or `redis+unix:///run/redis.sock`.
///
/// Each row is there exactly once, if the job takes checkpoints: rows wait until their checkpoint is complete, and are
/// written in transactions (`MULTI`, `EXEC`) that each leave a mark, by which a restart knows what was written. The marks
/// are hashes under `millrace:sink:`; leave them there. Rows that wait are in memory and in the checkpoint, so
/// their number is limited ([`log_bytes`](RedisSink::log_bytes)). [`immediate`](RedisSink::immediate) does not wait.
/// What Redis itself loses, in a crash without `appendfsync always`, is not written again.
///
/// A sink knows its marks by the names of job and operator; do not run two jobs of the same name against the same
/// database, or tell them apart by [`id`](RedisSink::id).
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Total { shop: i64, day: i64, cents: i64 }
///
/// fn keep(totals: Stream<Rows<Total>>) {
///     totals.sink("totals", Redis::hash("redis://db.example.org", "shop:{shop}:day:{day}"));
/// }
/// ```
#[derive(Debug)]
pub struct Redis;

impl Redis {
    fn sink(structure: &str, url: String, key: String) -> RedisSink {
        let mut options = Options::default();
        options.set("url", url);
        options.set("structure", structure);
        options.set("key", key);
        RedisSink { options }
    }

    /// Each row is the value of its key (`SET`); without [`value`](RedisSink::value), as a JSON object.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::string("redis://localhost", "total:{shop}").value("{cents}");
    /// ```
    pub fn string(url: impl Into<String>, key: impl Into<String>) -> RedisSink {
        Self::sink("string", url.into(), key.into())
    }

    /// Each row is the hash of its key, with a field for each column (`HSET`); columns that are null are removed.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::hash("redis://localhost", "total:{shop}");
    /// ```
    pub fn hash(url: impl Into<String>, key: impl Into<String>) -> RedisSink {
        Self::sink("hash", url.into(), key.into())
    }

    /// Rows are appended to the list of their key (`RPUSH`); without [`value`](RedisSink::value), as JSON objects.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::list("redis://localhost", "totals");
    /// ```
    pub fn list(url: impl Into<String>, key: impl Into<String>) -> RedisSink {
        Self::sink("list", url.into(), key.into())
    }

    /// Rows are appended to the stream of their key, with a field for each column that is not null (`XADD`).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::stream("redis://localhost", "totals").length_max(1_000_000);
    /// ```
    pub fn stream(url: impl Into<String>, key: impl Into<String>) -> RedisSink {
        Self::sink("stream", url.into(), key.into())
    }

    /// Rows are members of the sorted set of their key (`ZADD`), by the number in column `score`; without
    /// [`value`](RedisSink::value), a member is the row as a JSON object.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let best = Redis::sorted_set("redis://localhost", "best:{day}", "cents").value("{shop}");
    /// ```
    pub fn sorted_set(url: impl Into<String>, key: impl Into<String>, score: impl Into<String>) -> RedisSink {
        Self::sink("sorted-set", url.into(), key.into()).option("score", score.into())
    }

    /// Rows are messages on the channel of their key (`PUBLISH`); without [`value`](RedisSink::value), JSON objects.
    /// Who is not subscribed at that moment does not get them.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::channel("redis://localhost", "totals:{shop}");
    /// ```
    pub fn channel(url: impl Into<String>, key: impl Into<String>) -> RedisSink {
        Self::sink("channel", url.into(), key.into())
    }
}

/// Writes to a server: made by [`Redis`].
#[derive(Debug)]
pub struct RedisSink {
    options: Options,
}

impl RedisSink {
    /// What is written of a row: text with columns in braces. Null is nothing.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::list("redis://localhost", "totals").value("{shop} {cents}");
    /// ```
    pub fn value(self, template: impl Into<String>) -> Self {
        self.option("value", template.into())
    }

    /// Writes rows as they come instead of with their checkpoint. After a restart some are written again: of strings,
    /// hashes and sorted sets older values may show for a moment; lists, streams and channels get them twice.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::hash("redis://localhost", "total:{shop}").immediate();
    /// ```
    pub fn immediate(self) -> Self {
        self.option("mode", "immediate")
    }

    /// Strings and hashes go away that long after they were last written. Rounded up to seconds.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::hash("redis://localhost", "total:{shop}").expire_after(Duration::from_secs(3600));
    /// ```
    pub fn expire_after(self, time: std::time::Duration) -> Self {
        let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        self.option("expire.seconds", whole)
    }

    /// Streams are cut to about that many entries.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::stream("redis://localhost", "totals").length_max(1_000_000);
    /// ```
    pub fn length_max(self, entries: u64) -> Self {
        self.option("length.max", entries)
    }

    /// Writes that many rows in a transaction, during which the server does nothing else. Without this, 1,000.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::list("redis://localhost", "totals").batch_rows(100);
    /// ```
    pub fn batch_rows(self, rows: u64) -> Self {
        self.option("batch.rows", rows)
    }

    /// So many bytes of rows may wait for their checkpoint in each subtask, compressed; the job fails if they get
    /// more. Without this, 64 MiB. They are held in memory, and in the checkpoint's description.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::list("redis://localhost", "totals").log_bytes(256 << 20);
    /// ```
    pub fn log_bytes(self, bytes: u64) -> Self {
        self.option("log.bytes", bytes)
    }

    /// The password is in this file, not in the URL.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::list("redis://jobs@localhost", "totals").password_file("/run/secrets/redis");
    /// ```
    pub fn password_file(self, path: impl Into<String>) -> Self {
        self.option("password.file", path.into())
    }

    /// The password is in this environment variable of `jobctl`, not in the URL.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::list("redis://jobs@localhost", "totals").password_env("REDIS_PASSWORD");
    /// ```
    pub fn password_env(self, name: impl Into<String>) -> Self {
        self.option("password.env", name.into())
    }

    /// With TLS (`rediss://`), the server's certificate must be signed by one in this file (PEM); without this, by one whom the
    /// machine trusts.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::list("rediss://cache.internal", "totals").ca_file("/etc/ssl/our-ca.pem");
    /// ```
    pub fn ca_file(self, path: impl Into<String>) -> Self {
        self.option("ca.file", path.into())
    }

    /// With TLS, these files (PEM) are the certificate that is shown to the server, and its key. Redis wants one unless it is
    /// told otherwise.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::list("rediss://cache.internal", "totals").certificate_files("job.crt", "job.key");
    /// ```
    pub fn certificate_files(self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.option("certificate.file", certificate.into())
            .option("key.file", key.into())
    }

    /// Tells this job's marks from those of another of the same name.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let totals = Redis::list("redis://localhost", "totals").id("staging");
    /// ```
    pub fn id(self, id: &str) -> Self {
        self.option("id", id)
    }

    any_option!("let totals = Redis::list(\"redis://localhost\", \"totals\").option(\"batch.rows\", 100);");
}

impl Sink for RedisSink {
    fn into_connector(self) -> wit::Connector {
        wit::Connector {
            kind: "redis".to_owned(),
            options: self.options.into_list(),
        }
    }
}
