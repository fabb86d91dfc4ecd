//! Code that changes under state that is kept: version 1 of a job leaves a savepoint, version 2 goes on from it, and
//! what both put out is what version 2 puts out if it runs from the start.

use std::path::Path;

use millrace_core::Fault;
use millrace_engine::{Beginning, JobOptions, Restore};
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{self, JobMetrics, as_text, check_error, cli, parallel, read_ndjson};
use serde_json::Value;

use crate::durable::{EXACTLY, Place, assert_same};

const ROWS: &str = "20000";

/// Slow enough that version 1 does not come to its end.
const SLOWLY: &str = "8000";

fn pairs<'p>(version: &'p str, output: &'p Path) -> Vec<(&'p str, &'p str)> {
    vec![
        ("kind", "evolving"),
        ("version", version),
        ("rows", ROWS),
        ("keys", "37"),
        ("output", as_text(output)),
    ]
}

fn sorted(output: &Path) -> Vec<String> {
    let mut rows: Vec<String> = read_ndjson(output).iter().map(Value::to_string).collect();
    rows.sort_unstable();
    rows
}

/// What version 2 puts out if it runs from the start.
fn expected() -> Vec<String> {
    let folder = tempfile::tempdir().expect("temporary folder");
    jobs::succeed(Guest::Flows, parallel(1), &pairs("2", folder.path()));
    let rows = sorted(folder.path());
    for operator in ["profile", "timer", "sums", "most"] {
        let of = format!("\"operator\":\"{operator}\"");
        let count = rows.iter().filter(|row| row.contains(&of)).count();
        assert!(count > 100, "{count} results of {operator}");
    }
    rows
}

/// Runs version 1 until it has read some rows, and stops it.
fn leave_state(place: &Place, parallelism: u32) {
    let output = place.output();
    let mut pairs = pairs("1", &output);
    pairs.push(("rate", SLOWLY));
    let options = place.options(parallelism, EXACTLY, Restore::Nothing);
    let job = jobs::start(Guest::Flows, options, &pairs);
    jobs::wait_until("rows are read", || JobMetrics(job.tasks()).rows_in("process") > 3_000);
    job.stop();
    job.wait().expect("a stop is no failure");
}

fn succeed(arguments: &[&str]) -> String {
    let output = cli(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn save(place: &Place) -> String {
    let savepoint = as_text(&place.0.path().join("savepoint")).to_owned();
    let storage = place.storage();
    succeed(&[
        "savepoint",
        "evolving",
        "--checkpoint-dir",
        &storage,
        "--to",
        &savepoint,
    ]);
    savepoint
}

/// Path of the newest checkpoint.
fn newest_checkpoint(place: &Place) -> String {
    let newest = |folder: &Path, prefix: &str| {
        let names = jobs::all_files(folder).into_iter();
        let name = names
            .filter(|name| name.starts_with(prefix))
            .max_by_key(|name| (name.len(), name.clone()));
        folder.join(name.expect("something is there"))
    };
    let runs = Path::new(&place.storage()).join("evolving");
    as_text(&newest(&newest(&runs, ""), "chk-")).to_owned()
}

fn from(url: &str, allow_non_restored_state: bool) -> Option<Beginning> {
    Some(Beginning {
        url: url.to_owned(),
        allow_non_restored_state,
        claim: false,
    })
}

fn outcome<'u>(check: &'u Value, operator: &str, state: &str) -> &'u Value {
    let operators = check["upgrade"]["operators"].as_array().expect("operators");
    let found = operators.iter().find(|known| known["id"] == operator);
    let operator = found.unwrap_or_else(|| panic!("{operator} in {check}"));
    let states = operator["states"].as_array().expect("states");
    match state {
        "" => operator,
        state => states
            .iter()
            .find(|known| known["name"] == state)
            .unwrap_or_else(|| panic!("{state} in {operator}")),
    }
}

/// `jobctl check` of a version against a savepoint or checkpoint: what it prints, and what it says of an error.
fn check(url: &str, version: &str, more: &[&str]) -> (Value, Option<String>) {
    let (version, path) = (format!("version={version}"), as_text(Guest::Flows.path()).to_owned());
    let mut arguments = vec![
        "check",
        "--from",
        url,
        &path,
        "--param",
        "kind=evolving",
        "--param",
        &version,
    ];
    arguments.extend(["--param", "output=nowhere", "--output", "json"]);
    arguments.extend(more);
    let output = cli(&arguments);
    let told = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), told["can_begin"] == true, "{told} {error}");
    (told, (!output.status.success()).then_some(error))
}

#[test]
fn version_2_goes_on_from_a_savepoint_of_version_1() {
    let expected = expected();
    for (before, after) in [(2, 3), (1, 1), (3, 2)] {
        let place = Place::new();
        leave_state(&place, before);
        let savepoint = save(&place);
        let (told, error) = check(&savepoint, "2", &["--parallelism", &after.to_string()]);
        assert_eq!(error, None);
        assert_eq!(outcome(&told, "profile", "profile")["outcome"], "converted");
        assert_eq!(outcome(&told, "profile", "amount")["outcome"], "migrated");
        assert_eq!(outcome(&told, "profile", "latest")["outcome"], "converted");
        assert_eq!(outcome(&told, "profile", "seen")["outcome"], "converted");
        assert_eq!(outcome(&told, "sums", "")["key"]["outcome"], "converted");
        assert_eq!(outcome(&told, "most", "max")["outcome"], "converted");
        for (operator, state) in [
            ("tumbling-amount", "aggregate"),
            ("session-amount", "aggregate"),
            ("triggered-amount", "aggregate"),
            ("latest", "reduce"),
        ] {
            assert_eq!(outcome(&told, operator, state)["outcome"], "migrated", "{operator}");
        }
        assert_eq!(outcome(&told, "source", "")["splits"], 1);
        let options = JobOptions {
            from: from(&savepoint, false),
            ..place.options(after, EXACTLY, Restore::Nothing)
        };
        jobs::succeed(Guest::Flows, options, &pairs("2", &place.output()));
        assert_same(&sorted(&place.output()), &expected);
    }
}

#[test]
fn version_2_goes_on_from_a_checkpoint_of_version_1() {
    let expected = expected();
    // From a checkpoint that is named, without taking any.
    let place = Place::new();
    leave_state(&place, 2);
    let options = JobOptions {
        from: from(&newest_checkpoint(&place), false),
        ..parallel(2)
    };
    jobs::succeed(Guest::Flows, options, &pairs("2", &place.output()));
    assert_same(&sorted(&place.output()), &expected);
    // From the latest one, in the same run; then again from what that leaves.
    let place = Place::new();
    leave_state(&place, 2);
    let output = place.output();
    let mut slowly = pairs("2", &output);
    slowly.push(("rate", SLOWLY));
    let job = jobs::start(Guest::Flows, place.options(2, EXACTLY, Restore::Latest), &slowly);
    jobs::wait_until("rows are read", || JobMetrics(job.tasks()).rows_in("process") > 3_000);
    job.stop();
    job.wait().expect("a stop is no failure");
    let options = place.options(3, EXACTLY, Restore::Latest);
    jobs::succeed(Guest::Flows, options, &pairs("2", &output));
    assert_same(&sorted(&output), &expected);
}

/// What is refused, with the whole message: by `jobctl check` and by a start.
#[test]
fn what_does_not_fit_is_refused_before_anything_runs() {
    let place = Place::new();
    leave_state(&place, 2);
    let savepoint = save(&place);
    let checks = [
        (
            "too-narrow",
            "CK0010",
            "does not fit the pipeline: operator `process` (id `profile`), state `profile`: field `count`: int32 cannot \
             become int16; operator `process` (id `profile`), state `profile`: field `limit`: it was nullable, is so no \
             more, and has no default for nulls; operator `process` (id `profile`), state `profile`: field \
             `tags.item.weight`: it is new, and neither nullable nor does it have a default",
        ),
        (
            "other-size",
            "CK0010",
            "does not fit the pipeline: operator `window.aggregate` (id `triggered-amount`): it kept tumbling windows of 400ms, \
             and keeps tumbling windows of 600ms now; operator `window.sum → map` (id `sums`): it kept tumbling windows of \
             400ms, and keeps sliding windows of 800ms every 400ms now; operator `window.max → map` (id `most`): it kept \
             sessions with gaps of 200ms, and keeps sessions with gaps of 250ms now",
        ),
        (
            "text-key",
            "CK0010",
            "does not fit the pipeline: operator `process` (id `profile`), key: field `key`: int32 cannot become utf8",
        ),
        (
            "lost-variant",
            "CK0010",
            "does not fit the pipeline: operator `process` (id `profile`): state `profile`, field `kind`: a value cannot be \
             converted: variant `small` is gone",
        ),
    ];
    for (version, code, expect) in checks {
        let more = ["--allow-non-restored-state"];
        let (_, error) = check(&savepoint, version, &more);
        let error = error.unwrap_or_else(|| panic!("{version} is not refused"));
        assert!(error.contains(code), "{error}");
        let message = format!("savepoint `{savepoint}` {expect}");
        assert!(error.contains(&message), "{version}: {error}");
        let options = JobOptions {
            from: from(&savepoint, true),
            ..place.options(2, EXACTLY, Restore::Nothing)
        };
        let refused = jobs::run(Guest::Flows, options, &pairs(version, &place.0.path().join("refused")));
        check_error(&refused.expect_err(version), code, Fault::User, &[&message]);
    }
    assert_eq!(jobs::all_files(&place.0.path().join("refused")), [""; 0]);
}

#[test]
fn state_that_is_not_declared_any_more_is_refused_unless_allowed() {
    let place = Place::new();
    leave_state(&place, 1);
    let savepoint = save(&place);
    // Another job altogether.
    let arguments = ["check", "--from", &savepoint, as_text(Guest::Flows.path())];
    let arguments = [
        &arguments[..],
        &["--param", "kind=fields", "--param", "output=x", "--output=json"],
    ]
    .concat();
    let refused = cli(&arguments);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("CK0011"), "{stderr}");
    assert!(
        stderr.contains("state of operator `process` (id `profile`), which the pipeline does not have"),
        "{stderr}"
    );
    let allowed = [&arguments[..], &["--allow-non-restored-state"]].concat();
    assert!(cli(&allowed).status.success());
}

#[test]
fn what_is_claimed_is_deleted_and_what_is_not_stays() {
    let expected = expected();
    for (claim, is_checkpoint) in [(true, false), (true, true), (false, false), (false, true)] {
        let place = Place::new();
        leave_state(&place, 2);
        let url = if is_checkpoint {
            newest_checkpoint(&place)
        } else {
            save(&place)
        };
        let beginning = Beginning {
            url: url.clone(),
            allow_non_restored_state: false,
            claim,
        };
        let options = JobOptions {
            from: Some(beginning),
            ..place.options(2, EXACTLY, Restore::Nothing)
        };
        jobs::succeed(Guest::Flows, options, &pairs("2", &place.output()));
        assert_same(&sorted(&place.output()), &expected);
        let left = jobs::all_files(Path::new(&url));
        assert_eq!(left.is_empty(), claim, "{left:?}");
        if !claim {
            assert_eq!(check(&url, "2", &[]).1, None);
        }
    }
}
