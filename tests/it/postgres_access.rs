//! Goal: connections of the `postgres` sink are as safe as they are asked to be, and passwords are found and never
//! shown. Method: real servers with certificates made here; the server says what it sees.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use millrace_core::connector::Sink;
use millrace_tests::certificates::Authority;
use millrace_tests::guests::{Guest, code_cache, jobctl};
use millrace_tests::jobs::as_text;
use millrace_tests::postgres::Server;

use crate::postgres::{check_refused, make_sink, open, pair_schema};

#[test]
fn connections_are_as_safe_as_they_are_asked_to_be() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (ours, others) = (
        Authority::new(folder.path(), "ours"),
        Authority::new(folder.path(), "others"),
    );
    let own = ours.certify("server", &["localhost"]);
    let server = Arc::new(Server::with_tls(&ours, &own));
    let database = server.database("plain");
    drop(server.database("certified"));
    let client = ours.certify("postgres", &[]);
    let (ours, others) = (as_text(ours.file()), as_text(others.file()));
    database.execute("CREATE TABLE facts (n bigint, t text)");
    let (numeric, named) = (database.url(), database.url().replace("127.0.0.1", "localhost"));
    let schema = pair_schema();
    let make = |url: &str, more: &[(&str, &str)]| {
        make_sink("job", &schema, &[&[("url", url), ("table", "facts")], more].concat())
    };

    // Whether the connection had TLS, by the server's own account.
    let is_safe = |sink: &Arc<dyn Sink>| {
        sink.check().expect("it will do");
        let writer = open(sink, 0);
        let query =
            "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'millrace/%/0'";
        let found = database.query(query);
        drop(writer);
        sink.recover(&[]).expect("it ends connections");
        assert_eq!(found.len(), 1, "{found:?}");
        found[0] == "t"
    };
    assert!(!is_safe(&make(&numeric, &[("sslmode", "disable")])));
    assert!(is_safe(&make(&numeric, &[])));
    assert!(is_safe(&make(&format!("{numeric}?sslmode=require"), &[])));
    assert!(is_safe(&make(
        &numeric,
        &[("sslmode", "verify-ca"), ("sslrootcert", ours)]
    )));
    assert!(is_safe(&make(
        &named,
        &[("sslmode", "verify-full"), ("sslrootcert", ours)]
    )));
    assert!(is_safe(&make(
        &format!("{named}?sslrootcert={ours}&sslmode=verify-full"),
        &[]
    )));
    // A certificate that is in the file itself needs nobody to have signed it.
    let own = as_text(&own.certificate);
    assert!(is_safe(&make(
        &named,
        &[("sslmode", "verify-full"), ("sslrootcert", own)]
    )));

    let refused = |sink: &Arc<dyn Sink>, part: &str| check_refused(sink, "IO0125", &[part]);
    refused(
        &make(&numeric, &[("sslmode", "verify-full"), ("sslrootcert", own)]),
        "127.0.0.1",
    );
    refused(
        &make(&numeric, &[("sslmode", "verify-full"), ("sslrootcert", ours)]),
        "127.0.0.1",
    );
    for mode in ["verify-ca", "verify-full", "require"] {
        refused(
            &make(&named, &[("sslmode", mode), ("sslrootcert", others)]),
            "UnknownIssuer",
        );
    }
    refused(&make(&named, &[("sslrootcert", "system")]), "UnknownIssuer");
    check_refused(
        &make(&named, &[("sslmode", "verify-ca"), ("sslrootcert", "/nowhere/ca.pem")]),
        "CN0124",
        &["/nowhere/ca.pem"],
    );

    // Where a certificate stands for a password.
    let url = format!("postgres://postgres@localhost:{}/certified", server.port());
    let (certificate, key) = (as_text(&client.certificate), as_text(&client.key));
    assert!(make(&url, &[("sslmode", "disable")]).check().is_err());
    check_refused(&make(&url, &[]), "IO0121", &["certificate"]);
    let with = [
        ("sslmode", "verify-full"),
        ("sslrootcert", ours),
        ("sslcert", certificate),
        ("sslkey", key),
    ];
    make(&url, &[&with[..], &[("create", "true")]].concat())
        .check()
        .expect("it will do");

    // A server without TLS.
    let database = Server::shared().database("without_tls");
    database.execute("CREATE TABLE facts (n bigint, t text)");
    make(&database.url(), &[]).check().expect("it will do");
    refused(
        &make(&database.url(), &[("sslmode", "require")]),
        "does not support TLS",
    );
}

#[test]
fn passwords_come_from_where_psql_finds_them_too() {
    let database = Server::shared().database("passwords");
    database.execute("CREATE TABLE facts (operator text, key bigint, at bigint, value bigint)");
    let folder = tempfile::tempdir().expect("temporary folder");
    let (file, pass) = (folder.path().join("password"), folder.path().join("pgpass"));
    std::fs::write(&file, "secret\n").expect("a file");
    std::fs::write(
        &pass,
        format!("127.0.0.1:{}:passwords:postgres:secret\n", database.server().port()),
    )
    .expect("a file");
    std::fs::set_permissions(&pass, std::fs::Permissions::from_mode(0o600)).expect("a file of ours");
    let bare = database.url().replace(":secret@", "@");
    let schema = pair_schema();
    let sink = make_sink(
        "job",
        &schema,
        &[("url", &bare), ("table", "nothing"), ("password.file", as_text(&file))],
    );
    check_refused(&sink, "CN0122", &["does not exist"]);
    let missing = make_sink(
        "job",
        &schema,
        &[
            ("url", &bare),
            ("table", "nothing"),
            ("password.env", "NO_SUCH_VARIABLE"),
        ],
    );
    check_refused(&missing, "CN0116", &["NO_SUCH_VARIABLE"]);

    // The environment is a process's own.
    let run = |name: &str, value: &str| {
        let postgres = format!("--param=postgres={bare}");
        let output = Command::new(jobctl())
            .args([
                "run",
                "--quiet",
                "--param=kind=durable",
                "--param=rows=100",
                "--param=output=unused",
                &postgres,
            ])
            .arg(Guest::Flows.path())
            .env("MILLRACE_CACHE", code_cache().join("cli"))
            .env("HOME", folder.path())
            .env_remove("PGPASSWORD")
            .env(name, value)
            .output()
            .expect("jobctl starts");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert!(run("PGPASSWORD", "secret").0);
    assert!(run("PGPASSFILE", as_text(&pass)).0);
    let (done, errors) = run("PGPASSWORD", "wrong-secret");
    assert!(
        !done && errors.contains("IO0121") && !errors.contains("secret"),
        "{errors}"
    );
    assert!(!run("PGUSER", "nobody").0);
}
