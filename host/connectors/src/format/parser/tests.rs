//! Rows and rejections of every text format, from literal input.

use std::sync::Arc;

use arrow_cast::display::array_value_to_string;
use arrow_schema::{DataType, Field, Schema, TimeUnit};

use super::*;
use crate::testing::options;

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(
        fields
            .iter()
            .map(|(n, t, null)| Field::new(*n, t.clone(), *null))
            .collect::<Vec<_>>(),
    ))
}

fn format(pairs: &[(&str, &str)]) -> Format {
    Format::take(&mut options(pairs), None, false).unwrap()
}

/// Rows as texts, and rejections as (place, cause).
type Parsed = (Vec<Vec<String>>, Vec<(String, String)>);

fn parse(format: &Format, schema: &SchemaRef, input: &[u8], rows_max: usize) -> Result<Parsed> {
    let mut parser = RowParser::new("f", format, schema, None, Range::default())?;
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    let mut pieces = input.chunks(7);
    while !parser.is_finished() {
        match pieces.next() {
            Some(piece) => parser.buffer_mut().extend_from_slice(piece),
            None => parser.close(),
        }
        parser.frame(rows_max)?;
        let Some((batch, bad)) = parser.take(&mut || 0)? else {
            continue;
        };
        assert_eq!(batch.schema(), *schema);
        for row in 0..batch.num_rows() {
            rows.push(
                batch
                    .columns()
                    .iter()
                    .map(|c| {
                        if c.is_null(row) {
                            "null".into()
                        } else {
                            array_value_to_string(c, row).unwrap()
                        }
                    })
                    .collect(),
            );
        }
        rejected.extend(bad.into_iter().map(|r| (r.place, r.cause)));
    }
    Ok((rows, rejected))
}

use arrow_array::Array;

#[test]
fn text_lines_with_bad_bytes() {
    let schema = schema(&[("line", DataType::Utf8, false)]);
    let input = b"\xef\xbb\xbfone\r\n\nb\xffad\n\xf0\x9f\x8c\x8d\nlast";
    for rows_max in [1, 2, 100] {
        let (rows, rejected) = parse(&format(&[("format", "text")]), &schema, input, rows_max).unwrap();
        assert_eq!(rows.concat(), ["one", "", "\u{1f30d}", "last"]);
        assert_eq!(
            rejected,
            [("f:3".to_owned(), "byte 2 of the row is not UTF-8".to_owned())]
        );
    }
}

#[test]
fn csv_by_name_with_bad_rows() {
    let schema = schema(&[
        ("n", DataType::Int64, false),
        ("t", DataType::Utf8, false),
        ("x", DataType::Float64, true),
        ("absent", DataType::Boolean, true),
    ]);
    let input = b"t,skipped,x,n\nab,,1.5,1\n\"a\n\"\"b\",?,,2\r\n\n,,abc,3\nx,y,1,\nx,y\nx,y,1,2,3\nx,y,1,99999999999999999999\nend,,2,4";
    for rows_max in [1, 3, 100] {
        let (rows, rejected) = parse(&format(&[("format", "csv")]), &schema, input, rows_max).unwrap();
        let expected = [
            ["1", "ab", "1.5", "null"],
            ["2", "a\n\"b", "null", "null"],
            ["4", "end", "2.0", "null"],
        ];
        assert_eq!(rows, expected);
        let expected = [
            ("f:6", "column `x`: `abc` is not float64"),
            ("f:7", "column `n`: `` stands for no value, but int64 is required"),
            ("f:8", "it has 2 fields, not 4"),
            ("f:9", "it has 5 fields, not 4"),
            ("f:10", "column `n`: `99999999999999999999` is not int64"),
        ];
        assert_eq!(
            rejected,
            expected.map(|(place, cause)| (place.to_owned(), cause.to_owned()))
        );
    }
}

#[test]
fn csv_dialects() {
    let schema = schema(&[
        ("a", DataType::Utf8, true),
        ("b", DataType::Int32, true),
        ("c", DataType::Utf8, false),
    ]);
    let dialect = [
        ("format", "csv"),
        ("csv.header", "false"),
        ("csv.delimiter", ";"),
        ("csv.quote", "'"),
        ("csv.null", "N+A"),
    ];
    let (rows, rejected) = parse(&format(&dialect), &schema, b"'x;y';1;N+A\nN+A;N+A;\n;;z\n", 10).unwrap();
    assert_eq!(rows, [["x;y", "1", "N+A"], ["null", "null", ""]]);
    assert_eq!(rejected, [("f:3".to_owned(), "column `b`: `` is not int32".to_owned())]);
}

#[test]
fn csv_headers_are_checked() {
    let schema = schema(&[("a", DataType::Int64, false)]);
    let error = parse(&format(&[("format", "csv")]), &schema, b"x,y\n1,2\n", 10).unwrap_err();
    assert_eq!(error.to_string(), "f: column `a` is not in the header, which has: x, y");
    let error = parse(&format(&[("format", "csv")]), &schema, b"a,a\n1,2\n", 10).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string()),
        ("CN0112", "f: the header has column `a` twice".into())
    );
    assert_eq!(
        parse(&format(&[("format", "csv")]), &schema, b"a\n", 10).unwrap(),
        (vec![], vec![])
    );
    assert_eq!(
        parse(&format(&[("format", "csv")]), &schema, b"", 10).unwrap(),
        (vec![], vec![])
    );
}

#[test]
fn stray_carriage_returns_and_open_quotes_reject_their_record() {
    let schema = schema(&[("a", DataType::Utf8, false)]);
    let (rows, rejected) = parse(&format(&[("format", "csv")]), &schema, b"a\nx\ry\nz\n", 10).unwrap();
    assert_eq!(rows.concat(), ["z"]);
    assert_eq!(
        rejected,
        [(
            "f:2".to_owned(),
            "the row contains a line end or a quote in the wrong place".to_owned()
        )]
    );
}

#[test]
fn ndjson_with_bad_lines() {
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let schema = schema(&[
        ("n", DataType::Int64, false),
        ("t", DataType::Utf8, true),
        ("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        ("list", DataType::List(item), true),
    ]);
    let input = br#"{"n":1,"t":"a","at":"2024-01-02T03:04:05.678","list":[1,2],"more":{"x":1.5}}

{"n":1.5}
{"n":2e0,"t":null,"list":[]}
{"t":"x"}
{"n":3}{"n":4}
{"n":
[5]
{"n":"six"}
{"n":7,"t":8}
{"n":8,"list":[1.25]}
{"n":9}"#;
    for rows_max in [1, 4, 100] {
        let (rows, rejected) = parse(&format(&[("format", "ndjson")]), &schema, input, rows_max).unwrap();
        let expected = [
            ["1", "a", "2024-01-02T03:04:05.678", "[1, 2]"],
            ["2", "null", "null", "[]"],
            ["9", "null", "null", "null"],
        ];
        assert_eq!(rows, expected);
        let places: Vec<&str> = rejected.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(places, ["f:3", "f:5", "f:6", "f:7", "f:8", "f:9", "f:10", "f:11"]);
        assert_eq!(rejected[0].1, "column `n`: `1.5` is not int64");
        assert_eq!(rejected[1].1, "column `n` is missing, but int64 is required");
        assert!(
            rejected[2].1.starts_with("it is not JSON: trailing characters"),
            "{}",
            rejected[2].1
        );
        assert!(rejected[3].1.starts_with("it is not JSON: EOF"), "{}", rejected[3].1);
        assert_eq!(rejected[4].1, "it is JSON, but not an object");
        assert_eq!(rejected[5].1, "column `n`: `\"six\"` is not int64");
        assert_eq!(rejected[6].1, "column `t`: `8` is not utf8");
        assert!(
            rejected[7].1.starts_with("column `list`: `[1.25]`"),
            "{}",
            rejected[7].1
        );
    }
}

#[test]
fn floats_that_are_no_numbers_and_numbers_that_are_no_floats() {
    let floats = schema(&[("f", DataType::Float32, true), ("d", DataType::Float64, false)]);
    let values: [Option<f32>; 5] = [
        Some(f32::NAN),
        Some(f32::INFINITY),
        Some(-1.5),
        None,
        Some(f32::NEG_INFINITY),
    ];
    let wide = values.map(|value| f64::from(value.unwrap_or(f32::NAN)));
    let columns: Vec<arrow_array::ArrayRef> = vec![
        std::sync::Arc::new(arrow_array::Float32Array::from(values.to_vec())),
        std::sync::Arc::new(arrow_array::Float64Array::from(wide.to_vec())),
    ];
    let rows = arrow_array::RecordBatch::try_new(floats.clone(), columns).unwrap();
    for name in ["ndjson", "csv"] {
        let (mut text, format) = (Vec::new(), format(&[("format", name)]));
        super::super::Encoder::new(format.clone())
            .encode(&rows, &mut text)
            .unwrap();
        let (again, rejected) = parse(&format, &floats, &text, 3).unwrap();
        let shown = |value: &str| value.to_lowercase().replace("infinity", "inf");
        let expected = [
            ["nan", "nan"],
            ["inf", "inf"],
            ["-1.5", "-1.5"],
            ["null", "nan"],
            ["-inf", "-inf"],
        ];
        let again: Vec<Vec<String>> = again
            .iter()
            .map(|row| row.iter().map(|value| shown(value)).collect())
            .collect();
        assert_eq!(again, expected, "{name}");
        assert_eq!(rejected, [], "{name}");
        let large: &[u8] = if name == "csv" {
            b"f,d\n1e300,1e300\n1e38,-inf\n1,1e999\n"
        } else {
            b"{\"f\":1e300,\"d\":1e300}\n{\"f\":1e38,\"d\":\"-Infinity\"}\n{\"f\":1,\"d\":1e999}\n"
        };
        let (good, rejected) = parse(&format, &floats, large, 10).unwrap();
        assert_eq!(good.len(), 1, "{name}");
        assert_eq!(rejected.len(), 2, "{name}");
        assert_eq!(
            rejected[0].1,
            "column `f`: `1e300` is not float32".replace("1e300", if name == "csv" { "1e300" } else { "1e+300" })
        );
    }
}

/// Times are texts or numbers of the type's units, in CSV as in JSON lines, column by column.
#[test]
fn times_are_texts_or_numbers_in_both_formats() {
    let fields = [
        (
            "ms",
            DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())),
            false,
        ),
        ("s", DataType::Timestamp(TimeUnit::Second, None), true),
    ];
    let csv =
        "ms,s\n1700000000123,2001-02-03T04:05:06\n-1,\n1970-01-01T00:00:01Z,5\n2,1970-01-01 00:00:07\n,3\n1.5,3\n3,8\n";
    let json = [
        "{\"ms\":1700000000123,\"s\":\"2001-02-03T04:05:06\"}",
        "{\"ms\":-1}",
        "{\"ms\":\"1970-01-01T00:00:01Z\",\"s\":5}",
        "{\"ms\":2,\"s\":\"1970-01-01 00:00:07\"}",
        "{\"s\":3}",
        "{\"ms\":3,\"s\":8}",
    ];
    for rows_max in [1, 3, 100] {
        let (rows, bad) = parse(
            &format(&[("format", "csv")]),
            &schema(&fields),
            csv.as_bytes(),
            rows_max,
        )
        .unwrap();
        assert_eq!(
            rows,
            [
                ["2023-11-14T22:13:20.123Z", "2001-02-03T04:05:06"],
                ["1969-12-31T23:59:59.999Z", "null"],
                ["1970-01-01T00:00:01Z", "1970-01-01T00:00:05"],
                ["1970-01-01T00:00:00.002Z", "1970-01-01T00:00:07"],
                ["1970-01-01T00:00:00.003Z", "1970-01-01T00:00:08"],
            ]
        );
        assert!(bad.len() == 2 && bad[0].0 == "f:6" && bad[1].0 == "f:7", "{bad:?}");
        let (others, bad) = parse(
            &format(&[("format", "ndjson")]),
            &schema(&fields),
            json.join("\n").as_bytes(),
            rows_max,
        )
        .unwrap();
        assert_eq!(rows, others);
        assert_eq!(bad.len(), 1, "{bad:?}");
    }
    // Numbers of any length are numbers.
    for number in ["0", "20010203", "200102030405", "9999999999", "2001020304"] {
        let input = format!("ms,s\n{number},\n");
        let (rows, bad) = parse(&format(&[("format", "csv")]), &schema(&fields), input.as_bytes(), 10).unwrap();
        let input = format!("{{\"ms\":{number}}}\n");
        let (others, _) = parse(&format(&[("format", "ndjson")]), &schema(&fields), input.as_bytes(), 10).unwrap();
        assert!(
            rows == others && bad.is_empty(),
            "{number}: {rows:?}, {others:?}, {bad:?}"
        );
    }
}

/// A number with more digits than its decimal is refused, and not cut.
#[test]
fn decimals_are_not_cut() {
    let price = DataType::Decimal128(5, 2);
    let prices = DataType::List(Arc::new(Field::new_list_field(price.clone(), true)));
    let schema = schema(&[
        ("price", price.clone(), true),
        ("rounds", DataType::Decimal128(6, -2), true),
        ("prices", prices, true),
    ]);
    let input = br#"{"price":12.50,"rounds":12e2,"prices":[1,"2.50",null]}
{"price":12.505}
{"price":"1e-3"}
{"price":"1.25e1"}
{"rounds":150}
{"prices":[0.25,0.125]}
{"price":1}
"#;
    for rows_max in [1, 3, 100] {
        let (rows, rejected) = parse(&format(&[("format", "ndjson")]), &schema, input, rows_max).unwrap();
        let prices: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(prices, ["12.50", "12.50", "1.00"]);
        let causes: Vec<&str> = rejected.iter().map(|(_, cause)| cause.as_str()).collect();
        assert_eq!(
            causes,
            [
                "column `price`: `12.505` is not decimal(5, 2)",
                "column `price`: `\"1e-3\"` is not decimal(5, 2)",
                "column `rounds`: `150` is not decimal(6, -2)",
                "column `prices`: `[0.25,0.125]` is not list(decimal128(5, 2))",
            ]
        );
    }
    let schema = self::schema(&[("n", DataType::Int64, false), ("price", price, true)]);
    let input = b"n,price\n1,12.50\n2,12.505\n3,\n4,-7.000\n";
    for rows_max in [1, 3, 100] {
        let (rows, rejected) = parse(&format(&[("format", "csv")]), &schema, input, rows_max).unwrap();
        let prices: Vec<&str> = rows.iter().map(|row| row[1].as_str()).collect();
        assert_eq!(prices, ["12.50", "null", "-7.00"]);
        assert_eq!(rejected.len(), 1);
        assert!(rejected[0].1.contains("`12.505` is not"), "{rejected:?}");
    }
}
