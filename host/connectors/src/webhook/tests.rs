//! Goal: a server that goes by `Idempotency-Key` gets each row of a completed checkpoint once, whatever fails when; requests are
//! what the options say.
//! Method: a server in the same process that keeps what it gets, and fails or loses its answers as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use millrace_core::connector::{Delivery, Sink};

use super::sink::WebhookSink;
use crate::testing::{context, identity, options};

/// A request: headers by name, and the body.
type Got = (BTreeMap<String, String>, String);

/// What the server got, and the statuses that it answers with next; 0: it breaks the connection when it has all. Then 200.
#[derive(Clone, Default)]
struct Hook {
    got: Arc<Mutex<Vec<Got>>>,
    next: Arc<Mutex<Vec<u16>>>,
    /// Requests that are being answered, and the most that ever were.
    busy: Arc<Mutex<(usize, usize)>>,
    /// Nobody is answered before so many are there.
    together: usize,
}

impl Hook {
    fn start() -> (Hook, String) {
        Hook::start_for(1)
    }

    /// One that answers so many together, until there are no more.
    fn start_for(together: usize) -> (Hook, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let hook = Hook {
            together,
            ..Hook::default()
        };
        let taking = hook.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let hook = taking.clone();
                match together {
                    1 => hook.talk(stream),
                    _ => _ = std::thread::spawn(move || hook.talk(stream)),
                }
            }
        });
        (hook, format!("http://127.0.0.1:{port}/hook?secret=1"))
    }

    fn talk(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let (mut headers, mut line) = (BTreeMap::new(), String::new());
        loop {
            if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                return; // the sender went away in the middle of its request
            }
            if line.trim_end().is_empty() {
                break;
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
                None => headers.insert("request".to_owned(), line.trim_end().to_owned()),
            };
            line.clear();
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let body = String::from_utf8(body).expect("text");
        self.got.lock().expect("nobody panics").push((headers, body));
        self.gather();
        let status = self.next.lock().expect("nobody panics").pop().unwrap_or(200);
        if status > 0 {
            let _ = write!(
                reader.get_mut(),
                "HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
            );
        }
    }

    /// Waits for others, for a while.
    fn gather(&self) {
        let count = |change: isize| {
            let mut busy = self.busy.lock().expect("nobody panics");
            busy.0 = busy.0.saturating_add_signed(change);
            busy.1 = busy.1.max(busy.0);
            busy.1
        };
        count(1);
        for _ in 0..200 {
            if count(0) >= self.together {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Others that came at the same time are counted, too.
        std::thread::sleep(Duration::from_millis(if self.together > 1 { 20 } else { 0 }));
        count(-1);
    }

    fn take(&self) -> Vec<Got> {
        std::mem::take(&mut self.got.lock().expect("nobody panics"))
    }

    /// Rows as a server has them that goes by keys.
    fn rows(&self) -> Vec<String> {
        let mut known = BTreeMap::new();
        let mut rows = Vec::new();
        for (headers, body) in self.take() {
            let before = known.insert(headers["idempotency-key"].clone(), body.clone());
            match before {
                None => rows.extend(body.lines().map(str::to_owned)),
                Some(before) => assert_eq!(before, body, "a key stands for the same rows"),
            }
        }
        rows
    }
}

fn rows(numbers: &[i64]) -> RecordBatch {
    let texts = numbers.iter().map(|number| format!("a \"{number}\"\n,"));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(Int64Array::from(numbers.to_vec()))),
        ("text", Arc::new(StringArray::from_iter_values(texts))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of equal length")
}

fn line(number: i64) -> String {
    format!(r#"{{"n":{number},"text":"a \"{number}\"\n,"}}"#)
}

fn sink(url: &str, more: &[(&str, &str)]) -> WebhookSink {
    let mut pairs = vec![("url", url), ("retry.delay.ms", "1"), ("timeout.ms", "5000")];
    pairs.extend(more);
    WebhookSink::new(options(&pairs), &identity()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_is_sent() {
    let (hook, url) = Hook::start();
    // Tests have this variable for certain.
    let more = [
        ("mode", "immediate"),
        ("body", "array"),
        ("batch.rows", "2"),
        ("header.x-one", "1"),
        ("password.env", "PATH"),
    ];
    let sink = sink(&url, &more);
    assert_eq!(sink.delivery(), Delivery::AtLeastOnce);
    let mut writer = sink.open(&context(0, 1)).expect("a writer");
    writer.write(&rows(&[1, 2, 3]), Duration::ZERO).expect("it is taken");
    assert_eq!(sink.summary(), [("rows".to_owned(), "3".to_owned())]);
    let got = hook.take();
    let bodies: Vec<&str> = got.iter().map(|(_, body)| body.as_str()).collect();
    assert_eq!(bodies, [format!("[{},{}]", line(1), line(2)), format!("[{}]", line(3))]);
    let headers = &got[0].0;
    assert_eq!(headers["request"], "POST /hook?secret=1 HTTP/1.1");
    assert_eq!(
        (headers["content-type"].as_str(), headers["x-one"].as_str()),
        ("application/json", "1")
    );
    assert!(headers["authorization"].starts_with("Bearer /"), "{headers:?}");
    assert!(!headers.contains_key("idempotency-key"));
    let bytes = bodies.iter().map(|body| body.len() as u64).sum::<u64>();
    assert_eq!(writer.bytes_written(), bytes);
}

#[test]
fn a_server_that_fails_is_asked_again() {
    let (hook, url) = Hook::start();
    let sink = sink(&url, &[("mode", "immediate"), ("attempts", "3")]);
    let mut writer = sink.open(&context(0, 1)).expect("a writer");
    *hook.next.lock().expect("nobody panics") = vec![503, 0];
    writer.write(&rows(&[1]), Duration::ZERO).expect("the third time");
    assert_eq!(hook.take().len(), 3);
    *hook.next.lock().expect("nobody panics") = vec![404];
    let error = writer.write(&rows(&[2]), Duration::ZERO).expect_err("it is not there");
    assert_eq!(error.code(), "IO0170");
    let message = error.to_string();
    assert!(
        message.contains("/hook does not take rows: status 404 no") && !message.contains("secret"),
        "{message}"
    );
    assert_eq!(hook.take().len(), 1, "that is not worth another attempt");
}

#[test]
fn rows_of_completed_checkpoints_are_there_once() {
    let (hook, url) = Hook::start();
    let sink = sink(&url, &[("batch.rows", "2"), ("attempts", "1")]);
    assert_eq!(sink.delivery(), Delivery::Idempotent);
    let mut writer = sink.open(&context(1, 2)).expect("a writer");
    writer.write(&rows(&[1, 2, 3]), Duration::ZERO).expect("they wait");
    let first = writer.pre_commit().expect("entries");
    assert!(
        hook.take().is_empty(),
        "nothing is sent before its checkpoint is complete"
    );
    // It gets the second entry, and its answer is lost.
    *hook.next.lock().expect("nobody panics") = vec![0, 200];
    assert!(writer.commit(&first).is_err());
    drop(writer);
    sink.recover(&first).expect("the same again");
    let mut writer = sink.open(&context(0, 1)).expect("a writer");
    writer.write(&rows(&[4]), Duration::ZERO).expect("they wait");
    let second = writer.pre_commit().expect("entries");
    writer.write(&rows(&[5]), Duration::ZERO).expect("of no checkpoint");
    writer.commit(&second).expect("it is taken");
    drop(writer);
    assert_eq!(hook.rows(), [line(1), line(2), line(3), line(4)]);
}

#[test]
fn several_requests_are_under_way_where_order_does_not_matter() {
    let (hook, url) = Hook::start_for(4);
    let sink = sink(&url, &[("batch.rows", "1"), ("requests.max", "4"), ("attempts", "1")]);
    let mut writer = sink.open(&context(0, 1)).expect("a writer");
    let numbers: Vec<i64> = (0..30).collect();
    writer.write(&rows(&numbers), Duration::ZERO).expect("they wait");
    let prepared = writer.pre_commit().expect("entries");
    assert_eq!(prepared.len(), 30);
    // Some are taken, and the answer to one is lost.
    *hook.next.lock().expect("nobody panics") = vec![0, 200, 200, 200, 200, 200];
    let error = writer.commit(&prepared).expect_err("an answer is lost");
    assert_eq!(error.code(), "IO0170", "{error}");
    assert_eq!(
        hook.busy.lock().expect("nobody panics").1,
        4,
        "as many at a time as may be"
    );
    drop(writer);
    sink.recover(&prepared).expect("the same again");
    let mut got = hook.rows();
    got.sort_unstable();
    let mut expected: Vec<String> = numbers.into_iter().map(line).collect();
    expected.sort_unstable();
    assert_eq!(got, expected);
    // Those of a writer count once they are taken.
    let mut writer = sink.open(&context(0, 1)).expect("a writer");
    let before = sink.summary();
    writer.write(&rows(&[31, 32, 33]), Duration::ZERO).expect("they wait");
    let prepared = writer.pre_commit().expect("entries");
    assert_eq!((sink.summary(), writer.bytes_written()), (before, 0));
    writer.commit(&prepared).expect("they are taken");
    assert!(writer.bytes_written() > 0);
    assert_eq!(hook.take().len(), 3);
}

#[test]
fn options_are_checked() {
    let check = |pairs: &[(&str, &str)], part: &str| {
        let error = WebhookSink::new(options(pairs), &identity())
            .err()
            .expect("it is refused");
        assert!(error.to_string().contains(part), "{error}");
    };
    let url = ("url", "https://a.example.org");
    check(&[], "url");
    check(&[("url", "ftp://a")], "https://");
    check(&[("url", "here")], "no URL");
    check(&[url, ("mode", "twice")], "checkpointed or immediate");
    check(&[url, ("body", "xml")], "lines or array");
    check(&[url, ("attempts", "0")], "at least 1");
    check(&[url, ("requests.max", "0")], "at least 1");
    check(&[url, ("requests.max", "1001")], "at most 1000");
    check(
        &[url, ("requests.max", "2"), ("mode", "immediate")],
        "`requests.max` is for mode `checkpointed`",
    );
    check(&[url, ("batches", "1")], "batches");
}
