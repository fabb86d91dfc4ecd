//! Goal: rows that ask a server go on once each with the right answer, in the order that was asked for; a server is not asked
//! more than is allowed, nor one that nobody has granted.
//! Method: a server in the test that is slow, fails now and then and answers out of order; what comes out is computed a second
//! time. Jobs are killed and stopped while requests are under way.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_core::Fault;
use millrace_core::graph::Origin;
use millrace_engine::JobOptions;
use millrace_tests::guests::Guest;
use millrace_tests::http::{Reply, Server};
use millrace_tests::jobs::{self, as_text, parallel, read_ndjson, task};
use millrace_tests::running;
use serde_json::json;

use crate::durable::{Place, assert_same};
use crate::every_operator::{live, outputs};

const ROWS: u64 = 6_000;

/// The number at the end of a path.
fn number(path: &str) -> u64 {
    path.rsplit('/')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Says three times the number, sometimes after being busy twice, and does not know some.
fn server() -> Server {
    Server::start(|path, times| {
        let number = number(path);
        let (status, body) = match number {
            _ if number.is_multiple_of(29) => (404, String::new()),
            _ if number.is_multiple_of(13) && times < 2 => (503, "busy".to_owned()),
            _ => (200, (number * 3).to_string()),
        };
        let delay = Duration::from_millis(number * 7_919 % 12);
        Reply { delay, status, body }
    })
}

fn said(number: u64) -> String {
    match number % 29 {
        0 => "status 404".to_owned(),
        _ => (number * 3).to_string(),
    }
}

/// Rows of each sink, in order.
fn expected() -> BTreeMap<String, Vec<String>> {
    let row = |number: u64| json!({ "key": number % 50, "value": number, "time": number, "said": said(number) });
    let mut rows: Vec<String> = (0..ROWS).map(|number| row(number).to_string()).collect();
    rows.sort_unstable();
    let timestamp = |ms: u64| {
        let (second, rest) = (ms / 1_000, ms % 1_000);
        let fraction = if rest == 0 {
            String::new()
        } else {
            format!(".{rest:03}")
        };
        format!("1970-01-01T00:00:{second:02}{fraction}Z")
    };
    let window = |start: u64, key: u64| {
        json!({ "key": key, "start": timestamp(start), "end": timestamp(start + 100), "value": 2 }).to_string()
    };
    let starts = (0..ROWS).step_by(100);
    let mut windows: Vec<String> = starts
        .flat_map(|start| (0..50).map(move |key| window(start, key)))
        .collect();
    windows.sort_unstable();
    BTreeMap::from([
        ("ordered".to_owned(), rows.clone()),
        ("unordered".to_owned(), rows),
        ("windows".to_owned(), windows),
    ])
}

fn options(server: &Server, parallelism: u32) -> JobOptions {
    JobOptions {
        allow_http: vec![Origin::parse(&server.url()).expect("an origin")],
        ..parallel(parallelism)
    }
}

#[test]
fn rows_go_on_in_order_and_not_across_watermarks() {
    let server = server();
    let folder = tempfile::tempdir().expect("temporary folder");
    let (rows, url) = (ROWS.to_string(), server.url());
    let pairs = [
        ("kind", "requests"),
        ("rows", rows.as_str()),
        ("output", as_text(folder.path())),
        ("from", url.as_str()),
    ];
    let report = jobs::succeed(Guest::Flows, options(&server, 1), &pairs);
    for (name, rows) in expected() {
        assert_same(&outputs(folder.path())[&name], &rows);
    }
    let values = |name: &str| -> Vec<u64> {
        let rows = read_ndjson(&folder.path().join(name)).into_iter();
        rows.map(|row| row["value"].as_u64().expect("a number")).collect()
    };
    assert!(values("ordered").is_sorted());
    assert!(!values("unordered").is_sorted(), "answers come out of order");
    for name in ["ordered", "unordered"] {
        let asked = server.asked(name);
        let retried = (0..ROWS)
            .filter(|number| number.is_multiple_of(13) && !number.is_multiple_of(29))
            .count() as u64;
        assert_eq!(asked.requests, ROWS + 2 * retried);
        assert!((2..=20).contains(&asked.most), "{asked:?}");
        let metrics = task(&report.tasks, &format!("{name} requests"));
        assert_eq!(metrics.total(|metrics| &metrics.request_retries), 2 * retried);
        assert_eq!(metrics.total(|metrics| &metrics.requests_in_flight), 0);
        assert_eq!(metrics.total(|metrics| &metrics.rows_out), ROWS);
    }
}

/// Kills a job twice, each time going on at another parallelism.
fn kill_twice(more: &[&str]) {
    let (server, place) = (server(), Place::new());
    let from = format!("--param=from={}", server.url());
    let allow = format!("--allow-http={}", server.url());
    let mut arguments = vec![from.as_str(), allow.as_str()];
    arguments.extend(more);
    live(&place, "requests", 1, &arguments, true);
    live(&place, "requests", 3, &arguments, true);
    live(&place, "requests", 2, &arguments, false);
    let got = outputs(&place.output());
    for (name, rows) in expected() {
        eprintln!("{name}");
        assert_same(&got[&name], &rows);
    }
}

#[test]
fn rows_under_way_go_on_at_another_parallelism() {
    // The barrier is to come soon behind the rows.
    kill_twice(&["--param=capacity=100"]);
}

#[test]
fn rows_under_way_go_on_from_unaligned_checkpoints() {
    kill_twice(&["--unaligned-checkpoints"]);
}

#[test]
fn rows_under_way_are_in_a_savepoint() {
    let (server, place) = (server(), running::Place::new());
    let (rows, url, allow) = (ROWS.to_string(), server.url(), format!("--allow-http={}", server.url()));
    let parameters = [("rows", rows.as_str()), ("from", url.as_str()), ("capacity", "5")];
    let first = place.start(
        "requests",
        &[allow.clone(), "--source-rate=3000".to_owned()],
        &parameters,
    );
    place.wait_for("running");
    jobs::wait_until("some answers", || server.asked("unordered").requests > 300);
    let savepoint = place.text("savepoint");
    let to = format!("--savepoint={savepoint}");
    place.tell(&["stop", "requests", &to]);
    first.succeed();
    let second = place.start("requests", &[allow, format!("--from={savepoint}")], &parameters);
    second.succeed();
    let got = outputs(&place.output());
    for (name, rows) in expected() {
        assert_same(&got[&name], &rows);
    }
}

#[test]
fn what_nobody_has_granted_is_not_asked() {
    let server = server();
    let folder = tempfile::tempdir().expect("temporary folder");
    let url = server.url();
    let pairs = [
        ("kind", "requests"),
        ("output", as_text(folder.path())),
        ("from", url.as_str()),
    ];
    let (flag, parts) = (format!("--allow-http {url}"), ["operator `ordered requests`"]);
    let parts = [parts[0], flag.as_str()];
    jobs::fail(Guest::Flows, parallel(1), &pairs, "HT0001", Fault::User, &parts);
    assert_eq!(server.asked("ordered").requests, 0);
    let from = format!("--param=from={url}");
    let output = jobs::cli(&["inspect", "--param=kind=requests", &from, as_text(Guest::Flows.path())]);
    let text = String::from_utf8(output.stdout).expect("text");
    let line = format!("HTTP to {url} (granted by --allow-http {url})");
    assert!(text.contains(&line), "{text}");
}

#[test]
fn all_that_can_come_of_a_request() {
    let server = Server::start(|path, _| match number(path) % 6 {
        3 => Reply {
            delay: Duration::from_secs(20),
            status: 200,
            body: String::new(),
        },
        4 => Reply {
            delay: Duration::ZERO,
            status: 500,
            body: String::new(),
        },
        _ => Reply {
            delay: Duration::ZERO,
            status: 200,
            body: "x".repeat(number(path) as usize * 100),
        },
    });
    let folder = tempfile::tempdir().expect("temporary folder");
    let url = server.url();
    let pairs = [
        ("kind", "outcomes"),
        ("rows", "18"),
        ("output", as_text(folder.path())),
        ("from", url.as_str()),
    ];
    let report = jobs::succeed(Guest::Flows, options(&server, 1), &pairs);
    let rows = read_ndjson(&folder.path().join("out")).into_iter();
    let said: Vec<String> = rows.map(|row| row["said"].as_str().expect("text").to_owned()).collect();
    let ok = "x".repeat(500);
    let all = ["not asked", "not allowed", "invalid", "timeout", "status 500"];
    let mut expect: Vec<&str> = all.to_vec();
    expect.push(&ok);
    // Row 11 is refused.
    expect.extend(all);
    expect.extend(all);
    expect.push("too large");
    assert_eq!(said, expect);
    let requests = task(&report.tasks, "try_async_map requests");
    let counts = [
        requests.total(|metrics| &metrics.request_timeouts),
        requests.total(|metrics| &metrics.request_failures),
    ];
    assert_eq!(counts, [3, 8]);
}
