//! Records to columns, with bad records singled out.
//!
//! Decoders are all or nothing, because the vectorised parsers under them are. When a block fails it is cut
//! in two until the records at fault stand alone, so a single bad record in a block of thousands costs about
//! one more pass over the block.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use millrace_core::{Error, Result};

use super::framer::Record;

/// Turns records of one format into rows of one schema.
pub(crate) trait Decode: Send {
    /// All records, in order, one row each; an error if any of them cannot be decoded. `bytes` is what the
    /// records point into.
    fn decode(&mut self, bytes: &[u8], records: &[Record]) -> std::result::Result<RecordBatch, String>;

    /// Why this one record, which `decode` refused with `error`, is wrong, naming column and text.
    fn diagnose(&mut self, record: &[u8], error: String) -> String;
}

/// Decodes what can be decoded, in order, and hands the other records to `reject` with their causes.
pub(crate) fn decode(
    decoder: &mut dyn Decode,
    schema: &SchemaRef,
    bytes: &[u8],
    records: &[Record],
    reject: &mut dyn FnMut(&Record, String),
) -> Result<RecordBatch> {
    let mut batches = Vec::new();
    collect(decoder, bytes, records, &mut batches, reject);
    match batches.len() {
        1 => Ok(batches.swap_remove(0)),
        _ => concat_batches(schema, &batches)
            .map_err(|error| Error::internal(format!("decoded rows do not fit their schema: {error}"))),
    }
}

fn collect(
    decoder: &mut dyn Decode,
    bytes: &[u8],
    records: &[Record],
    batches: &mut Vec<RecordBatch>,
    reject: &mut dyn FnMut(&Record, String),
) {
    if records.is_empty() {
        return;
    }
    match (decoder.decode(bytes, records), records) {
        (Ok(batch), _) => batches.push(batch),
        (Err(error), [record]) => {
            let cause = match std::str::from_utf8(&bytes[record.start..record.end]) {
                Err(utf8) => format!("byte {} of the row is not UTF-8", utf8.valid_up_to() + 1),
                Ok(_) => decoder.diagnose(&bytes[record.start..record.end], error),
            };
            reject(record, cause);
        }
        (Err(_), _) => {
            let (first, second) = records.split_at(records.len() / 2);
            collect(decoder, bytes, first, batches, reject);
            collect(decoder, bytes, second, batches, reject);
        }
    }
}

/// The bytes of consecutive records with everything between them.
pub(crate) fn span<'a>(bytes: &'a [u8], records: &[Record]) -> &'a [u8] {
    match (records.first(), records.last()) {
        (Some(first), Some(last)) => &bytes[first.start..last.next],
        _ => &[],
    }
}

/// A text in a message, cut where it gets long.
pub(crate) fn quoted(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("`{}...`", &text[..end]),
        None => format!("`{text}`"),
    }
}
