//! Enums outside of Millrace: by the names of their variants.
//!
//! In blocks an enum is a struct with a number, `tag`, and a member for each variant that has fields; a function may
//! take what the number says for granted. What comes from files and servers cannot be taken for granted, and nobody
//! there wants numbers. So connectors are given schemas in which an enum without fields is a text and the `tag` of
//! another one is a text, and around each of them the rows are translated: on the way out numbers become names; on the
//! way in names become numbers, a missing `tag` is found by the one member that is there, and a row whose enum is none
//! is rejected.
//!
//! ```text
//!   blocks   {tag: int8}      {tag: int8, click: {page: int32}}
//!   outside  "paid"           {"tag": "click", "click": {"page": 7}}, or {"click": {"page": 7}}
//! ```

mod form;
mod inwards;
mod keyed;
mod outwards;
mod sink;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use millrace_core::schema::Hints;
use millrace_core::{Error, Result};

use form::Form;
pub use keyed::with_names as keyed_table_with_names;
pub use sink::with_names as sink_with_names;
pub use source::with_names as source_with_names;

/// Why rows are refused, by row.
type BadRows = BTreeMap<usize, String>;

/// The enums of a schema.
#[derive(Debug, Clone)]
pub struct Enums {
    inside: SchemaRef,
    outside: SchemaRef,
    forms: Vec<Form>,
}

impl Enums {
    /// `None` if there are none, or nothing is known of their variants.
    pub fn of(schema: &SchemaRef, hints: &[Hints]) -> Option<Enums> {
        let forms: Vec<Form> = (0..)
            .zip(schema.fields())
            .map(|(index, field)| Form::of(field, hints.get(index)))
            .collect();
        if forms.iter().all(|form| *form == Form::Same) {
            return None;
        }
        let fields: Vec<_> = forms
            .iter()
            .zip(schema.fields())
            .map(|(form, field)| form.outside(field))
            .collect();
        Some(Enums {
            inside: schema.clone(),
            outside: Arc::new(Schema::new(fields)),
            forms,
        })
    }

    /// The schema with numbers.
    pub fn inside(&self) -> &SchemaRef {
        &self.inside
    }

    /// The schema with names.
    pub fn outside(&self) -> &SchemaRef {
        &self.outside
    }

    /// Rows with names for numbers. A number that no variant has stands for itself.
    ///
    /// # Errors
    /// If the rows are not in the schema.
    pub fn to_names(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.forms.iter().zip(rows.columns());
        let columns = columns.map(|(form, column)| outwards::named(column, form));
        columns
            .collect::<std::result::Result<Vec<_>, _>>()
            .and_then(|columns| batch(&self.outside, columns, rows.num_rows()))
            .map_err(unfit)
    }

    /// Rows with numbers for names, those left out that have an enum that is none, with the reason for each.
    fn to_numbers(&self, rows: &RecordBatch) -> Result<(RecordBatch, BadRows)> {
        let mut bad = BadRows::new();
        let all: Vec<u32> = (0..rows.num_rows() as u32).collect();
        let mut columns = Vec::with_capacity(self.forms.len());
        for ((form, column), field) in self.forms.iter().zip(rows.columns()).zip(self.inside.fields()) {
            let path = field.name();
            columns.push(inwards::numbered(column, field.data_type(), form, path, &all, &mut bad).map_err(unfit)?);
        }
        if !bad.is_empty() {
            let good = arrow_array::UInt32Array::from_iter_values(
                (0..rows.num_rows())
                    .filter(|row| !bad.contains_key(row))
                    .map(|row| row as u32),
            );
            let kept = columns
                .iter()
                .map(|column| arrow_select::take::take(column, &good, None));
            columns = kept.collect::<std::result::Result<_, _>>().map_err(unfit)?;
        }
        let rows = batch(&self.inside, columns, rows.num_rows() - bad.len()).map_err(unfit)?;
        Ok((rows, bad))
    }
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> std::result::Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

fn unfit(error: ArrowError) -> Error {
    Error::internal(format!("rows do not fit the schema of their enums: {error}"))
}

/// For each item of a list or map the row that it is in.
fn rows_of_items(array: &dyn Array, offsets: &[i32], rows: &[u32]) -> Vec<u32> {
    let mut owners = vec![0; offsets.last().map_or(0, |end| *end as usize)];
    for index in 0..array.len() {
        owners[offsets[index] as usize..offsets[index + 1] as usize].fill(rows[index]);
    }
    owners
}
