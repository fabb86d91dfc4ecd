//! Connectors in jobs that are killed again and again: the guest `connected` numbers the rows of each key, so that
//! whatever is lost or comes twice shows in what it puts out.
//!
//! What is written as Avro or into SQLite is read by another job, of another parallelism, which writes it down as CSV.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millrace_tests::guests::Guest;
use millrace_tests::http::address_to_listen_at;
use millrace_tests::jobs::{self, PATIENCE, as_text, read_csv};

use crate::durable::{Place, spawn};

/// Keys of the rows that the tests write.
const KEYS: usize = 7;

/// A row as a line of JSON.
pub(crate) fn line(number: usize) -> String {
    format!(
        "{{\"key\":{},\"value\":{number},\"time\":{}}}\n",
        number % KEYS,
        number * 10
    )
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.expect("a file can be written");
}

/// What the job puts out of so many rows, sorted.
pub(crate) fn expected(rows: usize) -> Vec<String> {
    let mut counts = BTreeMap::<usize, usize>::new();
    let mut lines = Vec::new();
    for number in 0..rows {
        let count = counts.entry(number % KEYS).or_default();
        *count += 1;
        lines.push(format!("{},{count},0", number % KEYS));
    }
    lines.sort_unstable();
    lines
}

pub(crate) fn assert_once(place: &Place, rows: usize) {
    let mut got = read_csv(&place.output());
    got.sort_unstable();
    crate::durable::assert_same(&got, &expected(rows));
}

/// Runs a job that does not end, with kills, while `feed` writes what it reads, four times a life, and once more in the
/// last one, which ends by a signal when everything has come.
fn kill_while_fed(
    place: &Place,
    more: &[(&str, &str)],
    lives: usize,
    mut feed: impl FnMut(usize),
    is_there: impl Fn() -> bool,
) -> String {
    let mut more = more.to_vec();
    more.push(("kind", "connected"));
    for life in 0..lives {
        let parallelism = 1 + life as u32 % 3;
        let mut child = spawn(place, parallelism, "0", &[], &more, &[]);
        for step in 0..4 {
            feed(life * 4 + step);
            std::thread::sleep(Duration::from_millis(60 + (life as u64 * 37) % 50));
        }
        assert!(child.try_wait().expect("a child").is_none(), "{}", said(child));
        child.kill().expect("a child of ours");
        child.wait().expect("a child");
    }
    let mut child = spawn(place, 2, "0", &[], &more, &[]);
    // What it has to read shows that it has come as far as to listen to signals.
    feed(lives * 4);
    let begin = Instant::now();
    while !is_there() && begin.elapsed() < PATIENCE {
        assert!(child.try_wait().expect("a child").is_none(), "{}", said(child));
        std::thread::sleep(Duration::from_millis(20));
    }
    jobs::terminate(child)
}

/// Whether so many rows are in the output of a job that writes CSV.
fn has(place: &Place, rows: usize) -> impl Fn() -> bool {
    let output = place.output();
    move || read_csv(&output).len() >= rows
}

/// Appends so many lines of a step to a file.
fn appends(path: std::path::PathBuf, lines: usize) -> impl FnMut(usize) {
    move |step| append(&path, &(step * lines..(step + 1) * lines).map(line).collect::<String>())
}

/// Copies what is there to CSV, as it is.
fn copied(from: &str, input: &str) -> Vec<String> {
    let place = Place::new();
    let output = place.output();
    let pairs = [
        ("kind", "connected"),
        ("from", from),
        ("input", input),
        ("spared", "1"),
        ("output", as_text(&output)),
    ];
    jobs::succeed(Guest::Flows, jobs::parallel(3), &pairs);
    let mut rows = read_csv(&output);
    rows.sort_unstable();
    rows
}

/// Runs a job that ends, in lives of which all but the last are killed.
fn kill_while_it_reads(place: &Place, more: &[(&str, &str)], rate: &str) {
    let mut more = more.to_vec();
    more.push(("kind", "connected"));
    let rate = format!("--source-rate={rate}");
    for life in 0..8 {
        let mut child = spawn(place, 1 + life % 3, "0", std::slice::from_ref(&rate), &more, &[]);
        std::thread::sleep(Duration::from_millis(150 + u64::from(life) * 37 % 60));
        // It may have failed before it could be killed: then so does the last one.
        let _ = child.kill();
        child.wait().expect("a child");
    }
    let child = spawn(place, 2, "0", &[], &more, &[]);
    let output = child.wait_with_output().expect("a child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn said(child: std::process::Child) -> String {
    let output = child.wait_with_output().expect("a child");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Lines come piece by piece into two files that are rotated; some of the pieces end within a line.
#[test]
fn files_that_grow_are_read_once_through_kills_and_rotation() {
    const LINES: usize = 50;
    let place = Place::new();
    let folder = place.0.path().join("in");
    std::fs::create_dir(&folder).expect("a folder");
    let pattern = format!("{}/*.ndjson*", folder.display());
    let mut number = 0;
    let mut rest = String::new();
    let lives = 8;
    let feed = |step: usize| {
        for name in ["a.ndjson", "b.ndjson"] {
            let path = folder.join(name);
            let mut text = std::mem::take(&mut rest);
            for _ in 0..LINES {
                text.push_str(&line(number));
                number += 1;
            }
            let whole = name == "b.ndjson" || step % 5 == 4;
            let cut = text.len() - if whole { 0 } else { 9 };
            append(&path, &text[..cut]);
            if !whole {
                std::thread::sleep(Duration::from_millis(15));
                append(&path, &text[cut..]);
            }
            if step % 5 == 4 {
                std::fs::rename(&path, folder.join(format!("{name}.{step}"))).expect("a rotation");
            }
        }
    };
    let rows = (lives * 4 + 1) * 2 * LINES;
    let more = [("from", "follow"), ("input", pattern.as_str()), ("disorder", "100s")];
    kill_while_fed(&place, &more, lives, feed, has(&place, rows));
    assert_once(&place, rows);
}

/// Files come whole, some of them slowly, and are taken away when they are old.
#[test]
fn files_that_come_are_read_once_through_kills() {
    const LINES: usize = 80;
    let place = Place::new();
    let folder = place.0.path().join("in");
    std::fs::create_dir(&folder).expect("a folder");
    let lives = 6;
    let feed = |step: usize| {
        let text = (step * LINES..(step + 1) * LINES).map(line).collect::<String>();
        // The last line needs no end.
        std::fs::write(folder.join(".next"), text.trim_end()).expect("a file");
        std::fs::rename(folder.join(".next"), folder.join(format!("{step}.ndjson"))).expect("a file");
    };
    let input = as_text(&folder).to_owned();
    let rows = (lives * 4 + 1) * LINES;
    let more = [("from", "watch"), ("input", input.as_str()), ("disorder", "1000s")];
    kill_while_fed(&place, &more, lives, feed, has(&place, rows));
    assert_once(&place, rows);
}

/// History and then files that grow; the job is killed before, at and after the switch.
#[test]
fn a_hybrid_source_gives_history_and_then_what_is_live_once() {
    const HISTORY: usize = 60_000;
    let place = Place::new();
    let (old, new) = (place.0.path().join("old"), place.0.path().join("new"));
    std::fs::create_dir(&old).expect("a folder");
    std::fs::create_dir(&new).expect("a folder");
    for part in 0..3 {
        let numbers = part * HISTORY / 3..(part + 1) * HISTORY / 3;
        append(
            &old.join(format!("{part}.ndjson")),
            &numbers.map(line).collect::<String>(),
        );
    }
    let (lives, lines) = (6, 100);
    let feed = |step: usize| {
        let first = HISTORY + step * lines;
        append(
            &new.join("live.ndjson"),
            &(first..first + lines).map(line).collect::<String>(),
        );
    };
    let (other, input) = (as_text(&old).to_owned(), format!("{}/*", new.display()));
    let rows = HISTORY + (lives * 4 + 1) * lines;
    let more = [
        ("from", "hybrid"),
        ("other", other.as_str()),
        ("input", input.as_str()),
        ("disorder", "1000s"),
    ];
    kill_while_fed(&place, &more, lives, feed, has(&place, rows));
    assert_once(&place, rows);
}

#[test]
fn a_table_of_sqlite_holds_every_row_once_through_kills() {
    let place = Place::new();
    let (input, database) = (place.0.path().join("in.ndjson"), place.0.path().join("out.db"));
    append(&input, "");
    let (lives, lines) = (6, 100);
    let rows = (lives * 4 + 1) * lines;
    let (from, to) = (as_text(&input).to_owned(), as_text(&database).to_owned());
    let more = [
        ("from", "follow"),
        ("input", from.as_str()),
        ("to", "sqlite"),
        ("output", to.as_str()),
    ];
    let is_there = || database.exists() && copied("sqlite", &to).len() >= rows;
    kill_while_fed(&place, &more, lives, appends(input.clone(), lines), is_there);
    crate::durable::assert_same(&copied("sqlite", &to), &expected(rows));
}

#[test]
fn files_of_avro_hold_every_row_once_through_kills() {
    let place = Place::new();
    let input = place.0.path().join("in.ndjson");
    append(&input, "");
    let (lives, lines) = (6, 100);
    let rows = (lives * 4 + 1) * lines;
    let (from, to) = (as_text(&input).to_owned(), as_text(&place.output()).to_owned());
    let more = [("from", "follow"), ("input", from.as_str()), ("to", "avro")];
    let is_there = || copied("avro", &to).len() >= rows;
    kill_while_fed(&place, &more, lives, appends(input.clone(), lines), is_there);
    crate::durable::assert_same(&copied("avro", &to), &expected(rows));
}

/// Writes a table or files of so many rows, with a clean job.
fn prepare(place: &Place, to: &str, name: &str, rows: usize) -> String {
    let input = place.0.path().join("rows.ndjson");
    append(&input, &(0..rows).map(line).collect::<String>());
    let output = as_text(&place.0.path().join(name)).to_owned();
    let pairs = [
        ("kind", "connected"),
        ("from", "files"),
        ("input", as_text(&input)),
        ("spared", "1"),
        ("to", to),
        ("output", output.as_str()),
    ];
    jobs::succeed(Guest::Flows, jobs::parallel(2), &pairs);
    output
}

#[test]
fn tables_of_sqlite_and_files_of_avro_are_read_once_through_kills() {
    const ROWS: usize = 20_000;
    for (kind, name) in [("sqlite", "in.db"), ("avro", "in")] {
        let place = Place::new();
        let input = prepare(&place, kind, name, ROWS);
        let more = [("from", kind), ("input", input.as_str()), ("disorder", "1000s")];
        kill_while_it_reads(&place, &more, "15000");
        assert_once(&place, ROWS);
    }
}

/// A socket gives nothing twice: rows are lost with each kill, none is repeated, and the job has said so.
#[test]
fn what_comes_through_a_socket_is_never_repeated() {
    let place = Place::new();
    let address = address_to_listen_at();
    let (lives, lines) = (4, 50);
    let sent = AtomicUsize::new(0);
    let feed = |step: usize| {
        let text = (step * lines..(step + 1) * lines).map(line).collect::<String>();
        jobs::wait_until("the job listens", || TcpStream::connect(&address).is_ok());
        // A connection that a killed job had taken may break.
        if TcpStream::connect(&address)
            .and_then(|mut stream| stream.write_all(text.as_bytes()))
            .is_ok()
        {
            sent.fetch_add(lines, Ordering::Relaxed);
        }
    };
    let more = [("from", "tcp"), ("input", address.as_str()), ("disorder", "1000s")];
    // The last life has lost nothing.
    let said = kill_while_fed(&place, &more, lives, feed, has(&place, lines));
    assert!(said.contains("a socket does not give them again"), "{said}");
    let mut got = read_csv(&place.output());
    got.sort_unstable();
    assert!(
        got.len() >= lines && got.len() <= sent.load(Ordering::Relaxed),
        "{} rows",
        got.len()
    );
    let mut counts = BTreeMap::<&str, usize>::new();
    for row in &got {
        *counts.entry(row.split(',').next().expect("a key")).or_default() += 1;
    }
    let numbered = counts
        .iter()
        .flat_map(|(key, count)| (1..=*count).map(move |number| format!("{key},{number},0")));
    let mut numbered: Vec<String> = numbered.collect();
    numbered.sort_unstable();
    crate::durable::assert_same(&got, &numbered);
}

/// Who listens gets every row, some of them again after a kill.
#[test]
fn what_goes_through_a_socket_comes_at_least_once() {
    let place = Place::new();
    let input = place.0.path().join("in.ndjson");
    append(&input, "");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let got = Arc::new(Mutex::new(BTreeSet::new()));
    let gathered = got.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let gathered = gathered.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    gathered.lock().expect("no panic").insert(line);
                }
            });
        }
    });
    let (lives, lines) = (4, 100);
    let rows = (lives * 4 + 1) * lines;
    let from = as_text(&input).to_owned();
    let more = [
        ("from", "follow"),
        ("input", from.as_str()),
        ("to", "tcp"),
        ("output", address.as_str()),
    ];
    let whole = |lines: &BTreeSet<String>| expected(rows).iter().all(|row| lines.contains(row));
    let is_there = || whole(&got.lock().expect("no panic"));
    kill_while_fed(&place, &more, lives, appends(input.clone(), lines), is_there);
    assert!(whole(&got.lock().expect("no panic")));
}
