//! Goal: the `files` sink on an object store shows each part when it is committed, and once. Method: moto, a server
//! that speaks S3; since clients are set up by the environment, tests start themselves with that set.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use millrace_core::connector::{KeptFor, Options, Sink, SinkContext, SinkWriter, SubtaskContext, Waker};
use millrace_tests::s3::{BUCKET, Server};

const INSIDE: &str = "MILLRACE_TEST_OBJECTS";
const NOW: Duration = Duration::ZERO;

fn rows(range: std::ops::Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
    RecordBatch::try_from_iter([("n", column)]).expect("rows")
}

fn sink(more: &[(&str, &str)]) -> Arc<dyn Sink> {
    let path = format!("s3://{BUCKET}/some/out/");
    let mut pairs = vec![("path", path.as_str()), ("format", "csv")];
    pairs.extend(more);
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let context = SinkContext {
        job: "job".to_owned(),
        operator: "out".to_owned(),
    };
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let connector = millrace_connectors::connector("files").expect("it is built in");
    let options = Options::new(owned).expect("distinct options");
    connector
        .sink(options, schema, &context)
        .expect("sound options")
        .expect("it has a sink")
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

#[test]
fn parts_are_objects_when_they_are_committed() {
    let Some(server) = Server::start() else {
        eprintln!("skipped: there is no moto; run scripts/setup-s3");
        return;
    };
    let inside = |step: &str| {
        let output = Command::new(std::env::current_exe().expect("a running program has a file"))
            .args(["--exact", "object_store::with_a_server", "--ignored", "--nocapture"])
            .env(INSIDE, step)
            .envs(server.environment())
            .output()
            .expect("the test starts");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{step}: {text}");
    };
    inside("prepared");
    let note = |number: u32| format!("some/out/.part-0-{number}.committed");
    assert_eq!(server.objects(""), [&note(0), "some/out/part-0-0.csv"]);
    assert_eq!(server.uploads().len(), 2, "{:?}", server.uploads());
    inside("recovered");
    let parts = ["some/out/part-0-0.csv", "some/out/part-0-1.csv"];
    assert_eq!(server.objects(""), [&note(1), parts[0], parts[1]]);
    assert_eq!(server.read_csv("some/out/part-0-0"), ["0", "1", "2"]);
    let large = server.read_csv("some/out/part-0-1");
    assert_eq!(large.len(), 2_000_000, "in several pieces");
    assert_eq!((large[0].as_str(), large[1_999_999].as_str()), ("0", "1999999"));
    // Whoever reads parts takes them away; the job is restored all the same.
    server.request("DELETE", "/some/out/part-0-1.csv");
    inside("taken");
    assert_eq!(server.objects(""), [&note(1), parts[0]]);
    inside("overwritten");
    let after = ["some/out/.part-1-0.committed", "some/out/part-1-0.csv"];
    assert_eq!(server.objects(""), after);
    // Of the process that was killed, a lifecycle rule of the bucket takes care.
    assert_eq!(server.uploads(), ["some/out/part-0-2.csv"]);
    inside("held");
    assert_eq!(server.read_csv("some/out/part-0-0"), ["0", "1"]);
    assert_eq!(server.read_csv("some/out/part-0-1"), ["10"]);
    assert_eq!(server.read_csv("some/out/part-0-2"), ["20", "21"]);
    assert!(!server.objects("").iter().any(|name| name.ends_with(".kept")));
}

/// What the process that is killed leaves in its checkpoint.
fn checkpoint() -> std::path::PathBuf {
    let port = std::env::var("AWS_ENDPOINT_URL")
        .expect("it is set")
        .replace(|c: char| !c.is_ascii_digit(), "");
    std::env::temp_dir().join(format!("millrace-objects-{port}"))
}

#[test]
#[ignore = "started by `parts_are_objects_when_they_are_committed`"]
fn with_a_server() {
    use millrace_core::connector::Committable;
    match std::env::var(INSIDE).as_deref() {
        Ok("prepared") => {
            let sink = sink(&[("roll.bytes", "100000000")]);
            sink.check().expect("the bucket is there");
            sink.recover(&[]).expect("nothing to do");
            let mut writer = open(&sink, 0);
            writer.write(&rows(0..3), NOW).expect("rows");
            let first = writer.pre_commit().expect("uploaded");
            writer.commit(&first).expect("committed");
            writer.commit(&first).expect("it was");
            writer.write(&rows(0..2_000_000), NOW).expect("rows");
            let listed = writer.pre_commit().expect("uploaded");
            writer.write(&rows(0..5), NOW).expect("rows");
            assert_eq!(writer.pre_commit().expect("uploaded").len(), 1, "in no checkpoint");
            assert_eq!((first.len(), listed.len()), (1, 1));
            std::fs::write(checkpoint(), &listed[0].0).expect("a temporary file");
            // As a process that is killed: nothing is aborted.
            drop(writer);
        }
        Ok("recovered") => {
            let listed = [Committable(std::fs::read(checkpoint()).expect("it was written"))];
            let sink = sink(&[]);
            sink.recover(&listed).expect("committed");
            sink.recover(&listed).expect("it was");
            assert_eq!(sink.check().expect_err("parts of an earlier run").code(), "CN0115");
            let mut writer = open(&sink, 0);
            writer.commit(&listed).expect("it was");
            writer.write(&rows(0..5), NOW).expect("rows");
            let dropped = writer.pre_commit().expect("uploaded");
            writer.abort(&dropped).expect("dropped");
            writer.abort(&dropped).expect("it was");
            assert_eq!(writer.commit(&dropped).expect_err("it is gone").code(), "IO0130");
        }
        Ok("taken") => {
            let listed = [Committable(std::fs::read(checkpoint()).expect("it was written"))];
            std::fs::remove_file(checkpoint()).expect("it was there");
            let sink = sink(&[]);
            sink.recover(&listed)
                .expect("it was committed, and is known to have been");
            let mut writer = open(&sink, 0);
            writer.commit(&listed).expect("it was");
            writer.write(&rows(0..1), NOW).expect("rows");
            let next = writer.pre_commit().expect("uploaded");
            assert!(
                String::from_utf8_lossy(&next[0].0).contains("part-0-2"),
                "numbers go on"
            );
            writer.abort(&next).expect("dropped");
        }
        Ok("held") => {
            let sink = sink(&[("overwrite", "true")]);
            let prepare = |subtask, range| {
                let mut writer = open(&sink, subtask);
                writer.write(&rows(range), NOW).expect("rows");
                writer.pre_commit().expect("uploaded")
            };
            sink.check().expect("parts are removed");
            assert_eq!(sink.kept().expect("no notes"), []);
            let savepoint = KeptFor {
                id: "one".to_owned(),
                savepoint: "/savepoint".to_owned(),
                is_written: true,
            };
            let mut writer = open(&sink, 0);
            writer.write(&rows(0..2), NOW).expect("rows");
            let first = writer.pre_commit().expect("uploaded");
            writer.write(&rows(20..22), NOW).expect("rows");
            sink.keep(&savepoint, &first).expect("noted");
            // A job that begins anew gives no number again that the savepoint holds.
            drop(writer);
            sink.check().expect("nothing is visible");
            assert_eq!(sink.kept().expect("a note"), std::slice::from_ref(&savepoint));
            let mut writer = open(&sink, 0);
            writer.write(&rows(10..11), NOW).expect("rows");
            let second = writer.pre_commit().expect("uploaded");
            writer.commit(&second).expect("committed");
            assert_eq!(sink.kept().expect("a note"), std::slice::from_ref(&savepoint));
            sink.recover(&first).expect("a job goes on from the savepoint");
            sink.recover(&first).expect("it was");
            assert_eq!(sink.kept().expect("no notes"), []);
            // Behind a checkpoint nothing is held; nor is what comes to nothing.
            let mut writer = open(&sink, 0);
            writer.write(&rows(20..22), NOW).expect("rows");
            let third = writer.pre_commit().expect("uploaded");
            sink.keep(&savepoint, &third).expect("noted");
            writer.commit(&third).expect("committed");
            assert_eq!(sink.kept().expect("no notes"), []);
            sink.keep(&savepoint, &third).expect("nothing to note");
            assert_eq!(sink.kept().expect("no notes"), []);
            let fourth = prepare(1, 30..31);
            sink.keep(&savepoint, &fourth).expect("noted");
            sink.release("one").expect("it comes to nothing");
            sink.release("one").expect("it is gone");
            assert_eq!(sink.kept().expect("no notes"), []);
        }
        Ok("overwritten") => {
            sink(&[("append", "true")]).check().expect("parts may stay");
            let sink = sink(&[("overwrite", "true")]);
            sink.check().expect("parts are removed");
            let mut writer = open(&sink, 1);
            writer.write(&rows(0..1), NOW).expect("rows");
            let prepared = writer.pre_commit().expect("uploaded");
            writer.commit(&prepared).expect("committed");
            let gone = "s3://nothing/out";
            let owned = [
                ("path".to_owned(), gone.to_owned()),
                ("format".to_owned(), "csv".to_owned()),
            ];
            let options = Options::new(owned).expect("distinct options");
            let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
            let context = SinkContext {
                job: "job".to_owned(),
                operator: "out".to_owned(),
            };
            let connector = millrace_connectors::connector("files").expect("it is built in");
            let sink = connector
                .sink(options, schema, &context)
                .expect("sound options")
                .expect("a sink");
            let error = sink.check().expect_err("there is no such bucket");
            assert_eq!(error.code(), "IO0130", "{error}");
        }
        _ => {}
    }
}
