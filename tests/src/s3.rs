//! A server that speaks S3, for tests: moto, as `scripts/setup-s3` installs it, on a port of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// As `scripts/setup-s3` installs it.
const MOTO: &str = "moto-5.2.5";

/// A server with one bucket, stopped when it is dropped.
pub struct Server {
    child: Child,
    port: u16,
}

/// The only bucket.
pub const BUCKET: &str = "bucket";

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `None` if moto is not installed.
    pub fn start() -> Option<Server> {
        let cache = std::env::var_os("MILLRACE_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/millrace")))?;
        let folder = cache.join(MOTO);
        if !folder.join("complete").exists() {
            return None;
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = port.expect("a free port").port();
        let child = Command::new(folder.join("bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto starts");
        let mut server = Server { child, port };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                server.request("PUT", "");
                return Some(server);
            }
            assert!(server.child.try_wait().expect("a child").is_none(), "moto runs");
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("moto does not listen on port {port}");
    }

    /// The environment that leads clients there.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("NO_PROXY", "127.0.0.1".to_owned()),
        ]
    }

    /// Asks for something in the bucket; the body of the answer, which must be a good one.
    pub fn request(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("moto listens");
        let head = "Host: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close";
        write!(stream, "{method} /{BUCKET}{path} HTTP/1.1\r\n{head}\r\n\r\n").expect("moto reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("moto answers");
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        assert!(head.lines().next().is_some_and(|line| line.contains(" 20")), "{answer}");
        body.to_owned()
    }

    /// What is between tags of this name.
    fn tagged(body: &str, tag: &str) -> Vec<String> {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let after = body.split(&open).skip(1);
        after
            .filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned()))
            .collect()
    }

    /// Names of all objects whose names begin like this, sorted.
    pub fn objects(&self, prefix: &str) -> Vec<String> {
        let mut keys = Self::tagged(&self.request("GET", &format!("?list-type=2&prefix={prefix}")), "Key");
        keys.sort();
        keys
    }

    /// Names of all objects whose upload has begun and not ended.
    pub fn uploads(&self) -> Vec<String> {
        Self::tagged(&self.request("GET", "?uploads"), "Key")
    }

    /// Lines of all objects whose names begin like this, without the header of each. Hidden ones are no part of a table.
    pub fn read_csv(&self, prefix: &str) -> Vec<String> {
        let objects = self.objects(prefix).into_iter().filter(|key| !key.contains("/."));
        let texts = objects.map(|key| self.request("GET", &format!("/{key}")));
        texts
            .flat_map(|text| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}
