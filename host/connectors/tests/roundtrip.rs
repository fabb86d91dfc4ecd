//! Goal: whatever the `files` sink writes, the `files` source reads back, in every format and compression.
//!
//! Method: random schemas of all types that a format holds, random rows with nulls, written in random
//! blocks by two subtasks through the two-phase protocol, read back with random block sizes, reopening at
//! every position half of the time. A failure prints its seed.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::sync::Arc;
use std::time::Duration;

use arrow_array::builder::BooleanBuilder;
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use millrace_connectors::connector;
use millrace_core::connector::{Options, Poll, SinkContext, SubtaskContext, Waker};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// Small numbers, large ones and the ends of the range.
    fn integer(&mut self) -> i64 {
        match self.below(5) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => self.next() as i64,
            _ => self.below(2000) as i64 - 1000,
        }
    }

    fn float(&mut self) -> f64 {
        match self.below(4) {
            0 => f64::from_bits(self.next()),
            1 => self.integer() as f64,
            _ => self.below(1_000_000) as f64 / 1024.0,
        }
    }

    /// Never empty: CSV does not tell an empty text from a null one.
    fn text(&mut self, multiline: bool) -> String {
        let alphabet: Vec<char> = "ab\",;'\\ \t#{}[]:0\u{e9}\u{4e16}\u{1f30d}\r\n".chars().collect();
        let usable = if multiline { alphabet.len() } else { alphabet.len() - 2 };
        (0..1 + self.below(12))
            .map(|_| alphabet[self.below(usable as u64) as usize])
            .collect()
    }
}

fn data_type(format: &str, random: &mut Random, depth: u32) -> DataType {
    let flat = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::Utf8,
        DataType::Date32,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Decimal128(20, 3),
        DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Timestamp(TimeUnit::Second, None),
    ];
    let nested = format != "csv" && depth < 2;
    match random.below(if nested { 26 } else { flat.len() as u64 }) as usize {
        20 | 21 => DataType::Binary,
        22 | 23 => DataType::List(Arc::new(field("item", format, random, depth + 1))),
        24 => DataType::FixedSizeBinary(5),
        25 => {
            let count = 1 + random.below(3);
            let members = (0..count).map(|i| field(&format!("m{i}"), format, random, depth + 1));
            DataType::Struct(members.collect::<Vec<_>>().into())
        }
        index => flat[index].clone(),
    }
}

fn field(name: &str, format: &str, random: &mut Random, depth: u32) -> Field {
    Field::new(name, data_type(format, random, depth), random.chance(2))
}

fn primitive<T: ArrowPrimitiveType>(
    data_type: &DataType,
    rows: usize,
    nulls: Option<NullBuffer>,
    value: impl FnMut() -> T::Native,
) -> ArrayRef {
    let values: Vec<T::Native> = std::iter::repeat_with(value).take(rows).collect();
    Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(data_type.clone()))
}

fn floats(random: &mut Random) -> f64 {
    loop {
        let value = random.float();
        if value.is_finite() && (value as f32).is_finite() {
            return value;
        }
    }
}

fn array(field: &Field, rows: usize, format: &str, random: &mut Random) -> ArrayRef {
    let nulls = field
        .is_nullable()
        .then(|| NullBuffer::from_iter((0..rows).map(|_| !random.chance(5))));
    let data_type = field.data_type();
    // Text forms of times are limited to four-digit years.
    let seconds = |r: &mut Random| r.below(8_000_000_000) as i64 - 2_000_000_000;
    match data_type {
        DataType::Boolean => {
            let mut builder = BooleanBuilder::new();
            (0..rows).for_each(|_| builder.append_value(random.chance(2)));
            Arc::new(BooleanArray::new(builder.finish().values().clone(), nulls))
        }
        DataType::Int8 => primitive::<Int8Type>(data_type, rows, nulls, || random.integer() as i8),
        DataType::Int16 => primitive::<Int16Type>(data_type, rows, nulls, || random.integer() as i16),
        DataType::Int32 => primitive::<Int32Type>(data_type, rows, nulls, || random.integer() as i32),
        DataType::Int64 => primitive::<Int64Type>(data_type, rows, nulls, || random.integer()),
        DataType::UInt8 => primitive::<UInt8Type>(data_type, rows, nulls, || random.integer() as u8),
        DataType::UInt16 => primitive::<UInt16Type>(data_type, rows, nulls, || random.integer() as u16),
        DataType::UInt32 => primitive::<UInt32Type>(data_type, rows, nulls, || random.integer() as u32),
        DataType::UInt64 => primitive::<UInt64Type>(data_type, rows, nulls, || random.integer() as u64),
        DataType::Float32 => primitive::<Float32Type>(data_type, rows, nulls, || floats(random) as f32),
        DataType::Float64 => primitive::<Float64Type>(data_type, rows, nulls, || floats(random)),
        DataType::Date32 => primitive::<Date32Type>(data_type, rows, nulls, || random.below(60_000) as i32 - 20_000),
        DataType::Time64(_) => {
            primitive::<Time64MicrosecondType>(data_type, rows, nulls, || random.below(86_400_000_000) as i64)
        }
        DataType::Decimal128(_, _) => primitive::<Decimal128Type>(data_type, rows, nulls, || random.integer().into()),
        DataType::Timestamp(TimeUnit::Second, _) => {
            primitive::<TimestampSecondType>(data_type, rows, nulls, || seconds(random))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            primitive::<TimestampMillisecondType>(data_type, rows, nulls, || {
                seconds(random) * 1000 + random.below(1000) as i64
            })
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            primitive::<TimestampMicrosecondType>(data_type, rows, nulls, || {
                seconds(random) * 1_000_000 + random.below(1_000_000) as i64
            })
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            primitive::<TimestampNanosecondType>(data_type, rows, nulls, || {
                seconds(random) * 1_000_000_000 + random.below(1_000_000_000) as i64
            })
        }
        DataType::Utf8 => {
            let texts = (0..rows).map(|row| {
                let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                (!null).then(|| random.text(format != "text"))
            });
            Arc::new(texts.collect::<StringArray>())
        }
        DataType::Binary => {
            let bytes: Vec<Vec<u8>> = (0..rows)
                .map(|_| random.next().to_le_bytes()[..random.below(9) as usize].to_vec())
                .collect();
            let present = bytes.iter().enumerate().map(|(row, bytes)| {
                let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                (!null).then_some(bytes.as_slice())
            });
            Arc::new(present.collect::<BinaryArray>())
        }
        DataType::FixedSizeBinary(width) => {
            let values: Vec<u8> = (0..rows * *width as usize).map(|_| random.next() as u8).collect();
            Arc::new(FixedSizeBinaryArray::new(*width, values.into(), nulls))
        }
        DataType::List(item) => {
            let lengths: Vec<usize> = (0..rows)
                .map(|row| {
                    if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                        0
                    } else {
                        random.below(4) as usize
                    }
                })
                .collect();
            let items = array(item, lengths.iter().sum(), format, random);
            Arc::new(ListArray::new(
                item.clone(),
                OffsetBuffer::from_lengths(lengths),
                items,
                nulls,
            ))
        }
        DataType::Struct(members) => structs(members, rows, nulls, format, random),
        other => panic!("no values of {other}"),
    }
}

/// Members of a null struct are null where they can be, as readers give them.
fn structs(members: &Fields, rows: usize, nulls: Option<NullBuffer>, format: &str, random: &mut Random) -> ArrayRef {
    let columns = members
        .iter()
        .map(|member| array(member, rows, format, random))
        .collect();
    Arc::new(StructArray::new(members.clone(), columns, nulls))
}

fn context(subtask: u32) -> SubtaskContext {
    SubtaskContext {
        subtask,
        parallelism: 2,
        waker: Waker(Arc::new(|| ())),
        checkpoints: false,
    }
}

fn options(pairs: &[(&str, &str)]) -> Options {
    Options::new(
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
    .unwrap()
}

/// The array with every zone `UTC` in it as an offset.
fn offsets(array: &ArrayRef, shown: &DataType) -> ArrayRef {
    fn renamed(data_type: &DataType, shown: &DataType) -> DataType {
        let member =
            |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_data_type(renamed(field.data_type(), shown)));
        match data_type {
            DataType::Timestamp(_, Some(_)) => shown.clone(),
            DataType::List(item) => DataType::List(member(item)),
            DataType::Struct(members) => DataType::Struct(members.iter().map(member).collect()),
            other => other.clone(),
        }
    }
    arrow_cast::cast(array, &renamed(array.data_type(), shown)).unwrap()
}

/// Every row as text, so that values behind nulls do not matter.
fn texts(batch: &RecordBatch, out: &mut Vec<String>) {
    let format = FormatOptions::default().with_null("<null>");
    // Zones by name cannot be shown here; the types were compared with the schema.
    let shown = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    let columns: Vec<ArrayRef> = batch.columns().iter().map(|column| offsets(column, &shown)).collect();
    let columns: Vec<_> = columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &format).unwrap())
        .collect();
    for row in 0..batch.num_rows() {
        out.push(
            columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect::<Vec<_>>()
                .join("|"),
        );
    }
}

fn write(schema: &SchemaRef, pairs: &[(&str, &str)], format: &str, random: &mut Random) -> Vec<Vec<String>> {
    let sink = connector("files")
        .unwrap()
        .sink(options(pairs), schema.clone(), &identity())
        .unwrap()
        .unwrap();
    sink.check().unwrap();
    (0..2)
        .map(|subtask| {
            let mut written = Vec::new();
            let mut writer = sink.open(&context(subtask)).unwrap();
            for _ in 0..1 + random.below(5) {
                let rows = random.below(60) as usize;
                let columns = schema
                    .fields()
                    .iter()
                    .map(|field| array(field, rows, format, random))
                    .collect();
                let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
                texts(&batch, &mut written);
                writer.write(&batch, Duration::ZERO).unwrap();
                if random.chance(2) {
                    let committables = writer.pre_commit().unwrap();
                    writer.commit(&committables).unwrap();
                }
            }
            let committables = writer.pre_commit().unwrap();
            writer.commit(&committables).unwrap();
            written
        })
        .collect()
}

/// Rows by subtask that wrote them, in order of part number.
fn read(schema: &SchemaRef, pairs: &[(&str, &str)], random: &mut Random) -> Vec<Vec<String>> {
    let source = connector("files")
        .unwrap()
        .source(options(pairs), schema.clone())
        .unwrap()
        .unwrap();
    let mut splits = source.splits(1).unwrap();
    let number = |id: &str| -> (u32, u64) {
        let (_, name) = id.rsplit_once("part-").unwrap();
        let (subtask, number) = name.split_once('.').unwrap().0.split_once('-').unwrap();
        (subtask.parse().unwrap(), number.parse().unwrap())
    };
    splits.sort_by_key(|split| number(&split.id));
    let mut rows = vec![Vec::new(), Vec::new()];
    for mut split in splits {
        let subtask = number(&split.id).0 as usize;
        let (rows_max, reopen) = (1 + random.below(40) as usize, random.chance(2));
        let mut reader = source.open(&split, &context(0)).unwrap();
        while let Poll::Rows(got) = reader.poll(rows_max, Duration::ZERO).unwrap() {
            assert_eq!(got.rejected, [], "nothing is rejected");
            assert_eq!(got.rows.schema(), *schema);
            texts(&got.rows, &mut rows[subtask]);
            if reopen {
                split.position = reader.position();
                reader = source.open(&split, &context(0)).unwrap();
            }
        }
    }
    rows
}

fn check(format: &str, compression: &str, seed: u64) {
    let random = &mut Random(seed);
    let fields: Vec<Field> = match format {
        "text" => vec![Field::new("line", DataType::Utf8, false)],
        _ => (0..1 + random.below(6))
            .map(|i| field(&format!("c{i}"), format, random, 0))
            .collect(),
    };
    // A CSV row of a single null would be an empty line, which is no row.
    let fields = match fields.as_slice() {
        [only] if format == "csv" => vec![only.clone().with_nullable(false)],
        _ => fields,
    };
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let roll = (5 + random.below(60)).to_string();
    let pairs = [
        ("path", path),
        ("format", format),
        ("compression", compression),
        ("roll.rows", &roll),
    ];
    let written = write(&schema, &pairs, format, random);
    if written.iter().all(Vec::is_empty) {
        return;
    }
    let read = read(&schema, &[("path", path), ("format", format)], random);
    assert_eq!(read, written, "{format} {compression} seed {seed}: {schema:?}");
}

#[test]
fn every_format_and_compression_reads_back() {
    for format in ["text", "csv", "ndjson", "parquet"] {
        for compression in ["none", "gzip", "zstd"] {
            for seed in 0..12 {
                check(format, compression, seed);
            }
        }
    }
}

/// One sink of one job.
fn identity() -> SinkContext {
    SinkContext {
        job: "roundtrip".into(),
        operator: "sink".into(),
    }
}
