//! Listeners: one for each address of the process, for all sources that take requests there, each at a path of its own.
//!
//! A listener is there as long as one of its sources is: while a job restarts, the address is not free for anybody else.
//! Connections live on the threads that all HTTP of the process shares. With a certificate they are encrypted; that is the
//! listener's, so sources that share one agree on it.
//!
//! ```text
//!   accept -- TLS -- request, request ... --by path--> Shared of a source --> Reply
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use millrace_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::reply::Reply;
use super::server::{DISCARD_TIMEOUT, Shared, discard_unwanted};
use super::settings::{Settings, refused};
use super::tls::Tls;
use crate::http::runtime;

/// How long a sender may take for the head of a request or for the handshake, and be silent between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long answers under way may take when the last source ends.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Wait before the next try when no connection can be accepted: for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections beside those whose requests wait: of senders that are to be told to come back, or are silent.
const CONNECTIONS_SPARE: usize = 64;

static OPEN: Mutex<BTreeMap<String, Weak<Listener>>> = Mutex::new(BTreeMap::new());

/// By path; `None`: there was a source, and has ended.
type Sources = BTreeMap<String, Option<Arc<Shared>>>;

/// Listens until it is dropped, which waits for answers under way.
pub(super) struct Listener {
    tls: Option<Tls>,
    sources: Arc<Mutex<Sources>>,
    /// A permit for each connection that there may be.
    places: Arc<Semaphore>,
    /// Dropped: it is to end.
    stop: Option<watch::Sender<()>>,
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Listener {
    /// The listener at the address, which begins to listen with its first source.
    pub(super) fn open(settings: &Settings) -> Result<Arc<Listener>> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, listener| listener.strong_count() > 0);
        if let Some(listener) = open.get(&settings.address).and_then(Weak::upgrade) {
            if listener.tls != settings.tls {
                let message = format!(
                    "another source listens at `{}` with other `certificate.file`, `key.file` or `ca.file`: sources that \
                     share an address have the same",
                    settings.address
                );
                return Err(refused(message));
            }
            return Ok(listener);
        }
        let listener = Arc::new(Listener::start(settings)?);
        open.insert(settings.address.clone(), Arc::downgrade(&listener));
        Ok(listener)
    }

    fn start(settings: &Settings) -> Result<Listener> {
        let unable = |error: std::io::Error| {
            let message = format!("cannot listen at `{}` (option `address`): {error}", settings.address);
            Error::external("IO0150", message)
        };
        let tls = settings.tls.as_ref().map(Tls::acceptor).transpose()?;
        let runtime = runtime::handle()?;
        let listener = StdListener::bind(&settings.address).map_err(unable)?;
        listener.set_nonblocking(true).map_err(unable)?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(unable)?
        };
        let (stop, stopped) = watch::channel(());
        let (end, ended) = mpsc::channel();
        let (sources, places) = (Arc::default(), Arc::new(Semaphore::new(CONNECTIONS_SPARE)));
        let connections = Connections {
            tls,
            sources: Arc::clone(&sources),
            places: places.clone(),
            stopped,
        };
        runtime.spawn(async move {
            connections.serve(listener).await;
            // Whoever had waited may have given up.
            let _ = end.send(());
        });
        Ok(Listener {
            tls: settings.tls.clone(),
            sources,
            places,
            stop: Some(stop),
            ended: Mutex::new(ended),
        })
    }

    /// Requests with the path of this source go to it from now on.
    pub(super) fn add(&self, source: &Arc<Shared>) -> Result<()> {
        let Settings { address, path, .. } = &*source.settings;
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.get(path).is_some_and(Option::is_some) {
            let message = format!("another source takes the requests with path `{path}` at `{address}`");
            return Err(Error::user("CN0171", message));
        }
        sources.insert(path.clone(), Some(source.clone()));
        self.places.add_permits(source.settings.requests_max);
        Ok(())
    }

    /// A source has ended.
    pub(super) fn remove(&self, source: &Shared) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.insert(source.settings.path.clone(), None);
        self.places.forget_permits(source.settings.requests_max);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Those that take longer are cut off.
        let _ = ended.recv_timeout(FINISH_TIMEOUT + DISCARD_TIMEOUT);
    }
}

/// What connections have in common.
#[derive(Clone)]
struct Connections {
    tls: Option<TlsAcceptor>,
    sources: Arc<Mutex<Sources>>,
    places: Arc<Semaphore>,
    stopped: watch::Receiver<()>,
}

impl Connections {
    async fn serve(mut self, listener: TcpListener) {
        let (alive, mut all_ended) = tokio::sync::mpsc::channel::<()>(1);
        let accepting = self.clone();
        tokio::select! {
            _ = self.stopped.changed() => {}
            () = accepting.accept(&listener, &alive) => {}
        }
        drop((listener, alive));
        // Nothing is sent: it ends when nobody could send any more.
        let _ = tokio::time::timeout(FINISH_TIMEOUT, all_ended.recv()).await;
    }

    async fn accept(&self, listener: &TcpListener, alive: &tokio::sync::mpsc::Sender<()>) {
        loop {
            // More wait in the system's queue until one has ended.
            let Ok(place) = self.places.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (connections, alive) = (self.clone(), alive.clone());
                    tokio::spawn(async move {
                        connections.talk(stream).await;
                        drop((place, alive));
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    /// Answers the requests of a connection, until its sender or the listener ends it.
    async fn talk(mut self, stream: TcpStream) {
        // Answers are small, and somebody waits for each.
        let _ = stream.set_nodelay(true);
        let Some(tls) = self.tls.clone() else {
            return self.answer_all(stream).await;
        };
        // Whoever does not come to terms is told so by the handshake.
        let encrypted = tokio::select! {
            encrypted = tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)) => encrypted,
            _ = self.stopped.changed() => return,
        };
        if let Ok(Ok(encrypted)) = encrypted {
            self.answer_all(encrypted).await;
        }
    }

    async fn answer_all(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request| answer(request, self.sources.clone()));
        let mut http = http1::Builder::new();
        let http = http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        // Whoever went away needs no answer.
        tokio::select! {
            _ = connection.as_mut() => {}
            _ = self.stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
}

async fn answer(request: Request<Incoming>, sources: Arc<Mutex<Sources>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let (source, is_early) = {
        let sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        (sources.get(head.uri.path()).cloned(), sources.is_empty())
    };
    let reply = match source {
        Some(Some(source)) => source.answer(&head.method, &head.headers, &mut body).await,
        none => {
            discard_unwanted(&head.headers, &mut body).await;
            match none {
                None if is_early => Reply::later("the job has not begun to read"),
                None => Reply::wrong(StatusCode::NOT_FOUND, "there is nothing at this path"),
                Some(_) => Reply::later("the job has ended"),
            }
        }
    };
    Ok(reply.into_response())
}
