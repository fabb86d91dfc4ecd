//! Lines as rows of one utf8 column.

use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::SchemaRef;

use super::decode::{Decode, span};
use super::framer::Record;

/// Decoder of format text.
pub(crate) struct TextDecoder {
    schema: SchemaRef,
}

impl TextDecoder {
    /// For a schema of one utf8 column.
    pub(crate) fn new(schema: SchemaRef) -> Self {
        TextDecoder { schema }
    }
}

impl Decode for TextDecoder {
    fn decode(&mut self, bytes: &[u8], records: &[Record]) -> Result<RecordBatch, String> {
        let mut values = Vec::with_capacity(span(bytes, records).len());
        let mut ends = Vec::with_capacity(records.len() + 1);
        ends.push(0i32);
        for record in records {
            values.extend_from_slice(&bytes[record.start..record.end]);
            ends.push(i32::try_from(values.len()).map_err(|_| "a block of lines is over 2 GiB".to_owned())?);
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        let lines = StringArray::try_new(offsets, Buffer::from_vec(values), None).map_err(|error| error.to_string())?;
        RecordBatch::try_new(self.schema.clone(), vec![Arc::new(lines)]).map_err(|error| error.to_string())
    }

    fn diagnose(&mut self, _record: &[u8], error: String) -> String {
        error
    }
}
