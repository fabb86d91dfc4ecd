//! CSV records to columns, by the parser of `arrow-csv`.
//!
//! Columns are found by the names in the header, or by position without one. Columns of the file that the
//! schema does not have are not parsed; columns of the schema that the file does not have are null. In a
//! utf8 column that cannot be null, no text means null: an empty field is the empty text. A time may be a number of its
//! type's units since 1970; the parser below knows none such, so that a block whose times are numbers is parsed with
//! integers in their place.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow_csv::ReaderBuilder;
use arrow_csv::reader::Decoder;
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use millrace_core::{Error, Result};
use regex::Regex;

use super::decode::{Decode, quoted, span};
use super::floats::has_infinity;
use super::framer::{Record, csv_fields};
use super::{CsvOptions, decimals, wanted, zones};

/// Whether a CSV file can hold columns of this type, both ways.
pub(crate) fn is_possible(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Float32
                | DataType::Float64
                | DataType::Decimal128(_, _)
                | DataType::Utf8
                | DataType::Date32
                | DataType::Time64(TimeUnit::Microsecond)
                | DataType::Timestamp(_, _)
        )
}

/// Decoder of format csv for one file.
pub(crate) struct CsvDecoder {
    schema: SchemaRef,
    options: CsvOptions,
    null: Option<Regex>,
    /// All columns of the file.
    file_schema: SchemaRef,
    /// For each column of `schema`, its column in the file.
    sources: Vec<Option<usize>>,
    /// For each column of `schema`, whether it holds times that are written as numbers: units since 1970.
    numbers: Vec<bool>,
    names: Vec<String>,
    decoder: Option<Decoder>,
    batch_rows: usize,
}

impl CsvDecoder {
    /// For a file with this header; without one, the file has the schema's columns in order.
    pub(crate) fn new(schema: SchemaRef, options: CsvOptions, header: Option<&[u8]>) -> Result<Self> {
        let names: Vec<String> = match header {
            None => schema.fields().iter().map(|field| field.name().clone()).collect(),
            Some(header) => csv_fields(header, options.delimiter, options.quote)
                .into_iter()
                .map(|name| String::from_utf8_lossy(&name).into_owned())
                .collect(),
        };
        let sources = schema
            .fields()
            .iter()
            .map(|field| source_of(field, &names))
            .collect::<Result<Vec<_>>>()?;
        let numbers = vec![false; sources.len()];
        let null = (!options.null.is_empty())
            .then(|| Regex::new(&format!("^(?:{})$", regex::escape(&options.null))))
            .transpose()
            .map_err(|error| Error::internal(format!("option `csv.null` makes no pattern: {error}")))?;
        Ok(CsvDecoder {
            file_schema: file_schema(&names, &schema, &sources, &numbers),
            sources,
            numbers,
            names,
            schema,
            options,
            null,
            decoder: None,
            batch_rows: 0,
        })
    }

    /// Looks into a record for times that are written as numbers, and those that are not; whether that is news.
    fn look_for_numbers(&mut self, record: &[u8]) -> bool {
        let is_time = |field: &FieldRef| matches!(field.data_type(), DataType::Timestamp(_, _));
        if !self.schema.fields().iter().any(is_time) {
            return false;
        }
        let fields = csv_fields(record, self.options.delimiter, self.options.quote);
        let mut numbers = self.numbers.clone();
        for (at, field) in self.schema.fields().iter().enumerate() {
            let text = self.sources[at].and_then(|source| fields.get(source));
            let text = text.filter(|text| !text.is_empty() && **text != self.options.null.as_bytes());
            if let Some(text) = text.filter(|_| is_time(field)) {
                let digits = text.strip_prefix(b"-").unwrap_or(text);
                numbers[at] = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            }
        }
        if numbers == self.numbers {
            return false;
        }
        self.file_schema = file_schema(&self.names, &self.schema, &self.sources, &numbers);
        self.numbers = numbers;
        self.decoder = None;
        true
    }

    /// Parses records as those before them; if that fails, with times written as the first of them has them.
    fn parse_times(&mut self, bytes: &[u8], records: &[Record]) -> std::result::Result<RecordBatch, String> {
        let parsed = self.parse(bytes, records);
        match (&parsed, records.first()) {
            (Err(_), Some(first)) if self.look_for_numbers(&bytes[first.start..first.end]) => {
                self.parse(bytes, records)
            }
            _ => parsed,
        }
    }

    fn build(&self, batch_rows: usize, projection: Vec<usize>) -> Decoder {
        let mut builder = ReaderBuilder::new(self.file_schema.clone())
            .with_delimiter(self.options.delimiter)
            .with_quote(self.options.quote)
            .with_batch_size(batch_rows)
            .with_projection(projection);
        if let Some(null) = &self.null {
            builder = builder.with_null_regex(null.clone());
        }
        builder.build_decoder()
    }

    fn parse(&mut self, bytes: &[u8], records: &[Record]) -> std::result::Result<RecordBatch, String> {
        let input = span(bytes, records);
        // One row more than there are records, so that a parser that finds more is caught.
        if self.decoder.is_none() || self.batch_rows <= records.len() {
            self.batch_rows = records.len() + 1;
            let projection = self.sources.iter().filter_map(|source| *source).collect();
            self.decoder = Some(self.build(self.batch_rows, projection));
        }
        let mut decoder = self.decoder.take().expect("it was just made");
        let batch = run(&mut decoder, input).map_err(|error| error.to_string())?;
        if batch.as_ref().map_or(0, RecordBatch::num_rows) != records.len() {
            return Err("the row contains a line end or a quote in the wrong place".into());
        }
        if input.ends_with(b"\n") {
            // A parser that has seen the end of its input is not used again.
            self.decoder = Some(decoder);
        }
        batch.ok_or_else(|| "no rows".to_owned())
    }

    /// Refuses a block in which a number is too large for its float.
    fn check_floats(&self, arrays: &[ArrayRef], bytes: &[u8], records: &[Record]) -> std::result::Result<(), String> {
        let columns = arrays.iter().zip(&self.sources);
        let columns = columns.filter(|(array, _)| has_infinity(array)).collect::<Vec<_>>();
        if columns.is_empty() {
            return Ok(());
        }
        for (row, record) in records.iter().enumerate() {
            let record = &bytes[record.start..record.end];
            let fields = csv_fields(record, self.options.delimiter, self.options.quote);
            for (array, source) in &columns {
                let text = source.and_then(|source| fields.get(source));
                if text.is_some_and(|text| is_cut(&array.slice(row, 1), text)) {
                    return Err("a number is too large for its float".into());
                }
            }
        }
        Ok(())
    }

    /// Refuses a block in which a decimal would be cut.
    fn check_decimals(&self, bytes: &[u8], records: &[Record]) -> std::result::Result<(), String> {
        let columns = self.schema.fields().iter().zip(&self.sources);
        let columns = columns.filter_map(|(field, source)| match (field.data_type(), source) {
            (DataType::Decimal128(_, scale), Some(source)) => Some((*source, *scale)),
            _ => None,
        });
        let columns: Vec<(usize, i8)> = columns.collect();
        if columns.is_empty() {
            return Ok(());
        }
        for record in records {
            let fields = csv_fields(
                &bytes[record.start..record.end],
                self.options.delimiter,
                self.options.quote,
            );
            let is_cut = |(source, scale): &(usize, i8)| {
                let text = fields.get(*source).and_then(|text| std::str::from_utf8(text).ok());
                text.is_some_and(|text| !decimals::is_exact(text, *scale))
            };
            if columns.iter().any(is_cut) {
                return Err(decimals::CUT.to_owned());
            }
        }
        Ok(())
    }

    fn is_null(&self, text: &str) -> bool {
        text == self.options.null
    }
}

/// Where a column of the schema is in the file.
fn source_of(field: &Field, names: &[String]) -> Result<Option<usize>> {
    let name = field.name();
    let mut found = names
        .iter()
        .enumerate()
        .filter(|(_, other)| *other == name)
        .map(|(index, _)| index);
    match (found.next(), found.next()) {
        (Some(index), None) => Ok(Some(index)),
        (Some(_), Some(_)) => Err(Error::user("CN0112", format!("the header has column `{name}` twice"))),
        (None, _) if field.is_nullable() => Ok(None),
        (None, _) => Err(Error::user(
            "CN0112",
            format!("column `{name}` is not in the header, which has: {}", names.join(", ")),
        )),
    }
}

/// All columns of the file, as they are parsed.
fn file_schema(names: &[String], schema: &SchemaRef, sources: &[Option<usize>], numbers: &[bool]) -> SchemaRef {
    let field = |(index, name): (usize, &String)| match sources.iter().position(|source| *source == Some(index)) {
        Some(target) if numbers[target] => {
            Arc::new(Field::new(name, DataType::Int64, schema.field(target).is_nullable()))
        }
        Some(target) => parsed_as(&schema.fields()[target]),
        None => Arc::new(Field::new(name, DataType::Utf8, true)),
    };
    let fields: Vec<FieldRef> = names.iter().enumerate().map(field).collect();
    Arc::new(Schema::new(fields))
}

/// A utf8 column that cannot be null is parsed as one that can, and its nulls are turned back into text.
fn parsed_as(field: &FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Utf8 if !field.is_nullable() => Arc::new(Field::clone(field).with_nullable(true)),
        _ => zones::textual(field),
    }
}

fn run(decoder: &mut Decoder, input: &[u8]) -> std::result::Result<Option<RecordBatch>, arrow_schema::ArrowError> {
    let mut rest = input;
    while !rest.is_empty() {
        match decoder.decode(rest)? {
            0 => break,
            bytes => rest = &rest[bytes..],
        }
    }
    if !input.ends_with(b"\n") {
        decoder.decode(&[])?;
    }
    decoder.flush()
}

fn without_nulls(texts: &ArrayRef, null: &str) -> ArrayRef {
    let texts = texts.as_string::<i32>();
    if null.is_empty() {
        // A null of the parser is an empty range of bytes already.
        return Arc::new(StringArray::new(texts.offsets().clone(), texts.values().clone(), None));
    }
    Arc::new(
        texts
            .iter()
            .map(|text| Some(text.unwrap_or(null)))
            .collect::<StringArray>(),
    )
}

/// Whether the one value became infinite although it is a number: the infinities have letters only, but for signs.
fn is_cut(value: &ArrayRef, text: &[u8]) -> bool {
    text.iter().any(u8::is_ascii_digit) && has_infinity(value)
}

impl Decode for CsvDecoder {
    fn decode(&mut self, bytes: &[u8], records: &[Record]) -> std::result::Result<RecordBatch, String> {
        let parsed = self.parse_times(bytes, records)?;
        let mut columns = parsed.columns().iter();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.sources.len());
        for (field, source) in self.schema.fields().iter().zip(&self.sources) {
            if source.is_none() {
                arrays.push(new_null_array(field.data_type(), records.len()));
                continue;
            }
            let array = columns.next().expect("the parser gives every column asked for");
            let array = zones::renamed(array, field.data_type()).map_err(|error| error.to_string())?;
            let only_text = array.null_count() > 0 && !field.is_nullable() && *field.data_type() == DataType::Utf8;
            arrays.push(if only_text {
                without_nulls(&array, &self.options.null)
            } else {
                array
            });
        }
        self.check_floats(&arrays, bytes, records)?;
        self.check_decimals(bytes, records)?;
        let options = RecordBatchOptions::new().with_row_count(Some(records.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(|error| error.to_string())
    }

    fn diagnose(&mut self, record: &[u8], error: String) -> String {
        let fields = csv_fields(record, self.options.delimiter, self.options.quote);
        let expected = self.file_schema.fields().len();
        if fields.len() != expected {
            return format!("it has {} fields, not {expected}", fields.len());
        }
        for (field, source) in self.schema.fields().iter().zip(&self.sources) {
            let Some(source) = source else { continue };
            let parsed = run(&mut self.build(2, vec![*source]), record);
            let is_whole = match (field.data_type(), std::str::from_utf8(&fields[*source])) {
                (DataType::Decimal128(_, scale), Ok(text)) => decimals::is_exact(text, *scale),
                _ => true,
            };
            let is_cut = |rows: &RecordBatch| is_cut(rows.column(0), &fields[*source]);
            if is_whole && parsed.is_ok_and(|rows| !rows.as_ref().is_some_and(is_cut)) {
                continue;
            }
            let name = field.name();
            let text = String::from_utf8_lossy(&fields[*source]);
            let wanted = wanted(field.data_type());
            return if self.is_null(&text) && !field.is_nullable() {
                format!(
                    "column `{name}`: {} stands for no value, but {wanted} is required",
                    quoted(&text)
                )
            } else {
                format!("column `{name}`: {} is not {wanted}", quoted(&text))
            };
        }
        error
    }
}
