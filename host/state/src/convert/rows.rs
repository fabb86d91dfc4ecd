//! Rows that were under way when the code changed: by the same rules as state, but for what a schema says of its earlier
//! versions, which streams do not.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, StructArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use millrace_core::block::{Block, Element};
use millrace_core::checkpoint::ChannelSnapshot;
use millrace_core::schema::{Conversion, Declared, Refusal, resolve};
use millrace_core::{Error, Result};

use super::values::{Unfit, convert};
use crate::savepoint::broken;

/// Converts what was in flight on one edge.
#[derive(Debug)]
pub struct RowsConverter {
    how: Conversion,
    row: Declared,
    schema: SchemaRef,
}

impl RowsConverter {
    /// From rows of one schema to rows of another.
    ///
    /// # Errors
    /// Which fields cannot be converted.
    pub fn new(old: &Schema, new: &SchemaRef) -> Result<Self, Vec<Refusal>> {
        let row = |schema: &Schema| {
            let fields = DataType::Struct(schema.fields().clone());
            Declared::plain(Arc::new(Field::new("row", fields, false)))
        };
        let (old, row) = (row(old), row(new));
        Ok(RowsConverter {
            how: resolve(&old, &row)?.how,
            row,
            schema: new.clone(),
        })
    }

    /// The channels of the edge, with rows as they are now.
    ///
    /// # Errors
    /// `CK0014` if a value does not fit, which names the field.
    pub fn convert(&self, channels: Vec<ChannelSnapshot>) -> Result<Vec<ChannelSnapshot>> {
        let element = |element| match element {
            Element::Block(block) => self.block(block).map(Element::Block),
            other => Ok(other),
        };
        let channel = |channel: ChannelSnapshot| {
            Ok(ChannelSnapshot {
                elements: channel.elements.into_iter().map(element).collect::<Result<_>>()?,
                ..channel
            })
        };
        channels.into_iter().map(channel).collect()
    }

    fn block(&self, block: Block) -> Result<Block> {
        let rows: ArrayRef = Arc::new(StructArray::from(block.rows));
        let row_count = rows.len();
        let converted = convert(&rows, &self.how, &self.row, None).map_err(unfit_error)?;
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        let columns = converted.as_struct().columns().to_vec();
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
        Ok(Block {
            rows: rows.map_err(broken)?,
            ..block
        })
    }
}

fn unfit_error(unfit: Unfit) -> Error {
    let Unfit { field, why } = unfit;
    Error::user("CK0014", format!("field `{field}` of a row: {why}"))
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int32Array, Int64Array, StringArray};
    use millrace_core::checkpoint::EdgeName;

    use super::*;

    fn channel(rows: RecordBatch) -> ChannelSnapshot {
        let block = Block {
            times: Some(vec![7, 8].into()),
            ..Block::new(rows)
        };
        ChannelSnapshot {
            edge: EdgeName {
                from: "a".to_owned(),
                port: 0,
                input: 0,
                number: 0,
            },
            sender: 0,
            watermark: 3,
            idle: false,
            elements: vec![Element::Watermark(5), Element::Block(block)],
        }
    }

    fn rows(columns: Vec<(&str, ArrayRef, bool)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    #[test]
    fn rows_are_matched_by_name() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let old = rows(vec![("text", text.clone(), false), ("n", numbers, false)]);
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let nothing: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
        let new = rows(vec![("n", wide, true), ("more", nothing, true), ("text", text, false)]);
        let converter = RowsConverter::new(old.schema_ref(), &new.schema()).unwrap();
        let converted = converter.convert(vec![channel(old.clone())]).unwrap();
        assert_eq!(format!("{converted:?}"), format!("{:?}", [channel(new.clone())]));
        // And back: what is no 32-bit number any more, or null, has no place.
        let refused = RowsConverter::new(new.schema_ref(), &old.schema()).unwrap_err();
        assert!(refused.iter().any(|refusal| refusal.field == "n"), "{refused:?}");
    }

    #[test]
    fn a_new_field_that_may_not_be_null_is_refused() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let old = rows(vec![("n", numbers.clone(), false)]);
        let new = rows(vec![("n", numbers.clone(), false), ("m", numbers, false)]);
        let refused = RowsConverter::new(old.schema_ref(), &new.schema()).unwrap_err();
        assert_eq!(refused[0].field, "m");
    }
}
