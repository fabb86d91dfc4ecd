//! The `webhook` connector: rows out, as JSON in the body of `POST` requests to a URL.
//!
//! [`settings`] are its options, [`sink`] has the two modes:
//!
//! - `checkpointed`: rows wait in a write-ahead log until their checkpoint is complete; each request has the entry's mark as
//!   `Idempotency-Key`, and one that is repeated has the same key and the same rows. A server that goes by the key has each
//!   row once;
//! - `immediate`: rows are sent as they come, and again after a restart.

mod settings;
mod sink;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_schema::SchemaRef;
use millrace_core::Result;
use millrace_core::connector::{Connector, Options, Sink, SinkContext, Source};

/// Connector kind `webhook`.
pub(crate) struct WebhookConnector;

impl Connector for WebhookConnector {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn source(&self, _: Options, _: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(None)
    }

    fn sink(&self, options: Options, _: SchemaRef, context: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        Ok(Some(Arc::new(sink::WebhookSink::new(options, context)?)))
    }
}
