//! Connectors: where rows come from and where they go.
//!
//! The host runs them, natively; a pipeline describes them, and the host refuses kinds and options that it
//! does not know. [`Files`], [`Stdin`] and [`Stdout`] read and write, [`Postgres`] writes to a table and has rows of one looked up, [`Redis`] to a
//! Redis server; [`Sqlite`] reads and writes tables in a file, [`Tcp`] sockets; [`Webhook`] takes requests with rows, or makes them; [`Generator`] makes rows up, and
//! [`Discard`] counts them. [`Hybrid`] reads one source and then another. [`Connector`] names any other.

mod custom;
mod discard;
mod files;
mod generator;
mod hybrid;
mod nexmark;
mod options;
mod postgres;
mod redis;
mod sqlite;
mod standard;
mod tcp;
mod webhook;

use crate::bindings::dataflow as wit;
use crate::value::Record;

pub use custom::{Connector, CustomSink, CustomSource};
pub use discard::Discard;
pub use files::{AvroCodec, Compression, Files, FilesSink, FilesSource};
pub use generator::Generator;
pub use hybrid::Hybrid;
pub use nexmark::Nexmark;
pub use postgres::{Postgres, PostgresSink, PostgresTable};
pub use redis::{Redis, RedisSink};
pub use sqlite::{Sqlite, SqliteSink, SqliteSource};
pub use standard::{Stdin, StdinSource, Stdout, StdoutSink};
pub use tcp::{Tcp, TcpSink, TcpSource};
pub use webhook::{Webhook, WebhookSink, WebhookSource};

/// Gives rows: the argument of [`Flow::source`](crate::Flow::source).
pub trait Source {
    /// The rows that it gives.
    type Record: Record;

    /// Kind, options and policy.
    fn into_description(self) -> Description;
}

/// Is asked for rows by key: the argument of [`LookupTable::cached`](crate::lookup::LookupTable::cached).
pub trait KeyedTable {
    /// The rows that it has.
    type Record: Record;

    /// Kind, options and policy.
    fn into_table(self) -> Description;
}

/// Is read whole: the argument of [`LookupTable::full`](crate::lookup::LookupTable::full). So can every [`Source`] that ends.
pub trait WholeTable {
    /// The rows that it has.
    type Record: Record;

    /// Kind, options and policy.
    fn into_whole_table(self) -> Description;
}

impl<S: Source> WholeTable for S {
    type Record = S::Record;

    fn into_whole_table(self) -> Description {
        self.into_description()
    }
}

/// Takes rows: the argument of [`Stream::sink`](crate::Stream::sink).
pub trait Sink {
    /// Kind and options, as the contract has them.
    #[doc(hidden)]
    fn into_connector(self) -> wit::Connector;
}

/// A connector's kind and options, and what happens to rows that it cannot read.
///
/// ```
/// use millrace::connect::{Description, Reject, Source};
/// use millrace::prelude::Record;
///
/// /// Rows from our own queue.
/// struct Queue { topic: String }
///
/// #[derive(Record)]
/// struct Message { text: String }
///
/// impl Source for Queue {
///     type Record = Message;
///     fn into_description(self) -> Description {
///         Description { kind: "queue".into(), options: vec![("topic".into(), self.topic)], on_reject: Reject::Fail }
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Which connector.
    pub kind: String,
    /// Its options, by name.
    pub options: Vec<(String, String)>,
    /// What happens to rows that it cannot read.
    pub on_reject: Reject,
}

/// What happens to a row that a function refuses or a source cannot read.
///
/// ```
/// use millrace::connect::Reject;
/// assert_eq!(Reject::dead_letter("bad.ndjson"), Reject::DeadLetter("bad.ndjson".into()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reject {
    /// The job fails and says why.
    #[default]
    Fail,
    /// The row is dropped and counted.
    Skip,
    /// The row is counted and appended, with the cause, to this file as a line of JSON; once, and with its checkpoint,
    /// if the job takes checkpoints.
    DeadLetter(String),
}

impl Reject {
    /// The row is counted and appended, with the cause, to this file as a line of JSON.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let policy = Reject::dead_letter("bad.ndjson");
    /// ```
    pub fn dead_letter(path: impl Into<String>) -> Self {
        Reject::DeadLetter(path.into())
    }

    pub(crate) fn into_contract(self) -> wit::RejectPolicy {
        match self {
            Reject::Fail => wit::RejectPolicy::Fail,
            Reject::Skip => wit::RejectPolicy::Skip,
            Reject::DeadLetter(path) => wit::RejectPolicy::DeadLetter(path),
        }
    }
}
