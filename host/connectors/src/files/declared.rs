//! Columns of a file, found by the names that the pipeline declares, and turned into its types.
//!
//! For formats whose files say what columns they have: Parquet, Avro.

use arrow_array::{BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_cast::display::array_value_to_string;
use arrow_schema::{DataType, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use millrace_core::connector::Rejected;
use millrace_core::{Error, Result};

use super::convert::{self, BadRows, plain};
use crate::format::{json_row, type_name};

/// Which columns of a file are wanted, and as what.
pub(super) struct Declared {
    path: String,
    schema: SchemaRef,
    /// For each declared column its index in the file; `None` if it is not there and may be null.
    sources: Vec<Option<usize>>,
    /// Rows of the file before those that were converted last, and which of these were rejected.
    last: (u64, Vec<usize>),
    /// What the format calls a file that is damaged.
    broken: fn(&str, &dyn std::fmt::Display) -> Error,
}

impl Declared {
    /// Finds the columns, or says which does not fit. `is_possible`: whether a column of the first type can become one
    /// of the second.
    pub(super) fn find(
        path: &str,
        file: &Schema,
        declared: &SchemaRef,
        is_possible: fn(&DataType, &DataType) -> bool,
        broken: fn(&str, &dyn std::fmt::Display) -> Error,
    ) -> Result<Self> {
        let source = |to: &arrow_schema::FieldRef| match file.column_with_name(to.name()) {
            Some((index, from)) if is_possible(from.data_type(), to.data_type()) => Ok(Some(index)),
            Some((_, from)) => Err(Error::user(
                "CN0114",
                format!(
                    "`{path}`: column `{}` is {} in the file and declared as {}, which cannot be converted without loss",
                    to.name(),
                    type_name(from.data_type()),
                    type_name(to.data_type())
                ),
            )),
            None if to.is_nullable() => Ok(None),
            None => {
                let names: Vec<&str> = file.fields().iter().map(|field| field.name().as_str()).collect();
                Err(Error::user(
                    "CN0112",
                    format!(
                        "`{path}`: column `{}` is not in the file, which has: {}",
                        to.name(),
                        names.join(", ")
                    ),
                ))
            }
        };
        Ok(Declared {
            path: path.to_owned(),
            schema: declared.clone(),
            sources: declared.fields().iter().map(source).collect::<Result<_>>()?,
            last: (0, Vec::new()),
            broken,
        })
    }

    /// Indices of the columns of the file that are wanted.
    pub(super) fn columns(&self) -> impl Iterator<Item = usize> {
        self.sources.iter().filter_map(|source| *source)
    }

    /// Rows as they are declared, and those that cannot be. `before`: rows of the file before these.
    pub(super) fn convert(&mut self, rows: &RecordBatch, before: u64) -> Result<(RecordBatch, Vec<Rejected>)> {
        let (path, format) = (self.path.clone(), self.broken);
        let broken = |error: &dyn std::fmt::Display| format(&path, error);
        let mut bad = BadRows::new();
        let mut columns = Vec::with_capacity(self.sources.len());
        for (field, source) in self.schema.fields().iter().zip(&self.sources) {
            let found = source.and_then(|_| rows.column_by_name(field.name()));
            columns.push(match found {
                Some(array) => convert::column(array, field, &mut bad)
                    .map_err(|error| broken(&format!("column `{}`: {error}", field.name())))?,
                None => new_null_array(field.data_type(), rows.num_rows()),
            });
        }
        self.last = (before, bad.keys().copied().collect());
        let rejected = bad.iter().map(|(row, cause)| self.reject(rows, *row, cause)).collect();
        let schema = if bad.is_empty() {
            self.schema.clone()
        } else {
            nullable(&self.schema)
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let fail = |error| broken(&error);
        let mut converted = RecordBatch::try_new_with_options(schema, columns, &options).map_err(fail)?;
        if !bad.is_empty() {
            let good: BooleanArray = (0..rows.num_rows()).map(|row| Some(!bad.contains_key(&row))).collect();
            let kept = filter_record_batch(&converted, &good).map_err(fail)?;
            let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
            let columns = kept.columns().iter().cloned().map(plain).collect();
            converted = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(fail)?;
        }
        Ok((converted, rejected))
    }

    /// Where a row of those that were converted last is in the file.
    pub(super) fn place(&self, row: usize) -> String {
        let mut good = (0..).filter(|row| !self.last.1.contains(row));
        self.place_of(good.nth(row).unwrap_or(row))
    }

    /// The same of a row as it was read, with those that were rejected.
    fn place_of(&self, row: usize) -> String {
        format!("{} row {}", self.path, self.last.0 + row as u64 + 1)
    }

    fn reject(&self, rows: &RecordBatch, row: usize, cause: &str) -> Rejected {
        Rejected {
            place: self.place_of(row),
            cause: cause.to_owned(),
            raw: json_row(&rows.slice(row, 1)).unwrap_or_else(|_| values_text(rows, row)),
        }
    }
}

/// A row for people, where it has columns that JSON lines do not know.
fn values_text(rows: &RecordBatch, row: usize) -> String {
    let schema = rows.schema();
    let values = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
        let value = array_value_to_string(column, row).unwrap_or_default();
        format!("{}: {value}", field.name())
    });
    values.collect::<Vec<_>>().join(", ")
}

/// The schema while forbidden nulls are still in.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true));
    SchemaRef::new(Schema::new(fields.collect::<Vec<_>>()))
}
