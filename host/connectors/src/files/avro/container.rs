//! Where the blocks of an Avro object container file are.
//!
//! ```text
//! "Obj" 1, metadata (schema, codec), sync marker | rows, bytes, data, sync marker | rows, bytes, data, sync marker ...
//! ```
//!
//! The data is not looked at: blocks are found by their lengths, so that a file is cut at them, and a reader goes on in
//! the middle without decoding what is before. A file that ends within a block is damaged.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};

use millrace_core::Result;

use super::broken;
use crate::files::listing::unreadable;

const MAGIC: &[u8] = b"Obj\x01";
const SYNC_BYTES: usize = 16;

/// A header longer than this is none.
const HEADER_BYTES_MAX: usize = 64 << 20;

/// Behind a block that is compressed by snappy: without it there is no block.
const CHECKSUM_BYTES: u64 = 4;

/// A file's header and blocks.
#[derive(Debug)]
pub(super) struct Container {
    /// All bytes before the first block.
    pub(super) header: Vec<u8>,
    pub(super) blocks: Vec<Block>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// Offset of its first byte.
    pub(super) start: u64,
    /// Offset behind its sync marker.
    pub(super) end: u64,
    pub(super) rows: u64,
}

impl Container {
    /// Looks through a file.
    pub(super) fn open(path: &str) -> Result<Self> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let mut input = Input {
            path,
            inner: BufReader::new(file),
            offset: 0,
        };
        let (header, is_snappy) = read_header(&mut input)?;
        let sync = header[header.len() - SYNC_BYTES..].to_vec();
        let mut blocks = Vec::new();
        while !input.is_at_end()? {
            let start = input.offset;
            let (rows, bytes) = (input.long(None)?, input.long(None)?);
            let (Ok(rows), Ok(bytes)) = (u64::try_from(rows), u64::try_from(bytes)) else {
                return Err(input.broken("a block of negative length"));
            };
            if is_snappy && bytes < CHECKSUM_BYTES {
                return Err(input.broken("a block without its checksum"));
            }
            input.skip(bytes)?;
            if input.bytes(SYNC_BYTES, None)? != sync {
                return Err(input.broken("a block does not end with the file's sync marker"));
            }
            let end = input.offset;
            blocks.push(Block { start, end, rows });
        }
        Ok(Container { header, blocks })
    }
}

/// The header, and whether blocks are compressed by snappy.
fn read_header(input: &mut Input<'_>) -> Result<(Vec<u8>, bool)> {
    let mut header = input.bytes(MAGIC.len(), None)?;
    if header != MAGIC {
        return Err(input.broken("it does not begin as one"));
    }
    let mut is_snappy = false;
    loop {
        let mut count = input.long(Some(&mut header))?;
        if count == 0 {
            break;
        }
        if count < 0 {
            // Behind a negative number of entries comes their length.
            input.long(Some(&mut header))?;
            count = count.saturating_neg();
        }
        for _ in 0..count {
            let name = input.text(&mut header)?;
            let value = input.text(&mut header)?;
            is_snappy |= name == b"avro.codec" && value == b"snappy";
        }
    }
    let sync = input.bytes(SYNC_BYTES, None)?;
    header.extend(sync);
    Ok((header, is_snappy))
}

struct Input<'p> {
    path: &'p str,
    inner: BufReader<File>,
    offset: u64,
}

impl Input<'_> {
    fn broken(&self, cause: &str) -> millrace_core::Error {
        broken(self.path, &format!("{cause}, before byte {}", self.offset))
    }

    fn failed(&self, error: &std::io::Error) -> millrace_core::Error {
        match error.kind() {
            ErrorKind::UnexpectedEof => self.broken("it ends within a block or its header"),
            _ => unreadable(self.path, error),
        }
    }

    fn is_at_end(&mut self) -> Result<bool> {
        match self.inner.fill_buf() {
            Ok(bytes) => Ok(bytes.is_empty()),
            Err(error) => Err(unreadable(self.path, &error)),
        }
    }

    fn bytes(&mut self, count: usize, copy: Option<&mut Vec<u8>>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.inner.read_exact(&mut bytes).map_err(|error| self.failed(&error))?;
        self.offset += count as u64;
        if let Some(copy) = copy {
            copy.extend(&bytes);
        }
        Ok(bytes)
    }

    /// A number in zigzag coding.
    fn long(&mut self, mut copy: Option<&mut Vec<u8>>) -> Result<i64> {
        let mut number = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.bytes(1, copy.as_deref_mut())?[0];
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err(self.broken("a number that does not end"))
    }

    fn text(&mut self, header: &mut Vec<u8>) -> Result<Vec<u8>> {
        let length = self.long(Some(header))?;
        match usize::try_from(length) {
            Ok(length) if header.len() + length <= HEADER_BYTES_MAX => self.bytes(length, Some(header)),
            _ => Err(self.broken("a header of that length")),
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let end = self.offset.checked_add(bytes).filter(|end| i64::try_from(*end).is_ok());
        let Some(end) = end else {
            return Err(self.broken("a block of that length"));
        };
        self.inner
            .seek_relative(bytes as i64)
            .map_err(|error| self.failed(&error))?;
        self.offset = end;
        Ok(())
    }
}
