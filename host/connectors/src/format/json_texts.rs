//! Single values as JSON, for those who write columns one by one.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_json::EncoderOptions;
use arrow_json::writer::make_encoder;
use arrow_schema::{ArrowError, Field, Schema};

use super::floats::FloatTexts;
use super::zones;

/// Text as it is, anything else as JSON lines have it.
pub(crate) fn json_texts(array: &ArrayRef, field: &Arc<Field>) -> std::result::Result<StringArray, ArrowError> {
    if let Some(text) = array.as_string_opt::<i32>() {
        return Ok(text.clone());
    }
    // The encoder is told that there are nulls by the field.
    let field = Arc::new(Field::clone(field).with_nullable(true));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array.clone()])?;
    let rows = zones::textual_rows(&rows)?;
    let schema = rows.schema();
    let options = EncoderOptions::default().with_encoder_factory(Arc::new(FloatTexts));
    let mut encoder = make_encoder(&schema.fields()[0], rows.column(0), &options)?;
    let mut text = Vec::new();
    let mut values = StringBuilder::new();
    for row in 0..rows.num_rows() {
        if encoder.is_null(row) {
            values.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        let text = std::str::from_utf8(&text).map_err(|error| ArrowError::JsonError(error.to_string()))?;
        values.append_value(text);
    }
    Ok(values.finish())
}
