//! The `redis` connector: rows into a Redis server (6 or newer, not a cluster) or what speaks like one.
//!
//! [`settings`] are its options, [`server`] the connection ([`tls`]) and what its errors mean. A row becomes a command
//! ([`commands`]) by its structure: a string, a hash, an element of a list, a stream or a sorted set, a message. Keys
//! and values are made of columns by a [`template`]. There are two modes:
//!
//! - `exactly-once` ([`logged`]): rows wait in a write-ahead log until their checkpoint is complete;
//! - `immediate` ([`immediate`]): rows are written as they come, and again after a restart, which strings, hashes and
//!   sorted sets do not mind.

mod commands;
mod immediate;
mod logged;
mod server;
mod settings;
mod sink;
mod template;
mod texts;
mod tls;

use std::sync::Arc;

use arrow_schema::SchemaRef;
use millrace_core::Result;
use millrace_core::connector::{Connector, Options, Sink, SinkContext, Source};

/// Connector kind `redis`.
pub(crate) struct RedisConnector;

impl Connector for RedisConnector {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn source(&self, _: Options, _: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(None)
    }

    fn sink(&self, options: Options, schema: SchemaRef, context: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        Ok(Some(Arc::new(sink::RedisSink::new(options, &schema, context)?)))
    }
}
