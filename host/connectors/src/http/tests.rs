//! Requests against a server in the same process that answers as its paths say.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use arrow_schema::Schema;
use millrace_core::connector::Waker;
use millrace_core::graph::{Origin, RequestOrder, RequestsDecl, Retry};
use millrace_core::requests::{Answer, FailureKind, Request};

use super::{Client, Counts};

/// Answers `/STATUS`, `/hang`, `/flaky` (every third is 200, the others 503), `/large`, `/to/PORT` (a redirect).
fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let count = Arc::new(AtomicU32::new(1));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = count.clone();
            std::thread::spawn(move || talk(stream, &count));
        }
    });
    port
}

fn talk(mut stream: TcpStream, count: &AtomicU32) {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while !text.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(read @ 1..) => text.extend(&chunk[..read]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let path = text.split(' ').nth(1).unwrap_or_default();
    let (status, body, more) = match path {
        "/hang" => return std::thread::sleep(Duration::from_secs(5)),
        "/flaky" if !count.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) => (503, "busy".to_owned(), String::new()),
        "/flaky" => (200, "at last".to_owned(), String::new()),
        "/large" => (200, "x".repeat(5_000), String::new()),
        path if path.starts_with("/to/") => {
            let port = &path["/to/".len()..];
            (302, String::new(), format!("location: http://127.0.0.1:{port}/200\r\n"))
        }
        path => (path[1..].parse().unwrap_or(404), text.clone(), String::new()),
    };
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
}

fn declared(origins: &[String]) -> RequestsDecl {
    RequestsDecl {
        order: RequestOrder::Unordered,
        capacity: 10,
        timeout_ms: 400,
        retry: Some(Retry {
            attempts: 3,
            delay_ms: 5,
            statuses: vec![503],
        }),
        response_bytes_max: 1_000,
        origins: origins
            .iter()
            .map(|origin| Origin::parse(origin).expect("an origin"))
            .collect(),
        schema: Arc::new(Schema::empty()),
        hints: Vec::new(),
    }
}

/// What a request comes to, and what was counted.
fn ask(declared: &RequestsDecl, request: Request) -> (Answer, Counts) {
    let woken = Arc::new((Mutex::new(false), Condvar::new()));
    let sleeper = woken.clone();
    let waker = Waker(Arc::new(move || {
        *sleeper.0.lock().expect("nobody panics") = true;
        sleeper.1.notify_all();
    }));
    let mut requester = Client::new(declared).expect("a client").requester(waker);
    requester.send(7, request);
    let guard = woken.0.lock().expect("nobody panics");
    drop(woken.1.wait_while(guard, |woken| !*woken).expect("nobody panics"));
    let mut answers = Vec::new();
    assert!(requester.has_answers());
    requester.take_answers(&mut answers);
    assert!(!requester.has_answers());
    let [(7, answer)] = &answers[..] else {
        panic!("one answer: {answers:?}");
    };
    (answer.clone(), requester.counts())
}

fn get(url: String) -> Request {
    Request {
        method: "GET".to_owned(),
        url,
        headers: vec![("x-one".to_owned(), "1".to_owned())],
        body: b"body".to_vec(),
    }
}

#[test]
fn what_servers_say() {
    let (port, other) = (serve(), serve());
    let here = format!("http://127.0.0.1:{port}");
    let declared = declared(std::slice::from_ref(&here));
    let check = |path: &str, expect: Result<u16, FailureKind>, counts: (u64, u64, u64)| {
        let (answer, counted) = ask(&declared, get(format!("{here}{path}")));
        let got = answer
            .as_ref()
            .map(|response| response.status)
            .map_err(|failure| failure.kind);
        assert_eq!(got, expect, "{path} {answer:?}");
        assert_eq!((counted.retries, counted.timeouts, counted.failures), counts, "{path}");
        answer
    };
    let echoed = check("/200", Ok(200), (0, 0, 0)).expect("a response").body;
    let echoed = String::from_utf8(echoed).expect("text");
    assert!(
        echoed.starts_with("GET /200 HTTP/1.1") && echoed.contains("x-one: 1"),
        "{echoed}"
    );
    check("/404", Ok(404), (0, 0, 0)).expect("an error of the server is a response");
    check("/503", Ok(503), (2, 0, 0)).expect("the last one");
    check("/flaky", Ok(200), (2, 0, 0)).expect("at last");
    let _ = check("/large", Err(FailureKind::TooLarge), (0, 0, 1));
    let _ = check("/hang", Err(FailureKind::Timeout), (0, 1, 0));
    let _ = check(&format!("/to/{port}"), Ok(200), (0, 0, 0));
    let _ = check(&format!("/to/{other}"), Ok(302), (0, 0, 0));
}

#[test]
fn what_is_not_asked() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("bound")
        .port();
    let declared = declared(&[format!("http://127.0.0.1:{closed}")]);
    let check = |request: Request, expect: FailureKind, retries: u64| {
        let (answer, counts) = ask(&declared, request);
        let failure = answer.expect_err("nobody answers");
        assert_eq!((failure.kind, counts.retries), (expect, retries), "{failure:?}");
    };
    check(get("http://example.org/".to_owned()), FailureKind::NotAllowed, 0);
    check(get("here".to_owned()), FailureKind::Invalid, 0);
    let here = get(format!("http://127.0.0.1:{closed}/"));
    check(here.clone(), FailureKind::Connection, 2);
    let method = "NO METHOD".to_owned();
    check(Request { method, ..here.clone() }, FailureKind::Invalid, 0);
    let headers = vec![("a b".to_owned(), "1".to_owned())];
    check(Request { headers, ..here }, FailureKind::Invalid, 0);
}
