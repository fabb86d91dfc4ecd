//! Savepoints that are made from tables, or from other savepoints.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use millrace_core::graph::{Renewal, TimeToLive};
use millrace_core::schema::{Declared, DeclaredState, KeyedKind, KeyedSchema};
use millrace_state::savepoint::{self, Writer};
use millrace_state::{Depth, Restorable, Savepoint};

const GROUPS: u32 = 16;

fn schema() -> KeyedSchema {
    let state = |name: &str, data_type| DeclaredState {
        value: Declared::plain(Field::new(name, data_type, true)),
        migrations: Vec::new(),
        ttl: None,
        large: false,
        broadcast: false,
    };
    KeyedSchema {
        kind: KeyedKind::Keyed,
        windows: None,
        key: vec![Declared::plain(Field::new("user", DataType::Utf8, false))],
        states: vec![state("count", DataType::Int64), state("name", DataType::Utf8)],
    }
}

/// Users by number with a value each, the columns in an order of their own, and one more.
fn table(users: &[i64], name: &str, value: impl Fn(i64) -> ArrayRef) -> Vec<RecordBatch> {
    let batch = |users: &[i64]| {
        let keys: ArrayRef = Arc::new(StringArray::from_iter_values(
            users.iter().map(|user| format!("user {user}")),
        ));
        let values: Vec<ArrayRef> = users.iter().map(|user| value(*user)).collect();
        let values: Vec<&dyn arrow_array::Array> = values.iter().map(AsRef::as_ref).collect();
        let values = arrow_select::concat::concat(&values).unwrap();
        RecordBatch::try_from_iter([(name, values), ("more", keys.clone()), ("user", keys)]).unwrap()
    };
    users.chunks(7).map(batch).collect()
}

fn rows(savepoint: &Savepoint, state: &str) -> Vec<String> {
    let operator = savepoint.manifest().operator("users").unwrap();
    let mut rows = Vec::new();
    for batch in savepoint.read_table(operator.table(state).unwrap(), 0..GROUPS).unwrap() {
        let found = savepoint::rows_as_json(&batch).unwrap().into_iter();
        rows.extend(found.map(|row| format!("{} {}", row["user"].as_str().unwrap(), row[state])));
    }
    rows.sort();
    rows
}

fn int32(user: i64) -> ArrayRef {
    Arc::new(Int32Array::from(vec![user as i32 * 10]))
}

#[test]
fn a_savepoint_is_made_of_tables_and_changed() {
    let folder = tempfile::tempdir().unwrap();
    let url = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let users: Vec<i64> = (0..50).rev().collect();
    let mut writer = Writer::new(&url("one"), "job", GROUPS, 5).unwrap();
    writer.add_operator("users", "Users", &schema()).unwrap();
    // As others would have written it: in Parquet.
    let counts = table(&users, "count", int32);
    let parquet = savepoint::to_parquet(&counts[0].schema(), &counts).unwrap();
    let counts = savepoint::from_parquet(parquet).unwrap();
    writer.set_table("users", "count", &counts).unwrap();
    writer.finish().unwrap();
    let one = Savepoint::open(&url("one"), Depth::Contents).unwrap();
    let mut expect: Vec<String> = (0..50).map(|user| format!("user {user} {}", user * 10)).collect();
    expect.sort();
    assert_eq!((rows(&one, "count"), rows(&one, "name").len()), (expect.clone(), 0));
    // Every subtask gets its own, whatever their number.
    let restorable = Restorable::open(&url("one"), Depth::Sizes).unwrap();
    let operator = restorable.metadata().operator("users").unwrap();
    for parallelism in [1, 3, GROUPS] {
        let restored = (0..parallelism).map(|subtask| restorable.restore_task(operator, parallelism, subtask).unwrap());
        let batches = restored.flat_map(|restore| restore.batches);
        assert_eq!(batches.map(|batch| batch.num_rows()).sum::<usize>(), 50);
    }
    let found = one
        .find(one.manifest().operator("users").unwrap(), &["user 7".to_owned()])
        .unwrap();
    assert_eq!((found.len(), found[0].1.num_rows()), (1, 1));

    let mut writer = Writer::edit(&one, &url("two")).unwrap();
    let name = |user: i64| Arc::new(StringArray::from(vec![format!("n{user}")])) as ArrayRef;
    writer
        .set_table("users", "name", &table(&[1, 2], "name", name))
        .unwrap();
    writer.add_operator("other", "Other", &schema()).unwrap();
    writer.finish().unwrap();
    // The copy needs nothing of the original.
    std::fs::remove_dir_all(folder.path().join("one")).unwrap();
    let two = Savepoint::open(&url("two"), Depth::Contents).unwrap();
    assert_eq!(rows(&two, "count"), expect);
    assert_eq!(rows(&two, "name"), ["user 1 \"n1\"", "user 2 \"n2\""]);
    let mut writer = Writer::edit(&two, &url("three")).unwrap();
    assert!(writer.remove_operator("users") && !writer.remove_operator("users"));
    let manifest = writer.finish().unwrap();
    assert_eq!(manifest.operators.len(), 1);
    assert!(!folder.path().join("three/tables").exists());
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("x").to_str().unwrap().to_owned();
    let mut writer = Writer::new(&url, "job", GROUPS, 0).unwrap();
    writer.add_operator("users", "Users", &schema()).unwrap();
    let mut refused = |operator: &str, state: &str, rows: &[RecordBatch], code: &str, part: &str| {
        let error = writer.set_table(operator, state, rows).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    let counts = table(&[1, 2], "count", int32);
    refused("nobody", "count", &counts, "CS0204", "no operator `nobody`");
    refused("users", "sum", &counts, "CS0204", "no state `sum`");
    refused("users", "name", &counts, "CS0206", "the table has no column `name`");
    refused(
        "users",
        "count",
        &table(&[1, 1], "count", int32),
        "CS0206",
        "1 keys are there more than once",
    );
    let text = |_: i64| Arc::new(StringArray::from(vec!["x"])) as ArrayRef;
    refused(
        "users",
        "count",
        &table(&[1], "count", text),
        "CS0206",
        "utf8 is no int64",
    );
    let keys: ArrayRef = Arc::new(StringArray::from(vec![None, Some("a")]));
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let nulls = RecordBatch::try_from_iter([("user", keys), ("count", values)]).unwrap();
    refused("users", "count", &[nulls], "CS0206", "a value is null, and must not be");
    assert_eq!(
        writer.add_operator("users", "", &schema()).unwrap_err().code(),
        "CS0206"
    );
    // Without its manifest it is none.
    drop(writer);
    assert_eq!(Savepoint::open(&url, Depth::Sizes).unwrap_err().code(), "CS0201");
}

/// What nobody would heed is refused, and so is a value that is not there.
#[test]
fn columns_that_do_not_fit_the_state_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("savepoint").to_str().unwrap().to_owned();
    let mut writer = Writer::new(&url, "job", GROUPS, 5).unwrap();
    writer.add_operator("users", "Users", &schema()).unwrap();
    let whole = table(&[1, 2], "count", int32).remove(0);
    let (user, count) = (
        whole.column_by_name("user").unwrap(),
        whole.column_by_name("count").unwrap(),
    );
    let times = arrow_cast::cast(count, &DataType::Int64).unwrap();
    let expiring = [("user", user.clone()), ("count", count.clone()), ("expires_ms", times)];
    for (columns, why) in [
        (
            &expiring[..],
            "it has a column `expires_ms`, and the state has no time to live",
        ),
        (&expiring[..1], "the table has no column `count`"),
    ] {
        let rows = RecordBatch::try_from_iter(columns.to_vec()).unwrap();
        let error = writer.set_table("users", "count", &[rows]).unwrap_err();
        assert_eq!(error.code(), "CS0206");
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// What expires may say when; what does not says nothing, and begins its time with the job.
#[test]
fn tables_may_say_when_state_expires() {
    let folder = tempfile::tempdir().unwrap();
    let url = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut schema = schema();
    let ttl = TimeToLive {
        after_ms: 60_000,
        renewed_by: Renewal::Write,
    };
    schema.states[0].ttl = Some(ttl);
    for (name, says) in [("silent", false), ("said", true)] {
        let mut writer = Writer::new(&url(name), "job", GROUPS, 5).unwrap();
        writer.add_operator("users", "Users", &schema).unwrap();
        let counts = table(&(0..20).collect::<Vec<_>>(), "count", int32).into_iter();
        let counts = counts.map(|batch| {
            let users = batch.column_by_name("user").unwrap().clone();
            let values = batch.column_by_name("count").unwrap().clone();
            let mut columns = vec![("user", users), ("count", values)];
            if says {
                let times = arrow_cast::cast(batch.column_by_name("count").unwrap(), &DataType::Int64).unwrap();
                columns.push(("expires_ms", times));
            }
            RecordBatch::try_from_iter(columns).unwrap()
        });
        writer.set_table("users", "count", &counts.collect::<Vec<_>>()).unwrap();
        writer.finish().unwrap();
        let savepoint = Savepoint::open(&url(name), Depth::Contents).unwrap();
        let operator = savepoint.manifest().operator("users").unwrap();
        assert_eq!(operator.schema().unwrap().states[0].ttl, Some(ttl));
        let mut seen = 0;
        for batch in savepoint.read_table(&operator.tables[0], 0..GROUPS).unwrap() {
            for row in savepoint::rows_as_json(&batch).unwrap() {
                let expected = if says { &row["count"] } else { &serde_json::Value::Null };
                assert_eq!(&row["expires_ms"], expected);
                seen += 1;
            }
        }
        assert_eq!(seen, 20);
    }
}
