//! Answers requests: one thread for all connections, others for those that wait.
//!
//! Nothing here decides anything ([`JobView`] does); what may block (storage, waiting for an operation) runs on threads
//! that the runtime keeps for it.

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use millrace_core::Result;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};

use super::{JobView, unusable};

/// Largest body of a request.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Connections at once; others wait to be accepted.
const CONNECTIONS_MAX: usize = 64;

/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long answers under way may take when the process ends.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// Wait before the next try when no connection can be accepted: for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers until it is told to finish, or is dropped.
pub(super) struct Server {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    pub(super) fn start(listener: UnixListener, view: JobView) -> Result<Server> {
        let failed = |error: io::Error| unusable(format!("the API cannot be served: {error}"));
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(CONNECTIONS_MAX)
            .thread_name("api-wait")
            .build()
            .map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let run = move || serve(&runtime, listener, Arc::new(view), stopped);
        let thread = std::thread::Builder::new()
            .name("api".into())
            .spawn(run)
            .map_err(failed)?;
        Ok(Server { stop, thread })
    }

    /// Lets the answers under way get through.
    pub(super) fn finish(self) {
        // It may have failed; then there is nothing to wait for.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn serve(runtime: &Runtime, listener: UnixListener, view: Arc<JobView>, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async move {
        let Ok(listener) = tokio::net::UnixListener::from_std(listener) else {
            return;
        };
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accepting = accept(&listener, &places, &view);
        tokio::select! {
            _ = stopped => {}
            () = accepting => {}
        }
        let all = u32::try_from(CONNECTIONS_MAX).expect("it is a small number");
        // Those that take longer are cut off.
        let _ = tokio::time::timeout(FINISH_TIMEOUT, places.acquire_many(all)).await;
    });
}

async fn accept(listener: &tokio::net::UnixListener, places: &Arc<Semaphore>, view: &Arc<JobView>) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let view = view.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, view.clone()));
            let mut http = http1::Builder::new();
            let http = http
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .keep_alive(false);
            // Whoever went away needs no answer.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, view: Arc<JobView>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Ok(status_only(StatusCode::PAYLOAD_TOO_LARGE)),
        Ok(Err(_)) => return Ok(status_only(StatusCode::BAD_REQUEST)),
        Err(_) => return Ok(status_only(StatusCode::REQUEST_TIMEOUT)),
    };
    let answered = tokio::task::spawn_blocking(move || {
        let uri = head.uri;
        view.answer(head.method.as_str(), uri.path(), uri.query(), &body)
    });
    let Ok(answer) = answered.await else {
        return Ok(status_only(StatusCode::INTERNAL_SERVER_ERROR));
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(location) = answer
        .location
        .and_then(|location| HeaderValue::from_str(&location).ok())
    {
        headers.insert(LOCATION, location);
    }
    if let Some(allow) = answer.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    Ok(response)
}

/// For requests that no well-meaning client makes.
fn status_only(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
