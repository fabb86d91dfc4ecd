//! PostgreSQL servers for tests: private ones on free ports, made from nothing and gone afterwards.
//!
//! `scripts/setup-postgres` installs the programs. The server refuses to run as root; then it runs as the user
//! `postgres`, who comes with the package.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::certificates::{Authority, Certified};
use crate::jobs::as_text;

/// A server that allows prepared transactions, with a user `postgres` whose password is `secret`.
pub struct Server {
    folder: tempfile::TempDir,
    port: u16,
}

/// A database of a server.
pub struct Database {
    server: Arc<Server>,
    name: String,
}

impl Server {
    /// One that others use as well; it ends when nobody does.
    pub fn shared() -> Arc<Server> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Server::new(100));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// One of one's own, that allows so many prepared transactions.
    pub fn new(prepared_max: u32) -> Server {
        Server::make(prepared_max, None)
    }

    /// One that has TLS, and asks users of database `certified` for a certificate that the authority signed.
    pub fn with_tls(authority: &Authority, own: &Certified) -> Server {
        Server::make(100, Some((authority, own)))
    }

    fn make(prepared_max: u32, tls: Option<(&Authority, &Certified)>) -> Server {
        let folder = tempfile::tempdir().expect("temporary folder");
        let password = folder.path().join("password");
        std::fs::write(&password, "secret").expect("a file in a new folder");
        if is_root() {
            let owned = Command::new("chown")
                .args(["--recursive", "postgres"])
                .arg(folder.path())
                .status();
            assert!(owned.expect("chown").success(), "there is a user `postgres`");
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let server = Server {
            port: port.expect("a free port").port(),
            folder,
        };
        server.control(
            "initdb",
            &[
                "--no-sync",
                "--username=postgres",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                &format!("--pwfile={}", as_text(&password)),
                &format!("--pgdata={}", server.data()),
            ],
        );
        let mut settings = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\nmax_connections = 200\n\
             max_prepared_transactions = {prepared_max}\n",
            server.port
        );
        if let Some((authority, own)) = tls {
            settings.push_str("ssl = on\nssl_ca_file = 'authority.pem'\n");
            server.keep(authority.file(), "authority.pem");
            server.keep(&own.certificate, "server.crt");
            server.keep(&own.key, "server.key");
            let access =
                "hostnossl certified all all reject\nhostssl certified all all cert\nhost all all all scram-sha-256\n";
            let file = server.folder.path().join("data/pg_hba.conf");
            std::fs::write(file, access).expect("the server's settings");
        }
        let file = server.folder.path().join("data/postgresql.auto.conf");
        std::fs::write(file, settings).expect("the server's settings");
        server.start();
        server
    }

    /// Copies a file to its data; it is the server's own, and nobody else may read it.
    fn keep(&self, from: &Path, name: &str) {
        let to = self.folder.path().join("data").join(name);
        std::fs::copy(from, &to).expect("a file of ours");
        let status = Command::new("chmod").arg("600").arg(&to).status();
        assert!(status.expect("chmod").success());
        if is_root() {
            let status = Command::new("chown").arg("postgres").arg(&to).status();
            assert!(status.expect("chown").success());
        }
    }

    fn data(&self) -> String {
        as_text(&self.folder.path().join("data")).to_owned()
    }

    /// Starts it, after [`Server::crash`].
    pub fn start(&self) {
        let log = format!("--log={}", as_text(&self.folder.path().join("log")));
        let data = format!("--pgdata={}", self.data());
        self.control("pg_ctl", &["start", "--wait", "--silent", &data, &log]);
    }

    /// Ends it at once, as a power cut would.
    pub fn crash(&self) {
        let data = format!("--pgdata={}", self.data());
        self.control("pg_ctl", &["stop", "--mode=immediate", "--silent", &data]);
    }

    fn control(&self, program: &str, arguments: &[&str]) {
        let path = program_path(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            command.arg(path);
            command
        } else {
            Command::new(path)
        };
        // The server inherits what is open: it must not hold a pipe that somebody reads to its end.
        let errors = self.folder.path().join(format!("{program}.errors"));
        let file = std::fs::File::create(&errors).expect("a file in a folder of ours");
        let status = command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .status()
            .expect("the program starts");
        let errors = std::fs::read_to_string(errors).unwrap_or_default();
        assert!(status.success(), "{program} {arguments:?}: {errors}");
    }

    /// Port on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new database.
    pub fn database(self: &Arc<Self>, name: &str) -> Database {
        let all = Database {
            server: self.clone(),
            name: "postgres".to_owned(),
        };
        all.execute(&format!("CREATE DATABASE {name}"));
        Database {
            server: self.clone(),
            name: name.to_owned(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "the server's log ends:\n{}",
                lines[lines.len().saturating_sub(30)..].join("\n")
            );
        }
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.crash()));
        if stopped.is_err() {
            eprintln!("the server in {} was not running", self.data());
        }
    }
}

impl Database {
    /// For the option `url` of the sink.
    pub fn url(&self) -> String {
        format!(
            "postgres://postgres:secret@127.0.0.1:{}/{}",
            self.server.port, self.name
        )
    }

    /// Where it is.
    pub fn server(&self) -> &Server {
        &self.server
    }

    fn psql(&self, statement: &str) -> Output {
        let output = Command::new(program_path("psql"))
            .args([
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--csv",
                "--set=ON_ERROR_STOP=1",
                "--pset=null=~",
            ])
            .args(["--command", statement])
            .arg(self.url())
            .env("PGTZ", "UTC")
            .output();
        output.expect("psql starts")
    }

    /// Runs a statement and gives its rows as lines of CSV, with `~` for null.
    pub fn query(&self, statement: &str) -> Vec<String> {
        let output = self.psql(statement);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statement}: {errors}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    /// Runs a statement.
    pub fn execute(&self, statement: &str) {
        self.query(statement);
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("--user").output().expect("id");
    output.stdout.trim_ascii() == b"0"
}

/// Debian keeps the programs of each version in a folder of their own.
fn program_path(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .map(|version| version.path().join("bin").join(program))
        .filter(|path| path.is_file())
        .max();
    newest.unwrap_or_else(|| Path::new(program).to_owned())
}
