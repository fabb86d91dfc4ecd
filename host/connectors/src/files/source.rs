//! The `files` source: options, splits, and opening them.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use millrace_core::connector::{
    Boundedness, Options, Position, Source, Split, SplitEnumerator, SplitReader, SubtaskContext,
};
use millrace_core::{Error, Result};

use super::avro::{self, AvroReader};
use super::columns::{self, ColumnReader};
use super::compression::Compression;
use super::discovery::{self, FilesEnumerator, Watch};
use super::follow::FollowReader;
use super::listing::{Found, Input, files, scan, unreadable};
use super::permits::Permits;
use super::records::RecordReader;
use super::splits::{self, Piece};
use super::whole::WholeReader;
use crate::format::Format;

/// Files are not cut into pieces smaller than this: each costs an open and a seek.
const SPLIT_BYTES_MIN: u64 = 16 << 20;

/// See the module's documentation.
pub(crate) struct FilesSource {
    path: String,
    format: Arc<Format>,
    compression: Option<Compression>,
    schema: SchemaRef,
    /// If files that come later are read too.
    watch: Option<Watch>,
    permits: Permits,
    split_bytes_min: u64,
}

impl FilesSource {
    /// From the options in the pipeline.
    pub(crate) fn new(mut options: Options, schema: SchemaRef) -> Result<Self> {
        let path = options.required("path")?;
        let format = Format::take(&mut options, None, true)?;
        let compression = Compression::take_or_auto(&mut options)?;
        let watch = Watch::take(&mut options)?;
        options.finish()?;
        format.check_schema(&schema)?;
        if !format.is_records() && !matches!(compression, None | Some(Compression::None)) {
            let message = format!(
                "option `compression` does not go with format {}, whose files say themselves how they are compressed",
                format.extension()
            );
            return Err(Error::user("CN0110", message));
        }
        Ok(FilesSource {
            path,
            format: Arc::new(format),
            compression,
            schema,
            watch,
            permits: Permits::default(),
            split_bytes_min: SPLIT_BYTES_MIN,
        })
    }

    /// Lets tests cut small files.
    #[cfg(test)]
    pub(crate) fn with_split_bytes_min(mut self, bytes: u64) -> Self {
        self.split_bytes_min = bytes;
        self
    }

    fn compression_of(&self, path: &str) -> Compression {
        compression_of(self.compression, &self.format, path)
    }

    /// A reader of a split of a source that watches for files.
    fn open_watched(&self, split: &Split, watch: Watch) -> Result<Box<dyn SplitReader>> {
        let (path, identity) = discovery::parse(&split.id)?;
        let (format, schema) = (self.format.clone(), self.schema.clone());
        if watch.follows && is_followed(self.compression, &format, path) {
            let rows = (&format, &schema);
            let reader = FollowReader::open(
                &split.id,
                &split.position,
                &self.path,
                rows,
                watch.interval,
                &self.permits,
            )?;
            return Ok(Box::new(reader));
        }
        let (pattern, compression, position) = (self.path.clone(), self.compression, split.position.clone());
        let (file, identity, declared) = (path.to_owned(), identity.to_owned(), schema.clone());
        let open = move || match discovery::locate(&file, &identity, &pattern)? {
            None => Ok(None),
            Some(Found { path, .. }) => {
                let compression = compression_of(compression, &format, &path);
                open_piece(&path, (&format, compression), Piece::Whole, &declared, &position).map(Some)
            }
        };
        Ok(Box::new(WholeReader::new(
            path,
            &split.position,
            &schema,
            &self.permits,
            Box::new(open),
        )))
    }

    fn pieces(&self, input: &Input, wanted: u64) -> Result<Vec<Piece>> {
        let bytes = |ranges: Vec<(u64, u64)>| {
            ranges
                .into_iter()
                .map(|(start, end)| Piece::Bytes(start, end))
                .collect()
        };
        let whole = Ok(vec![Piece::Whole]);
        match self.format.as_ref() {
            Format::Parquet | Format::Avro(_) => {
                let groups = match self.format.as_ref() {
                    Format::Parquet => columns::check(&input.path, &self.schema)?,
                    _ => avro::check(&input.path, &self.schema)?,
                };
                if wanted < 2 || groups < 2 {
                    return whole;
                }
                let ranges = splits::cut(groups as u64, wanted, 1).into_iter();
                Ok(ranges
                    .map(|(start, end)| Piece::Groups(start as usize, end as usize))
                    .collect())
            }
            _ if self.compression_of(&input.path) != Compression::None => whole,
            Format::Text | Format::Ndjson | Format::Csv(_) => {
                let ranges = splits::cut(input.bytes, wanted, self.split_bytes_min);
                match self.format.as_ref() {
                    _ if ranges.len() < 2 => whole,
                    Format::Csv(options) if contains(&input.path, options.quote)? => whole,
                    _ => Ok(bytes(ranges)),
                }
            }
        }
    }
}

/// Whether the byte occurs in the file.
fn contains(path: &str, byte: u8) -> Result<bool> {
    let fail = |error: std::io::Error| unreadable(path, &error);
    let mut file = File::open(path).map_err(fail)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(fail)? {
            0 => return Ok(false),
            bytes if memchr::memchr(byte, &buffer[..bytes]).is_some() => return Ok(true),
            _ => {}
        }
    }
}

fn open_piece(
    path: &str,
    (format, compression): (&Format, Compression),
    piece: Piece,
    schema: &SchemaRef,
    position: &Position,
) -> Result<Box<dyn SplitReader>> {
    match format {
        Format::Parquet => Ok(Box::new(ColumnReader::open(path, piece, schema, position)?)),
        Format::Avro(_) => Ok(Box::new(AvroReader::open(path, piece, schema, position)?)),
        Format::Text | Format::Csv(_) | Format::Ndjson => {
            let reader = RecordReader::open(path, format, compression, piece, schema, position)?;
            Ok(Box::new(reader))
        }
    }
}

fn compression_of(given: Option<Compression>, format: &Format, path: &str) -> Compression {
    match (given, format) {
        (Some(compression), _) => compression,
        (None, Format::Parquet | Format::Avro(_)) => Compression::None,
        (None, Format::Text | Format::Csv(_) | Format::Ndjson) => Compression::of_path(path),
    }
}

/// Whether a file can be read while it grows.
fn is_followed(given: Option<Compression>, format: &Format, path: &str) -> bool {
    format.is_records() && compression_of(given, format, path) == Compression::None
}

impl Source for FilesSource {
    fn boundedness(&self) -> Boundedness {
        match self.watch {
            None => Boundedness::Bounded,
            Some(_) => Boundedness::Unbounded,
        }
    }

    fn splits(&self, parallelism: u32) -> Result<Vec<Split>> {
        if self.watch.is_some() {
            // The enumerator finds them all; a glob may match nothing yet.
            let is_glob = self.path.contains(['*', '?', '[']);
            return match std::fs::metadata(&self.path) {
                Err(_) if !is_glob => files(&self.path).map(|_| Vec::new()),
                _ => Ok(Vec::new()),
            };
        }
        let inputs = files(&self.path)?;
        let wanted = splits::pieces_wanted(inputs.len(), parallelism);
        let mut all = Vec::new();
        for input in &inputs {
            all.extend(self.pieces(input, wanted)?.into_iter().map(|piece| Split {
                id: splits::name(&input.path, piece),
                position: Position::START,
            }));
        }
        Ok(all)
    }

    fn enumerator(&self, splits: &[(u32, Split)], parallelism: u32) -> Result<Option<Arc<dyn SplitEnumerator>>> {
        let Some(watch) = self.watch else { return Ok(None) };
        let (compression, format) = (self.compression, self.format.clone());
        let follows = move |path: &str| watch.follows && is_followed(compression, &format, path);
        let enumerator = FilesEnumerator::new(&self.path, watch, follows, splits, parallelism)?;
        Ok(Some(Arc::new(enumerator)))
    }

    fn version(&self) -> Result<Option<String>> {
        let found = scan(&self.path)?.into_iter();
        let text = |found: Found| {
            let Found {
                path,
                identity,
                bytes,
                modified_ns,
            } = found;
            format!("{path} {identity} {bytes} {modified_ns}\n")
        };
        Ok(Some(found.map(text).collect()))
    }

    fn open(&self, split: &Split, _context: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        if let Some(watch) = self.watch {
            return self.open_watched(split, watch);
        }
        let (path, piece) = splits::parse(&split.id)?;
        let format = (self.format.as_ref(), self.compression_of(path));
        open_piece(path, format, piece, &self.schema, &split.position)
    }
}

#[cfg(test)]
mod tests;
