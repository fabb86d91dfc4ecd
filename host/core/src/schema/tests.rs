//! The rules as tables, and random schemas that change by one rule at a time.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};

use super::*;
use crate::testing::Random;

fn plain(data_type: DataType, nullable: bool) -> Declared {
    Declared::plain(Field::new("x", data_type, nullable))
}

/// A struct of these members.
fn structure(members: Vec<Declared>) -> Declared {
    let fields: Fields = members.iter().map(|member| member.field.clone()).collect();
    let mut declared = plain(DataType::Struct(fields), false);
    declared.hints.children = members.into_iter().map(|member| member.hints).collect();
    declared
}

fn member(name: &str, data_type: DataType, nullable: bool) -> Declared {
    Declared::plain(Field::new(name, data_type, nullable))
}

fn int(name: &str) -> Declared {
    member(name, DataType::Int64, false)
}

fn alias(mut declared: Declared, name: &str) -> Declared {
    declared.hints.aliases.push(name.to_owned());
    declared
}

fn default(mut declared: Declared, missing: Missing) -> Declared {
    declared.hints.missing = missing;
    declared
}

/// A sum type: variants with what they carry.
fn sum(variants: &[(&str, &[&str], Option<DataType>)]) -> Declared {
    let mut tag = member("tag", DataType::Int8, false);
    let variant = |(name, aliases, _): &(&str, &[&str], Option<DataType>)| Variant {
        name: (*name).to_owned(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
    };
    tag.hints.variants = variants.iter().map(variant).collect();
    let carried = variants
        .iter()
        .filter_map(|(name, _, carried)| Some(member(name, carried.clone()?, true)));
    structure([tag].into_iter().chain(carried).collect())
}

/// Both directions at once: what is changed, or what is in the way.
fn check(old: &Declared, new: &Declared, expect: Result<&[&str], &[&str]>) {
    let shown = match resolve(old, new) {
        Ok(resolved) => Ok(resolved.changes.iter().map(Change::to_string).collect::<Vec<_>>()),
        Err(refusals) => Err(refusals.iter().map(Refusal::to_string).collect::<Vec<_>>()),
    };
    let shown = shown.as_ref().map(Vec::as_slice).map_err(Vec::as_slice);
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    match expect {
        Ok(changes) => assert_eq!(shown, Ok(own(changes).as_slice())),
        Err(refusals) => assert_eq!(shown, Err(own(refusals).as_slice())),
    }
}

#[test]
fn types_widen_and_do_not_narrow() {
    use DataType as T;
    let timestamp = |unit| T::Timestamp(unit, None);
    let zoned = |unit| T::Timestamp(unit, Some("UTC".into()));
    let (every, range) = (Some(Widening::Every), Some(Widening::InRange));
    for (from, to, value, key) in [
        (T::Int8, T::Int16, every, every),
        (T::Int32, T::Int64, every, every),
        (T::Int64, T::Int32, None, None),
        (T::UInt8, T::Int16, every, every),
        (T::UInt32, T::UInt64, every, every),
        (T::UInt32, T::Int32, None, None),
        (T::UInt64, T::Int64, None, None),
        (T::Int8, T::UInt64, None, None),
        (T::Int16, T::Float32, every, None),
        (T::Int32, T::Float32, None, None),
        (T::Int32, T::Float64, every, None),
        (T::Int64, T::Float64, None, None),
        (T::Float32, T::Float64, every, None),
        (T::Float64, T::Float32, None, None),
        (T::Int64, T::Decimal128(21, 2), every, None),
        (T::Int64, T::Decimal128(20, 2), None, None),
        (T::UInt64, T::Decimal128(20, 0), every, None),
        (T::Decimal128(10, 2), T::Decimal128(12, 2), every, every),
        (T::Decimal128(10, 2), T::Decimal128(12, 4), every, None),
        (T::Decimal128(10, 2), T::Decimal128(11, 4), None, None),
        (T::Date32, timestamp(TimeUnit::Millisecond), every, None),
        (T::Date32, timestamp(TimeUnit::Nanosecond), range, None),
        (T::Date32, zoned(TimeUnit::Millisecond), None, None),
        (
            timestamp(TimeUnit::Second),
            timestamp(TimeUnit::Microsecond),
            range,
            None,
        ),
        (
            timestamp(TimeUnit::Microsecond),
            timestamp(TimeUnit::Second),
            None,
            None,
        ),
        (timestamp(TimeUnit::Second), zoned(TimeUnit::Millisecond), None, None),
        (T::Utf8, T::Binary, every, every),
        (T::Binary, T::Utf8, None, None),
        (T::FixedSizeBinary(4), T::Binary, every, None),
        (T::Boolean, T::Int8, None, None),
    ] {
        assert_eq!(widening(&from, &to, Role::Value), value, "{from} to {to}");
        assert_eq!(widening(&from, &to, Role::OperatorKey), key, "{from} to {to} in a key");
    }
}

#[test]
fn members_are_matched_by_name() {
    let (a, b) = (int("a"), int("b"));
    let old = structure(vec![a.clone(), b.clone()]);
    check(&old, &old, Ok(&[]));
    assert_eq!(resolve(&old, &old).unwrap().how, Conversion::Same);
    let other_order = structure(vec![b.clone(), a.clone()]);
    check(&old, &other_order, Ok(&["fields in another order"]));
    check(&old, &structure(vec![a.clone()]), Ok(&["field `b`: dropped"]));
    let optional = member("c", DataType::Utf8, true);
    let added = structure(vec![a.clone(), b.clone(), optional]);
    check(&old, &added, Ok(&["field `c`: added as null"]));
    let c = default(int("c"), Missing::Text("5".to_owned()));
    check(
        &old,
        &structure(vec![a.clone(), b.clone(), c]),
        Ok(&["field `c`: added as `5`"]),
    );
    check(
        &old,
        &structure(vec![a.clone(), b.clone(), int("c")]),
        Err(&["field `c`: it is new, and neither nullable nor does it have a default"]),
    );
    let renamed = structure(vec![a.clone(), alias(int("c"), "b")]);
    check(&old, &renamed, Ok(&["field `c`: renamed from `b`"]));
    // A name outweighs an alias, and nothing is used twice.
    let swapped = structure(vec![a.clone(), b.clone(), default(alias(int("c"), "b"), Missing::Zero)]);
    check(&old, &swapped, Ok(&["field `c`: added as zero"]));
}

#[test]
fn nulls_need_something_in_their_place() {
    let (some, maybe) = (int("a"), member("a", DataType::Int64, true));
    let (some_in, maybe_in) = (structure(vec![some.clone()]), structure(vec![maybe]));
    check(&some_in, &maybe_in, Ok(&["field `a`: made nullable"]));
    check(
        &maybe_in,
        &some_in,
        Err(&["field `a`: it was nullable, is so no more, and has no default for nulls"]),
    );
    let zero = structure(vec![default(some, Missing::Zero)]);
    check(&maybe_in, &zero, Ok(&["field `a`: nulls become zero"]));
}

#[test]
fn refusals_name_every_field_at_any_depth() {
    let list = |item: Declared| {
        let item = Arc::new(item.field.as_ref().clone().with_name("item"));
        member("list", DataType::List(item), false)
    };
    let old = structure(vec![list(structure(vec![int("a"), int("b")])), int("c")]);
    let small = |name| member(name, DataType::Int32, false);
    let new = structure(vec![list(structure(vec![small("a"), int("b")])), small("c")]);
    let why = "int64 cannot become int32";
    check(
        &old,
        &new,
        Err(&[&format!("field `list.item.a`: {why}"), &format!("field `c`: {why}")]),
    );
    check(
        &new,
        &old,
        Ok(&[
            "field `list.item.a`: int32 becomes int64",
            "field `c`: int32 becomes int64",
        ]),
    );
    check(
        &old,
        &int("c"),
        Err(&["{list: list<{a: int64, b: int64}>, c: int64} cannot become int64"]),
    );
}

#[test]
fn keys_of_maps_stay_apart() {
    let map = |key: Declared, value: DataType| {
        let members = Fields::from(vec![
            key.field.as_ref().clone().with_name("key"),
            Field::new("value", value, true),
        ]);
        plain(
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(members), false)), false),
            false,
        )
    };
    let (one, two) = (structure(vec![int("a")]), structure(vec![int("a"), int("b")]));
    let old = map(two, DataType::Int32);
    check(
        &old,
        &map(one, DataType::Int32),
        Err(&["field `key.b`: it was dropped from the keys of a map, of which some might then be equal"]),
    );
    let wide = map(structure(vec![int("a"), int("b")]), DataType::Int64);
    check(&old, &wide, Ok(&["field `value`: int32 becomes int64"]));
}

#[test]
fn variants_are_matched_by_name_and_tags_follow() {
    let text = || Some(DataType::Utf8);
    let old = sum(&[("view", &[], None), ("click", &[], text()), ("gone", &[], None)]);
    let new = sum(&[("tap", &["click"], text()), ("new", &[], None), ("view", &[], None)]);
    let resolved = resolve(&old, &new).unwrap();
    let Conversion::Sum { tags, members } = resolved.how else {
        panic!("{:?}", resolved.how)
    };
    let gone = TagTo::Refused("variant `gone` is gone".to_owned());
    assert_eq!(tags, [TagTo::Tag(2), TagTo::Tag(0), gone]);
    let kept = Member::From {
        index: 1,
        conversion: Conversion::Same,
        nulls: None,
    };
    assert_eq!(members, [kept]);
    // Units that change places change no column, but the meaning of tags.
    let (ab, ba) = (
        sum(&[("a", &[], None), ("b", &[], None)]),
        sum(&[("b", &[], None), ("a", &[], None)]),
    );
    check(&ab, &ba, Ok(&["variants with other tags"]));
    check(&ab, &ab, Ok(&[]));
    let carries = sum(&[("a", &[], text()), ("b", &[], None)]);
    check(&ab, &carries, Ok(&["field `a`: variant carries fields now"]));
    check(&carries, &ab, Ok(&["field `a`: variant carries nothing any more"]));
    // Where one side does not know its variants, members are all there is.
    let mut unknown = ab.clone();
    unknown.hints = Hints::default();
    check(&unknown, &ba, Ok(&[]));
}

#[test]
fn keys_keep_their_encoding() {
    let key = |old: &[Declared], new: &[Declared]| match resolve_key(old, new) {
        Ok(resolved) => Ok(resolved.changes.iter().map(Change::to_string).collect::<Vec<_>>()),
        Err(refusals) => Err(refusals.iter().map(Refusal::to_string).collect::<Vec<_>>()),
    };
    let small = |name| member(name, DataType::Int32, false);
    assert_eq!(
        key(&[small("a")], &[int("a")]),
        Ok(vec!["field `a`: int32 becomes int64".to_owned()])
    );
    let renamed = alias(int("b"), "a");
    assert_eq!(
        key(&[int("a")], &[renamed]),
        Ok(vec!["field `b`: renamed from `a`".to_owned()])
    );
    let refused = |old: &[Declared], new: &[Declared], part: &str| {
        let refusals = key(old, new).expect_err(part);
        assert!(refusals.iter().any(|refusal| refusal.contains(part)), "{refusals:?}");
    };
    refused(&[int("a")], &[int("b")], "there was `a`");
    refused(&[int("a"), int("b")], &[int("b"), int("a")], "keep their order");
    refused(&[int("a"), int("b")], &[int("a")], "cannot gain or lose fields");
    let (date, time) = (DataType::Date32, DataType::Timestamp(TimeUnit::Millisecond, None));
    let why = "would move to another key group";
    refused(&[member("a", date, false)], &[member("a", time, false)], why);
    let maybe = member("a", DataType::Int64, true);
    refused(&[maybe], &[default(int("a"), Missing::Zero)], "must not become equal");
    let (ab, ba) = (
        sum(&[("a", &[], None), ("b", &[], None)]),
        sum(&[("b", &[], None), ("a", &[], None)]),
    );
    refused(std::slice::from_ref(&ab), &[ba], "a key's variants keep their order");
    let more = sum(&[("a", &[], None), ("b", &[], None), ("c", &[], None)]);
    assert!(key(&[ab], &[more]).is_ok());
}

/// A random schema; what is equal to it is the same.
fn random(random_numbers: &mut Random, depth: u64) -> DataType {
    let kinds = if depth == 0 { 6 } else { 9 };
    match random_numbers.below(kinds) {
        0 => DataType::Int8,
        1 => DataType::Int32,
        2 => DataType::UInt16,
        3 => DataType::Utf8,
        4 => DataType::Decimal128(10, 2),
        5 => DataType::Float32,
        6 => DataType::List(Arc::new(Field::new_list_field(
            random(random_numbers, depth - 1),
            random_numbers.below(2) == 0,
        ))),
        7 => {
            let members = Fields::from(vec![
                Field::new("key", DataType::Int32, false),
                Field::new("value", random(random_numbers, depth - 1), true),
            ]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(members), false)), false)
        }
        _ => {
            let count = 1 + random_numbers.below(4);
            let members = (0..count).map(|at| {
                Field::new(
                    format!("m{at}"),
                    random(random_numbers, depth - 1),
                    random_numbers.below(2) == 0,
                )
            });
            DataType::Struct(members.collect())
        }
    }
}

/// A wider type, everywhere inside; names, order and nullability as they are.
fn widened(data_type: &DataType) -> DataType {
    let inside = |field: &Field| field.clone().with_data_type(widened(field.data_type()));
    match data_type {
        DataType::Int8 => DataType::Int16,
        DataType::Int32 => DataType::Int64,
        DataType::UInt16 => DataType::UInt32,
        DataType::Decimal128(..) => DataType::Decimal128(20, 2),
        DataType::Float32 => DataType::Float64,
        DataType::List(item) => DataType::List(Arc::new(inside(item))),
        DataType::Map(entries, sorted) => DataType::Map(Arc::new(inside(entries)), *sorted),
        DataType::Struct(members) => DataType::Struct(members.iter().map(|member| inside(member)).collect()),
        other => other.clone(),
    }
}

fn has_numbers(data_type: &DataType) -> bool {
    widened(data_type) != *data_type
}

#[test]
fn random_schemas_are_the_same_as_themselves_and_widen_one_way() {
    for seed in 0..2_000 {
        let data_type = random(&mut Random::new(seed), 3);
        let (old, new) = (plain(data_type.clone(), true), plain(widened(&data_type), true));
        assert_eq!(resolve(&old, &old).unwrap().how, Conversion::Same, "seed {seed}");
        let forth = resolve(&old, &new).unwrap_or_else(|refusals| panic!("seed {seed}: {refusals:?}"));
        assert_eq!(forth.changes.is_empty(), !has_numbers(&data_type), "seed {seed}");
        assert_eq!(resolve(&new, &old).is_err(), has_numbers(&data_type), "seed {seed}");
    }
}

#[test]
fn types_and_their_names_agree() {
    for text in [
        "int8",
        "timestamp[us, Europe/Berlin]",
        "decimal128(38, -2)",
        "fixed-size-binary(16)",
    ] {
        assert_eq!(type_name(&parse_type(text).unwrap()).unwrap(), text);
    }
    for text in [
        "int7",
        "timestamp[h]",
        "decimal128(0, 0)",
        "decimal128(39, 0)",
        "fixed-size-binary(0)",
    ] {
        assert_eq!(parse_type(text), None, "{text}");
    }
}
