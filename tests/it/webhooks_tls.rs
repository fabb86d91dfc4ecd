//! Goal: a webhook source with a certificate takes requests over TLS, and only over TLS, from those who are to send some; sources
//! at one address have a path each. Method: the source by itself and in a job, and a client of TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, Field, Schema};
use millrace_core::Error;
use millrace_core::connector::{Options, Poll, Position, Source, Split, SplitReader, SubtaskContext, Waker};
use millrace_tests::certificates::{Authority, Certified};
use millrace_tests::http::{address_to_listen_at, post, post_with_tls};
use millrace_tests::jobs::{as_text, wait_until};

const JSON: (&str, &str) = ("content-type", "application/json");

fn source(address: &str, more: &[(&str, &str)]) -> Result<Arc<dyn Source>, Error> {
    let pairs = [&[("address", address)], more].concat();
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let connector = millrace_connectors::connector("webhook").expect("it is built in");
    let source = connector.source(Options::new(owned).expect("distinct options"), schema)?;
    Ok(source.expect("it has a source"))
}

/// As a job without checkpoints opens it: requests are answered on receipt.
fn open(source: &Arc<dyn Source>) -> Box<dyn SplitReader> {
    let split = Split {
        id: "webhook".to_owned(),
        position: Position::START,
    };
    let context = SubtaskContext {
        subtask: 0,
        parallelism: 1,
        waker: Waker(Arc::new(|| ())),
        checkpoints: false,
    };
    source.open(&split, &context).expect("it listens")
}

fn listening(address: &str, more: &[(&str, &str)]) -> (Arc<dyn Source>, Box<dyn SplitReader>) {
    let source = source(address, more).expect("sound options");
    source.splits(1).expect("it listens");
    let reader = open(&source);
    (source, reader)
}

/// The numbers that a request brings, while it is being answered.
fn taken(reader: &mut dyn SplitReader, send: impl FnOnce() -> std::io::Result<(u16, String)> + Send) -> Vec<i64> {
    let mut numbers = Vec::new();
    std::thread::scope(|scope| {
        let answer = scope.spawn(send);
        wait_until("an answer", || {
            match reader.poll(1_000, Duration::ZERO).expect("no poll fails") {
                Poll::Rows(rows) => numbers.extend(rows.rows.column(0).as_primitive::<Int64Type>().values()),
                Poll::Pending { .. } => {}
                Poll::End => panic!("it has no end"),
            }
            answer.is_finished()
        });
        let (status, said) = answer.join().expect("no panic").expect("an answer");
        assert_eq!(status, 202, "{said}");
    });
    numbers
}

fn status(answer: std::io::Result<(u16, String)>) -> u16 {
    answer.expect("an answer").0
}

#[test]
fn requests_come_over_tls() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (ours, others) = (
        Authority::new(folder.path(), "ours"),
        Authority::new(folder.path(), "others"),
    );
    let own = ours.certify("server", &["localhost"]);
    let (sender, stranger) = (ours.certify("sender", &[]), others.certify("stranger", &[]));
    let files = [
        ("certificate.file", as_text(&own.certificate)),
        ("key.file", as_text(&own.key)),
        ("path", "/in"),
    ];
    let send = |address: &str, trusted: &Path, own: Option<&Certified>, number: i64| {
        post_with_tls(address, (trusted, own), "/in", &[JSON], &format!("{{\"n\":{number}}}"))
    };
    let address = address_to_listen_at();
    let (source, mut reader) = listening(&address, &files);
    for number in 0..3 {
        let numbers = taken(&mut *reader, || send(&address, ours.file(), None, number));
        assert_eq!(numbers, [number]);
    }
    // Whoever does not trust the server, or does not encrypt, sends nothing, and is in nobody's way.
    let error = send(&address, others.file(), None, 7).expect_err("a stranger");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert!(post(&address, "/in", &[JSON], "{\"n\":8}").is_err());
    let other_path = post_with_tls(&address, (ours.file(), None), "/other", &[JSON], "{}");
    assert_eq!(status(other_path), 404);
    let numbers = taken(&mut *reader, || send(&address, ours.file(), None, 9));
    assert_eq!(numbers, [9], "what was refused is not there");
    drop((reader, source));

    // Senders have to show a certificate.
    let address = address_to_listen_at();
    let with_senders = [&files[..], &[("ca.file", as_text(ours.file()))]].concat();
    let (_source, mut reader) = listening(&address, &with_senders);
    assert!(send(&address, ours.file(), None, 1).is_err());
    assert!(send(&address, ours.file(), Some(&stranger), 2).is_err());
    let numbers = taken(&mut *reader, || send(&address, ours.file(), Some(&sender), 3));
    assert_eq!(numbers, [3]);
}

#[test]
fn sources_share_an_address() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let authority = Authority::new(folder.path(), "ours");
    let own = authority.certify("server", &["localhost"]);
    let address = address_to_listen_at();
    let (orders, mut order_reader) = listening(&address, &[("path", "/orders")]);
    let (refunds, mut refund_reader) = listening(&address, &[("path", "/refunds")]);
    let send = |path: &'static str, number: i64| {
        let address = address.clone();
        move || post(&address, path, &[JSON], &format!("{{\"n\":{number}}}"))
    };
    for number in 0..3 {
        assert_eq!(taken(&mut *order_reader, send("/orders", number)), [number]);
        assert_eq!(taken(&mut *refund_reader, send("/refunds", -number)), [-number]);
    }
    assert_eq!(status(send("/", 1)()), 404);
    // A source that reads nothing is in no other's way.
    std::thread::scope(|scope| {
        let waits = scope.spawn(send("/refunds", 5));
        assert_eq!(taken(&mut *order_reader, send("/orders", 7)), [7]);
        assert_eq!(taken(&mut *refund_reader, move || waits.join().expect("no panic")), [5]);
    });
    let refused = |more: &[(&str, &str)], part: &str| {
        let error = source(&address, more)
            .and_then(|source| source.splits(1))
            .expect_err("it is taken");
        assert_eq!(error.code(), "CN0171", "{error}");
        assert!(
            error.to_string().contains(part) && error.to_string().contains(&address),
            "{error}"
        );
    };
    refused(&[("path", "/orders")], "path `/orders`");
    let encrypted = [
        ("path", "/more"),
        ("certificate.file", as_text(&own.certificate)),
        ("key.file", as_text(&own.key)),
    ];
    refused(&encrypted, "`certificate.file`");
    // Of one that has ended senders hear that they may come back; the others go on.
    drop((refund_reader, refunds));
    assert_eq!(status(send("/refunds", 8)()), 503);
    assert_eq!(taken(&mut *order_reader, send("/orders", 9)), [9]);
    let (refunds, mut again) = listening(&address, &[("path", "/refunds")]);
    assert_eq!(taken(&mut *again, send("/refunds", 10)), [10]);
    drop((order_reader, orders, again, refunds));
    // Then the address is free.
    std::net::TcpListener::bind(&address).expect("nobody listens");
}

#[test]
fn what_is_wrong_with_certificates_is_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let authority = Authority::new(folder.path(), "ours");
    let (own, other) = (
        authority.certify("a", &["localhost"]),
        authority.certify("b", &["localhost"]),
    );
    let address = address_to_listen_at();
    let (certificate, key) = (as_text(&own.certificate), as_text(&own.key));
    let check = |more: &[(&str, &str)], parts: &[&str]| {
        let error = source(&address, more)
            .and_then(|source| source.splits(1))
            .expect_err("it is wrong");
        assert_eq!(error.code(), "CN0171", "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
        }
    };
    check(
        &[("certificate.file", certificate)],
        &["`certificate.file` and `key.file` belong together"],
    );
    check(&[("ca.file", certificate)], &["`ca.file`", "needs TLS"]);
    let files = |certificate, key| [("certificate.file", certificate), ("key.file", key)];
    check(&files("/nowhere.crt", key), &["`certificate.file`", "`/nowhere.crt`"]);
    check(&files(certificate, "/nowhere.key"), &["`key.file`", "`/nowhere.key`"]);
    check(&files(key, key), &["`certificate.file`", key, "no certificates"]);
    check(&files(certificate, as_text(&other.key)), &["do not fit"]);
    let with_senders = [&files(certificate, key)[..], &[("ca.file", key)]].concat();
    check(&with_senders, &["`ca.file`", "no certificates"]);
}
