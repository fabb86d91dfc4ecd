//! Rows to a URL.

use super::Sink;
use super::options::{Options, any_option};
use crate::bindings::dataflow as wit;

/// Sends rows to a URL, as JSON in the body of `POST` requests.
///
/// If the job takes checkpoints, rows wait until theirs is complete, in memory and in the checkpoint, and are sent in batches then.
/// Each request has an `Idempotency-Key`: one that is sent again, after a failure or a restart, has the same key and the same rows.
/// So a server that takes no key twice has each row once; any other may get a batch again.
/// [`immediate`](WebhookSink::immediate) sends rows as they come, without a key, and again after a restart.
///
/// A request is repeated if the server cannot be reached, is busy (429) or fails (500 and the like); then the job fails, and its
/// restart strategy decides. Any other status but 200 to 299 fails it at once.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Alarm { sensor: i64, value: f64 }
///
/// fn tell(alarms: Stream<Rows<Alarm>>) {
///     alarms.sink("alarms", Webhook::to("https://alarms.example.org/hook").token_env("ALARMS_TOKEN"));
/// }
/// ```
#[derive(Debug)]
pub struct Webhook;

impl Webhook {
    /// Rows go to this URL.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook");
    /// ```
    pub fn to(url: impl Into<String>) -> WebhookSink {
        let mut options = Options::default();
        options.set("url", url.into());
        WebhookSink { options }
    }
}

/// Sends rows to a URL: made by [`Webhook`].
#[derive(Debug)]
pub struct WebhookSink {
    options: Options,
}

impl WebhookSink {
    /// A body is a JSON array of rows. Without this it has a row on each line (`application/x-ndjson`).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook").array();
    /// ```
    pub fn array(self) -> Self {
        self.option("body", "array")
    }

    /// Sends rows as they come instead of with their checkpoint, and again after a restart.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook").immediate();
    /// ```
    pub fn immediate(self) -> Self {
        self.option("mode", "immediate")
    }

    /// Adds a header to each request. It is part of the pipeline, and shown: a secret belongs into
    /// [`token_env`](Self::token_env) or [`token_file`](Self::token_file).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook").header("x-site", "north");
    /// ```
    pub fn header(self, name: &str, value: &str) -> Self {
        self.option(&format!("header.{name}"), value)
    }

    /// The environment variable of `jobctl` with what is sent as `Authorization: Bearer`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook").token_env("ALARMS_TOKEN");
    /// ```
    pub fn token_env(self, name: impl Into<String>) -> Self {
        self.option("password.env", name.into())
    }

    /// The file with what is sent as `Authorization: Bearer`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook").token_file("/run/secrets/alarms");
    /// ```
    pub fn token_file(self, path: impl Into<String>) -> Self {
        self.option("password.file", path.into())
    }

    /// Sends that many rows in a request at most. Without this, 500.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook").batch_rows(1);
    /// ```
    pub fn batch_rows(self, rows: u64) -> Self {
        self.option("batch.rows", rows)
    }

    /// How long a batch may take, with all attempts, before the job fails. Without this, 30 s. The subtask waits.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook").timeout(Duration::from_secs(5));
    /// ```
    pub fn timeout(self, timeout: std::time::Duration) -> Self {
        self.option("timeout.ms", crate::time::millis(timeout))
    }

    /// How often a batch is sent at most, and the time before the second attempt, which doubles. Without this, 5 times from
    /// 200 ms on.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook").attempts(10, Duration::from_millis(100));
    /// ```
    pub fn attempts(self, attempts: u32, delay: std::time::Duration) -> Self {
        let delay = crate::time::millis(delay);
        self.option("attempts", attempts).option("retry.delay.ms", delay)
    }

    /// So many bytes of rows may wait for their checkpoint in each subtask, compressed; the job fails if they get
    /// more. Without this, 64 MiB. They are held in memory, and in the checkpoint's description.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook").log_bytes(256 << 20);
    /// ```
    pub fn log_bytes(self, bytes: u64) -> Self {
        self.option("log.bytes", bytes)
    }

    /// Tells this job's keys from those of another of the same name.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook").id("staging");
    /// ```
    pub fn id(self, id: &str) -> Self {
        self.option("id", id)
    }

    any_option!("let alarms = Webhook::to(\"https://alarms.example.org/hook\").option(\"batch.rows\", 100);");
}

impl Sink for WebhookSink {
    fn into_connector(self) -> wit::Connector {
        wit::Connector {
            kind: "webhook".to_owned(),
            options: self.options.into_list(),
        }
    }
}
