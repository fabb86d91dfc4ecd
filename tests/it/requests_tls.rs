//! Goal: requests go over TLS to servers whose authority the owner of the job trusts, and to no others.
//! Method: servers with certificates made here, and jobs in processes of their own, for the authority is in the environment.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use millrace_core::connector::{Options, SinkContext, SubtaskContext, Waker};
use millrace_tests::certificates::Authority;
use millrace_tests::guests::{Guest, code_cache, jobctl};
use millrace_tests::http::{Reply, Server};
use millrace_tests::jobs::{as_text, read_ndjson};

use crate::connectors::line;

fn server(authority: &Authority) -> Server {
    let own = authority.certify("server", &["localhost"]);
    Server::start_with_tls(&own, |path, _| Reply {
        delay: Duration::ZERO,
        status: 200,
        body: path.to_owned(),
    })
}

/// A job of the guest, in a process that trusts these and has proxies in its environment, which lead nowhere.
fn run(trusted: &Path, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(jobctl());
    command
        .args(["run", "--quiet"])
        .args(arguments)
        .arg(Guest::Flows.path());
    command.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
    command
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env("ALL_PROXY", "http://127.0.0.1:1");
    command.env("MILLRACE_CACHE", code_cache().join("cli"));
    command.env("MILLRACE_DATA", folder.join("data"));
    command.output().expect("jobctl starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn rows_ask_servers_whose_authority_is_trusted() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (ours, others) = (
        Authority::new(folder.path(), "ours"),
        Authority::new(folder.path(), "others"),
    );
    let server = server(&ours);
    let asked = |trusted: &Path, url: &str, name: &str| {
        let target = folder.path().join(name);
        let arguments = [
            format!("--allow-http={url}"),
            format!("--param=from={url}"),
            format!("--param=output={}", as_text(&target)),
            "--param=kind=requests".to_owned(),
            "--param=rows=200".to_owned(),
        ];
        let output = run(trusted, folder.path(), &arguments.each_ref().map(String::as_str));
        (output, target)
    };
    let said = |trusted: &Path, url: &str, name: &str| {
        let (output, target) = asked(trusted, url, name);
        assert!(output.status.success(), "{}", stderr(&output));
        let rows = read_ndjson(&target.join("ordered")).into_iter();
        rows.map(|row| row["said"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    let url = server.url();
    let all = (0..200).map(|number| format!("/ordered/{number}")).collect::<Vec<_>>();
    assert_eq!(said(ours.file(), &url, "trusted"), all);
    assert_eq!(server.asked("ordered").requests, 200);
    let none = vec!["connection"; 200];
    assert_eq!(said(others.file(), &url, "foreign"), none);
    // The certificate is for a name.
    let address = url.replace("localhost", "127.0.0.1");
    assert_eq!(said(ours.file(), &address, "address"), none);
    assert_eq!(server.asked("ordered").requests, 200);

    let (output, _) = asked(Path::new("/nowhere/ca.pem"), &url, "nowhere");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    for part in ["HT0003", "/nowhere/ca.pem", "SSL_CERT_FILE"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_webhook_sends_to_servers_whose_authority_is_trusted() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = server(&Authority::new(folder.path(), "ours"));
    let input = folder.path().join("rows.ndjson");
    std::fs::write(&input, (0..100).map(line).collect::<String>()).expect("a file");
    let url = format!("{}/hook", server.url());
    let arguments = [
        format!("--param=input={}", as_text(&input)),
        format!("--param=output={url}"),
        "--param=kind=connected".to_owned(),
        "--param=from=files".to_owned(),
        "--param=to=webhook".to_owned(),
    ];
    let arguments = arguments.each_ref().map(String::as_str);
    let output = run(&folder.path().join("ours.pem"), folder.path(), &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let sent = server.asked("hook").requests;
    assert!(sent >= 2, "{sent} requests");

    // Here nobody trusts it.
    let pairs = [("url", url.as_str()), ("mode", "immediate"), ("attempts", "1")];
    let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let context = SinkContext {
        job: "job".to_owned(),
        operator: "out".to_owned(),
    };
    let connector = millrace_connectors::connector("webhook").expect("it is built in");
    let sink = connector.sink(Options::new(owned).expect("distinct"), schema.clone(), &context);
    let sink = sink.expect("sound options").expect("it has a sink");
    let subtask = SubtaskContext {
        subtask: 0,
        parallelism: 1,
        waker: Waker(Arc::new(|| ())),
        checkpoints: false,
    };
    let mut writer = sink.open(&subtask).expect("nothing is connected yet");
    let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).expect("rows");
    let written = writer
        .write(&rows, Duration::ZERO)
        .and_then(|()| writer.pre_commit().map(drop));
    let error = written.expect_err("the server is a stranger");
    assert_eq!(error.code(), "IO0170", "{error}");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert_eq!(server.asked("hook").requests, sent);
}
