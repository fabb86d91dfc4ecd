//! What is behind a path: takes requests, hands them to the reader of the attempt that runs, and answers when that says so.
//!
//! It is the source's and not an attempt's: while a job restarts, senders are told to come back. Each request has a place, its
//! body has bytes of a common store, and who finds none is told to come back.
//!
//! ```text
//!   listener -- head: token, type, key -- body --> bounded channel --> reader --> Reply --> listener
//! ```

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap};
use hyper::{Method, StatusCode};
use millrace_core::Result;
use millrace_core::connector::Waker;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::body::Kind;
use super::ledger::Keyed;
use super::listener::Listener;
use super::reply::Reply;
use super::settings::Settings;

/// How long a body is read on that nobody wants: a sender that is still writing does not see an answer.
pub(super) const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest key that is taken.
const KEY_BYTES_MAX: usize = 255;

/// The header of keys.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A request that is to be taken.
pub(super) struct Posted {
    pub(super) kind: Kind,
    pub(super) body: Bytes,
    pub(super) key: Option<Keyed>,
    /// Where the answer goes; closed, if nobody waits for it any more.
    pub(super) answer: oneshot::Sender<Reply>,
    /// Of the body.
    _bytes: OwnedSemaphorePermit,
}

/// Takes requests until it is dropped, which waits for answers under way if nobody else listens at the address.
pub(super) struct Server {
    shared: Arc<Shared>,
    listener: Arc<Listener>,
}

/// What connections and the reader have in common.
pub(super) struct Shared {
    pub(super) settings: Arc<Settings>,
    token: Option<String>,
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    reader: Mutex<Option<Attached>>,
}

/// Who takes requests.
struct Attached {
    /// Tells it from those before it.
    number: u64,
    posted: SyncSender<Posted>,
    waker: Waker,
}

impl Server {
    /// Takes requests from now on.
    pub(super) fn start(settings: &Arc<Settings>) -> Result<Server> {
        let shared = Arc::new(Shared {
            token: settings.token.read()?,
            requests: Arc::new(Semaphore::new(settings.requests_max)),
            bytes: Arc::new(Semaphore::new(settings.bytes_max)),
            reader: Mutex::new(None),
            settings: settings.clone(),
        });
        let listener = Listener::open(settings)?;
        listener.add(&shared)?;
        Ok(Server { shared, listener })
    }

    /// Requests go to this reader from now on.
    pub(super) fn attach(&self, waker: &Waker) -> (u64, Receiver<Posted>) {
        let (posted, receiver) = sync_channel(self.shared.settings.requests_max);
        let mut reader = self.shared.reader();
        let number = reader.as_ref().map_or(0, |before| before.number + 1);
        let waker = waker.clone();
        *reader = Some(Attached { number, posted, waker });
        (number, receiver)
    }

    /// Requests and bytes for which there is room.
    #[cfg(test)]
    pub(super) fn free(&self) -> (usize, usize) {
        let Shared { requests, bytes, .. } = &*self.shared;
        (requests.available_permits(), bytes.available_permits())
    }

    /// A reader is gone.
    pub(super) fn detach(&self, number: u64) {
        let mut reader = self.shared.reader();
        if reader.as_ref().is_some_and(|reader| reader.number == number) {
            *reader = None;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listener.remove(&self.shared);
    }
}

/// Reads a body that nobody wants, for a while, unless its sender waits to be told whether to send it.
pub(super) async fn discard_unwanted(headers: &HeaderMap, body: &mut Incoming) {
    if !headers.contains_key(EXPECT) {
        discard(body).await;
    }
}

async fn discard(body: &mut Incoming) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, rest).await;
}

/// What the head of a request says, and what is reserved for it.
struct Admitted {
    kind: Kind,
    key: Option<u128>,
    bytes: OwnedSemaphorePermit,
    /// Until it is answered.
    _place: OwnedSemaphorePermit,
}

impl Shared {
    fn reader(&self) -> MutexGuard<'_, Option<Attached>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of a request.
    pub(super) async fn answer(&self, method: &Method, headers: &HeaderMap, body: &mut Incoming) -> Reply {
        match self.admit(method, headers) {
            Ok(admitted) => self.take(admitted, body).await,
            Err(reply) => {
                discard_unwanted(headers, body).await;
                reply
            }
        }
    }

    /// Decides by the head of a request whether its body is read.
    fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<Admitted, Reply> {
        let settings = &self.settings;
        if method != Method::POST {
            let why = format!("the method is {method}, not POST");
            return Err(Reply::wrong(StatusCode::METHOD_NOT_ALLOWED, why));
        }
        if let Some(token) = &self.token
            && !has_token(headers, token)
        {
            let why = "the request lacks the bearer token of this webhook";
            return Err(Reply::wrong(StatusCode::UNAUTHORIZED, why));
        }
        let kind = kind(headers)?;
        let key = key(headers)?;
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let length = length.and_then(|length| length.parse::<usize>().ok());
        // Of a body whose length is not said there may come as much as is allowed.
        let length = length.unwrap_or(settings.body_bytes_max);
        if length > settings.body_bytes_max {
            return Err(too_large(settings.body_bytes_max));
        }
        let place = self.requests.clone().try_acquire_owned();
        let place = place.map_err(|_| Reply::later("too many requests wait to be answered"))?;
        let length = u32::try_from(length).expect("there is a bound to options");
        let bytes = self.bytes.clone().try_acquire_many_owned(length);
        let bytes = bytes.map_err(|_| Reply::later("too many bytes wait to be read"))?;
        Ok(Admitted {
            kind,
            key,
            bytes,
            _place: place,
        })
    }

    /// Reads the body, hands the request to the reader and waits for its answer.
    async fn take(&self, admitted: Admitted, body: &mut Incoming) -> Reply {
        let timeout = self.settings.timeout;
        let body = match tokio::time::timeout(timeout, self.collect(body)).await {
            Ok(Ok(body)) => body,
            Ok(Err(reply)) => return reply,
            Err(_) => return Reply::wrong(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
        };
        let (answer, answered) = oneshot::channel();
        let hash = xxh3_64(&body);
        let posted = Posted {
            kind: admitted.kind,
            key: admitted.key.map(|key| Keyed { key, body: hash }),
            body,
            answer,
            _bytes: admitted.bytes,
        };
        if let Err(reply) = self.hand_over(posted) {
            return reply;
        }
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Reply::later("the job has ended or restarts, and has no checkpoint with these rows"),
            Err(_) => {
                let why = format!("no checkpoint with these rows within {} ms", timeout.as_millis());
                Reply::later(why)
            }
        }
    }

    async fn collect(&self, body: &mut Incoming) -> Result<Bytes, Reply> {
        let max = self.settings.body_bytes_max;
        let mut collected = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let why = format!("the body broke off: {error}");
                Reply::wrong(StatusCode::BAD_REQUEST, why)
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if collected.len() + data.len() > max {
                collected.clear();
                discard(body).await;
                return Err(too_large(max));
            }
            collected.extend_from_slice(&data);
        }
        Ok(Bytes::from(collected))
    }

    fn hand_over(&self, posted: Posted) -> Result<(), Reply> {
        let waker = {
            let reader = self.reader();
            let Some(attached) = reader.as_ref() else {
                return Err(Reply::later("the job does not read at the moment"));
            };
            let sent = attached.posted.try_send(posted);
            sent.map_err(|_| Reply::later("too many requests wait to be read"))?;
            attached.waker.clone()
        };
        (waker.0)();
        Ok(())
    }
}

fn too_large(max: usize) -> Reply {
    let why = format!("the body is longer than {max} bytes");
    Reply::wrong(StatusCode::PAYLOAD_TOO_LARGE, why)
}

/// Whether the token is there. How long that takes says nothing of where a wrong one differs.
fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let Some((scheme, given)) = given.split_at_checked("Bearer ".len()) else {
        return false;
    };
    let differences = given.iter().zip(token.as_bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    scheme.eq_ignore_ascii_case(b"Bearer ") && given.len() == token.len() && differences == 0
}

fn kind(headers: &HeaderMap) -> Result<Kind, Reply> {
    let unsupported = |why: String| Err(Reply::wrong(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return unsupported(format!(
            "the `content-encoding` is {encoding:?}: send bodies as they are"
        ));
    }
    let content_type = headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    match Kind::of(content_type) {
        Some(kind) => Ok(kind),
        None => unsupported(format!(
            "the `content-type` is `{content_type}`, not application/json or application/x-ndjson"
        )),
    }
}

/// The key of a request, by its hash. It may stand between quotes, as the draft of the IETF has it.
fn key(headers: &HeaderMap) -> Result<Option<u128>, Reply> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = value.as_bytes().trim_ascii();
    let bare = key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\""));
    let key = bare.unwrap_or(key);
    if values.next().is_some() || key.is_empty() || key.len() > KEY_BYTES_MAX {
        let why = format!("`Idempotency-Key` is one text of 1 to {KEY_BYTES_MAX} bytes");
        return Err(Reply::wrong(StatusCode::BAD_REQUEST, why));
    }
    Ok(Some(xxh3_128(key)))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn tokens_are_compared_as_a_whole() {
        let check = |value: &'static str, is_it: bool| {
            assert_eq!(
                has_token(&headers("authorization", &[value]), "secret"),
                is_it,
                "{value}"
            );
        };
        check("Bearer secret", true);
        check("bearer secret", true);
        check("Bearer secre", false);
        check("Bearer secrets", false);
        check("Bearer Secret", false);
        check("Basic secret", false);
        check("Bear", false);
        assert!(!has_token(&HeaderMap::new(), "secret"));
    }

    #[test]
    fn keys_are_texts_with_or_without_quotes() {
        let key = |values: &[&'static str]| key(&headers(IDEMPOTENCY_KEY, values));
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&["\"a-1\""]), key(&["a-1"]));
        assert_ne!(key(&["a-1"]), key(&["a-2"]));
        let long: &'static str = "x".repeat(256).leak();
        for wrong in [&["\"\""][..], &[""], &["a", "b"], &[long]] {
            assert!(key(wrong).is_err(), "{wrong:?}");
        }
    }
}
