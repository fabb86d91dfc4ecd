//! The `files` source: options, splits, and opening them.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use millrace_core::connector::{Boundedness, Options, Position, Source, Split, SplitReader, SubtaskContext};
use millrace_core::{Error, Result};

use super::columns::{self, ColumnReader};
use super::compression::Compression;
use super::listing::{Input, files, unreadable};
use super::records::RecordReader;
use super::splits::{self, Piece};
use crate::format::Format;

/// Files are not cut into pieces smaller than this: each costs an open and a seek.
const SPLIT_BYTES_MIN: u64 = 16 << 20;

/// See the module's documentation.
pub(crate) struct FilesSource {
    path: String,
    format: Arc<Format>,
    compression: Option<Compression>,
    schema: SchemaRef,
    split_bytes_min: u64,
}

impl FilesSource {
    /// From the options in the pipeline.
    pub(crate) fn new(mut options: Options, schema: SchemaRef) -> Result<Self> {
        let path = options.required("path")?;
        let format = Format::take(&mut options, None, true)?;
        let compression = Compression::take_or_auto(&mut options)?;
        options.finish()?;
        format.check_schema(&schema)?;
        if format == Format::Parquet && !matches!(compression, None | Some(Compression::None)) {
            return Err(Error::user(
                "CN0110",
                "option `compression` does not go with format parquet, whose files say themselves how they are compressed",
            ));
        }
        Ok(FilesSource {
            path,
            format: Arc::new(format),
            compression,
            schema,
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
        match (self.compression, self.format.as_ref()) {
            (Some(compression), _) => compression,
            (None, Format::Parquet) => Compression::None,
            (None, Format::Text | Format::Csv(_) | Format::Ndjson) => Compression::of_path(path),
        }
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
            Format::Parquet => {
                let groups = columns::check(&input.path, &self.schema)?;
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

impl Source for FilesSource {
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self, parallelism: u32) -> Result<Vec<Split>> {
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

    fn open(&self, split: &Split, _context: &SubtaskContext) -> Result<Box<dyn SplitReader>> {
        let (path, piece) = splits::parse(&split.id)?;
        match self.format.as_ref() {
            Format::Parquet => Ok(Box::new(ColumnReader::open(
                path,
                piece,
                &self.schema,
                &split.position,
            )?)),
            format => {
                let compression = self.compression_of(path);
                Ok(Box::new(RecordReader::open(
                    path,
                    format,
                    compression,
                    piece,
                    &self.schema,
                    &split.position,
                )?))
            }
        }
    }
}

#[cfg(test)]
mod tests;
