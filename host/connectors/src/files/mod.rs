//! The `files` connector: text, CSV, JSON lines, Parquet and Avro, plain, gzip or zstd.
//!
//! Source: [`listing`] finds the files, [`splits`] cuts them for the parallelism, [`records`] reads the text
//! formats, [`columns`] reads Parquet and [`avro`] what it is called by. Of a folder that is watched, [`discovery`] finds what comes, and [`follow`] and
//! [`whole`] read it. Sink: [`sink`] holds the two-phase protocol, [`part`] one file
//! being written, [`objects`] the same protocol on an object store. All file access of the connector is here.

#[cfg(feature = "avro")]
mod avro;
#[cfg(not(feature = "avro"))]
#[path = "avro_missing.rs"]
mod avro;
mod columns;
mod compression;
mod convert;
mod declared;
mod discovery;
mod follow;
mod listing;
#[cfg(feature = "cloud")]
mod objects;
#[cfg(not(feature = "cloud"))]
#[path = "objects_missing.rs"]
mod objects;
mod part;
mod part_writer;
mod permits;
mod records;
mod sink;
mod source;
mod splits;
mod whole;

use std::sync::Arc;

use arrow_schema::SchemaRef;
use millrace_core::Result;
use millrace_core::connector::{Connector, Options, Sink, SinkContext, Source};

/// Connector kind `files`.
pub(crate) struct FilesConnector;

impl Connector for FilesConnector {
    fn kind(&self) -> &'static str {
        "files"
    }

    fn source(&self, options: Options, schema: SchemaRef) -> Result<Option<Arc<dyn Source>>> {
        Ok(Some(Arc::new(source::FilesSource::new(options, schema)?)))
    }

    fn sink(&self, options: Options, schema: SchemaRef, _: &SinkContext) -> Result<Option<Arc<dyn Sink>>> {
        let settings = sink::Settings::take(options, &schema)?;
        Ok(Some(if objects::is_url(&settings.path) {
            objects::sink(settings, schema)?
        } else {
            Arc::new(sink::FilesSink::new(settings, schema))
        }))
    }
}
