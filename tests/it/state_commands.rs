//! `jobctl state` reads a savepoint, and says the same as another reader of Parquet: DuckDB (`scripts/setup-duckdb`).

use std::path::PathBuf;
use std::process::Command;

use millrace_tests::guests::Guest;
use millrace_tests::jobs::{as_text, cli};
use serde_json::Value;

use crate::durable::{Place, assert_same, expected};
use crate::savepoint::{from, from_nothing, run_for_a_while, save};

/// Where `scripts/setup-duckdb` installs it.
const DUCKDB: &str = "duckdb-1.4.2";

fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("MILLRACE_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/millrace")))?;
    let folder = cache.join(DUCKDB);
    folder.join("complete").exists().then(|| folder.join("bin/python"))
}

/// Rows of Parquet files as DuckDB reads them, each a list as JSON.
const READ: &str = "
import duckdb, json, sys
def plain(value):
    if isinstance(value, dict):
        return [[plain(key), plain(item)] for key, item in value.items()]
    return value
for row in duckdb.sql(f\"select * from read_parquet('{sys.argv[1]}')\").fetchall():
    print(json.dumps([plain(value) for value in row], separators=(',', ':')))
";

fn read_with_duckdb(python: &PathBuf, files: &str) -> Vec<String> {
    let output = Command::new(python).args(["-c", READ, files]).output();
    let output = output.expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    sorted(&String::from_utf8(output.stdout).expect("JSON"))
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn succeed(arguments: &[&str]) -> String {
    let output = cli(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn fail(arguments: &[&str], code: &str) {
    let output = cli(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(code), "{stderr}");
}

#[test]
fn state_is_listed_found_and_exported() {
    let place = Place::new();
    run_for_a_while(&place, from_nothing(&place, 2));
    let savepoint = save(&place, "savepoint");

    let listed: Value = serde_json::from_str(&succeed(&["state", "ls", &savepoint, "--output=json"])).expect("JSON");
    let mut tables = 0;
    let table = succeed(&["state", "ls", &savepoint]);
    for operator in listed["operators"].as_array().expect("operators") {
        let id = operator["id"].as_str().expect("an id");
        for state in operator["states"].as_array().expect("states") {
            tables += 1;
            let name = state["name"].as_str().expect("a name");
            assert!(
                table.lines().any(|line| line.contains(id) && line.contains(name)),
                "{table}"
            );
            let rows = succeed(&["state", "export", &savepoint, id, name, "--format=ndjson"]);
            assert_eq!(Some(rows.lines().count() as u64), state["rows"].as_u64(), "{id} {name}");
            let csv = succeed(&["state", "export", &savepoint, id, name, "--format=csv"]);
            assert_eq!(csv.lines().count(), rows.lines().count() + 1, "{csv}");
        }
    }
    assert_eq!(tables, 8, "{table}");

    // What is exported is found.
    let rows = succeed(&["state", "export", &savepoint, "counts", "count", "--output=json"]);
    let rows: Value = serde_json::from_str(&rows).expect("JSON");
    for row in rows.as_array().expect("rows").iter().take(5) {
        let key = row["key"].to_string();
        let found = succeed(&["state", "get", &savepoint, "counts", &key, "--output=json"]);
        let found: Value = serde_json::from_str(&found).expect("JSON");
        assert_eq!(found["count"], row["count"]);
    }
    let nothing = succeed(&["state", "get", &savepoint, "counts", "-5", "--output=json"]);
    assert_eq!(nothing.trim(), "{}");
    fail(&["state", "get", &savepoint, "counts", "five"], "CS0205");
    fail(&["state", "get", &savepoint, "counts", "5", "6"], "CS0205");
    fail(&["state", "get", &savepoint, "count", "5"], "CS0204");
    fail(&["state", "export", &savepoint, "counts", "sum"], "CS0204");
}

#[test]
fn duckdb_reads_what_jobctl_exports() {
    let Some(python) = python() else {
        eprintln!("skipped: there is no DuckDB; run scripts/setup-duckdb");
        return;
    };
    let place = Place::new();
    run_for_a_while(&place, from_nothing(&place, 2));
    let savepoint = save(&place, "savepoint");
    for (operator, state, folder) in [
        ("counts", "count", "state-count"),
        ("buckets", "sums", "state-sums"),
        ("buckets", "timers", "timers"),
        ("tumbling", "windows", "windows"),
        ("sliding", "windows", "windows"),
        ("sessions", "sessions", "sessions"),
    ] {
        let exported = succeed(&["state", "export", &savepoint, operator, state, "--format=ndjson"]);
        // In the order of columns, as DuckDB gives them: that of the CSV's header.
        let header = succeed(&["state", "export", &savepoint, operator, state, "--format=csv"]);
        let header = header.lines().next().expect("a header").to_owned();
        let in_order = |line: &str| {
            let row: Value = serde_json::from_str(line).expect("JSON");
            let values = header.split(',').map(|column| row[column].clone());
            Value::Array(values.collect()).to_string()
        };
        let exported: Vec<String> = exported.lines().map(in_order).collect();
        let exported = sorted(&exported.join("\n"));
        assert!(exported.len() > 50, "{operator} {state}");
        let files = format!("{savepoint}/tables/{operator}/{folder}/*.parquet");
        assert_eq!(read_with_duckdb(&python, &files), exported, "{operator} {state}");
        let single = place.0.path().join("single.parquet");
        let to = as_text(&single);
        succeed(&[
            "state",
            "export",
            &savepoint,
            operator,
            state,
            "--format=parquet",
            "--to",
            to,
        ]);
        assert_eq!(read_with_duckdb(&python, to), exported, "{operator} {state}");
    }
}

/// Makes a table of 97 keys, each with a count of a thousand and more.
const MAKE: &str = "
import duckdb, sys
duckdb.sql(f\"copy (select range as key, 1000 + range as count from range(97)) to '{sys.argv[1]}' (format parquet)\")
";

#[test]
fn a_job_begins_with_a_table_that_duckdb_wrote() {
    let Some(python) = python() else {
        eprintln!("skipped: there is no DuckDB; run scripts/setup-duckdb");
        return;
    };
    let place = Place::new();
    let (table, savepoint) = (place.0.path().join("counts.parquet"), place.0.path().join("savepoint"));
    let made = Command::new(&python).args(["-c", MAKE, as_text(&table)]).status();
    assert!(made.expect("python starts").success());
    let output = format!("--param=output={}", as_text(&place.output()));
    let state = format!("count={}", as_text(&table));
    let pipeline = as_text(Guest::Flows.path());
    succeed(&[
        "state",
        "import",
        pipeline,
        "counts",
        &state,
        "--to",
        as_text(&savepoint),
        "--param=kind=durable",
        &output,
    ]);
    place.run(from(&place, as_text(&savepoint), 2, false), &[]);
    let counted_on = |row: String| match row.split(',').collect::<Vec<_>>()[..] {
        ["counts", key, at, value] => {
            let (key, at): (u64, u64) = (key.parse().expect("a key"), at.parse().expect("a count"));
            format!("counts,{key},{},{value}", at + 1000 + key)
        }
        _ => row,
    };
    let mut expected: Vec<String> = expected().into_iter().map(counted_on).collect();
    expected.sort_unstable();
    assert_same(&crate::durable::sorted(&place.output()), &expected);
}
