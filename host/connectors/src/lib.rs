//! Native sources and sinks behind the traits of `millrace_core::connector`.
//!
//! One folder per connector: `files`, `generator`, `hybrid`, `nexmark`, `stdin` and `stdout`, `discard`, `postgres`,
//! `redis`, `sqlite`, `tcp`, `webhook`.
//! [`http`] makes the requests that a pipeline asks for, row by row.
//! `write_ahead` makes sinks exactly-once whose system has no transactions to wait in; those of `immediate` do not wait. `format` turns bytes into
//! rows and back for all that read or write text. [`DeadLetter`] keeps rejected rows.
//! Connectors here are synchronous and own the only file access of the data path; options and error codes
//! are listed in `docs/`. To add a connector, implement `Connector` in its folder and name it in
//! [`registry`].

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod dead_letter;
mod discard;
mod enums;
mod files;
mod format;
mod generator;
#[cfg_attr(not(feature = "http"), path = "http_missing.rs")]
pub mod http;
mod hybrid;
#[cfg(any(feature = "http", feature = "postgres", feature = "redis", feature = "sqlite"))]
mod identity;
#[cfg(any(feature = "http", feature = "redis"))]
mod immediate;
mod interleaved;
mod kept;
mod nexmark;
#[cfg(any(feature = "http", feature = "postgres", feature = "redis"))]
mod password;
#[cfg(any(feature = "http", feature = "postgres"))]
mod pem;
mod position;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;
mod stdio;
mod tcp;
#[cfg(test)]
mod testing;
#[cfg(feature = "http")]
mod webhook;
#[cfg(any(feature = "http", feature = "redis", feature = "sqlite"))]
mod write_ahead;

use std::sync::Arc;

use millrace_core::connector::Connector;
use millrace_core::{Error, Result};

pub use dead_letter::{DeadLetter, Stage, is_dead_letters};
pub use enums::{Enums, keyed_table_with_names, sink_with_names, source_with_names};
pub use format::json_row;
pub use stdio::STDOUT_CLOSED;

/// All connectors, in name order.
pub fn registry() -> Vec<Arc<dyn Connector>> {
    vec![
        Arc::new(discard::DiscardConnector),
        Arc::new(files::FilesConnector),
        Arc::new(generator::GeneratorConnector),
        Arc::new(hybrid::HybridConnector),
        Arc::new(nexmark::NexmarkConnector),
        #[cfg(feature = "postgres")]
        Arc::new(postgres::PostgresConnector),
        #[cfg(feature = "redis")]
        Arc::new(redis::RedisConnector),
        #[cfg(feature = "sqlite")]
        Arc::new(sqlite::SqliteConnector),
        Arc::new(stdio::StdinConnector),
        Arc::new(stdio::StdoutConnector),
        Arc::new(tcp::TcpConnector),
        #[cfg(feature = "http")]
        Arc::new(webhook::WebhookConnector),
    ]
}

/// The connector of this kind, or an error that lists those there are.
///
/// ```
/// assert_eq!(millrace_connectors::connector("files")?.kind(), "files");
/// assert!(millrace_connectors::connector("kafka").is_err());
/// # Ok::<(), millrace_core::Error>(())
/// ```
pub fn connector(kind: &str) -> Result<Arc<dyn Connector>> {
    let all = registry();
    let known: Vec<&str> = all.iter().map(|connector| connector.kind()).collect();
    let message = format!("there is no connector `{kind}`; known are: {}", known.join(", "));
    all.into_iter()
        .find(|connector| connector.kind() == kind)
        .ok_or_else(|| Error::user("CN0101", message))
}
