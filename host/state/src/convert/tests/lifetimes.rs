//! Deadlines go with what they are of, through a time to live that comes or goes.

use super::*;

/// Keys 1 to 3 with three states, of which the first two expire at 9 to 11.
fn rows_that_expire(layout: &Layout) -> RecordBatch {
    let integers = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let fields = expires_fields(layout.states(), &layout.expiring);
    let expires = vec![
        integers(vec![Some(11), Some(10), None]),
        integers(vec![Some(10), Some(11), Some(9)]),
    ];
    let none = new_null_array(layout.rows_schema().field(8).data_type(), 3);
    let rows = RecordBatch::try_new(
        layout.rows_schema(),
        vec![
            Arc::new(UInt32Array::from(vec![3; 3])),
            Arc::new(BooleanArray::from(vec![false; 3])),
            Arc::new(StructArray::new(
                layout.key.clone(),
                vec![integers(vec![Some(1), Some(2), Some(3)])],
                None,
            )),
            integers(vec![Some(100), Some(200), None]),
            integers(vec![Some(101), Some(201), Some(301)]),
            integers(vec![Some(102), Some(202), None]),
            Arc::new(StructArray::new(fields, expires, None)),
            none.clone(),
            none,
        ],
    );
    rows.unwrap()
}

/// A time to live that goes leaves what has not expired, one that comes says nothing, one that stays is kept under the
/// new name of its state.
#[test]
fn deadlines_go_with_their_states() {
    let state = |name: &str, alias: &[&str], expires: bool| {
        let mut value = member(name, DataType::Int64, true);
        value.hints.aliases = alias.iter().map(|alias| (*alias).to_owned()).collect();
        DeclaredState {
            value,
            migrations: Vec::new(),
            ttl: expires.then_some(TimeToLive {
                after_ms: 5,
                renewed_by: Renewal::Write,
            }),
            large: false,
            broadcast: false,
        }
    };
    let schema = |states| KeyedSchema {
        kind: KeyedKind::Keyed,
        windows: None,
        key: vec![member("id", DataType::Int64, false)],
        states,
    };
    let then = schema(vec![
        state("stays", &[], true),
        state("goes", &[], true),
        state("comes", &[], false),
    ]);
    let now = schema(vec![
        state("comes", &[], true),
        state("goes", &[], false),
        state("stayed", &["stays"], true),
    ]);
    let converter = Converter::new(&plan_of(then.clone(), now));
    let restore = TaskRestore {
        watermark: None,
        batches: vec![rows_that_expire(&Layout::of_schema(&then))],
        collections: Vec::new(),
    };
    let mut never = |_: u32, _: u32, _: &ArrayRef| -> Result<ArrayRef> { panic!("nothing is migrated") };
    let converted = converter.convert(restore, 10, &mut never).unwrap();
    let rows = converted.batches.iter().flat_map(|batch| rows_as_json(batch).unwrap());
    let mut rows: Vec<String> = rows
        .map(|row| {
            let states = ["comes", "goes", "stayed", "$expires"].map(|name| row[name].to_string());
            format!("{} {}", row["$key"]["id"], states.join(" "))
        })
        .collect();
    rows.sort();
    // Of key 3 nothing is left.
    assert_eq!(
        rows,
        [
            r#"1 102 null 100 {"comes":null,"stayed":11}"#,
            r#"2 202 201 null {"comes":null,"stayed":10}"#,
        ]
    );
}

/// Items that have expired are left out; lists whose items do not expire any more count from 0 again, maps keep their
/// keys, and what begins to expire says nothing.
#[test]
fn deadlines_go_with_the_entries_of_large_states() {
    let list = |name: &str| {
        let item = Arc::new(Field::new_list_field(DataType::Int64, false));
        member(name, DataType::List(item), true)
    };
    let schema = |states: [(&str, bool); 3]| KeyedSchema {
        kind: KeyedKind::Keyed,
        windows: None,
        key: vec![member("id", DataType::Int64, false)],
        states: states
            .map(|(name, expires)| DeclaredState {
                value: list(name),
                migrations: Vec::new(),
                ttl: expires.then_some(TimeToLive {
                    after_ms: 5,
                    renewed_by: Renewal::Write,
                }),
                large: true,
                broadcast: false,
            })
            .into(),
    };
    let then = schema([("goes", true), ("stays", true), ("comes", false)]);
    let now = schema([("goes", false), ("stays", true), ("comes", true)]);
    let collections: Vec<_> = then.collections().collect();
    // Of key 1 the items 3 to 5, of key 2 item 7, of which the fourth and the seventh have expired.
    let rows = |state: usize| {
        let schema = crate::savepoint::collections::rows_schema(&then.key_fields(), &collections[state]);
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 1, 2]));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(vec![3; 4])),
            Arc::new(BooleanArray::from(vec![false; 4])),
            Arc::new(StructArray::new(then.key_fields(), vec![ids], None)),
            Arc::new(UInt64Array::from(vec![3, 4, 5, 7])),
            Arc::new(Int64Array::from(vec![30, 40, 50, 70])),
        ];
        if state < 2 {
            columns.push(Arc::new(Int64Array::from(vec![Some(12), Some(10), None, Some(9)])));
        }
        RecordBatch::try_new(schema, columns).unwrap()
    };
    let restore = TaskRestore {
        watermark: None,
        batches: Vec::new(),
        collections: ["goes", "stays", "comes"]
            .into_iter()
            .enumerate()
            .map(|(state, name)| CollectionRestore {
                state: name.to_owned(),
                batches: vec![rows(state)],
            })
            .collect(),
    };
    let plan = plan_of(then.clone(), now);
    assert!(!plan.is_same());
    let mut never = |_: u32, _: u32, _: &ArrayRef| -> Result<ArrayRef> { panic!("nothing is migrated") };
    let converted = Converter::new(&plan).convert(restore, 10, &mut never).unwrap();
    let shown = converted.collections.iter().map(|large| {
        let rows = large.batches.iter().flat_map(|batch| rows_as_json(batch).unwrap());
        let mut rows: Vec<String> = rows
            .map(|row| {
                let parts =
                    ["$entry", large.state.as_str(), "$expires"].map(|name| row.get(name).map(ToString::to_string));
                let parts: Vec<String> = parts.into_iter().flatten().collect();
                format!("{} {}", row["$key"]["id"], parts.join(" "))
            })
            .collect();
        rows.sort();
        (large.state.as_str(), rows.join(", "))
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            ("goes", "1 0 30, 1 1 50".to_owned()),
            ("stays", "1 3 30 12, 1 5 50 null".to_owned()),
            ("comes", "1 3 30 null, 1 4 40 null, 1 5 50 null, 2 7 70 null".to_owned()),
        ]
    );
}
