//! Enums there and back.

use arrow_array::RecordBatch;
use arrow_json::ReaderBuilder;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

use millrace_core::schema::{Hints, Variant};

use super::*;
use crate::format::json_row;

fn variants(names: &[&str]) -> Hints {
    let variant = |name: &&str| Variant {
        name: (*name).to_owned(),
        aliases: Vec::new(),
    };
    Hints {
        variants: names.iter().map(variant).collect(),
        ..Hints::default()
    }
}

fn around(children: Vec<Hints>) -> Hints {
    Hints {
        children,
        ..Hints::default()
    }
}

fn tag() -> Field {
    Field::new("tag", DataType::Int8, false)
}

/// `status`: pending, paid. `events`: a list of either `click {page}` or `quit` or `pay {how}`, `how` a status.
fn enums() -> Enums {
    let status = DataType::Struct(vec![tag()].into());
    let click = DataType::Struct(vec![Field::new("page", DataType::Int32, false)].into());
    let pay = DataType::Struct(vec![Field::new("how", status.clone(), false)].into());
    let event = DataType::Struct(vec![tag(), Field::new("click", click, true), Field::new("pay", pay, true)].into());
    let events = DataType::List(Arc::new(Field::new("item", event, false)));
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("status", status, true),
        Field::new("events", events, false),
    ]);
    let status_hints = || around(vec![variants(&["pending", "paid"])]);
    let event_hints = around(vec![
        variants(&["click", "quit", "pay"]),
        Hints::default(),
        around(vec![status_hints()]),
    ]);
    let hints = [Hints::default(), status_hints(), around(vec![event_hints])];
    Enums::of(&Arc::new(schema), &hints).unwrap()
}

fn read(schema: &SchemaRef, lines: &[&str]) -> RecordBatch {
    let mut decoder = ReaderBuilder::new(schema.clone()).build_decoder().unwrap();
    decoder.decode(lines.join("\n").as_bytes()).unwrap();
    decoder.flush().unwrap().unwrap()
}

#[test]
fn names_become_numbers_and_names_again() {
    let enums = enums();
    let lines = [
        r#"{"id":1,"status":"paid","events":[{"tag":"click","click":{"page":7}},{"tag":"quit"}]}"#,
        r#"{"id":2,"events":[]}"#,
        r#"{"id":3,"status":"pending","events":[{"tag":"pay","pay":{"how":"paid"}}]}"#,
    ];
    let (rows, bad) = enums.to_numbers(&read(enums.outside(), &lines)).unwrap();
    assert_eq!((rows.schema(), bad.len()), (enums.inside().clone(), 0));
    let numbers = r#"{"id":1,"status":{"tag":1},"events":[{"tag":0,"click":{"page":7}},{"tag":1}]}"#;
    assert_eq!(json_row(&rows.slice(0, 1)).unwrap(), numbers);
    let named = enums.to_names(&rows).unwrap();
    for (row, line) in lines.iter().enumerate() {
        assert_eq!(json_row(&named.slice(row, 1)).unwrap(), *line);
    }
}

#[test]
fn a_missing_tag_follows_from_the_member() {
    let enums = enums();
    let lines = [r#"{"id":1,"events":[{"pay":{"how":"paid"}},{"click":{"page":1}}]}"#];
    let (rows, bad) = enums.to_numbers(&read(enums.outside(), &lines)).unwrap();
    assert!(bad.is_empty(), "{bad:?}");
    let expected = r#"{"id":1,"events":[{"tag":2,"pay":{"how":{"tag":1}}},{"tag":0,"click":{"page":1}}]}"#;
    assert_eq!(json_row(&rows).unwrap(), expected);
}

#[test]
fn what_is_no_variant_is_refused_row_by_row() {
    let enums = enums();
    let lines = [
        r#"{"id":0,"status":"paid","events":[]}"#,
        r#"{"id":1,"status":"payed","events":[]}"#,
        r#"{"id":2,"events":[{"tag":"quit"},{"tag":"jump"}]}"#,
        r#"{"id":3,"events":[{"tag":"click"}]}"#,
        r#"{"id":4,"events":[{"tag":"quit","click":{"page":1}}]}"#,
        r#"{"id":5,"events":[{}]}"#,
        r#"{"id":6,"events":[{"click":{"page":1},"pay":{"how":"paid"}}]}"#,
        r#"{"id":7,"events":[{"pay":{"how":"gold"}}]}"#,
        r#"{"id":8,"events":[{"tag":"quit"}]}"#,
    ];
    let (rows, bad) = enums.to_numbers(&read(enums.outside(), &lines)).unwrap();
    let kept: Vec<String> = (0..rows.num_rows())
        .map(|row| json_row(&rows.slice(row, 1)).unwrap())
        .collect();
    assert_eq!(
        kept,
        [
            r#"{"id":0,"status":{"tag":1},"events":[]}"#,
            r#"{"id":8,"events":[{"tag":1}]}"#
        ]
    );
    let causes: Vec<(usize, &str)> = bad.iter().map(|(row, cause)| (*row, cause.as_str())).collect();
    assert_eq!(
        causes,
        [
            (1, "column `status`: `payed` is none of pending, paid"),
            (2, "column `events`: `tag` is `jump`, which is none of click, quit, pay"),
            (
                3,
                "column `events`: it is `click`, but `click` with its fields is missing"
            ),
            (4, "column `events`: it is `quit`, but has fields of `click`"),
            (5, "column `events`: `tag` is missing: it is one of click, quit, pay"),
            (6, "column `events`: it has both `click` and `pay`, but is one of them"),
            (7, "column `events.pay.how`: `gold` is none of pending, paid"),
        ]
    );
}

#[test]
fn without_variants_there_is_nothing_to_do() {
    let plain = Arc::new(Schema::new(vec![Field::new(
        "status",
        DataType::Struct(vec![tag()].into()),
        true,
    )]));
    assert!(Enums::of(&plain, &[]).is_none());
    assert!(Enums::of(&plain, &[around(vec![Hints::default()])]).is_none());
    assert!(Enums::of(&plain, &[around(vec![variants(&["a"])])]).is_some());
}
