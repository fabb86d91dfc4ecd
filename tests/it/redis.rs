//! Goal: the `redis` sink keeps its promises on a real server. Method: the sink by itself, through the interface that
//! the engine drives it by; `redis-cli` says what is there.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::*;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use millrace_core::Fault;
use millrace_core::connector::{Committable, Delivery, Options, Sink, SinkContext, SinkWriter, SubtaskContext, Waker};
use millrace_tests::certificates::Authority;
use millrace_tests::guests::Guest;
use millrace_tests::jobs::{as_text, cli};
use millrace_tests::redis::Server;

const NOW: Duration = Duration::ZERO;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("t", DataType::Utf8, true),
    ]))
}

fn make(url: &str, job: &str, pairs: &[(&str, &str)]) -> Result<Arc<dyn Sink>, millrace_core::Error> {
    let url = [("url", url)];
    let pairs = url.iter().chain(pairs);
    let owned = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options = Options::new(owned).expect("distinct options");
    let (job, operator) = (job.to_owned(), "out".to_owned());
    let connector = millrace_connectors::connector("redis").expect("it is built in");
    let sink = connector.sink(options, schema(), &SinkContext { job, operator })?;
    Ok(sink.expect("it has a sink"))
}

fn sink(server: &Server, structure: &str, key: &str, more: &[(&str, &str)]) -> Arc<dyn Sink> {
    let pairs = [&[("structure", structure), ("key", key)], more].concat();
    make(&server.url(), "job", &pairs).expect("sound options")
}

fn open(sink: &Arc<dyn Sink>, subtask: u32) -> Box<dyn SinkWriter> {
    let context = SubtaskContext {
        subtask,
        parallelism: 2,
        waker: Waker(Arc::new(|| ())),
        checkpoints: false,
    };
    sink.open(&context).expect("the server is there")
}

fn rows(rows: &[(i64, Option<&str>)]) -> RecordBatch {
    let (numbers, texts): (Vec<i64>, Vec<Option<&str>>) = rows.iter().copied().unzip();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(numbers)), Arc::new(StringArray::from(texts))];
    RecordBatch::try_new(schema(), columns).expect("rows of the schema")
}

fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
    rows(&range.map(|number| (number, Some("x"))).collect::<Vec<_>>())
}

fn prepare(writer: &mut Box<dyn SinkWriter>, range: std::ops::Range<i64>) -> Vec<Committable> {
    writer.write(&numbers(range), NOW).expect("rows");
    writer.pre_commit().expect("kept")
}

/// The list `list`, of numbers.
fn list(server: &Server) -> Vec<i64> {
    let lines = server.lines(&["LRANGE", "list", "0", "-1"]);
    lines.iter().map(|line| line.parse().expect("a number")).collect()
}

fn list_sink(server: &Server, more: &[(&str, &str)]) -> Arc<dyn Sink> {
    let more = [&[("value", "{n}"), ("batch.rows", "10")], more].concat();
    sink(server, "list", "list", &more)
}

#[test]
fn rows_become_what_they_should() {
    let server = Server::new();
    let both = [(1, Some("a b")), (2, None), (1, Some("é\n\"{}"))];
    for mode in ["exactly-once", "immediate"] {
        server.run(&["FLUSHALL"]);
        for (structure, key, more) in [
            ("string", "s:{n}", &[][..]),
            (
                "string",
                "v:{n}",
                &[("value", "{{{n}}} {t}"), ("expire.seconds", "1000")],
            ),
            ("hash", "h:{n}", &[("expire.seconds", "1000")]),
            ("list", "l:{n}", &[("value", "{t}")]),
            ("stream", "x", &[("length.max", "1000")]),
            ("sorted-set", "z", &[("score", "n"), ("value", "{t}")]),
        ] {
            let sink = sink(&server, structure, key, &[more, &[("mode", mode)]].concat());
            sink.check().expect("it will do");
            sink.recover(&[]).expect("nothing to do");
            let mut writer = open(&sink, 0);
            writer.write(&rows(&both), NOW).expect("rows");
            let prepared = writer.pre_commit().expect("kept");
            writer.commit(&prepared).expect("written");
            assert_eq!(sink.summary(), [("rows".to_owned(), "3".to_owned())]);
            assert!(writer.bytes_written() > 0);
        }
        assert_eq!(server.run(&["GET", "s:1"]), r#"{"n":1,"t":"é\n\"{}"}"#);
        assert_eq!(server.run(&["GET", "s:2"]), r#"{"n":2}"#);
        assert_eq!(server.run(&["GET", "v:2"]), "{2} ");
        assert_eq!(server.run(&["TTL", "s:2"]), "-1");
        for key in ["v:2", "h:2"] {
            let seconds: u64 = server.run(&["TTL", key]).parse().expect("a number");
            assert!((900..=1000).contains(&seconds), "{key}: {seconds}");
        }
        assert_eq!(server.run(&["HMGET", "h:1", "n", "t"]), "1\né\n\"{}");
        assert_eq!(server.lines(&["HKEYS", "h:2"]), ["n"]);
        assert_eq!(server.run(&["LRANGE", "l:1", "0", "-1"]), "a b\né\n\"{}");
        assert_eq!(server.run(&["XLEN", "x"]), "3");
        assert_eq!(
            server.run(&["ZRANGE", "z", "0", "-1", "WITHSCORES"]),
            "a b\n1\né\n\"{}\n1\n\n2"
        );
    }
    // A field that is null is gone, whatever was there before.
    let sink = sink(&server, "hash", "h:{n}", &[("mode", "immediate")]);
    let mut writer = open(&sink, 0);
    writer.write(&rows(&[(1, None)]), NOW).expect("rows");
    assert_eq!(server.lines(&["HKEYS", "h:1"]), ["n"]);
}

#[test]
fn guarantees() {
    let server = Server::new();
    for (structure, more, delivery) in [
        ("list", &[][..], Delivery::ExactlyOnce),
        ("list", &[("mode", "immediate")], Delivery::AtLeastOnce),
        ("string", &[("mode", "immediate")], Delivery::Idempotent),
    ] {
        assert_eq!(sink(&server, structure, "k", more).delivery(), delivery);
    }
}

#[test]
fn rows_are_seen_when_they_are_committed_and_once() {
    let server = Server::new();
    let sink = list_sink(&server, &[]);
    let (mut first, mut second) = (open(&sink, 0), open(&sink, 1));
    assert_eq!(first.pre_commit().expect("nothing"), []);
    let one = prepare(&mut first, 0..25);
    let two = prepare(&mut second, 25..30);
    let three = prepare(&mut first, 30..40);
    assert!(list(&server).is_empty());
    first.commit(&one).expect("written");
    assert_eq!(list(&server), (0..25).collect::<Vec<_>>());
    first.commit(&one).expect("it was");
    second.commit(&two).expect("written");
    first.commit(&three).expect("written");
    // Whoever repeats it: the same writer, recovery, another process with the same names.
    let all = [one, two, three].concat();
    first.commit(&all).expect("it was");
    list_sink(&server, &[]).recover(&all).expect("it was");
    assert_eq!(list(&server), (0..40).collect::<Vec<_>>());
    assert_eq!(sink.summary(), [("rows".to_owned(), "40".to_owned())]);
}

#[test]
fn recovery_writes_what_is_listed_and_nothing_else() {
    let server = Server::new();
    let sink = list_sink(&server, &[]);
    let mut zombie = open(&sink, 0);
    let written = prepare(&mut zombie, 0..10);
    zombie.commit(&written).expect("written");
    let listed = prepare(&mut zombie, 10..35);
    let stale = prepare(&mut zombie, 35..40);
    // Killed when some of its entries are there.
    zombie.commit(&listed[..1]).expect("written");
    let same_name = list_sink(&server, &[("id", "blue")]);
    let of_same_name = prepare(&mut open(&same_name, 0), 100..101);
    for _ in 0..2 {
        sink.recover(&[written.clone(), listed.clone()].concat())
            .expect("recovered");
        assert_eq!(list(&server), (0..35).collect::<Vec<_>>());
    }
    // The same rows come again in the next attempt, at another parallelism.
    let again = prepare(&mut open(&sink, 1), 35..40);
    assert_ne!(again, stale);
    sink.recover(&again).expect("recovered");
    same_name.recover(&of_same_name).expect("it has marks of its own");
    assert_eq!(list(&server), (0..40).chain(100..101).collect::<Vec<_>>());
}

#[test]
fn a_server_that_dies_loses_nothing() {
    let server = Server::new();
    let sink = list_sink(&server, &[]);
    let mut writer = open(&sink, 0);
    let one = prepare(&mut writer, 0..10);
    writer.commit(&one).expect("written");
    let two = prepare(&mut writer, 10..20);
    server.crash();
    let error = writer.commit(&two).expect_err("there is no server");
    assert_eq!((error.code(), error.fault()), ("IO0140", Fault::External), "{error}");
    let address = format!("127.0.0.1:{}", server.port());
    assert!(
        error.to_string().contains(&address) && !error.to_string().contains("secret"),
        "{error}"
    );
    assert_eq!(sink.recover(&two).expect_err("there is no server").code(), "IO0140");
    server.start();
    // On a new connection, of itself.
    writer.commit(&two).expect("written");
    sink.recover(&[one, two].concat()).expect("it was");
    let three = prepare(&mut writer, 20..30);
    // The connection is of no use any more, and nobody has noticed yet.
    server.crash();
    server.start();
    writer.commit(&three).expect("written");
    assert_eq!(list(&server), (0..30).collect::<Vec<_>>());
}

/// Two processes that commit the same entries at the same time, as after a network that was cut.
#[test]
fn two_that_write_the_same_entries_write_them_once() {
    let server = Server::new();
    let sink = list_sink(&server, &[]);
    let prepared = prepare(&mut open(&sink, 0), 0..2_000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| list_sink(&server, &[]).recover(&prepared).expect("written"));
        }
    });
    assert_eq!(list(&server), (0..2_000).collect::<Vec<_>>());
}

#[test]
fn a_key_of_another_type_is_refused_before_anything_is_written() {
    let server = Server::new();
    let sink = sink(&server, "list", "k:{n}", &[("value", "{t}")]);
    server.run(&["SET", "k:5", "something else"]);
    let mut writer = open(&sink, 0);
    let prepared = prepare(&mut writer, 0..10);
    for _ in 0..2 {
        let error = writer.commit(&prepared).expect_err("one key is a string");
        assert_eq!((error.code(), error.fault()), ("RW0104", Fault::Pipeline), "{error}");
        assert!(error.to_string().contains("`k:5` holds a string"), "{error}");
        assert_eq!(server.lines(&["KEYS", "k:*"]), ["k:5"]);
    }
    server.run(&["DEL", "k:5"]);
    sink.recover(&prepared).expect("written");
    assert_eq!(server.lines(&["KEYS", "k:*"]).len(), 10);
}

#[test]
fn what_is_wrong_with_the_server_is_named() {
    let server = Server::new();
    let folder = tempfile::tempdir().expect("temporary folder");
    let pairs = [("structure", "list"), ("key", "k")];
    let at = |url: &str, more: &[(&str, &str)]| make(url, "job", &[&pairs, more].concat()).expect("sound options");
    let refused = |sink: Arc<dyn Sink>, code: &str, part: &str| {
        let error = sink.check().expect_err("it is refused");
        assert_eq!(error.code(), code, "{error}");
        assert!(
            error.to_string().contains(part) && !error.to_string().contains("secret"),
            "{error}"
        );
    };
    let bare = server.url_without_password();
    let address = format!("127.0.0.1:{}", server.port());
    refused(
        at(&server.url().replace("secret", "wrong-secret"), &[]),
        "IO0141",
        &address,
    );
    refused(at(&bare, &[]), "IO0143", "NOAUTH");
    refused(at("redis://:secret@127.0.0.1:1", &[]), "IO0140", "127.0.0.1:1");
    refused(at("<url>", &[]), "CN0141", "`url`");
    refused(
        at(&bare, &[("password.env", "NO_SUCH_VARIABLE")]),
        "CN0116",
        "NO_SUCH_VARIABLE",
    );
    // By a file, and by a socket.
    let file = folder.path().join("password");
    std::fs::write(&file, "secret\n").expect("a file");
    at(&bare, &[("password.file", as_text(&file))])
        .check()
        .expect("it will do");
    at(&server.socket_url(), &[]).check().expect("it will do");

    let replica = Server::new();
    replica.run(&["REPLICAOF", "127.0.0.1", "1"]);
    refused(at(&replica.url(), &[]), "CN0143", "replica");
}

/// The server has TLS and nothing else, and wants to see certificates, as Redis does unless it is told otherwise.
#[test]
fn connections_with_tls_are_safe() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (ours, others) = (
        Authority::new(folder.path(), "ours"),
        Authority::new(folder.path(), "others"),
    );
    let (own, client) = (ours.certify("server", &["localhost"]), ours.certify("client", &[]));
    let server = Server::with_tls(&ours, &own);
    let url = server
        .url()
        .replace("127.0.0.1", "localhost")
        .replace("redis:", "rediss:");
    let bare = url.replace(":secret@", "");
    let (ours, others) = (as_text(ours.file()), as_text(others.file()));
    let shown = [
        ("certificate.file", as_text(&client.certificate)),
        ("key.file", as_text(&client.key)),
    ];
    let at = |url: &str, more: &[(&str, &str)]| {
        let pairs = [("structure", "list"), ("key", "list"), ("value", "{n}")];
        make(url, "job", &[&pairs, more].concat()).expect("sound options")
    };
    let with = [&[("ca.file", ours)], &shown[..]].concat();

    for (mode, row) in [("exactly-once", 0), ("immediate", 1)] {
        let sink = at(&url, &[&with[..], &[("mode", mode)]].concat());
        sink.check().expect("it will do");
        let mut writer = open(&sink, 0);
        let prepared = prepare(&mut writer, row..row + 1);
        writer.commit(&prepared).expect("written");
        sink.recover(&prepared).expect("it was");
    }
    assert_eq!(list(&server), [0, 1]);
    let sink = at(&url, &with);
    let mut writer = open(&sink, 0);
    let prepared = prepare(&mut writer, 2..30);
    server.crash();
    assert_eq!(writer.commit(&prepared).expect_err("no server").code(), "IO0140");
    server.start();
    writer.commit(&prepared).expect("on a new connection");
    assert_eq!(list(&server), (0..30).collect::<Vec<_>>());

    let refused = |sink: Arc<dyn Sink>, code: &str, part: &str| {
        let error = sink.check().expect_err("it is refused");
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    };
    for url in [&url, &bare] {
        refused(at(url, &shown), "IO0140", "UnknownIssuer");
        let foreign = [&[("ca.file", others)], &shown[..]].concat();
        refused(at(url, &foreign), "IO0140", "UnknownIssuer");
        refused(
            at(&url.replace("localhost", "127.0.0.1"), &with),
            "IO0140",
            "not valid for name",
        );
        refused(at(url, &[("ca.file", ours)]), "IO0140", "CertificateRequired");
    }
    refused(at(&url.replace("rediss:", "redis:"), &[]), "IO0140", "localhost");
    let nowhere = [("ca.file", "/nowhere/ca.pem")];
    refused(at(&url, &nowhere), "CN0146", "`ca.file`: `/nowhere/ca.pem`");
    refused(at(&url, &[("ca.file", shown[1].1)]), "CN0146", "no certificates");
    let foreign_key = [with[0], with[1], ("key.file", as_text(&own.key))];
    refused(at(&url, &foreign_key), "CN0146", "localhost");
    let no_key = [with[0], with[1], ("key.file", ours)];
    refused(at(&url, &no_key), "CN0146", "`key.file`");
    refused(at(&url.replace("rediss:", "redis:"), &with), "CN0146", "rediss://");
    refused(at(&format!("{url}/#insecure"), &with), "CN0146", "#insecure");
    let plain = Server::new();
    refused(
        at(&plain.url().replace("redis:", "rediss:"), &with),
        "IO0140",
        "127.0.0.1",
    );
    let error = make(&url, "job", &[("structure", "list"), ("key", "k"), shown[0]]);
    assert_eq!(error.err().expect("one without the other").code(), "CN0146");
}

#[test]
fn a_full_server_takes_no_part_of_an_entry() {
    let server = Server::new();
    let sink = list_sink(&server, &[]);
    let mut writer = open(&sink, 0);
    let prepared = prepare(&mut writer, 0..10);
    server.run(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = writer.commit(&prepared).expect_err("there is no memory");
    assert_eq!(error.code(), "IO0143", "{error}");
    assert!(error.to_string().contains("OOM"), "{error}");
    server.run(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(list(&server).is_empty());
    writer.commit(&prepared).expect("written");
    assert_eq!(list(&server), (0..10).collect::<Vec<_>>());
}

#[test]
fn marks_of_writers_long_gone_are_dropped() {
    let server = Server::new();
    let sink = list_sink(&server, &[]);
    let prepared = prepare(&mut open(&sink, 0), 0..1);
    sink.recover(&prepared).expect("written");
    let marks = server.run(&["KEYS", "millrace:sink:job:*:0"]);
    for log in 0..1_000 {
        server.run(&["HSET", &marks, &format!("old-{log}"), "1"]);
    }
    assert_eq!(server.run(&["HLEN", &marks]), "1001");
    sink.recover(&prepared).expect("it was");
    assert_eq!(server.run(&["HLEN", &marks]), "1");
    sink.recover(&prepared).expect("it was");
    assert_eq!(list(&server), [0]);
}

#[test]
fn inspect_says_what_it_guarantees() {
    let path = as_text(Guest::Flows.path());
    for (structure, delivery) in [("list", "exactly-once"), ("hash", "idempotent")] {
        let (redis, structure) = (
            "--param=redis=redis://:secret@db".to_owned(),
            format!("--param=structure={structure}"),
        );
        for output in ["--output=table", "--output=json"] {
            let arguments = ["inspect", path, "--param=kind=durable", &redis, &structure, output];
            let output = cli(&arguments);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains(delivery), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
