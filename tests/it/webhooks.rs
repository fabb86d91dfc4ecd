//! Goal: what a webhook source has answered is in the output, and once, if its sender gave it a key; a job that ends, restarts or
//! is killed leaves no sender in doubt who repeats what was not answered.
//! Method: senders that repeat every request until it is answered with 200, jobs in processes of their own that are killed under
//! them, and the guest `connected`, which numbers the rows of each key.

use std::collections::BTreeSet;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use millrace_tests::guests::Guest;
use millrace_tests::http::{address_to_listen_at, post};
use millrace_tests::jobs::{self, all_files, as_text, read_csv};
use millrace_tests::running;

use crate::connectors::{assert_once, expected, line};
use crate::durable::{Place, assert_same, spawn};

const JSON: (&str, &str) = ("content-type", "application/json");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

/// What became of the requests of all senders.
#[derive(Default)]
struct Told {
    /// By status; 0: none, for there was no connection or it broke.
    taken: AtomicU64,
    later: AtomicU64,
    broken: AtomicU64,
    repeated: AtomicU64,
}

impl Told {
    /// Sends until it is answered well.
    fn send(&self, address: &str, headers: &[(&str, &str)], body: &str) {
        loop {
            match post(address, "/events", headers, body) {
                Ok((200, said)) => {
                    self.taken.fetch_add(1, Ordering::Relaxed);
                    self.repeated
                        .fetch_add(u64::from(said.contains("repeated")), Ordering::Relaxed);
                    return;
                }
                Ok((503, _)) => self.later.fetch_add(1, Ordering::Relaxed),
                Ok((status, said)) => panic!("{status}: {said}"),
                Err(_) => self.broken.fetch_add(1, Ordering::Relaxed),
            };
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

/// A job that takes requests, at an address.
struct Hooked {
    place: Place,
    address: String,
    spared: bool,
}

impl Hooked {
    fn new(spared: bool) -> Self {
        Hooked {
            place: Place::new(),
            address: address_to_listen_at(),
            spared,
        }
    }

    fn spawn(&self, parallelism: u32) -> Child {
        let spared = if self.spared { "1" } else { "0" };
        let more = [
            ("kind", "connected"),
            ("from", "webhook"),
            ("input", self.address.as_str()),
            ("disorder", "1000s"),
            ("spared", spared),
        ];
        spawn(&self.place, parallelism, "0", &[], &more, &[])
    }

    /// Kills the job, and has the next one live a while.
    fn kill(&self, mut child: Child, life: u32) -> Child {
        std::thread::sleep(Duration::from_millis(300 + u64::from(life) * 67 % 300));
        assert!(
            child.try_wait().expect("a child").is_none(),
            "it has ended: {}",
            said(child)
        );
        child.kill().expect("a child of ours");
        child.wait().expect("a child");
        self.spawn(1 + life % 3)
    }
}

fn said(child: Child) -> String {
    let output = child.wait_with_output().expect("a child");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ends a job as Ctrl-C does, once it runs.
fn stop(child: Child, address: &str) {
    // A request that nobody can read fails nothing.
    jobs::wait_until("it reads", || {
        let answer = post(address, "/events", &[JSON], "{}");
        matches!(answer, Ok((400, said)) if said.contains("column `key`"))
    });
    jobs::terminate(child);
}

/// Senders of rows, so many at a time, each request with a key if there are to be keys.
fn senders(address: &str, rows: usize, keys: bool, told: &Arc<Told>) -> Vec<JoinHandle<()>> {
    let next = Arc::new(AtomicUsize::new(0));
    let work = |sender: usize| {
        let (address, told, next) = (address.to_owned(), told.clone(), next.clone());
        move || {
            loop {
                let count = 1 + sender;
                let first = next.fetch_add(count, Ordering::Relaxed);
                if first >= rows {
                    return;
                }
                let numbers = first..(first + count).min(rows);
                let lines = numbers.map(line).collect::<Vec<_>>();
                let (kind, body) = match sender % 2 {
                    0 => (LINES, lines.concat()),
                    _ => (JSON, format!("[{}]", lines.join(","))),
                };
                let key = format!("\"{first}\"");
                let headers = [kind, ("idempotency-key", key.as_str())];
                told.send(&address, if keys { &headers } else { &headers[..1] }, &body);
            }
        }
    };
    (0..6).map(|sender| std::thread::spawn(work(sender))).collect()
}

#[test]
fn requests_with_keys_are_there_once_through_kills() {
    const ROWS: usize = 5_000;
    let hooked = Hooked::new(false);
    let told = Arc::new(Told::default());
    let mut child = hooked.spawn(2);
    let senders = senders(&hooked.address, ROWS, true, &told);
    let mut kills = 0;
    while kills < 40 && !senders.iter().all(JoinHandle::is_finished) {
        child = hooked.kill(child, kills);
        kills += 1;
    }
    for sender in senders {
        sender.join().expect("all is taken in the end");
    }
    stop(child, &hooked.address);
    assert_once(&hooked.place, ROWS);
    let [taken, later, broken, repeated] =
        [&told.taken, &told.later, &told.broken, &told.repeated].map(|count| count.load(Ordering::Relaxed));
    eprintln!("{kills} kills; {taken} taken, of them {repeated} before; {later} times later, {broken} times broken");
    assert!(kills > 5 && later + broken > 20, "it was killed under load");
}

#[test]
fn requests_without_keys_are_there_at_least_once() {
    const ROWS: usize = 2_000;
    let hooked = Hooked::new(true);
    let told = Arc::new(Told::default());
    let mut child = hooked.spawn(1);
    let senders = senders(&hooked.address, ROWS, false, &told);
    for life in 0..5 {
        child = hooked.kill(child, life);
    }
    for sender in senders {
        sender.join().expect("all is taken in the end");
    }
    stop(child, &hooked.address);
    let rows = read_csv(&hooked.place.output()).into_iter();
    let values: BTreeSet<usize> = rows
        .map(|row| {
            row.split(',')
                .nth(1)
                .and_then(|value| value.parse().ok())
                .expect("a value")
        })
        .collect();
    assert!(values.into_iter().eq(0..ROWS));
}

/// One job sends to another, and both are killed.
#[test]
fn from_job_to_job_each_row_comes_once() {
    const ROWS: usize = 6_000;
    let taking = Hooked::new(true);
    let sending = Place::new();
    let input = sending.0.path().join("in.ndjson");
    std::fs::write(&input, (0..ROWS).map(line).collect::<String>()).expect("a file");
    let url = format!("http://{}/events", taking.address);
    let more = [
        ("kind", "connected"),
        ("from", "files"),
        ("input", as_text(&input)),
        ("disorder", "1000s"),
        ("to", "webhook"),
        ("output", url.as_str()),
    ];
    let send = |parallelism, rate: &str| {
        let rate = format!("--source-rate={rate}");
        spawn(&sending, parallelism, "0", &[rate], &more, &[])
    };
    let mut taker = taking.spawn(1);
    for life in 0..8 {
        let mut sender = send(1 + life % 2, "3000");
        if life % 2 == 0 {
            taker = taking.kill(taker, life);
        }
        std::thread::sleep(Duration::from_millis(200));
        // It may be through.
        let _ = sender.kill();
        sender.wait().expect("a child");
    }
    let output = send(2, "100000").wait_with_output().expect("a child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    stop(taker, &taking.address);
    let mut got = read_csv(&taking.place.output());
    got.sort_unstable();
    assert_same(&got, &expected(ROWS));
}

/// Checkpoints are far apart: what answers is the savepoint of a stop, and not one that the job goes on from.
#[test]
fn a_savepoint_answers_nobody_and_a_stop_does() {
    let place = running::Place::new();
    let address = address_to_listen_at();
    let parameters = [
        ("from", "webhook"),
        ("input", address.as_str()),
        ("disorder", "1000s"),
        ("spared", "1"),
    ];
    let job = place.start("connected", &place.checkpoints("1h"), &parameters);
    place.wait_for("running");
    let sending = {
        let address = address.clone();
        std::thread::spawn(move || post(&address, "/events", &[LINES, ("idempotency-key", "a")], &line(1)))
    };
    jobs::wait_until("a row has come as far as the sink", || {
        !all_files(&place.output()).is_empty()
    });
    let first = place.text("first");
    place.tell(&["savepoint", "connected", "--to", &first]);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!sending.is_finished(), "the job may still fail and forget it");
    place.tell(&["stop", "connected"]);
    let (status, said) = sending.join().expect("no panic").expect("an answer");
    assert_eq!((status, said.trim()), (200, r#"{"rows":1}"#));
    job.succeed();
    assert_eq!(read_csv(&place.output()).len(), 1);
    // Who goes on from the savepoint has the row, and its key.
    let job = place.start("connected", &[format!("--from={first}")], &parameters);
    jobs::wait_until("it is known", || {
        let answer = post(&address, "/events", &[LINES, ("idempotency-key", "a")], &line(1));
        matches!(answer, Ok((200, said)) if said.contains("repeated"))
    });
    place.tell(&["stop", "connected"]);
    job.succeed();
}

#[test]
fn inspect_says_what_becomes_of_rows() {
    let inspect = |from: &str, more: &[&str]| {
        let from = format!("--param=from={from}");
        let mut arguments = vec![
            "inspect",
            "--param=kind=connected",
            from.as_str(),
            "--param=input=127.0.0.1:1",
        ];
        arguments.extend(more);
        arguments.push(as_text(Guest::Flows.path()));
        let output = jobs::cli(&arguments);
        String::from_utf8(output.stdout).expect("text")
    };
    let text = inspect("webhook", &[]);
    assert!(
        text.contains("resent") && text.contains("their senders repeat them"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&inspect("tcp", &["--output=json"])).expect("JSON");
    assert_eq!(
        json["sources"],
        serde_json::json!([{ "name": "events", "replay": "lost" }])
    );
}
