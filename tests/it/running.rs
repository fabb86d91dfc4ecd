//! Jobs in processes of their own, found by name: list, savepoint, and what the API refuses.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use millrace_tests::jobs::wait_until;
use millrace_tests::running::{Place, Running};
use serde_json::Value;

use crate::durable::{ROWS, assert_same, expected, sorted};

/// Slow enough that a job is met in the middle: eight seconds.
pub(crate) const MIDDLE: [(&str, &str); 3] = [("rows", ROWS), ("rate", "4000"), ("disorder", "4s")];

/// The rest of the job, as fast as it can.
pub(crate) const REST: [(&str, &str); 2] = [("rows", ROWS), ("disorder", "4s")];

/// Checkpoints that never come by themselves.
pub(crate) const NEVER: &str = "1h";

pub(crate) fn parallel(parallelism: u32, mut arguments: Vec<String>) -> Vec<String> {
    arguments.push(format!("--parallelism={parallelism}"));
    arguments
}

/// Goes on from a savepoint to the end, at another parallelism.
pub(crate) fn go_on_from(place: &Place, savepoint: &str, parallelism: u32) {
    let mut arguments = parallel(parallelism, place.checkpoints("100ms"));
    arguments.push(format!("--from={savepoint}"));
    place.start("durable", &arguments, &REST).succeed();
}

/// Goes on from the latest checkpoint to the end, at another parallelism.
pub(crate) fn go_on_from_latest(place: &Place, parallelism: u32) {
    let mut arguments = parallel(parallelism, place.checkpoints("100ms"));
    arguments.push("--restore=latest".to_owned());
    place.start("durable", &arguments, &REST).succeed();
}

/// A job that is in the middle of its rows.
pub(crate) fn in_the_middle(place: &Place, parallelism: u32, checkpoints: Vec<String>) -> Running {
    let job = place.start("durable", &parallel(parallelism, checkpoints), &MIDDLE);
    place.wait_for("running");
    place.wait_for_rows();
    job
}

#[test]
fn a_running_job_is_listed() {
    let place = Place::new();
    assert!(place.list().is_empty());
    let table = place.cli(&["list"]);
    assert_eq!(String::from_utf8_lossy(&table.stdout), "no job runs\n");
    let job = in_the_middle(&place, 2, place.checkpoints("20ms"));
    let mut listed = Value::Null;
    wait_until("a checkpoint", || {
        listed = place.wait_for("running");
        listed["last_checkpoint"]["id"].as_u64() > Some(1)
    });
    assert_eq!(listed["name"], "durable");
    assert_eq!(listed["pid"], job.pid());
    assert_eq!(listed["parallelism"], 2);
    assert_eq!(listed["restarts"], 0);
    assert_eq!(listed["checkpoint_dir"], place.text("checkpoints"));
    assert!(listed["last_checkpoint"]["bytes"].as_u64() > Some(0), "{listed}");
    // The run is that of the checkpoints.
    let run = listed["run"].as_str().expect("a run");
    assert!(place.path("checkpoints/durable").join(run).is_dir(), "{listed}");
    let table = String::from_utf8_lossy(&place.cli(&["list"]).stdout).into_owned();
    assert!(table.starts_with("job      run ") && table.contains(run), "{table}");
    let mode = |path: &std::path::Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&place.sockets()), 0o700);
    assert_eq!(mode(&place.sockets().join(format!("{run}.sock"))), 0o600);
    job.kill();
    // What it left is nobody's.
    assert!(place.list().is_empty());
    assert!(!place.sockets().join(format!("{run}.sock")).exists());
}

/// Rows flow while it is taken; nothing else has committed them, so that the rest completes the results.
#[test]
fn a_savepoint_of_a_running_job() {
    let expected = expected();
    for (before, after) in [(2, 3), (1, 2)] {
        let place = Place::new();
        let job = in_the_middle(&place, before, place.checkpoints(NEVER));
        // Each holds what sinks had prepared for those before it.
        place.tell(&["savepoint", "durable", "--to", &place.text("first")]);
        let told = place.tell(&["savepoint", "durable", "--to", &place.text("second")]);
        assert!(told["entries"].as_u64() > Some(100), "{told}");
        // The job has gone on, and committed nothing by it.
        assert_eq!(place.wait_for("running")["restarts"], 0);
        assert!(sorted(&place.output()).is_empty());
        job.kill();
        // It needs nothing of the job.
        std::fs::remove_dir_all(place.path("checkpoints")).expect("checkpoints");
        go_on_from(&place, &place.text("second"), after);
        assert_same(&sorted(&place.output()), &expected);
    }
}

/// Neither the increments of checkpoints nor what a restart begins with know of savepoints.
#[test]
fn savepoints_between_checkpoints_change_nothing() {
    let expected = expected();
    let place = Place::new();
    let job = in_the_middle(&place, 2, place.checkpoints("20ms"));
    for number in 0..6 {
        place.tell(&["savepoint", "durable", "--to", &place.text(&format!("s{number}"))]);
    }
    job.kill();
    // They need nothing of each other, and nothing of the checkpoints.
    for number in 0..6 {
        place.tell(&["state", "ls", &place.text(&format!("s{number}"))]);
    }
    go_on_from_latest(&place, 3);
    assert_same(&sorted(&place.output()), &expected);
    // One checkpoint is retained, and nothing of the savepoints is left there.
    let runs = std::fs::read_dir(place.path("checkpoints/durable")).expect("runs");
    let run = runs.flatten().next().expect("one run").path();
    let names = std::fs::read_dir(run).expect("a run").flatten();
    let names: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let checkpoints = names.iter().filter(|name| name.starts_with("chk-")).count();
    assert_eq!(checkpoints, 1, "{names:?}");
}

/// Without checkpoints the state is laid down for the time being.
#[test]
fn a_savepoint_of_a_job_without_checkpoints() {
    let expected = expected();
    let place = Place::new();
    let job = in_the_middle(&place, 2, Vec::new());
    place.tell(&["savepoint", "durable", "--to", &place.text("first")]);
    let told = place.tell(&["savepoint", "durable", "--to", &place.text("second")]);
    assert!(told["entries"].as_u64() > Some(100), "{told}");
    job.kill();
    assert!(place.list().is_empty());
    let left = std::fs::read_dir(place.sockets()).expect("the folder").flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| name != "lock")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    go_on_from(&place, &place.text("second"), 3);
    assert_same(&sorted(&place.output()), &expected);
}

/// A job without checkpoints that comes to its end after a savepoint has all its results.
#[test]
fn a_savepoint_changes_no_result_of_a_job_without_checkpoints() {
    let place = Place::new();
    let job = in_the_middle(&place, 2, Vec::new());
    let told = place.tell(&["savepoint", "durable"]);
    let savepoint = told["savepoint"].as_str().expect("a path");
    assert!(savepoint.contains("/data/savepoints/durable-20"), "{savepoint}");
    job.succeed();
    assert_same(&sorted(&place.output()), &expected());
    place.tell(&["state", "ls", savepoint]);
}

#[test]
fn names_may_repeat_and_runs_may_not() {
    let place = Place::new();
    place.refuse(&["savepoint", "durable"], 2, &["CL0031", "no job `durable` runs"]);
    let first = in_the_middle(&place, 1, place.checkpoints("20ms"));
    let run = place.wait_for("running")["run"].as_str().expect("a run").to_owned();
    wait_until("a checkpoint", || {
        !place.wait_for("running")["last_checkpoint"].is_null()
    });
    // Going on with a run that runs.
    let mut arguments = place.checkpoints("20ms");
    arguments.push("--restore=latest".to_owned());
    let (code, messages) = place.start("durable", &arguments, &MIDDLE).end();
    assert_eq!(code, Some(2), "{messages}");
    assert!(messages.contains("AP0007") && messages.contains(&run), "{messages}");
    // Another run of the same name.
    let second = place.start("durable", &[], &[("rate", "1000"), ("output", &place.text("other"))]);
    wait_until("two jobs", || place.list().len() == 2);
    place.refuse(&["cancel", "durable"], 2, &["CL0032", &run]);
    place.tell(&["cancel", &run]);
    assert_eq!(first.end().0, Some(5));
    place.tell(&["cancel", "durable"]);
    assert_eq!(second.end().0, Some(5));
}

#[test]
fn many_jobs_share_a_data_folder_with_a_long_path() {
    let deep = format!("{}/{}", "a".repeat(120), "b".repeat(120));
    let place = Place::with_data(&deep);
    let jobs: Vec<Running> = (0..6)
        .map(|number| {
            let output = place.text(&number.to_string());
            place.start("endless", &[], &[("output", &output)])
        })
        .collect();
    wait_until("six jobs", || {
        let listed = place.list();
        listed.len() == 6 && listed.iter().all(|job| job["state"] == "running")
    });
    for job in place.list() {
        place.tell(&["stop", job["run"].as_str().expect("a run")]);
    }
    jobs.into_iter().for_each(|job| drop(job.succeed()));
    assert!(place.list().is_empty());
}

#[test]
fn a_data_folder_that_cannot_be_used() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").expect("a file");
    let named = vec![format!("--data-dir={}", place.text("file"))];
    let (code, messages) = place.start("durable", &named, &REST).end();
    assert_eq!(code, Some(4), "{messages}");
    assert!(
        messages.contains("AP0008") && messages.contains("/file/run"),
        "{messages}"
    );
    place.refuse(&["list", &named[0]], 4, &["AP0008"]);
}

/// One request, as any program would make it.
fn request(place: &Place, run: &str, head: &str, body: &str) -> (u16, String, Value) {
    let socket = place.sockets().join(format!("{run}.sock"));
    let mut stream = UnixStream::connect(socket).expect("it listens");
    let length = body.len();
    write!(
        stream,
        "{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (
        status.expect("a status"),
        head.to_ascii_lowercase(),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

#[test]
fn the_api_says_what_is_wrong() {
    let place = Place::new();
    let _job = in_the_middle(&place, 1, Vec::new());
    let run = &place.wait_for("running")["run"].as_str().expect("a run").to_owned();
    let (status, _, jobs) = request(&place, run, "GET /v1/jobs", "");
    assert_eq!((status, &jobs["jobs"][0]["run"]), (200, &Value::from(run.clone())));
    let job = format!("/v1/jobs/{run}");
    let check = |head: &str, body: &str, status: u16, code: &str| {
        let (got, head, answer) = request(&place, run, head, body);
        assert_eq!(got, status, "{head}: {answer}");
        assert!(head.contains("content-type: application/json"), "{head}");
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert!(
            answer["error"]["message"].is_string() && answer["error"]["remedy"].is_string(),
            "{answer}"
        );
        head
    };
    check("GET /v1/nothing", "", 404, "AP0001");
    check("GET /v1/jobs/other", "", 404, "AP0001");
    check(&format!("GET {job}/operations/7"), "", 404, "AP0001");
    let head = check(&format!("DELETE {job}"), "", 405, "AP0002");
    assert!(head.contains("allow: get"), "{head}");
    check(&format!("POST {job}/stop"), "{\"drian\": true}", 400, "AP0002");
    let taken = format!("{{\"target\": \"{}\"}}", place.text(""));
    check(&format!("POST {job}/savepoints"), &taken, 400, "CS0202");
    let large = " ".repeat(70_000);
    assert_eq!(request(&place, run, &format!("POST {job}/stop"), &large).0, 413);
    // What is begun can be asked about.
    let (status, head, operation) = request(&place, run, &format!("POST {job}/savepoints"), "");
    assert_eq!(
        (status, &operation["kind"]),
        (202, &Value::from("savepoint")),
        "{operation}"
    );
    let path = format!("{job}/operations/{}", operation["id"]);
    assert!(
        head.contains(&format!("location: {}", path.to_ascii_lowercase())),
        "{head}"
    );
    let (_, _, operation) = request(&place, run, &format!("GET {path}?wait_ms=30000"), "");
    assert_eq!(operation["status"], "completed", "{operation}");
    assert!(operation["savepoint"]["entries"].is_u64(), "{operation}");
}
