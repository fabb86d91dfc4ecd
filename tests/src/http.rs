//! A small HTTP server for pipelines that ask one, with TLS or without: it answers as a function of the path says, and counts.
//! And a client for pipelines that are asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::certificates::Certified;
use crate::jobs::PATIENCE;

/// What a path is answered with.
#[derive(Debug, Clone)]
pub struct Reply {
    /// After this long.
    pub delay: Duration,
    /// Status.
    pub status: u16,
    /// Body.
    pub body: String,
}

/// What was asked of one first part of paths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Requests.
    pub requests: u64,
    /// Those that were under way at a time, at most.
    pub most: u64,
    now: u64,
}

/// The server, on a thread for each connection, until the process ends.
#[derive(Debug, Clone)]
pub struct Server {
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    asked: Arc<Mutex<BTreeMap<String, Asked>>>,
}

impl Server {
    /// A server that answers path `/a/b` as `reply("/a/b", n)` says, the n-th time that it is asked that, from 0.
    pub fn start(reply: impl Fn(&str, u64) -> Reply + Send + Sync + 'static) -> Server {
        Self::start_with(None, reply)
    }

    /// The same with TLS, and this certificate for `localhost`.
    pub fn start_with_tls(own: &Certified, reply: impl Fn(&str, u64) -> Reply + Send + Sync + 'static) -> Server {
        let certificate = CertificateDer::from_pem_file(&own.certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], key);
        Self::start_with(Some(Arc::new(config.expect("a certificate and its key"))), reply)
    }

    fn start_with(
        tls: Option<Arc<ServerConfig>>,
        reply: impl Fn(&str, u64) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = Server {
            port,
            tls,
            asked: Arc::default(),
        };
        let (accepting, reply) = (server.clone(), Arc::new(reply));
        let times = Arc::new(Mutex::new(BTreeMap::new()));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, reply, times) = (accepting.clone(), reply.clone(), times.clone());
                std::thread::spawn(move || {
                    let _ = stream.set_nodelay(true);
                    match server.tls.clone() {
                        None => server.talk(stream, &*reply, &times),
                        Some(config) => {
                            let connection = ServerConnection::new(config).expect("a sound configuration");
                            server.talk(StreamOwned::new(connection, stream), &*reply, &times);
                        }
                    }
                });
            }
        });
        server
    }

    /// Where it is.
    pub fn url(&self) -> String {
        match self.tls {
            None => format!("http://127.0.0.1:{}", self.port),
            Some(_) => format!("https://localhost:{}", self.port),
        }
    }

    /// What was asked of paths that begin with this part.
    pub fn asked(&self, part: &str) -> Asked {
        self.count(part, |_| {})
    }

    fn count(&self, part: &str, change: impl FnOnce(&mut Asked)) -> Asked {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let of = asked.entry(part.to_owned()).or_default();
        change(of);
        *of
    }

    fn talk(
        &self,
        stream: impl Read + Write,
        reply: &(dyn Fn(&str, u64) -> Reply + Send + Sync),
        times: &Mutex<BTreeMap<String, u64>>,
    ) {
        let mut reader = BufReader::new(stream);
        while let Some(path) = read_request(&mut reader) {
            let part = path.split('/').nth(1).unwrap_or_default().to_owned();
            let time = {
                let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                let count = times.entry(path.clone()).or_insert(0);
                *count += 1;
                *count - 1
            };
            self.count(&part, |asked| {
                asked.requests += 1;
                asked.now += 1;
                asked.most = asked.most.max(asked.now);
            });
            let Reply { delay, status, body } = reply(&path, time);
            std::thread::sleep(delay);
            self.count(&part, |asked| asked.now -= 1);
            let length = body.len();
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
            if reader.get_mut().write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// An address that is free, and no port that the system gives to connections: who connects to such a one while nobody listens may be
/// connected to itself.
pub fn address_to_listen_at() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let from = 10_000 + (std::process::id() % 997) as u16 * 20;
    let mut addresses = (0..1_000).map(|_| format!("127.0.0.1:{}", from + NEXT.fetch_add(1, Ordering::Relaxed)));
    let free = addresses.find(|address| TcpListener::bind(address).is_ok());
    free.expect("one of a thousand ports is free")
}

/// Makes a `POST` request on a connection of its own; the status and body of its answer.
///
/// # Errors
/// If the server cannot be reached, or does not answer to the end.
pub fn post(address: &str, path: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<(u16, String)> {
    post_on(connect(address)?, path, headers, body)
}

/// The same with TLS, to a server whose certificate is one for `localhost` that this authority has signed; with a certificate
/// of its own, if there is one.
///
/// # Errors
/// If they do not come to terms, too.
pub fn post_with_tls(
    address: &str,
    (trusted, own): (&Path, Option<&Certified>),
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(trusted).expect("a certificate");
    roots.add(authority).expect("an authority");
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some(own) => {
            let certificate = CertificateDer::from_pem_file(&own.certificate).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
            let config = config.with_client_auth_cert(vec![certificate], key);
            config.expect("a certificate and its key")
        }
    };
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a sound configuration");
    post_on(StreamOwned::new(connection, connect(address)?), path, headers, body)
}

fn connect(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn post_on(
    mut stream: impl Read + Write,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<(u16, String)> {
    let length = body.len();
    let mut request =
        format!("POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let cut = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, format!("the answer is {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(cut)?, body.to_owned()))
}

/// The path of the next request, if there is one.
fn read_request(reader: &mut BufReader<impl Read>) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end().split_once(':') {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok()?,
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(path)
}
