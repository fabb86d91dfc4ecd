//! One part file of the sink while it is being written.
//!
//! Rows go to a hidden file; [`Part::finish`] completes and syncs it. Renaming it is the commit, and not
//! done here. Any failure to write names the file and poisons the part: it can then only be removed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use millrace_core::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::avro::AvroFile;
use super::compression::{Compression, Compressor};
use crate::format::{Encoder, Format};

/// Encoded bytes collected before they go to the file.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// See the module's documentation.
pub(crate) struct Part {
    /// The hidden file.
    path: PathBuf,
    body: Body,
    rows: u64,
    /// Bytes that are known to have gone to the file.
    bytes: u64,
}

enum Body {
    Records(Box<Records>),
    Columns(Box<ArrowWriter<File>>),
    Avro(Box<AvroBody>),
}

struct AvroBody {
    writer: AvroFile,
    /// The file inside, to ask for its length.
    file: File,
}

struct Records {
    encoder: Encoder,
    buffer: Vec<u8>,
    /// The file inside `out`, to ask for its length.
    file: File,
    out: Compressor,
}

impl Part {
    /// Creates the file, which must not exist.
    pub(crate) fn create(path: PathBuf, format: &Format, compression: Compression, schema: &SchemaRef) -> Result<Self> {
        let fail = |error: &dyn std::fmt::Display| unwritable(&path, error);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| fail(&error))?;
        let body = if let Format::Avro(codec) = format {
            let inside = file.try_clone().map_err(|error| fail(&error))?;
            let writer = AvroFile::create(file, *codec, schema).map_err(|error| fail(&error))?;
            Body::Avro(Box::new(AvroBody { writer, file: inside }))
        } else if *format == Format::Parquet {
            let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties(compression)));
            Body::Columns(Box::new(writer.map_err(|error| fail(&error))?))
        } else {
            Body::Records(Box::new(Records {
                encoder: Encoder::new(format.clone()),
                buffer: Vec::with_capacity(BUFFER_BYTES_MAX),
                file: file.try_clone().map_err(|error| fail(&error))?,
                out: compression.writer(file).map_err(|error| fail(&error))?,
            }))
        };
        Ok(Part {
            path,
            body,
            rows: 0,
            bytes: 0,
        })
    }

    /// Rows written so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Size of the file if it were finished now, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.body {
            Body::Records(records) => match records.out {
                Compressor::None(_) => self.bytes + records.buffer.len() as u64,
                Compressor::Gzip(_) | Compressor::Zstd(_) => self.bytes,
            },
            Body::Columns(writer) => (writer.bytes_written() + writer.in_progress_size()) as u64,
            Body::Avro(avro) => self.bytes + avro.writer.waiting_bytes(),
        }
    }

    /// Takes rows.
    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        let path = &self.path;
        match &mut self.body {
            Body::Columns(writer) => writer.write(rows).map_err(|error| unwritable(path, &error)),
            Body::Avro(avro) => {
                if avro.writer.write(rows).map_err(|error| unwritable(path, &error))? {
                    self.bytes = avro.file.metadata().map_err(|error| unwritable(path, &error))?.len();
                }
                Ok(())
            }
            Body::Records(records) => {
                let Records {
                    encoder,
                    buffer,
                    file,
                    out,
                } = records.as_mut();
                encoder
                    .encode(rows, buffer)
                    .map_err(|error| error.context(path.display().to_string()))?;
                if buffer.len() < BUFFER_BYTES_MAX {
                    return Ok(());
                }
                out.write_all(buffer).map_err(|error| unwritable(path, &error))?;
                buffer.clear();
                self.bytes = file.metadata().map_err(|error| unwritable(path, &error))?.len();
                Ok(())
            }
        }
    }

    /// Completes the file and makes it durable; its length.
    pub(crate) fn finish(self) -> Result<u64> {
        let Part { path, body, .. } = self;
        let file = match body {
            Body::Columns(writer) => writer.into_inner().map_err(|error| unwritable(&path, &error))?,
            Body::Avro(avro) => avro.writer.finish().map_err(|error| unwritable(&path, &error))?,
            Body::Records(records) => {
                let Records { buffer, mut out, .. } = *records;
                out.write_all(&buffer).map_err(|error| unwritable(&path, &error))?;
                out.finish().map_err(|error| unwritable(&path, &error))?
            }
        };
        file.sync_all().map_err(|error| unwritable(&path, &error))?;
        Ok(file.metadata().map_err(|error| unwritable(&path, &error))?.len())
    }

    /// The hidden file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn properties(compression: Compression) -> WriterProperties {
    let codec = match compression {
        Compression::None => Codec::UNCOMPRESSED,
        Compression::Gzip => Codec::GZIP(GzipLevel::default()),
        Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
    };
    WriterProperties::builder().set_compression(codec).build()
}

/// A file that could not be written: no space, no permission, a broken disk.
pub(crate) fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::external("IO0105", format!("`{}` cannot be written: {error}", path.display()))
}
