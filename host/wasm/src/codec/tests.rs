//! Blocks round-trip whatever their types; whatever bytes a guest sends, decoding answers without a panic
//! and lets only valid arrays through.

use std::sync::Arc;

use arrow_array::builder::*;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, StructArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use millrace_core::block::Block;

use super::*;

const BYTES_MAX: usize = 1 << 20;

/// splitmix64: enough for tests, the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn words(random: &mut Random, rows: usize, nullable: bool) -> StringArray {
    let word = |random: &mut Random| {
        "añb€"
            .chars()
            .cycle()
            .take(random.below(6) as usize)
            .collect::<String>()
    };
    (0..rows)
        .map(|_| (!nullable || random.below(3) > 0).then(|| word(random)))
        .collect()
}

/// A block with every kind of layout: bitmaps, numbers, bytes, lists, structs, maps, with and without nulls.
fn rich_block(random: &mut Random, rows: usize) -> Block {
    let numbers: Int64Array = (0..rows).map(|_| Some(random.next() as i64)).collect();
    let maybe: Float64Array = (0..rows)
        .map(|_| (random.below(2) > 0).then(|| random.below(100) as f64))
        .collect();
    let flags: BooleanArray = (0..rows).map(|_| Some(random.below(2) > 0)).collect();
    let decimals: Decimal128Array = (0..rows).map(|_| Some(i128::from(random.next()))).collect();
    let decimals = decimals.with_precision_and_scale(20, 2).expect("20 digits");
    let mut lists = ListBuilder::new(Int32Builder::new()).with_field(Field::new("item", DataType::Int32, true));
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for _ in 0..rows {
        for _ in 0..random.below(4) {
            lists
                .values()
                .append_option((random.below(4) > 0).then(|| random.below(9) as i32));
        }
        lists.append(random.below(5) > 0);
        for _ in 0..random.below(3) {
            maps.keys().append_value(format!("k{}", random.below(9)));
            maps.values()
                .append_option((random.below(2) > 0).then(|| random.below(9) as i64));
        }
        maps.append(random.below(5) > 0).expect("as many keys as values");
    }
    let inner: ArrayRef = Arc::new(words(random, rows, true));
    let members = Fields::from(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("n", DataType::Int64, false),
    ]);
    let nulls: NullBuffer = (0..rows).map(|_| random.below(4) > 0).collect::<Vec<bool>>().into();
    let structs = StructArray::new(members, vec![inner, Arc::new(numbers.clone())], Some(nulls));
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("number", Arc::new(numbers), false),
        ("maybe", Arc::new(maybe), true),
        ("flag", Arc::new(flags), false),
        ("word", Arc::new(words(random, rows, false)), false),
        ("decimal", Arc::new(decimals), false),
        ("list", Arc::new(lists.finish()), true),
        ("map", Arc::new(maps.finish()), true),
        ("struct", Arc::new(structs), true),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array, nullable)| Field::new(*name, array.data_type().clone(), *nullable))
        .collect();
    let arrays = columns.into_iter().map(|(_, array, _)| array).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns fit the schema");
    let times: Vec<i64> = (0..rows.num_rows()).map(|_| random.next() as i64).collect();
    Block {
        rows,
        times: Some(times.into()),
        keys: None,
    }
}

fn empty_wire() -> Wire {
    Wire {
        rows: 7,
        data: vec![1, 2, 3],
        ends: vec![9],
    }
}

#[test]
fn blocks_round_trip_whole_and_sliced() {
    let mut random = Random(1);
    for rows in [0, 1, 7, 8, 9, 64, 1000] {
        let block = rich_block(&mut random, rows);
        for (start, count) in [(0, rows), (rows / 3, rows / 2), (rows, 0)] {
            let slice = Block {
                rows: block.rows.slice(start, count),
                times: block.times.as_ref().map(|times| times.slice(start, count)),
                keys: None,
            };
            let mut wire = empty_wire();
            encode(&slice, true, &mut wire);
            let decoded = decode(wire, &block.rows.schema(), true, None, BYTES_MAX).expect("what we wrote is valid");
            assert_eq!(decoded.rows, slice.rows);
            assert_eq!(decoded.times, slice.times);
        }
    }
}

#[test]
fn damaged_blocks_are_refused_or_valid_but_never_a_panic() {
    let mut random = Random(2);
    let (mut refused, mut accepted) = (0, 0);
    for round in 0..20_000 {
        let rows = random.below(20) as usize;
        let block = rich_block(&mut random, rows);
        let mut wire = empty_wire();
        encode(&block, true, &mut wire);
        for _ in 0..=random.below(3) {
            damage(&mut wire, &mut random);
        }
        match decode(wire, &block.rows.schema(), true, None, BYTES_MAX) {
            Err(malformed) => {
                assert!(!malformed.problem.is_empty(), "round {round}");
                refused += 1;
            }
            Ok(block) => {
                for column in block.rows.columns() {
                    column
                        .to_data()
                        .validate_full()
                        .expect("what passes the check is a valid array");
                }
                accepted += 1;
            }
        }
    }
    assert!(
        refused > 1_000 && accepted > 1_000,
        "{refused} refused, {accepted} accepted: the damage is too even"
    );
}

fn damage(wire: &mut Wire, random: &mut Random) {
    match random.below(6) {
        0 => wire.rows = wire.rows.wrapping_add(random.below(3) as u32).wrapping_sub(1),
        1 if !wire.data.is_empty() => {
            let index = random.below(wire.data.len() as u64) as usize;
            wire.data[index] ^= 1 << random.below(8);
        }
        2 => wire.data.truncate(random.below(wire.data.len() as u64 + 1) as usize),
        3 if !wire.ends.is_empty() => {
            let index = random.below(wire.ends.len() as u64) as usize;
            wire.ends[index] = wire.ends[index].wrapping_add(random.below(65) as u32).wrapping_sub(32);
        }
        4 => wire.ends.truncate(random.below(wire.ends.len() as u64 + 1) as usize),
        _ => wire.rows = random.next() as u32,
    }
}

fn check(schema: &SchemaRef, wire: Wire, expect: &str) {
    let problem = decode(wire, schema, false, None, BYTES_MAX)
        .expect_err(expect)
        .to_string();
    assert_eq!(problem, expect);
}

#[test]
fn the_first_problem_is_named_with_its_column() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("word", DataType::Utf8, false)]));
    let wire = |rows: u32, offsets: &[i32], text: &[u8]| {
        let mut data: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        let first = data.len() as u32;
        data.resize(next_start(data.len()), 0);
        data.extend_from_slice(text);
        let ends = vec![first, data.len() as u32];
        Wire { rows, data, ends }
    };
    decode(wire(2, &[0, 1, 3], b"abc"), &schema, false, None, BYTES_MAX).expect("this one is valid");
    check(
        &schema,
        wire(2, &[1, 1, 3], b"abc"),
        "malformed block: column `word`: the first offset is 1, not 0",
    );
    check(
        &schema,
        wire(2, &[0, 4, 3], b"abc"),
        "malformed block: column `word`: offsets are not ascending at row 1",
    );
    check(
        &schema,
        wire(2, &[0, -1, 3], b"abc"),
        "malformed block: column `word`: offsets are not ascending at row 0",
    );
    check(
        &schema,
        wire(2, &[0, 1, 9], b"abc"),
        "malformed block: column `word`: offsets end at 9, but there are 3 bytes",
    );
    check(
        &schema,
        wire(3, &[0, 1, 3], b"abc"),
        "malformed block: column `word`: 3 rows have 16 bytes of offsets, not 12",
    );
    let huge = Wire {
        rows: 0,
        data: vec![0; BYTES_MAX + 1],
        ends: vec![],
    };
    check(
        &schema,
        huge,
        "malformed block: 1048577 bytes are over the limit of 1048576",
    );
    let extra = Wire {
        rows: 0,
        data: vec![],
        ends: vec![0, 0, 0],
    };
    check(
        &schema,
        extra,
        "malformed block: it has 3 buffers, but its schema has 2",
    );
    let outside = Wire {
        rows: 0,
        data: vec![],
        ends: vec![5, 0],
    };
    check(&schema, outside, "malformed block: buffer 0 ends at 5, outside 0..0");
    let invalid = decode(wire(1, &[0, 2], &[0xff, 0xfe]), &schema, false, None, BYTES_MAX).expect_err("not UTF-8");
    assert!(
        invalid
            .to_string()
            .starts_with("malformed block: column `word`: it is not UTF-8"),
        "{invalid}"
    );
}

#[test]
fn more_rows_than_an_address_space_are_refused() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let wire = Wire {
        rows: u32::MAX,
        data: vec![0; 64],
        ends: vec![64],
    };
    check(
        &schema,
        wire,
        "malformed block: column `n`: 4294967295 values take 34359738360 bytes, not 64",
    );
    let none: SchemaRef = Arc::new(Schema::new(Vec::<Field>::new()));
    let wire = Wire {
        rows: 3,
        data: vec![],
        ends: vec![],
    };
    assert_eq!(
        decode(wire, &none, false, None, BYTES_MAX)
            .expect("rows without columns")
            .row_count(),
        3
    );
}
