//! Redis servers for tests: private ones on free ports, gone afterwards.
//!
//! `scripts/setup-redis` installs the programs.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::certificates::{Authority, Certified};
use crate::jobs::{as_text, wait_until};

/// A server that writes down each command before it answers, with the password `secret`.
pub struct Server {
    folder: tempfile::TempDir,
    port: u16,
    /// Of one with TLS: further arguments.
    tls: Option<Vec<String>>,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// One of one's own.
    pub fn new() -> Server {
        Self::with(None)
    }

    /// One that speaks nothing but TLS, with this certificate, to clients whose certificates the authority has signed.
    pub fn with_tls(authority: &Authority, own: &Certified) -> Server {
        let files = [
            ("--tls-ca-cert-file", authority.file()),
            ("--tls-cert-file", &own.certificate),
            ("--tls-key-file", &own.key),
        ];
        let arguments = files.map(|(name, path)| [name.to_owned(), as_text(path).to_owned()]);
        Self::with(Some(arguments.concat()))
    }

    fn with(tls: Option<Vec<String>>) -> Server {
        let folder = tempfile::tempdir().expect("temporary folder");
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let server = Server {
            folder,
            port: port.expect("a free port").port(),
            tls,
            child: Mutex::new(None),
        };
        server.start();
        server
    }

    /// Starts it, after [`Server::crash`].
    pub fn start(&self) {
        let log = self.folder.path().join("log");
        let mut command = Command::new("redis-server");
        let port = self.port.to_string();
        match &self.tls {
            None => command.args(["--port", &port]),
            Some(files) => command.args(["--port", "0", "--tls-port", &port]).args(files),
        };
        command.args(["--bind", "127.0.0.1", "--requirepass", "secret"]);
        command.args([
            "--unixsocket",
            as_text(&self.socket()),
            "--dir",
            as_text(self.folder.path()),
        ]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        command.args(["--logfile", as_text(&log)]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .spawn()
            .expect("redis-server is installed by scripts/setup-redis");
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        wait_until("Redis answers", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.run(&["PING"]) == "PONG"
        });
    }

    /// Ends it at once, as a power cut would.
    pub fn crash(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
        }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("socket")
    }

    /// Port on this machine.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// For the option `url` of the sink.
    pub fn url(&self) -> String {
        format!("redis://:secret@127.0.0.1:{}", self.port)
    }

    /// The same without the password.
    pub fn url_without_password(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The same by a socket.
    pub fn socket_url(&self) -> String {
        format!("redis+unix://{}?pass=secret&db=1", as_text(&self.socket()))
    }

    /// What `redis-cli` prints for a command, which may be an error.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-s", as_text(&self.socket())])
            .args(["--no-auth-warning", "-a", "secret"])
            .args(["--raw"])
            .args(arguments)
            .output()
            .expect("redis-cli is installed by scripts/setup-redis");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.trim_end_matches('\n').to_owned()
    }

    /// The same as lines, none for nothing.
    pub fn lines(&self, arguments: &[&str]) -> Vec<String> {
        self.run(arguments).lines().map(str::to_owned).collect()
    }
}

impl Default for Server {
    fn default() -> Self {
        Server::new()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crash();
    }
}
