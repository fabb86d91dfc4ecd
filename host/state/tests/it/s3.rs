//! Goal: object stores over the network. Method: moto, a server that speaks S3 (`scripts/setup-s3`), on a port of
//! its own; since clients are set up by the environment, the test starts itself with that set.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millrace_core::checkpoint::CheckpointId;
use millrace_state::{Checkpoints, Depth, Storage, codes};

use crate::tables::{Table, counts, info, replay, run};
use crate::testing::Random;

const INSIDE: &str = "MILLRACE_TEST_S3";
/// As `scripts/setup-s3` installs it.
const MOTO: &str = "moto-5.2.5";

/// A server, stopped when it is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `None` if moto is not installed.
    fn start() -> Option<Server> {
        let cache = std::env::var_os("MILLRACE_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/millrace")))?;
        let folder = cache.join(MOTO);
        if !folder.join("complete").exists() {
            return None;
        }
        let port = free_port();
        let child = Command::new(folder.join("bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Server { child, port };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(server);
            }
            assert!(server.child.try_wait().unwrap().is_none(), "moto runs");
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("moto does not listen on port {port}");
    }

    fn make_bucket(&self, bucket: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = "Host: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close";
        write!(stream, "PUT /{bucket} HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Runs a test of this file with the environment that leads to a port.
fn inside(test: &str, port: u16) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("s3::{test}"), "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn checkpoints_in_a_bucket() {
    let Some(server) = Server::start() else {
        eprintln!("skipped: there is no moto; run scripts/setup-s3");
        return;
    };
    server.make_bucket("checkpoints");
    inside("with_a_server", server.port);
}

#[test]
fn a_store_that_is_not_there_is_named() {
    inside("without_a_server", free_port());
}

#[test]
#[ignore = "started by `checkpoints_in_a_bucket`"]
fn with_a_server() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let error = Storage::open("s3://none/x").unwrap_err();
    assert_eq!(error.code(), codes::NO_BUCKET, "{error}");
    assert!(error.to_string().contains("`s3://none/x`"), "{error}");

    let storage = Storage::open("s3://checkpoints/some/folder").unwrap();
    let checkpoints = Checkpoints::create(&storage, run(1)).unwrap();
    assert!(Checkpoints::create(&storage, run(1)).is_err());
    let (mut table, mut random) = (Table::default(), Random::new(1));
    // Large enough for an upload in parts, and small.
    (0..900_000).for_each(|key| table.set(key, Some(random.next() as i64)));
    let first = checkpoints
        .store(CheckpointId(1), &info(), counts([table.snapshot(true)]))
        .unwrap();
    assert!(first.bytes() > 9 << 20, "{} bytes", first.bytes());
    table.set(5, None);
    checkpoints
        .store(CheckpointId(2), &info(), counts([table.snapshot(false)]))
        .unwrap();
    checkpoints.discard(CheckpointId(1)).unwrap();
    checkpoints
        .write_layers(CheckpointId(3), "count", 0, &table.snapshot(true))
        .unwrap();

    let expected = table.entries.clone();
    let check = |storage: &Storage, id: u64| {
        let latest = storage.open_latest("a job/1", Depth::Contents).unwrap();
        assert!(latest.skipped.is_empty());
        let restored = latest.found.unwrap();
        assert_eq!(restored.metadata().checkpoint, CheckpointId(id));
        let operator = restored.metadata().operator("count").unwrap();
        let mut entries = std::collections::BTreeMap::new();
        for subtask in 0..2 {
            replay(
                &restored.restore_task(operator, 2, subtask).unwrap().batches,
                &mut entries,
            );
        }
        assert!(entries == expected, "{} entries", entries.len());
    };
    check(&storage, 2);
    // Others see the same; the layer of checkpoint 3 is collected, so that its place is free.
    let again = Storage::open("s3://checkpoints/some/folder/").unwrap();
    let (checkpoints, skipped) = Checkpoints::open(&again, "a job/1", &run(1).run).unwrap();
    assert!(skipped.is_empty());
    assert_eq!(checkpoints.completed(), [CheckpointId(2)]);
    check(&again, 2);
    checkpoints
        .store(CheckpointId(4), &info(), counts([table.snapshot(true)]))
        .unwrap();
    checkpoints.discard(CheckpointId(2)).unwrap();
    check(&storage, 4);
    assert!(
        Storage::open("s3://checkpoints")
            .unwrap()
            .runs("a job/1")
            .unwrap()
            .is_empty()
    );
}

#[test]
#[ignore = "started by `a_store_that_is_not_there_is_named`"]
fn without_a_server() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let error = Storage::open("s3://bucket/x").unwrap_err();
    assert_eq!(
        (error.code(), error.fault().exit_code()),
        (codes::UNREACHABLE, 4),
        "{error}"
    );
    assert!(error.to_string().contains("`s3://bucket/x`"), "{error}");
    assert!(error.to_string().contains("onnection refused"), "{error}");
}
