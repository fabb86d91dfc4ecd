//! An entry as bytes: what checkpoints hold.
//!
//! ```text
//! "MWAL" 1 | subtask u32 | log u64 | number u64 | Arrow IPC stream: schema, one batch compressed with LZ4
//! ```
//!
//! Integers are little-endian.

use std::io::Cursor;

use arrow_array::RecordBatch;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::ArrowError;
use millrace_core::connector::Committable;
use millrace_core::{Error, Result};

use super::Mark;

const MAGIC: &[u8; 5] = b"MWAL\x01";
const HEADER_BYTES: usize = MAGIC.len() + 4 + 8 + 8;

/// Rows under a mark.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) mark: Mark,
    pub(crate) rows: RecordBatch,
}

impl Entry {
    pub(super) fn encode(&self) -> Result<Committable> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(self.mark.subtask.to_le_bytes());
        bytes.extend(self.mark.log.to_le_bytes());
        bytes.extend(self.mark.number.to_le_bytes());
        let write = |bytes: &mut Vec<u8>| -> std::result::Result<(), ArrowError> {
            let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
            let mut writer = StreamWriter::try_new_with_options(bytes, &self.rows.schema(), options)?;
            writer.write(&self.rows)?;
            writer.finish()
        };
        match write(&mut bytes) {
            Ok(()) => Ok(Committable(bytes)),
            Err(error) => Err(Error::internal(format!("rows cannot be kept in a log: {error}"))),
        }
    }

    pub(super) fn decode(committable: &Committable) -> Result<Entry> {
        let unsound = |why: &str| Error::internal(format!("a committable is no entry of a write-ahead log: {why}"));
        let header = committable.0.split_first_chunk::<HEADER_BYTES>();
        let (header, stream) = header.ok_or_else(|| unsound("it is too short"))?;
        let (magic, numbers) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(unsound("it begins with something else"));
        }
        let number = |from: usize, bytes: usize| {
            let bytes = numbers.iter().skip(from).take(bytes).rev();
            bytes.fold(0_u64, |number, byte| (number << 8) | u64::from(*byte))
        };
        let mark = Mark {
            subtask: number(0, 4) as u32,
            log: number(4, 8),
            number: number(12, 8),
        };
        let read = || StreamReader::try_new(Cursor::new(stream), None)?.next().transpose();
        match read() {
            Ok(Some(rows)) => Ok(Entry { mark, rows }),
            Ok(None) => Err(unsound("it has no rows")),
            Err(error) => Err(unsound(&error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn entries_come_back() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
            ("t", Arc::new(StringArray::from(vec!["a", "", "c"]))),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let mark = Mark {
            subtask: 0x0102_0304,
            log: 0x1122_3344_5566_7788,
            number: u64::MAX - 1,
        };
        // A part of a batch is kept without the rest.
        let entry = Entry {
            mark,
            rows: rows.slice(1, 2),
        };
        let committable = entry.encode().unwrap();
        assert_eq!(Entry::decode(&committable).unwrap(), entry);
        assert_eq!(
            committable.0[..HEADER_BYTES],
            *b"MWAL\x01\x04\x03\x02\x01\x88\x77\x66\x55\x44\x33\x22\x11\xfe\xff\xff\xff\xff\xff\xff\xff"
        );
        for end in 0..committable.0.len() - 8 {
            let cut = Committable(committable.0[..end].to_vec());
            assert_eq!(Entry::decode(&cut).unwrap_err().code(), "IN0001", "{end}");
        }
    }
}
