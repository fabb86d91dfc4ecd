//! The `postgres` connector: rows into a table of a PostgreSQL server (12 or newer), or a table to look rows up in ([`read`]),
//! by key ([`keyed`]) or [`whole`].
//!
//! [`settings`] are its options, [`server`] the connection ([`tls`], [`passfile`]) and what its errors mean, [`table`]
//! what the table must look like. Rows to it travel as binary `COPY` ([`encode`]). There are two modes:
//!
//! - `exactly-once` ([`two_phase`]): each subtask writes the rows of a checkpoint in one transaction, which is
//!   prepared when the checkpoint is taken and committed when it has completed ([`transactions`]); what savepoints hold of
//!   them is noted ([`kept`]);
//! - `upsert` ([`upsert`]): rows replace those with the same key, so that writing them again changes nothing.

mod address;
mod encode;
mod kept;
mod keyed;
mod numeric;
mod passfile;
mod read;
mod server;
mod settings;
mod sink;
mod table;
mod tls;
mod transactions;
mod two_phase;
mod upsert;
mod whole;

use std::sync::Arc;

use arrow_schema::SchemaRef;
use millrace_core::Result;
use millrace_core::connector::{Connector, KeyedTable, Options, Sink, SinkContext, Source};

/// Connector kind `postgres`.
pub(crate) struct PostgresConnector;

impl Connector for PostgresConnector {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn source(&self, _: Options, _: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(None)
    }

    fn keyed_table(&self, options: Options, schema: SchemaRef, key: &[usize]) -> Result<Option<Arc<dyn KeyedTable>>> {
        let table = keyed::PostgresTable::new(options, schema, key.to_vec())?;
        Ok(Some(Arc::new(table)))
    }

    fn whole_table(&self, options: Options, schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(Some(Arc::new(whole::WholeTable::new(options, schema)?)))
    }

    fn sink(&self, options: Options, schema: SchemaRef, context: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        Ok(Some(Arc::new(sink::PostgresSink::new(options, schema, context)?)))
    }
}
