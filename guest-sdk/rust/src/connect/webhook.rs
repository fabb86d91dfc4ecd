//! Rows from and to others by HTTP.

use std::marker::PhantomData;

use super::options::{Options, any_option};
use super::{Description, Reject, Sink, Source};
use crate::bindings::dataflow as wit;
use crate::value::Record;

/// Takes rows as JSON in the body of `POST` requests, at an address ([`listen`](Webhook::listen)), or sends them so to a URL
/// ([`to`](Webhook::to)).
///
/// **In**: the job listens for requests whose body is a JSON object, an array of them (`application/json`), or an object on each line
/// (`application/x-ndjson`). If the job takes checkpoints a request is answered, with status 200, when a complete checkpoint holds its
/// rows, so a sender that repeats what was not answered loses nothing. With an `Idempotency-Key` a request that comes again counts
/// once; without one it may count twice. What cannot be taken at the moment has status 503 and `Retry-After`.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record)]
/// struct Order { id: i64, total: f64 }
///
/// fn take(flow: &Flow) {
///     let orders = Webhook::listen::<Order>("0.0.0.0:8080").path("/orders").token_env("ORDERS_TOKEN");
///     let orders: Stream<Rows<Order>> = flow.source("orders", orders);
///     orders.sink("out", Files::to_ndjson("orders"));
/// }
/// ```
///
/// **Out**: if the job takes checkpoints, rows wait until theirs is complete, in memory and in the checkpoint, and are sent in batches then.
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
    /// Rows come to this address, a host and a port. `0.0.0.0:8080` takes requests from everywhere, `127.0.0.1:8080` from this
    /// machine only. What comes over networks that others can read should be encrypted
    /// ([`certificate_files`](WebhookSource::certificate_files)).
    ///
    /// Several sources may take requests at one address, each at a [path](WebhookSource::path) of its own.
    ///
    /// One subtask of the source takes all requests, whatever the parallelism; `rebalance` what follows if that is much work.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("127.0.0.1:8080");
    /// ```
    pub fn listen<T: Record>(address: impl Into<String>) -> WebhookSource<T> {
        let mut options = Options::default();
        options.set("address", address.into());
        WebhookSource {
            options,
            on_reject: Reject::Fail,
            record: PhantomData,
        }
    }

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

/// Takes rows from requests: made by [`Webhook::listen`].
#[derive(Debug)]
pub struct WebhookSource<T> {
    options: Options,
    on_reject: Reject,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> WebhookSource<T> {
    /// The path of requests; at any other there is nothing (404). Without this, `/`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("127.0.0.1:8080").path("/orders");
    /// ```
    pub fn path(self, path: &str) -> Self {
        self.option("path", path)
    }

    /// Requests come with TLS (`https`): these files (PEM) are the certificate that senders are shown, with those between it and
    /// its authority, and its key. They are read when the job starts. Sources at one address have the same.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("0.0.0.0:8443").certificate_files("hooks.crt", "hooks.key");
    /// ```
    pub fn certificate_files(self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.option("certificate.file", certificate.into())
            .option("key.file", key.into())
    }

    /// With TLS, senders must show a certificate that one in this file (PEM) has signed. Without this they need none.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("0.0.0.0:8443").certificate_files("hooks.crt", "hooks.key");
    /// let rows = rows.ca_file("senders.pem");
    /// ```
    pub fn ca_file(self, path: impl Into<String>) -> Self {
        self.option("ca.file", path.into())
    }

    /// The environment variable of `jobctl` with what requests must have as `Authorization: Bearer`. Others are refused (401).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("127.0.0.1:8080").token_env("ORDERS_TOKEN");
    /// ```
    pub fn token_env(self, name: impl Into<String>) -> Self {
        self.option("password.env", name.into())
    }

    /// The file with what requests must have as `Authorization: Bearer`. Others are refused (401).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("127.0.0.1:8080").token_file("/run/secrets/orders");
    /// ```
    pub fn token_file(self, path: impl Into<String>) -> Self {
        self.option("password.file", path.into())
    }

    /// Answers requests when their rows are on their way, with status 202, and not when a checkpoint holds them: nobody
    /// waits, and rows since the last checkpoint are lost when the job goes on from that. So it is without checkpoints, too.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("127.0.0.1:8080").acknowledge_on_receipt();
    /// ```
    pub fn acknowledge_on_receipt(self) -> Self {
        self.option("acknowledge", "receipt")
    }

    /// How long a request waits for its checkpoint before its sender is told to come back. Without this, 25 s. It should be
    /// longer than checkpoints are apart, and shorter than senders wait.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("127.0.0.1:8080").timeout(Duration::from_secs(5));
    /// ```
    pub fn timeout(self, timeout: std::time::Duration) -> Self {
        self.option("timeout.ms", crate::time::millis(timeout))
    }

    /// So many requests may wait for their answers; senders of others are told to come back. Without this, 1,000.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("127.0.0.1:8080").requests_max(100);
    /// ```
    pub fn requests_max(self, requests: u64) -> Self {
        self.option("requests.max", requests)
    }

    /// So many bytes a body may have; longer ones are refused (413). Without this, 4 MiB.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("127.0.0.1:8080").body_bytes_max(64 << 10);
    /// ```
    pub fn body_bytes_max(self, bytes: u64) -> Self {
        self.option("body.bytes.max", bytes)
    }

    /// So many keys of requests are remembered, the last ones, 16 bytes each, also in checkpoints. Without this, 100,000. A request that
    /// comes again after as many others counts twice.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("127.0.0.1:8080").keys_max(10_000);
    /// ```
    pub fn keys_max(self, keys: u64) -> Self {
        self.option("keys.max", keys)
    }

    /// What happens to rows that cannot be read. Without this the request is refused with the reason (400) and none of its rows is
    /// taken; the job goes on. Otherwise its other rows are taken.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # #[derive(Record)]
    /// # struct Row { text: String }
    /// let rows = Webhook::listen::<Row>("127.0.0.1:8080").on_reject(Reject::dead_letter("bad.ndjson"));
    /// ```
    pub fn on_reject(self, on_reject: Reject) -> Self {
        Self { on_reject, ..self }
    }

    any_option!("let rows = Webhook::listen::<Row>(\"127.0.0.1:8080\").option(\"keys.max\", 10_000);");
}

impl<T: Record> Source for WebhookSource<T> {
    type Record = T;

    fn into_description(self) -> Description {
        Description {
            kind: "webhook".to_owned(),
            options: self.options.into_list(),
            on_reject: self.on_reject,
        }
    }
}

/// Sends rows to a URL: made by [`Webhook::to`].
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

    /// So many requests of each subtask are under way at a time, at most 1,000, when a checkpoint is complete: batches come in any
    /// order. Without this one follows the other.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let alarms = Webhook::to("https://alarms.example.org/hook").requests_max(8);
    /// ```
    pub fn requests_max(self, requests: u64) -> Self {
        self.option("requests.max", requests)
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
