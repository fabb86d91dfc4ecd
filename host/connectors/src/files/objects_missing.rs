//! In place of [`objects`](super::objects) where object stores are not built in: their URLs are refused by name.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use millrace_core::connector::Sink;
use millrace_core::{Error, Result};

use super::sink::Settings;

/// Whether a path is the URL of something.
pub(super) fn is_url(path: &str) -> bool {
    path.contains("://")
}

/// Always an error.
pub(super) fn sink(settings: Settings, _: SchemaRef) -> Result<Arc<dyn Sink>> {
    let message = format!(
        "option `path` is `{}`, and this program was built without object stores (feature `cloud`)",
        settings.path
    );
    Err(Error::user("CN0131", message))
}
