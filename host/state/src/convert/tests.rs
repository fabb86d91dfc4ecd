//! Conversions against what they say, on arrays with nulls, dead items and every kind of nesting.

mod lifetimes;

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::{
    Date32Array, Float64Array, Int8Array, Int32Array, Int64Array, StringArray, UInt32Array, UInt64Array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use millrace_core::graph::{Renewal, TimeToLive};
use millrace_core::schema::{DeclaredState, KeyedKind, KeyedSchema, Missing, Variant, resolve};
use millrace_core::upgrade::{DeclaredOperator, StoredOperator, decide};

use super::*;
use crate::redistribute::CollectionRestore;
use crate::savepoint::rows_as_json;

fn member(name: &str, data_type: DataType, nullable: bool) -> Declared {
    Declared::plain(Field::new(name, data_type, nullable))
}

fn structure(members: Vec<Declared>) -> Declared {
    let fields: Fields = members.iter().map(|member| member.field.clone()).collect();
    let mut declared = member("x", DataType::Struct(fields), true);
    declared.hints.children = members.into_iter().map(|member| member.hints).collect();
    declared
}

fn sum(variants: &[(&str, Option<DataType>)]) -> Declared {
    let mut tag = member("tag", DataType::Int8, false);
    let variant = |(name, _): &(&str, Option<DataType>)| Variant {
        name: (*name).to_owned(),
        aliases: Vec::new(),
    };
    tag.hints.variants = variants.iter().map(variant).collect();
    let carried = variants
        .iter()
        .filter_map(|(name, carried)| Some(member(name, carried.clone()?, true)));
    structure([tag].into_iter().chain(carried).collect())
}

fn array(declared: &Declared, columns: Vec<ArrayRef>, valid: Vec<bool>) -> ArrayRef {
    let DataType::Struct(members) = declared.field.data_type() else {
        panic!("{declared:?}")
    };
    Arc::new(StructArray::new(
        members.clone(),
        columns,
        Some(NullBuffer::from(valid)),
    ))
}

/// Converts by the rules; the rows as JSON.
fn converted(values: &ArrayRef, old: &Declared, new: &Declared) -> Result<String, Unfit> {
    let resolved = resolve(old, new).unwrap_or_else(|refusals| panic!("{refusals:?}"));
    let values = convert(values, &resolved.how, new, None)?;
    assert_eq!(values.data_type(), new.field.data_type());
    let field: FieldRef = Arc::new(new.field.as_ref().clone().with_name("x").with_nullable(true));
    let schema = Arc::new(arrow_schema::Schema::new(vec![field]));
    let rows = rows_as_json(&RecordBatch::try_new(schema, vec![values]).unwrap()).unwrap();
    Ok(rows
        .iter()
        .map(|row| row["x"].to_string())
        .collect::<Vec<_>>()
        .join(" "))
}

#[test]
fn members_are_added_dropped_widened_and_filled() {
    let old = structure(vec![
        member("a", DataType::Int32, true),
        member("gone", DataType::Utf8, false),
        member("b", DataType::Float32, false),
    ]);
    let floats = arrow_array::Float32Array::from(vec![0.5, 1.5, 0.0]);
    let texts = StringArray::from(vec!["x", "y", ""]);
    let numbers = Int32Array::from(vec![Some(1), None, None]);
    let values = array(
        &old,
        vec![Arc::new(numbers), Arc::new(texts), Arc::new(floats)],
        vec![true, true, false],
    );
    let mut a = member("a", DataType::Int64, false);
    a.hints.missing = Missing::Text("-7".to_owned());
    let mut c = member("c", DataType::Utf8, false);
    c.hints.missing = Missing::Zero;
    let new = structure(vec![
        member("b", DataType::Float64, true),
        a,
        c,
        member("d", DataType::Date32, true),
    ]);
    let expect = r#"{"a":1,"b":0.5,"c":"","d":null} {"a":-7,"b":1.5,"c":"","d":null} null"#;
    assert_eq!(converted(&values, &old, &new).unwrap(), expect);
}

#[test]
fn tags_follow_their_variants_and_what_is_not_live_is_not_looked_at() {
    let old = sum(&[("gone", None), ("number", Some(DataType::Int32)), ("unit", None)]);
    let new = sum(&[
        ("unit", None),
        ("text", Some(DataType::Utf8)),
        ("number", Some(DataType::Int64)),
    ]);
    let tags = |tags: Vec<i8>| -> ArrayRef { Arc::new(Int8Array::from(tags)) };
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(5), None, None]));
    // The last row is null, and its tag the placeholder of one that is gone.
    let values = array(
        &old,
        vec![tags(vec![1, 2, 0]), numbers.clone()],
        vec![true, true, false],
    );
    let expect = r#"{"number":5,"tag":2,"text":null} {"number":null,"tag":0,"text":null} null"#;
    assert_eq!(converted(&values, &old, &new).unwrap(), expect);
    let values = array(
        &old,
        vec![tags(vec![1, 0, 0]), numbers.clone()],
        vec![true, true, false],
    );
    let unfit = converted(&values, &old, &new).unwrap_err();
    assert_eq!(unfit.why, "a value cannot be converted: variant `gone` is gone");
    let values = array(&old, vec![tags(vec![1, 9, 0]), numbers], vec![true, true, true]);
    assert_eq!(
        converted(&values, &old, &new).unwrap_err().why,
        "a value has tag 9, which is of no variant"
    );
}

#[test]
fn values_out_of_range_are_refused_by_field() {
    let old = structure(vec![member("day", DataType::Date32, true)]);
    let new = structure(vec![member(
        "day",
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        true,
    )]);
    let days =
        |days: Vec<i32>, valid: Vec<bool>| array(&old, vec![Arc::new(Date32Array::from(days)) as ArrayRef], valid);
    let fits = converted(&days(vec![1, 0], vec![true, true]), &old, &new).unwrap();
    assert_eq!(fits, r#"{"day":"1970-01-02T00:00:00"} {"day":"1970-01-01T00:00:00"}"#);
    let unfit = converted(&days(vec![1, i32::MAX], vec![true, true]), &old, &new).unwrap_err();
    assert_eq!(unfit.field, "day");
    assert!(
        unfit.why.starts_with("a value does not fit its new type"),
        "{}",
        unfit.why
    );
    converted(&days(vec![1, i32::MAX], vec![true, false]), &old, &new).unwrap();
}

#[test]
fn items_of_lists_are_converted_where_they_are() {
    let list = |data_type| DataType::List(Arc::new(Field::new_list_field(data_type, true)));
    let (old, new) = (
        member("x", list(DataType::Int32), true),
        member("x", list(DataType::Int64), true),
    );
    let mut lists = ListBuilder::new(Int32Builder::new());
    lists.append_value([Some(1), None]);
    lists.append_null();
    lists.append_value([]);
    lists.append_value([Some(3)]);
    let values: ArrayRef = Arc::new(lists.finish());
    assert_eq!(converted(&values, &old, &new).unwrap(), "[1,null] null [] [3]");
    assert_eq!(converted(&values.slice(2, 2), &old, &new).unwrap(), "[] [3]");
}

#[test]
fn defaults_are_values_of_their_fields() {
    let with = |data_type: DataType, text: &str| {
        let mut declared = member("f", data_type, false);
        declared.hints.missing = Missing::Text(text.to_owned());
        check_defaults(&structure(vec![declared])).map_err(|error| error.to_string())
    };
    for (data_type, text) in [
        (DataType::Int8, "-128"),
        (DataType::Float64, "1.5"),
        (DataType::Boolean, "true"),
        (DataType::Utf8, "anything"),
        (DataType::Decimal128(5, 2), "1.25"),
        (DataType::Date32, "2024-02-29"),
        (
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            "2024-02-29T12:00:00Z",
        ),
    ] {
        with(data_type, text).unwrap();
    }
    for (data_type, text) in [
        (DataType::Int8, "128"),
        (DataType::Boolean, "maybe"),
        (DataType::Date32, "x"),
    ] {
        let message = with(data_type, text).unwrap_err();
        assert!(message.contains("default of field `f`"), "{message}");
    }
    for data_type in [
        DataType::Int64,
        DataType::UInt8,
        DataType::Float32,
        DataType::Decimal128(5, 2),
        DataType::Date32,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Second, None),
        DataType::FixedSizeBinary(3),
        DataType::Binary,
        DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, false))),
        sum(&[("a", Some(DataType::Int8)), ("b", None)])
            .field
            .data_type()
            .clone(),
    ] {
        let mut zero = member("f", data_type.clone(), false);
        zero.hints.missing = Missing::Zero;
        check_defaults(&zero).unwrap_or_else(|error| panic!("{data_type}: {error}"));
    }
}

/// How rows of an operator become others.
fn plan_of(then: KeyedSchema, now: KeyedSchema) -> OperatorPlan {
    let stored = StoredOperator {
        id: "op".to_owned(),
        name: "op".to_owned(),
        parallelism: 1,
        keyed: Some(then),
        connector: None,
        splits: 0,
        transactions: 0,
        holds_state: true,
    };
    let declared = DeclaredOperator {
        id: "op".to_owned(),
        name: "op".to_owned(),
        parallelism: 1,
        keyed: Some(now),
        connector: None,
    };
    let mut upgrade = decide(&[stored], &[declared], (16, 16));
    upgrade.operators.remove(0).plan.expect("it can be converted")
}

/// Rows of a keyed operator: an entry that a later layer replaced need not fit, one that is left with nothing is gone,
/// timers stay, the key is widened in its group.
#[test]
fn rows_are_converted_as_they_finally_are() {
    let schema = |key: DataType, states: Vec<Declared>| KeyedSchema {
        kind: KeyedKind::Keyed,
        windows: None,
        key: vec![member("id", key, false)],
        states: states
            .into_iter()
            .map(|value| DeclaredState {
                value,
                migrations: Vec::new(),
                ttl: None,
                large: false,
                broadcast: false,
            })
            .collect(),
    };
    let days = member("day", DataType::Date32, true);
    let then = schema(DataType::Int32, vec![days, member("gone", DataType::Int64, true)]);
    let nanos = member("day", DataType::Timestamp(TimeUnit::Nanosecond, None), true);
    let now = schema(DataType::Int64, vec![member("new", DataType::Int8, true), nanos]);
    let plan = &plan_of(then.clone(), now);
    assert!(plan.looks_at_values() && plan.drops_states() && !plan.is_same());
    let layout = Layout::of_schema(&then);
    let layer = |ids: Vec<i32>, days: Vec<Option<i32>>, gone: Vec<Option<i64>>, timers: Vec<Vec<i64>>| {
        let lists = || {
            let mut lists = ListBuilder::new(arrow_array::builder::Int64Builder::new())
                .with_field(Arc::new(Field::new_list_field(DataType::Int64, false)));
            timers
                .iter()
                .for_each(|times| lists.append_value(times.iter().map(|time| Some(*time))));
            Arc::new(lists.finish()) as ArrayRef
        };
        let key = StructArray::new(
            layout.key.clone(),
            vec![Arc::new(Int32Array::from(ids.clone())) as ArrayRef],
            None,
        );
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(vec![3; ids.len()])),
            Arc::new(BooleanArray::from(vec![false; ids.len()])),
            Arc::new(key),
            Arc::new(Date32Array::from(days)),
            Arc::new(Int64Array::from(gone)),
            lists(),
            lists(),
        ];
        RecordBatch::try_new(layout.rows_schema(), columns).unwrap()
    };
    let none = Vec::new;
    let first = layer(
        vec![1, 2],
        vec![Some(i32::MAX), None],
        vec![None, Some(1)],
        vec![none(), none()],
    );
    let second = layer(
        vec![1, 3],
        vec![Some(1), None],
        vec![None, Some(1)],
        vec![none(), vec![5]],
    );
    let restore = |batches| TaskRestore {
        watermark: Some(9),
        batches,
        collections: Vec::new(),
    };
    let converter = Converter::new(plan);
    let error = converter.check(restore(vec![first.clone()]), 0).unwrap_err();
    assert_eq!(error.code(), UNFIT);
    assert!(
        error.to_string().starts_with("state `day`: a value does not fit"),
        "{error}"
    );
    let mut never = |_: u32, _: u32, _: &ArrayRef| -> Result<ArrayRef> { panic!("nothing is migrated") };
    let converted = converter.convert(restore(vec![first, second]), 0, &mut never).unwrap();
    assert_eq!(converted.watermark, Some(9));
    let mut rows: Vec<String> = converted
        .batches
        .iter()
        .flat_map(|batch| rows_as_json(batch).unwrap())
        .map(|row| {
            format!(
                "{} {} {} {}",
                row["$key"]["id"], row["new"], row["day"], row["$event_timers"]
            )
        })
        .collect();
    rows.sort();
    assert_eq!(rows, [r#"1 null "1970-01-02T00:00:00" []"#, "3 null null [5]"]);
}

/// Entries of large states, one by one: what was deleted or replaced need not fit, keys are converted with the values.
#[test]
fn entries_of_large_states_are_converted() {
    let map = |key: DataType, value: DataType| {
        let pair = vec![Field::new("keys", key, false), Field::new("values", value, false)];
        let entries = Field::new("entries", DataType::Struct(pair.into()), false);
        member("map", DataType::Map(Arc::new(entries), false), true)
    };
    let list = |item: DataType| {
        let item = Arc::new(Field::new_list_field(item, false));
        member("list", DataType::List(item), true)
    };
    let schema = |key: DataType, states: Vec<(Declared, bool)>| KeyedSchema {
        kind: KeyedKind::Keyed,
        windows: None,
        key: vec![member("id", key, false)],
        states: states
            .into_iter()
            .map(|(value, large)| DeclaredState {
                value,
                migrations: Vec::new(),
                ttl: None,
                large,
                broadcast: false,
            })
            .collect(),
    };
    let small = || (member("small", DataType::Int64, true), false);
    let days = (map(DataType::Int32, DataType::Date32), true);
    let then = schema(DataType::Int32, vec![days, small(), (list(DataType::Int8), true)]);
    let nanos = (
        map(DataType::Int64, DataType::Timestamp(TimeUnit::Nanosecond, None)),
        true,
    );
    let now = schema(DataType::Int64, vec![(list(DataType::Int16), true), nanos, small()]);
    let plan = plan_of(then.clone(), now.clone());
    assert!(plan.looks_at_values() && !plan.is_same());
    let collections: Vec<_> = then.collections().collect();
    let rows = |state: usize, deleted: Vec<bool>, entries: ArrayRef, values: ArrayRef| {
        let count = deleted.len();
        let schema = crate::savepoint::collections::rows_schema(&then.key_fields(), &collections[state]);
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![7; count]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(vec![3; count])),
            Arc::new(BooleanArray::from(deleted)),
            Arc::new(StructArray::new(then.key_fields(), vec![ids], None)),
            entries,
            values,
        ];
        RecordBatch::try_new(schema, columns).unwrap()
    };
    let dates = |dates: Vec<Option<i32>>| Arc::new(Date32Array::from(dates)) as ArrayRef;
    let integers = |integers: Vec<i32>| Arc::new(Int32Array::from(integers)) as ArrayRef;
    let first = rows(
        0,
        vec![false; 3],
        integers(vec![1, 2, 3]),
        dates(vec![Some(i32::MAX), Some(1), Some(i32::MAX)]),
    );
    let second = rows(0, vec![false, true], integers(vec![1, 3]), dates(vec![Some(2), None]));
    let items: ArrayRef = Arc::new(Int8Array::from(vec![5, -5]));
    let items = rows(1, vec![false; 2], Arc::new(UInt64Array::from(vec![0, 1])), items);
    let restore = |map: Vec<RecordBatch>| TaskRestore {
        watermark: None,
        batches: Vec::new(),
        collections: [("map", map), ("list", vec![items.clone()])]
            .map(|(state, batches)| CollectionRestore {
                state: state.to_owned(),
                batches,
            })
            .into(),
    };
    let converter = Converter::new(&plan);
    let error = converter.check(restore(vec![first.clone()]), 0).unwrap_err();
    assert_eq!(error.code(), UNFIT);
    assert!(error.to_string().starts_with("state `map`, field `values`"), "{error}");
    let mut never = |_: u32, _: u32, _: &ArrayRef| -> Result<ArrayRef> { panic!("nothing is migrated") };
    let converted = converter.convert(restore(vec![first, second]), 0, &mut never).unwrap();
    let shown = converted.collections.iter().map(|large| {
        let rows = large.batches.iter().flat_map(|batch| rows_as_json(batch).unwrap());
        let rows = rows.map(|row| format!("{} {} {}", row["$key"]["id"], row["$entry"], row[&large.state]));
        (large.state.as_str(), rows.collect::<Vec<_>>())
    });
    let expected = [
        ("list", vec!["7 0 5".to_owned(), "7 1 -5".to_owned()]),
        (
            "map",
            vec![
                r#"7 1 "1970-01-03T00:00:00""#.to_owned(),
                r#"7 2 "1970-01-02T00:00:00""#.to_owned(),
            ],
        ),
    ];
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

/// Whatever is under a null or between lists, the result is as long and as null as before.
#[test]
fn converting_keeps_rows_and_nulls() {
    let old = structure(vec![member("n", DataType::Int32, false)]);
    let new = structure(vec![
        member("n", DataType::Float64, true),
        member("m", DataType::Int8, true),
    ]);
    for seed in 0..200u32 {
        let valid: Vec<bool> = (0..20)
            .map(|row| (seed.wrapping_mul(2_654_435_761) >> row) & 1 == 0)
            .collect();
        let numbers: Vec<i32> = (0..20).map(|row| (seed as i32 - 100) * row).collect();
        let values = array(&old, vec![Arc::new(Int32Array::from(numbers.clone()))], valid.clone());
        let how = resolve(&old, &new).unwrap().how;
        let made = convert(&values, &how, &new, None).unwrap();
        let floats = Float64Array::from(numbers.iter().map(|number| f64::from(*number)).collect::<Vec<_>>());
        assert_eq!(made.nulls(), values.nulls(), "seed {seed}");
        assert_eq!(
            made.as_struct().column(0).as_ref(),
            &floats as &dyn Array,
            "seed {seed}"
        );
    }
}
