//! Goal: a request is answered as its head, its body and its rows deserve, and well only when its rows are safe; what comes again
//! counts once; nothing waits or is kept without bounds.
//! Method: requests over sockets of this machine, and a reader that the test polls and tells of checkpoints, as the engine does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use millrace_core::connector::{Poll, Rejected, Sink};

use super::*;
use crate::testing::{context, identity, options};
use crate::webhook::sink::WebhookSink;

const PATIENCE: Duration = Duration::from_secs(20);

const JSON: (&str, &str) = ("content-type", "application/json");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").to_string()
}

/// A source of numbers, and its address.
struct Hook {
    source: WebhookSource,
    address: String,
}

impl Hook {
    fn new(more: &[(&str, &str)]) -> Self {
        let address = free_address();
        let mut pairs = vec![("address", address.as_str()), ("path", "/numbers")];
        pairs.extend(more);
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let source = WebhookSource::new(options(&pairs), schema).unwrap_or_else(|error| panic!("{error}"));
        source.splits(1).expect("it listens");
        Hook { source, address }
    }

    fn open(&self, position: Position) -> Job {
        let id = "webhook".to_owned();
        let context = SubtaskContext {
            checkpoints: true,
            ..context(0, 1)
        };
        let reader = self.source.open(&Split { id, position }, &context);
        Job {
            reader: reader.unwrap_or_else(|error| panic!("{error}")),
            numbers: Vec::new(),
        }
    }

    fn post(&self, body: &str, headers: &[(&str, &str)]) -> JoinHandle<Answer> {
        self.ask("POST /numbers", headers, body)
    }

    fn ask(&self, what: &str, headers: &[(&str, &str)], body: &str) -> JoinHandle<Answer> {
        let mut request = format!("{what} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if headers.iter().all(|(name, _)| *name != "transfer-encoding") {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str(&format!("\r\n{body}"));
        let address = self.address.clone();
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.write_all(request.as_bytes()).expect("it is taken");
            Answer::read(stream)
        })
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(stream: TcpStream) -> Answer {
        let (mut reader, mut head) = (BufReader::new(stream), String::new());
        while !head.ends_with("\r\n\r\n") {
            let read = reader.read_line(&mut head).expect("an answer");
            assert!(read > 0, "the connection was cut: {head}");
        }
        let mut body = String::new();
        reader.read_to_string(&mut body).expect("a body");
        Answer {
            status: head[9..12].parse().expect("a status"),
            head,
            body,
        }
    }
}

fn check(answer: JoinHandle<Answer>, status: u16, part: &str) -> Answer {
    let answer = answer.join().expect("an answer");
    assert!(answer.status == status && answer.body.contains(part), "{answer:?}");
    answer
}

/// Reads as the engine does.
struct Job {
    reader: Box<dyn SplitReader>,
    numbers: Vec<i64>,
}

impl Job {
    fn poll(&mut self) -> Vec<Rejected> {
        match self.reader.poll(1_000, Duration::ZERO).expect("no poll fails") {
            Poll::Rows(rows) => {
                self.numbers
                    .extend(rows.rows.column(0).as_primitive::<Int64Type>().values());
                rows.rejected
            }
            Poll::Pending { .. } => {
                std::thread::sleep(Duration::from_millis(1));
                Vec::new()
            }
            Poll::End => panic!("it has no end"),
        }
    }

    /// Polls until there are so many numbers.
    fn poll_to(&mut self, count: usize) {
        let begin = Instant::now();
        while self.numbers.len() < count {
            assert!(begin.elapsed() < PATIENCE, "{:?}", self.numbers);
            assert!(self.poll().is_empty(), "a row is rejected");
        }
        assert_eq!(self.numbers.len(), count, "{:?}", self.numbers);
    }

    /// Polls until the answer is there.
    fn poll_until_answered(&mut self, answer: &JoinHandle<Answer>) {
        while !answer.is_finished() {
            self.poll();
        }
    }

    fn complete(&mut self) -> Position {
        let position = self.reader.position();
        self.reader.handle_complete(&position).expect("its own position");
        position
    }
}

#[test]
fn an_answer_waits_for_a_complete_checkpoint() {
    let hook = Hook::new(&[]);
    let mut job = hook.open(Position::START);
    let first = hook.post(r#"[{"n":1},{"n":2}]"#, &[JSON, ("idempotency-key", "a")]);
    job.poll_to(2);
    let before = job.reader.position();
    let second = hook.post("{\"n\":3}\n\n{\"n\":4}\r\n", &[LINES, ("Idempotency-Key", "\"b\"")]);
    job.poll_to(4);
    std::thread::sleep(Duration::from_millis(50));
    assert!(!first.is_finished() && !second.is_finished());
    job.reader.handle_complete(&before).expect("its own position");
    let answer = check(first, 200, r#"{"rows":2}"#);
    assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
    // One that comes again waits with the other.
    let again = hook.post("{\"n\":3}\n\n{\"n\":4}\r\n", &[LINES, ("idempotency-key", "b")]);
    for _ in 0..50 {
        job.poll();
    }
    assert!(!second.is_finished() && !again.is_finished());
    let position = job.complete();
    check(second, 200, r#"{"rows":2}"#);
    check(again, 200, r#"{"repeated":true,"rows":0}"#);
    // So does one that comes to a later attempt.
    drop(job);
    let mut job = hook.open(position);
    for key in ["a", "b"] {
        let again = hook.post(r#"{"n":9}"#, &[JSON, ("idempotency-key", key)]);
        job.poll_until_answered(&again);
        check(again, 200, "repeated");
    }
    let third = hook.post(r#"{"n":5}"#, &[JSON]);
    job.poll_to(1);
    job.complete();
    check(third, 200, r#"{"rows":1}"#);
    assert_eq!(job.numbers, [5]);
}

#[test]
fn a_request_that_no_checkpoint_holds_is_told_to_come_back() {
    let hook = Hook::new(&[("timeout.ms", "200")]);
    let key = [JSON, ("idempotency-key", "a")];
    // Nobody reads yet.
    let answer = check(hook.post("{}", &key), 503, "does not read");
    assert!(answer.head.contains("retry-after: 1"), "{answer:?}");
    let mut job = hook.open(Position::START);
    let late = hook.post(r#"{"n":1}"#, &key);
    job.poll_to(1);
    check(late, 503, "within 200 ms");
    // Its rows were taken all the same.
    let again = hook.post(r#"{"n":1}"#, &key);
    while !again.is_finished() {
        job.poll();
        job.complete();
    }
    check(again, 200, "repeated");
    assert_eq!(job.numbers, [1]);
    // The attempt ends before its checkpoint.
    let lost = hook.post(r#"{"n":2}"#, &[JSON, ("idempotency-key", "b")]);
    job.poll_to(2);
    let position = Position::START;
    drop(job);
    check(lost, 503, "no checkpoint with these rows");
    let mut job = hook.open(position);
    let again = hook.post(r#"{"n":2}"#, &[JSON, ("idempotency-key", "b")]);
    job.poll_to(1);
    job.complete();
    check(again, 200, r#"{"rows":1}"#);
}

#[test]
fn a_job_that_ends_answers_before() {
    let hook = Hook::new(&[]);
    let mut job = hook.open(Position::START);
    let (taken, waits) = (hook.post(r#"{"n":1}"#, &[JSON]), hook.post(r#"{"n":2}"#, &[JSON]));
    job.poll_to(2);
    let silent = TcpStream::connect(&hook.address).expect("it listens");
    let address = hook.address.clone();
    let begin = Instant::now();
    drop(job);
    drop(hook);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    check(taken, 503, "no checkpoint");
    check(waits, 503, "no checkpoint");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    drop(silent);
}

#[test]
fn bodies_and_rows_that_are_none() {
    let hook = Hook::new(&[]);
    let mut job = hook.open(Position::START);
    for (kind, body, part) in [
        (
            JSON,
            "[{\"n\":1},\n{\"n\":}]",
            "the body is not JSON: expected value at line 2 column 6",
        ),
        (JSON, "", "EOF"),
    ] {
        let wrong = hook.post(body, &[kind, ("idempotency-key", "a")]);
        job.poll_until_answered(&wrong);
        check(wrong, 400, part);
    }
    // As with the policy to fail: nothing of it is taken.
    for (kind, body, part) in [
        (
            JSON,
            r#"[{"n":1},{"n":"x"}]"#,
            r#"/numbers request 1:2: column `n`: `\"x\"` is not int64"#,
        ),
        (LINES, "{\"n\":1}\n{\"n\":\n", "/numbers request 1:2: it is not JSON"),
        (JSON, "7", "/numbers request 1:1: it is JSON, but not an object"),
    ] {
        let wrong = hook.post(body, &[kind, ("idempotency-key", "a")]);
        let rejected = std::iter::repeat_with(|| job.poll()).find(|rejected| !rejected.is_empty());
        assert!(job.reader.refuse(&rejected.expect("it does not end")[0]));
        check(wrong, 400, part);
    }
    job.numbers.clear();
    // As with the policy to skip.
    let partly = hook.post(r#"[{"n":1},{"n":"x"},{"n":3}]"#, &[JSON, ("idempotency-key", "a")]);
    while !partly.is_finished() {
        job.poll();
        job.complete();
    }
    check(partly, 200, r#"{"rejected":1,"rows":2}"#);
    let empty = hook.post("[]", &[JSON]);
    job.poll_until_answered(&empty);
    check(empty, 200, r#"{"rows":0}"#);
    let other = hook.post("[]", &[JSON, ("idempotency-key", "a")]);
    job.poll_until_answered(&other);
    check(other, 422, "another body");
    assert_eq!(job.numbers, [1, 3]);
}

#[test]
fn requests_are_refused_by_their_heads() {
    // Tests have this variable for certain.
    let token = format!("Bearer {}", std::env::var("PATH").expect("a path"));
    let hook = Hook::new(&[("password.env", "PATH"), ("body.bytes.max", "10")]);
    let allowed = ("authorization", token.as_str());
    let mut job = hook.open(Position::START);
    check(hook.ask("POST /number", &[JSON], "{}"), 404, "nothing at this path");
    let answer = check(hook.ask("GET /numbers", &[JSON], ""), 405, "GET");
    assert!(answer.head.contains("allow: POST"), "{answer:?}");
    let answer = check(hook.post("{}", &[JSON]), 401, "bearer token");
    assert!(answer.head.contains("www-authenticate: Bearer"), "{answer:?}");
    check(hook.post("{}", &[allowed]), 415, "content-type");
    check(
        hook.post("{}", &[allowed, JSON, ("content-encoding", "gzip")]),
        415,
        "gzip",
    );
    check(
        hook.post("{}", &[allowed, JSON, ("idempotency-key", "")]),
        400,
        "Idempotency-Key",
    );
    let large = " ".repeat(1_000_000);
    check(hook.post(&large, &[allowed, JSON]), 413, "10 bytes");
    let chunked = [allowed, JSON, ("transfer-encoding", "chunked")];
    check(
        hook.post("10\r\n{\"n\":0000000001}\r\n0\r\n\r\n", &chunked),
        413,
        "10 bytes",
    );
    let small = hook.post("8\r\n{\"n\":42}\r\n0\r\n\r\n", &chunked);
    job.poll_to(1);
    job.complete();
    check(small, 200, r#"{"rows":1}"#);
}

#[test]
fn what_waits_is_bounded() {
    let hook = Hook::new(&[("requests.max", "2"), ("bytes.max", "20"), ("body.bytes.max", "20")]);
    let mut job = hook.open(Position::START);
    let first = hook.post(r#"{"n":1,"m":"......"}"#, &[JSON]);
    // Its bytes are free again when it was read.
    let begin = Instant::now();
    while hook.source.server().expect("it listens").free().1 > 0 {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    check(hook.post(r#"{"n":2}"#, &[JSON]), 503, "too many bytes");
    job.poll_to(1);
    let second = hook.post(r#"{"n":2}"#, &[JSON]);
    job.poll_to(2);
    let answer = check(hook.post(r#"{"n":3}"#, &[JSON]), 503, "too many requests");
    assert!(answer.head.contains("retry-after: 1"), "{answer:?}");
    job.complete();
    check(first, 200, "rows");
    check(second, 200, "rows");
    let begin = Instant::now();
    while hook.source.server().expect("it listens").free() != (2, 20) {
        assert!(begin.elapsed() < PATIENCE, "places are free again");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn receipts_do_not_wait() {
    let hook = Hook::new(&[("acknowledge", "receipt")]);
    assert_eq!(hook.source.replay(), Replay::Lost);
    assert!(
        hook.source
            .lost_on_restart()
            .expect("a warning")
            .contains(&hook.address)
    );
    let mut job = hook.open(Position::START);
    let key = [JSON, ("idempotency-key", "a")];
    let first = hook.post(r#"{"n":1}"#, &key);
    job.poll_until_answered(&first);
    check(first, 202, r#"{"rows":1}"#);
    let again = hook.post(r#"{"n":1}"#, &key);
    job.poll_until_answered(&again);
    check(again, 202, "repeated");
    assert_eq!(job.numbers, [1]);
}

/// A sink in another job sends, and repeats what was not answered: its keys are known here.
#[test]
fn what_a_sink_sends_is_there_once() {
    let hook = Hook::new(&[("timeout.ms", "60")]);
    assert_eq!(hook.source.replay(), Replay::Resent);
    let url = format!("http://{}/numbers", hook.address);
    let pairs = [
        ("url", url.as_str()),
        ("batch.rows", "2"),
        ("attempts", "1000"),
        ("retry.delay.ms", "1"),
    ];
    let sending = std::thread::spawn({
        let sink = WebhookSink::new(options(&pairs), &identity()).unwrap_or_else(|error| panic!("{error}"));
        move || {
            let mut writer = sink.open(&context(0, 1)).expect("a writer");
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..7));
            let rows = RecordBatch::try_from_iter([("n", numbers)]).expect("one column");
            writer.write(&rows, Duration::ZERO).expect("they wait");
            let entries = writer.pre_commit().expect("entries");
            writer.commit(&entries).expect("all is taken");
        }
    });
    let mut job = hook.open(Position::START);
    let (mut polls, mut complete, mut committed) = (0_u64, Position::START, Vec::new());
    while !sending.is_finished() {
        job.poll();
        polls += 1;
        if polls % 97 == 0 {
            complete = job.complete();
            committed.append(&mut job.numbers);
        }
        if polls % 211 == 0 {
            drop(job);
            job = hook.open(complete.clone());
        }
    }
    sending.join().expect("all is taken");
    committed.append(&mut job.numbers);
    assert!(committed.into_iter().eq(0..7));
}

#[test]
fn options_are_checked() {
    let check = |pairs: &[(&str, &str)], code: &str, part: &str| {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let error = WebhookSource::new(options(pairs), schema).err().expect("it is refused");
        assert!(error.code() == code && error.to_string().contains(part), "{error}");
    };
    let address = ("address", "127.0.0.1:0");
    check(&[], "CN0002", "address");
    check(&[("address", "8080")], "CN0171", "host and a port");
    check(&[address, ("path", "orders")], "CN0171", "such as `/orders`");
    check(&[address, ("acknowledge", "never")], "CN0171", "checkpoint or receipt");
    check(&[address, ("timeout.ms", "0")], "CN0171", "between 1");
    check(&[address, ("keys.max", "10")], "CN0171", "`keys.max` is less");
    check(&[address, ("bytes.max", "10")], "CN0171", "`bytes.max` is less");
    check(&[address, ("keys", "10")], "CN0004", "keys");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let source = WebhookSource::new(options(&[("address", &address)]), schema).expect("options are right");
    assert_eq!(source.splits(1).expect_err("it is taken").code(), "IO0150");
}
