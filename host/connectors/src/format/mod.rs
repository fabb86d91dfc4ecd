//! Rows as bytes and back: the formats that files, standard input and standard output share.
//!
//! Reading has two steps. [`framer`] cuts a stream of bytes into records (lines, or CSV records with quoted
//! line ends); [`decode`] turns many records at once into columns, and, when a block fails, narrows it down
//! to the records at fault, which are rejected one by one with their cause. [`parser`] joins the two.
//! [`encode`] writes. Parquet and Avro are no streams of text; their
//! readers and writers live with the files.

mod csv;
mod decimals;
mod decode;
mod encode;
mod floats;
mod framer;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod json_texts;
mod ndjson;
mod parser;
mod text;
pub(crate) mod zones;

use arrow_array::RecordBatch;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use arrow_schema::SchemaRef;
use arrow_schema::{DataType, Schema, TimeUnit};
use millrace_core::connector::Options;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use millrace_core::connector::Rejected;
use millrace_core::{Error, Result};

pub(crate) use encode::Encoder;
#[cfg(feature = "http")]
pub(crate) use framer::RECORD_BYTES_MAX;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub(crate) use json_texts::json_texts;
pub(crate) use parser::{Range, RowParser, read_header};

/// How rows are written as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// One utf8 column, one line per row.
    Text,
    /// Comma-separated values.
    Csv(CsvOptions),
    /// One JSON object per line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Apache Avro's object container files, written with this codec.
    Avro(AvroCodec),
}

/// How the blocks of an Avro file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AvroCodec {
    /// Not at all.
    None,
    /// RFC 1951.
    Deflate,
    /// Snappy with a checksum.
    Snappy,
    /// RFC 8878.
    Zstd,
}

impl AvroCodec {
    /// Takes option `avro.codec` of a sink.
    pub(crate) fn take(options: &mut Options) -> Result<Self> {
        match options.text("avro.codec").as_deref() {
            None | Some("none") => Ok(AvroCodec::None),
            Some("deflate") => Ok(AvroCodec::Deflate),
            Some("snappy") => Ok(AvroCodec::Snappy),
            Some("zstd") => Ok(AvroCodec::Zstd),
            Some(codec) => {
                let message = format!("option `avro.codec` is `{codec}`, not one of none, deflate, snappy, zstd");
                Err(Error::user("CN0108", message))
            }
        }
    }
}

/// The options `csv.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CsvOptions {
    /// The first record names the columns.
    pub(crate) header: bool,
    /// Between fields.
    pub(crate) delimiter: u8,
    /// Around fields that contain delimiters, quotes or line ends.
    pub(crate) quote: u8,
    /// Text that means null.
    pub(crate) null: String,
}

/// Rows that are lines of JSON, so many, and those that are not rows; the place of these ends with `:` and the line's number.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn ndjson_rows(lines: Vec<u8>, count: usize, schema: &SchemaRef) -> Result<(RecordBatch, Vec<Rejected>)> {
    let mut parser = RowParser::new("", &Format::Ndjson, schema, None, Range::default())?;
    *parser.buffer_mut() = lines;
    parser.close();
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    while !parser.is_finished() {
        parser.frame(count)?;
        if let Some((some, bad)) = parser.take(&mut || 0)? {
            rows.push(some);
            rejected.extend(bad);
        }
    }
    let rows = arrow_select::concat::concat_batches(schema, &rows)
        .map_err(|error| Error::internal(format!("decoded rows do not fit their schema: {error}")))?;
    Ok((rows, rejected))
}

/// One row as a JSON object, as the format `ndjson` writes it.
///
/// # Errors
/// If it has a column that the format does not know.
pub fn json_row(row: &RecordBatch) -> Result<String> {
    let mut text = Vec::new();
    Encoder::new(Format::Ndjson).encode(row, &mut text)?;
    let text = String::from_utf8(text).map_err(|_| Error::internal("JSON is not UTF-8"))?;
    Ok(text.trim_end().to_owned())
}

impl Format {
    /// Takes `format` and the format's own options.
    pub(crate) fn take(options: &mut Options, default: Option<&str>, parquet: bool) -> Result<Self> {
        let name = match default {
            Some(default) => options.text("format").unwrap_or_else(|| default.to_owned()),
            None => options.required("format")?,
        };
        match name.as_str() {
            "text" => Ok(Format::Text),
            "csv" => Ok(Format::Csv(CsvOptions::take(options)?)),
            "ndjson" => Ok(Format::Ndjson),
            "parquet" if parquet => Ok(Format::Parquet),
            "avro" if parquet && cfg!(feature = "avro") => Ok(Format::Avro(AvroCodec::None)),
            "avro" if parquet => {
                let message = "option `format` is `avro`, and this program was built without it (feature `avro`)";
                Err(Error::user("CN0108", message))
            }
            _ => {
                let known = if parquet {
                    "text, csv, ndjson, parquet, avro"
                } else {
                    "text, csv, ndjson"
                };
                Err(Error::user(
                    "CN0108",
                    format!("option `format` is `{name}`, not one of {known}"),
                ))
            }
        }
    }

    /// The end of file names.
    pub(crate) fn extension(&self) -> &'static str {
        match self {
            Format::Text => "txt",
            Format::Csv(_) => "csv",
            Format::Ndjson => "ndjson",
            Format::Parquet => "parquet",
            Format::Avro(_) => "avro",
        }
    }

    /// Whether files of it are rows of text, one after another.
    pub(crate) fn is_records(&self) -> bool {
        match self {
            Format::Text | Format::Csv(_) | Format::Ndjson => true,
            Format::Parquet | Format::Avro(_) => false,
        }
    }

    /// Refuses schemas that the format cannot hold.
    pub(crate) fn check_schema(&self, schema: &Schema) -> Result<()> {
        if !self.is_records() {
            return Ok(());
        }
        for field in schema.fields() {
            let (name, data_type) = (field.name(), field.data_type());
            if matches!(self, Format::Csv(_)) && !csv::is_possible(data_type) {
                let wanted = type_name(data_type);
                return Err(Error::user(
                    "CN0109",
                    format!("format csv cannot hold column `{name}` of type {wanted}"),
                ));
            }
            if let Some(zone) = zones::unknown_zone(data_type) {
                return Err(Error::user(
                    "CN0109",
                    format!(
                        "column `{name}`: text formats hold times in UTC or at an offset such as +02:00, not in zone {zone}"
                    ),
                ));
            }
        }
        let is_text = matches!(schema.fields().as_ref(), [field] if *field.data_type() == DataType::Utf8);
        if *self == Format::Text && !is_text {
            let fields: Vec<String> = schema
                .fields()
                .iter()
                .map(|field| format!("{}: {}", field.name(), type_name(field.data_type())))
                .collect();
            return Err(Error::user(
                "CN0109",
                format!(
                    "format text holds exactly one utf8 column, the schema has ({})",
                    fields.join(", ")
                ),
            ));
        }
        Ok(())
    }
}

impl CsvOptions {
    fn take(options: &mut Options) -> Result<Self> {
        let header = options.parsed("csv.header", "`true` or `false`")?.unwrap_or(true);
        let delimiter = one_byte(options, "csv.delimiter", b',')?;
        let quote = one_byte(options, "csv.quote", b'"')?;
        if delimiter == quote {
            return Err(Error::user(
                "CN0110",
                "options `csv.delimiter` and `csv.quote` are the same character",
            ));
        }
        Ok(CsvOptions {
            header,
            delimiter,
            quote,
            null: options.text("csv.null").unwrap_or_default(),
        })
    }
}

/// One ASCII character that is no line end; `\t` may be spelled out.
fn one_byte(options: &mut Options, name: &'static str, default: u8) -> Result<u8> {
    let Some(text) = options.text(name) else {
        return Ok(default);
    };
    match text.as_bytes() {
        br"\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !b"\r\n\0".contains(byte) => Ok(*byte),
        _ => Err(Error::user(
            "CN0110",
            format!("option `{name}` is `{text}`, not one ASCII character"),
        )),
    }
}

/// The name of a type in messages to people.
pub(crate) fn type_name(data_type: &DataType) -> String {
    data_type.to_string().to_lowercase()
}

/// What a text should have been: the type as `jobctl inspect` shows it, and what it looks like where that is not plain.
fn wanted(data_type: &DataType) -> String {
    match data_type {
        DataType::Timestamp(unit, zone) => {
            let unit = match unit {
                TimeUnit::Second => "s",
                TimeUnit::Millisecond => "ms",
                TimeUnit::Microsecond => "us",
                TimeUnit::Nanosecond => "ns",
            };
            match zone {
                None => format!("timestamp[{unit}], such as 2001-02-03T04:05:06"),
                Some(zone) => format!("timestamp[{unit}, {zone}], such as 2001-02-03T04:05:06Z"),
            }
        }
        DataType::Date32 => "date, such as 2001-02-03".to_owned(),
        DataType::Time64(_) => "time, such as 04:05:06.789".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision}, {scale})"),
        DataType::Binary => "binary, which is hexadecimal".to_owned(),
        DataType::FixedSizeBinary(bytes) => format!("bytes[{bytes}], which is hexadecimal"),
        other => type_name(other),
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::Field;

    use super::*;
    use crate::testing::options;

    #[test]
    fn options_of_a_format_belong_to_it() {
        let mut given = options(&[("format", "csv"), ("csv.delimiter", "\\t"), ("csv.null", "NA")]);
        let format = Format::take(&mut given, None, true).unwrap();
        given.finish().unwrap();
        let expected = CsvOptions {
            header: true,
            delimiter: b'\t',
            quote: b'"',
            null: "NA".into(),
        };
        assert_eq!(format, Format::Csv(expected));
        let mut given = options(&[("format", "text"), ("csv.null", "NA")]);
        Format::take(&mut given, None, true).unwrap();
        assert_eq!(given.finish().unwrap_err().code(), "CN0004");
        for (pairs, code) in [
            (vec![("format", "xml")], "CN0108"),
            (vec![("format", "csv"), ("csv.quote", "''")], "CN0110"),
            (vec![("format", "csv"), ("csv.quote", ",")], "CN0110"),
            (vec![("format", "csv"), ("csv.header", "yes")], "CN0003"),
            (vec![], "CN0002"),
        ] {
            assert_eq!(Format::take(&mut options(&pairs), None, true).unwrap_err().code(), code);
        }
        assert_eq!(
            Format::take(&mut options(&[]), Some("text"), false).unwrap(),
            Format::Text
        );
    }

    #[test]
    fn what_is_wanted_has_the_words_of_inspect() {
        let at = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        assert_eq!(wanted(&at), "timestamp[ms, UTC], such as 2001-02-03T04:05:06Z");
        assert_eq!(wanted(&DataType::Decimal128(10, 2)), "decimal(10, 2)");
        assert_eq!(wanted(&DataType::Int64), "int64");
    }

    #[test]
    fn schemas_must_fit() {
        let schema = |data_type: DataType| Schema::new(vec![Field::new("x", data_type, true)]);
        assert!(Format::Text.check_schema(&schema(DataType::Utf8)).is_ok());
        assert_eq!(
            Format::Text.check_schema(&schema(DataType::Int64)).unwrap_err().code(),
            "CN0109"
        );
        let format = Format::take(&mut options(&[("format", "csv")]), None, true).unwrap();
        let error = format.check_schema(&schema(DataType::Binary)).unwrap_err();
        assert_eq!(error.to_string(), "format csv cannot hold column `x` of type binary");
    }
}
