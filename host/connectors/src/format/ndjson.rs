//! JSON lines to columns, by the parser of `arrow-json`.
//!
//! Members are found by name; those that the schema does not have are skipped, missing ones are null. The
//! parser below would cut a number with a fraction down to an integer without a word, or to the digits of a decimal: blocks that
//! hold such numbers are parsed a second time, their integers as floats and their decimals as texts, to find them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, RecordBatch, StructArray};
use arrow_json::ReaderBuilder;
use arrow_json::reader::Decoder;
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use memchr::{memchr_iter, memchr2_iter};
use serde_json::Value;

use super::decode::{Decode, quoted, span};
use super::floats::{has_infinity, is_cut};
use super::framer::Record;
use super::{decimals, wanted, zones};

const TOO_LARGE: &str = "a number is too large for its float";

/// Decoder of format ndjson.
pub(crate) struct NdjsonDecoder {
    schema: SchemaRef,
    rows: Parser,
    /// Only the columns with integers in them, those as floats.
    shadow: Option<Parser>,
    /// Only the columns with decimals in them, those as texts.
    texts: Option<Parser>,
    /// The columns as they are.
    decimals: DataType,
}

/// A parser that is kept from block to block.
struct Parser {
    schema: SchemaRef,
    /// Numbers are texts where these are wanted.
    as_texts: bool,
    decoder: Option<(Decoder, usize)>,
}

impl NdjsonDecoder {
    /// For any schema.
    pub(crate) fn new(schema: SchemaRef) -> Self {
        let some = |fields: Vec<FieldRef>, as_texts| {
            let schema = Arc::new(Schema::new(fields));
            (!schema.fields().is_empty()).then(|| Parser::new(schema, as_texts))
        };
        let fields = schema.fields();
        NdjsonDecoder {
            rows: Parser::new(zones::textual_schema(&schema), false),
            shadow: some(fields.iter().filter_map(shadow).collect(), false),
            texts: some(fields.iter().filter_map(decimals::as_texts).collect(), true),
            decimals: DataType::Struct(fields.clone()),
            schema,
        }
    }

    /// Refuses a block in which an integer column holds a number with a fraction.
    fn check_integers(&mut self, bytes: &[u8], records: &[Record]) -> Result<(), String> {
        let input = span(bytes, records);
        let Some(shadow) = self.shadow.as_mut().filter(|_| has_float(input)) else {
            return Ok(());
        };
        let batch = shadow.parse(input, records.len())?;
        if batch.columns().iter().any(|column| has_fraction(column.as_ref())) {
            return Err("a number with a fraction stands for an integer".into());
        }
        Ok(())
    }
}

impl NdjsonDecoder {
    /// Refuses a block in which a decimal would be cut.
    fn check_decimals(&mut self, bytes: &[u8], records: &[Record]) -> Result<(), String> {
        let Some(texts) = &mut self.texts else { return Ok(()) };
        let batch = StructArray::from(texts.parse(span(bytes, records), records.len())?);
        match decimals::are_exact(&batch, &self.decimals) {
            true => Ok(()),
            false => Err(decimals::CUT.to_owned()),
        }
    }
}

impl Parser {
    fn new(schema: SchemaRef, as_texts: bool) -> Self {
        Parser {
            schema,
            as_texts,
            decoder: None,
        }
    }

    /// Parses exactly this many objects. A decoder that has failed is not used again.
    fn parse(&mut self, input: &[u8], count: usize) -> Result<RecordBatch, String> {
        let (mut decoder, rows) = match self.decoder.take() {
            Some((decoder, rows)) if rows > count => (decoder, rows),
            other => {
                // One more than there are, so that a parser that finds more is caught.
                let rows = count.max(other.map_or(0, |(_, rows)| rows)) + 1;
                (build(&self.schema, self.as_texts, rows)?, rows)
            }
        };
        let batch = run(&mut decoder, input)?;
        if batch.num_rows() != count {
            return Err("the line is not exactly one JSON object".into());
        }
        self.decoder = Some((decoder, rows));
        Ok(batch)
    }
}

/// Refuses a block in which a number is too large for its float.
fn check_floats(batch: &RecordBatch, bytes: &[u8], records: &[Record]) -> Result<(), String> {
    let columns: Vec<usize> = (0..batch.num_columns())
        .filter(|at| has_infinity(batch.column(*at)))
        .collect();
    if columns.is_empty() {
        return Ok(());
    }
    let schema = batch.schema();
    for (row, record) in records.iter().enumerate() {
        // Numbers that no float has room for are errors to this parser.
        let value: Value = serde_json::from_slice(&bytes[record.start..record.end]).map_err(|_| TOO_LARGE)?;
        let member = |at: usize| value.get(schema.field(at).name());
        if columns
            .iter()
            .any(|at| member(*at).is_some_and(|value| is_cut(batch.column(*at), row, value)))
        {
            return Err(TOO_LARGE.into());
        }
    }
    Ok(())
}

fn build(schema: &SchemaRef, as_texts: bool, rows: usize) -> Result<Decoder, String> {
    let builder = ReaderBuilder::new(schema.clone()).with_batch_size(rows);
    let builder = builder.with_coerce_primitive(as_texts);
    builder.build_decoder().map_err(|error| error.to_string())
}

fn run(decoder: &mut Decoder, input: &[u8]) -> Result<RecordBatch, String> {
    let used = decoder.decode(input).map_err(|error| error.to_string())?;
    if used < input.len() || decoder.has_partial_record() {
        return Err("the line is not exactly one JSON object".into());
    }
    let batch = decoder.flush().map_err(|error| error.to_string())?;
    batch.ok_or_else(|| "the line holds no JSON object".to_owned())
}

/// Whether the text holds a number with a point or an exponent (or something that looks like one).
fn has_float(input: &[u8]) -> bool {
    let after_digit = |at: usize| at > 0 && input[at - 1].is_ascii_digit();
    memchr_iter(b'.', input).any(after_digit) || memchr2_iter(b'e', b'E', input).any(after_digit)
}

/// The field with every integer in it a float; `None` if it has none.
fn shadow(field: &FieldRef) -> Option<FieldRef> {
    let data_type = match field.data_type() {
        integer if integer.is_integer() => DataType::Float64,
        DataType::List(item) => DataType::List(shadow(item)?),
        DataType::Struct(members) => {
            let members: Vec<FieldRef> = members.iter().filter_map(shadow).collect();
            if members.is_empty() {
                return None;
            }
            DataType::Struct(members.into())
        }
        _ => return None,
    };
    Some(Arc::new(Field::new(field.name(), data_type, true)))
}

fn has_fraction(array: &dyn Array) -> bool {
    match array.data_type() {
        DataType::Float64 => array
            .as_primitive::<Float64Type>()
            .iter()
            .flatten()
            .any(|v| v.fract() != 0.0),
        DataType::List(_) => has_fraction(array.as_list::<i32>().values().as_ref()),
        DataType::Struct(_) => array
            .as_struct()
            .columns()
            .iter()
            .any(|column| has_fraction(column.as_ref())),
        other => unreachable!("shadow schemas have no {other}"),
    }
}

impl Decode for NdjsonDecoder {
    fn decode(&mut self, bytes: &[u8], records: &[Record]) -> Result<RecordBatch, String> {
        let batch = self.rows.parse(span(bytes, records), records.len())?;
        self.check_integers(bytes, records)?;
        self.check_decimals(bytes, records)?;
        check_floats(&batch, bytes, records)?;
        zones::renamed_rows(&batch, &self.schema).map_err(|error| error.to_string())
    }

    fn diagnose(&mut self, record: &[u8], error: String) -> String {
        let value: Value = match serde_json::from_slice(record) {
            Ok(value) => value,
            Err(_) if error == TOO_LARGE => return error,
            Err(error) => return format!("it is not JSON: {error}"),
        };
        let Some(object) = value.as_object() else {
            return "it is JSON, but not an object".into();
        };
        let whole = [Record {
            start: 0,
            end: record.len(),
            next: record.len(),
            line: 0,
        }];
        for field in self.schema.fields() {
            let mut alone = NdjsonDecoder::new(Arc::new(Schema::new(vec![field.clone()])));
            if alone.decode(record, &whole).is_ok() {
                continue;
            }
            let (name, wanted) = (field.name(), wanted(field.data_type()));
            return match object.get(name) {
                None => format!("column `{name}` is missing, but {wanted} is required"),
                Some(value) => format!("column `{name}`: {} is not {wanted}", quoted(&value.to_string())),
            };
        }
        error
    }
}
