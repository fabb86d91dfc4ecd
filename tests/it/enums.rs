//! Enums outside of Millrace: names in every format, and what is no variant is the source's to refuse.

use std::fs;
use std::path::Path;

use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, as_text, options};
use serde_json::Value;

const GOOD: [&str; 4] = [
    r#"{"id":1,"status":"pending","payments":[]}"#,
    r#"{"id":2,"status":"in full","before":"pending","payments":[{"tag":"cash"},{"tag":"transfer","transfer":7}]}"#,
    r#"{"id":3,"status":"pending","payments":[{"card":{"number":"4","status":"lost"}}]}"#,
    r#"{"id":4,"status":"in full","before":"in full","payments":[]}"#,
];

/// All lines of the files in a folder.
fn lines(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).expect("the folder");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    let texts = paths.iter().map(|path| fs::read_to_string(path).expect("text"));
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn run(input: &Path, format: &str, output: &Path) -> Vec<Value> {
    let letters = output.join("letters.jsonl");
    let pairs = [
        ("kind", "enums"),
        ("structure", format),
        ("input", as_text(input)),
        ("output", as_text(output)),
        ("letters", as_text(&letters)),
    ];
    jobs::succeed(Guest::Flows, options(), &pairs);
    let text = fs::read_to_string(letters).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn enums_have_names_in_every_format() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let input = folder.path().join("orders.ndjson");
    let bad = [
        r#"{"id":5,"status":"paid","payments":[]}"#,
        r#"{"id":6,"status":1,"payments":[]}"#,
        r#"{"id":7,"status":"pending","payments":[{"tag":"transfer"}]}"#,
        r#"{"id":8,"status":"lost","payments":[{"tag":"cash"}]}"#,
    ];
    let all = [GOOD[0], bad[0], GOOD[1], bad[1], bad[2], GOOD[2], bad[3], GOOD[3]];
    fs::write(&input, all.join("\n")).expect("temporary file");
    let first = folder.path().join("first");
    let letters = run(&input, "ndjson", &first);

    let expected: Vec<String> = GOOD
        .iter()
        .map(|line| line.replace(r#"{"card""#, r#"{"tag":"card","card""#))
        .collect();
    assert_eq!(lines(&first.join("ndjson")), expected);
    assert_eq!(
        lines(&first.join("csv")),
        [
            "id,status,before",
            "1,pending,",
            "2,in full,pending",
            "3,pending,",
            "4,in full,in full"
        ]
    );
    let place = |line: usize| format!("{}:{line}", input.display());
    let told = |letter: &Value| {
        let text = |name: &str| letter[name].as_str().expect("text").to_owned();
        (text("place"), text("cause"), text("raw"))
    };
    let mut told: Vec<_> = letters.iter().map(told).collect();
    told.sort();
    let path = input.display();
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(told[0].0, place(2), "{path}");
    assert_eq!(told[0].1, "column `status`: `paid` is none of pending, in full, lost");
    assert_eq!(told[0].2, bad[0]);
    assert_eq!((&told[1].0, &told[1].2), (&place(4), &bad[1].to_owned()));
    assert_eq!(told[2].0, place(5));
    assert_eq!(
        told[2].1,
        "column `payments`: it is `transfer`, but `transfer` with its fields is missing"
    );
    // What a function refuses is written down so that it can be read again.
    assert_eq!((told[3].0.as_str(), told[3].2.as_str()), ("operator `try_map`", bad[3]));

    // The other two formats hold the same.
    let second = folder.path().join("second");
    let columns = first.join("parquet").join("*.parquet");
    assert!(run(&columns, "parquet", &second).is_empty());
    assert_eq!(lines(&second.join("ndjson")), expected);
    let third = folder.path().join("third");
    let table = folder.path().join("short.csv");
    let mut text = lines(&first.join("csv"));
    text.insert(2, "9,gone,".to_owned());
    fs::write(&table, text.join("\n")).expect("temporary file");
    let letters = run(&table, "csv", &third);
    assert_eq!(letters[0]["place"], format!("{}:3", table.display()));
    assert_eq!(
        letters[0]["cause"],
        "column `status`: `gone` is none of pending, in full, lost"
    );
    assert_eq!(
        lines(&third.join("ndjson")),
        [
            r#"{"id":1,"status":"pending"}"#,
            r#"{"id":2,"status":"in full","before":"pending"}"#,
            r#"{"id":3,"status":"pending"}"#,
            r#"{"id":4,"status":"in full","before":"in full"}"#,
        ]
    );
}
