//! Goal: transactions that savepoints hold stay prepared, whoever recovers the sink, until they are committed or given up.
//! Method: the sink by itself, as in `postgres`; a server that is killed.

use std::sync::Arc;

use millrace_core::Fault;
use millrace_core::connector::{KeptFor, Sink};
use millrace_tests::postgres::Server;

use crate::postgres::{NOW, make_sink, numbers, open, pair_schema, prepared, stored};

fn savepoint(id: &str, is_written: bool) -> KeptFor {
    KeptFor {
        id: id.to_owned(),
        savepoint: format!("s3://bucket/o'{id}"),
        is_written,
    }
}

#[test]
fn what_savepoints_hold_stays_prepared_until_it_is_committed_or_released() {
    let server = Arc::new(Server::new(20));
    let database = server.database("kept");
    let schema = pair_schema();
    database.execute("CREATE SCHEMA sales");
    let url = database.url();
    let options = [("url", url.as_str()), ("table", "sales.facts"), ("create", "true")];
    let (ours, other) = (
        make_sink("ours", &schema, &options),
        make_sink("other", &schema, &options),
    );
    ours.check().expect("it makes the table");
    let stored = || database.query("SELECT n FROM sales.facts ORDER BY n");
    let notes =
        || database.query("SELECT id, savepoint, written FROM sales.millrace_savepoints ORDER BY id, transaction");
    let prepare = |sink: &Arc<dyn Sink>, subtask: u32, number: i64| {
        let mut writer = open(sink, subtask);
        writer.write(&numbers(number..number + 1), NOW).expect("rows");
        writer.pre_commit().expect("prepared")
    };
    assert_eq!(ours.kept().expect("there is no table yet"), []);
    ours.release("nothing").expect("nothing to do");
    let (first, second, third) = (prepare(&ours, 0, 1), prepare(&ours, 1, 2), prepare(&ours, 0, 3));
    let of_other = prepare(&other, 0, 9);
    ours.keep(&savepoint("a", false), &first).expect("noted");
    ours.keep(&savepoint("a", true), &first).expect("it is written");
    let more = [first.clone(), second.clone()].concat();
    ours.keep(&savepoint("b", false), &more).expect("noted");
    assert_eq!(
        notes(),
        ["a,s3://bucket/o'a,t", "b,s3://bucket/o'b,f", "b,s3://bucket/o'b,f"]
    );
    server.crash();
    server.start();
    for _ in 0..2 {
        ours.recover(&[]).expect("a job begins anew");
        assert_eq!(prepared(&database).len(), 3, "one is held by nobody");
        assert_eq!(
            ours.kept().expect("notes"),
            [savepoint("a", true), savepoint("b", false)]
        );
        assert_eq!(other.kept().expect("notes"), []);
    }
    let error = ours.recover(&third).expect_err("it was rolled back");
    assert_eq!(error.code(), "IO0124", "{error}");
    ours.recover(&first).expect("a job goes on from the first");
    assert_eq!(stored(), ["1"]);
    assert_eq!(ours.kept().expect("notes"), [savepoint("b", false)]);
    assert_eq!(notes(), ["b,s3://bucket/o'b,f"], "what is committed is forgotten");
    ours.release("b").expect("it comes to nothing");
    ours.recover(&first).expect("it goes on again");
    assert_eq!(prepared(&database).len(), 1, "of another sink");
    other.recover(&of_other).expect("committed");
    assert_eq!(stored(), ["1", "9"]);
}

/// Who may not make the table is told so, and by whom it can be made; nothing else suffers.
#[test]
fn a_user_who_may_not_make_tables() {
    let database = Server::shared().database("kept_rights");
    database.execute(
        "CREATE TABLE facts (n bigint, t text); CREATE USER kept_writer PASSWORD 'secret';
         GRANT INSERT, SELECT ON facts TO kept_writer; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    );
    let url = database.url().replace("postgres:secret", "kept_writer:secret");
    let sink = make_sink("job", &pair_schema(), &[("url", &url), ("table", "facts")]);
    sink.check().expect("it may insert");
    let mut writer = open(&sink, 0);
    writer.write(&numbers(0..2), NOW).expect("rows");
    let prepared = writer.pre_commit().expect("prepared");
    let error = sink.keep(&savepoint("a", false), &prepared).expect_err("it may not");
    assert_eq!((error.code(), error.fault()), ("IO0123", Fault::External), "{error}");
    let message = error.to_string();
    let statement = &message[message.find("CREATE TABLE").expect("a statement")..];
    assert_eq!(sink.kept().expect("there is no table"), []);
    database.execute(statement);
    // It is somebody else's as long as nobody grants it.
    assert_eq!(sink.kept().expect("nothing of ours"), []);
    sink.release("a").expect("nothing of ours");
    assert!(sink.keep(&savepoint("a", false), &prepared).is_err());
    database.execute("GRANT SELECT, INSERT, DELETE ON millrace_savepoints TO kept_writer");
    sink.keep(&savepoint("a", false), &prepared).expect("noted");
    sink.recover(&[]).expect("a job begins anew");
    sink.recover(&prepared).expect("a job goes on");
    assert_eq!(stored(&database), [0, 1]);
}
