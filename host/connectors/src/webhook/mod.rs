//! The `webhook` connector: rows as JSON in the bodies of `POST` requests, in ([`source`]) and out, to a URL.
//!
//! [`settings`] are the options of the sink, [`sink`] has the two modes:
//!
//! - `checkpointed`: rows wait in a write-ahead log until their checkpoint is complete; each request has the entry's mark as
//!   `Idempotency-Key`, and one that is repeated has the same key and the same rows. A server that goes by the key has each
//!   row once;
//! - `immediate`: rows are sent as they come, and again after a restart.

mod settings;
mod sink;
mod source;
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

    fn source(&self, options: Options, schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(Some(Arc::new(source::WebhookSource::new(options, schema)?)))
    }

    fn sink(&self, options: Options, _: SchemaRef, context: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        Ok(Some(Arc::new(sink::WebhookSink::new(options, context)?)))
    }
}
