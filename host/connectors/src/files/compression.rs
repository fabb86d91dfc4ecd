//! Compression of whole files: how it is chosen, and the streams that undo and do it.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use millrace_core::connector::Options;
use millrace_core::{Error, Result};

/// Compressed bytes asked for at once.
const READ_BYTES: usize = 256 * 1024;

/// How a file is compressed as a whole (or, in Parquet, inside).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, also of several members.
    Gzip,
    /// RFC 8878, also of several frames.
    Zstd,
}

impl Compression {
    /// Takes option `compression` of a sink.
    pub(crate) fn take(options: &mut Options) -> Result<Self> {
        let name = options.text("compression").unwrap_or_else(|| "none".into());
        Self::named(&name).ok_or_else(|| unknown(&name, "none, gzip, zstd"))
    }

    /// Takes option `compression` of a source; `None` is `auto`: by the end of each file's name.
    pub(crate) fn take_or_auto(options: &mut Options) -> Result<Option<Self>> {
        match options.text("compression").as_deref() {
            None | Some("auto") => Ok(None),
            Some(name) => Self::named(name)
                .map(Some)
                .ok_or_else(|| unknown(name, "auto, none, gzip, zstd")),
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Compression::None),
            "gzip" => Some(Compression::Gzip),
            "zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// By the end of a file's name.
    pub(crate) fn of_path(path: &str) -> Self {
        match path.rsplit_once('.') {
            Some((_, "gz")) => Compression::Gzip,
            Some((_, "zst")) => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// What is added to a file's name.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        }
    }

    /// The decompressed bytes of a file, and a count of the bytes read from it so far.
    pub(crate) fn reader(self, file: File) -> std::io::Result<(Box<dyn Read + Send>, Arc<AtomicU64>)> {
        let empty = file.metadata()?.len() == 0;
        let count = Arc::new(AtomicU64::new(0));
        let file = Counted {
            inner: file,
            count: count.clone(),
        };
        let reader: Box<dyn Read + Send> = match self {
            // An empty file holds no rows, whatever it is called.
            _ if empty => Box::new(std::io::empty()),
            Compression::None => Box::new(file),
            Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, file))),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(
                READ_BYTES, file,
            ))?),
        };
        Ok((reader, count))
    }

    /// A stream that compresses into `out`.
    pub(crate) fn writer(self, out: File) -> std::io::Result<Compressor> {
        Ok(match self {
            Compression::None => Compressor::None(out),
            Compression::Gzip => Compressor::Gzip(Box::new(GzEncoder::new(out, flate2::Compression::default()))),
            Compression::Zstd => Compressor::Zstd(Box::new(zstd::stream::write::Encoder::new(out, 0)?)),
        })
    }
}

fn unknown(name: &str, known: &str) -> Error {
    Error::user(
        "CN0108",
        format!("option `compression` is `{name}`, not one of {known}"),
    )
}

struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.inner.read(out)?;
        self.count.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// A file that compresses what is written to it.
pub(crate) enum Compressor {
    /// As it is.
    None(File),
    /// See [`Compression::Gzip`].
    Gzip(Box<GzEncoder<File>>),
    /// See [`Compression::Zstd`].
    Zstd(Box<zstd::stream::write::Encoder<'static, File>>),
}

impl Compressor {
    /// Writes the end of the compressed stream and gives back the file.
    pub(crate) fn finish(self) -> std::io::Result<File> {
        match self {
            Compressor::None(file) => Ok(file),
            Compressor::Gzip(encoder) => encoder.finish(),
            Compressor::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl Write for Compressor {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Compressor::None(file) => file.write(bytes),
            Compressor::Gzip(encoder) => encoder.write(bytes),
            Compressor::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Compressor::None(file) => file.flush(),
            Compressor::Gzip(encoder) => encoder.flush(),
            Compressor::Zstd(encoder) => encoder.flush(),
        }
    }
}
