//! HTTP requests that pipelines ask for, row by row: made by one runtime for the whole process, off the slots.
//!
//! ```text
//!   subtask --send--> task on the runtime: attempt, wait, attempt ... --> answers --waker--> subtask
//! ```
//!
//! A [`Client`] is an operator's: it knows where requests may go, how long they may take, and which are made again. It keeps
//! connections for all subtasks. A [`Requester`] is a subtask's; when it is dropped its requests are given up. Proxies of the
//! environment are not used: where requests go is what the pipeline declares and the owner of the job grants. Whose certificates
//! are trusted is the owner's to say as well: `SSL_CERT_FILE` and `SSL_CERT_DIR` stand for those of the machine.

mod attempt;
pub(crate) mod runtime;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_core::connector::Waker;
use millrace_core::graph::RequestsDecl;
use millrace_core::requests::{Answer, Failure, FailureKind, Request, Ticket};
use millrace_core::{Error, Result};
use reqwest::redirect;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use self::attempt::{Policy, answer};

/// Redirects that are followed, one after the other.
const REDIRECTS_MAX: usize = 10;

/// How long a connection may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the requests of an operator. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    client: reqwest::Client,
    policy: Arc<Policy>,
    runtime: Handle,
}

/// What became of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts after the first.
    pub retries: u64,
    /// Rows whose time was over.
    pub timeouts: u64,
    /// Rows without a response for another reason.
    pub failures: u64,
}

impl Client {
    /// For what an operator declares. Nothing is connected yet.
    ///
    /// # Errors
    /// `HT0003` if the machine lacks what it takes: threads, certificates.
    pub fn new(declared: &RequestsDecl) -> Result<Self> {
        check_certificates(declared)?;
        let policy = Arc::new(Policy::new(declared));
        let allowed = policy.clone();
        let redirects = redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > REDIRECTS_MAX {
                return attempt.error("too many redirects");
            }
            match allowed.is_allowed(attempt.url()) {
                true => attempt.follow(),
                // The redirect itself is the response.
                false => attempt.stop(),
            }
        });
        let client = reqwest::Client::builder()
            .redirect(redirects)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("millrace/", env!("CARGO_PKG_VERSION")))
            .build();
        let unable = |error: reqwest::Error| Error::external("HT0003", format!("no HTTP client: {error}"));
        Ok(Client {
            client: client.map_err(unable)?,
            policy,
            runtime: runtime::handle()?,
        })
    }

    /// Makes a request and waits for what it comes to.
    pub(crate) fn ask(&self, request: &Request) -> Answer {
        self.runtime
            .block_on(answer(&self.client, &self.policy, request, || {}))
    }

    /// Makes the requests of a subtask, which the waker wakes when there are answers.
    pub fn requester(&self, waker: Waker) -> Requester {
        Requester {
            client: self.clone(),
            shared: Arc::new(Shared {
                waker,
                answers: Mutex::default(),
                count: AtomicUsize::new(0),
                retries: AtomicU64::new(0),
            }),
            under_way: JoinSet::new(),
            counts: Counts::default(),
        }
    }
}

/// Requests of somebody who waits for them, several at a time, each with what it is told by. What is under way when it is
/// dropped is given up.
pub(crate) struct Asking<T> {
    client: Client,
    under_way: JoinSet<(T, Answer)>,
}

impl<T: Send + 'static> Asking<T> {
    pub(crate) fn new(client: &Client) -> Self {
        Asking {
            client: client.clone(),
            under_way: JoinSet::new(),
        }
    }

    /// How many are under way.
    pub(crate) fn count(&self) -> usize {
        self.under_way.len()
    }

    /// Begins with a request.
    pub(crate) fn send(&mut self, told_by: T, request: Request) {
        let (client, policy) = (self.client.client.clone(), self.client.policy.clone());
        let task = async move { (told_by, answer(&client, &policy, &request, || {}).await) };
        self.under_way.spawn_on(task, &self.client.runtime);
    }

    /// Waits for what the next one comes to, whichever that is; `None`: there is none.
    pub(crate) fn wait(&mut self) -> Option<(T, Answer)> {
        let joined = self.client.runtime.block_on(self.under_way.join_next())?;
        Some(joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
    }
}

/// Without certificates to trust every request over TLS would fail, and not say why.
fn check_certificates(declared: &RequestsDecl) -> Result<()> {
    if !declared
        .origins
        .iter()
        .any(|origin| origin.to_string().starts_with("https://"))
    {
        return Ok(());
    }
    let found = rustls_native_certs::load_native_certs();
    if !found.certs.is_empty() {
        return Ok(());
    }
    let why = found.errors.first().map(|error| format!(": {error}"));
    let message = format!(
        "no certificates to know servers by, neither of the machine nor of `SSL_CERT_FILE`{}",
        why.unwrap_or_default()
    );
    Err(Error::external("HT0003", message))
}

/// What the tasks of a subtask share with it.
struct Shared {
    waker: Waker,
    answers: Mutex<Vec<(Ticket, Answer)>>,
    count: AtomicUsize,
    retries: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<(Ticket, Answer)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, ticket: Ticket, answer: Answer) {
        self.lock().push((ticket, answer));
        self.count.fetch_add(1, Ordering::SeqCst);
        (self.waker.0)();
    }
}

/// Makes the requests of a subtask. What is under way when it is dropped is given up.
pub struct Requester {
    client: Client,
    shared: Arc<Shared>,
    under_way: JoinSet<()>,
    counts: Counts,
}

impl std::fmt::Debug for Requester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requester")
            .field("under_way", &self.under_way.len())
            .finish_non_exhaustive()
    }
}

impl Requester {
    /// Begins with a request. Its answer comes later, under its ticket.
    pub fn send(&mut self, ticket: Ticket, request: Request) {
        while self.under_way.try_join_next().is_some() {}
        let (client, policy) = (self.client.client.clone(), self.client.policy.clone());
        let shared = self.shared.clone();
        let task = async move {
            let again = || {
                shared.retries.fetch_add(1, Ordering::Relaxed);
            };
            let answer = answer(&client, &policy, &request, again).await;
            shared.put(ticket, answer);
        };
        self.under_way.spawn_on(task, &self.client.runtime);
    }

    /// Whether there are answers that were not taken.
    pub fn has_answers(&self) -> bool {
        self.shared.count.load(Ordering::SeqCst) > 0
    }

    /// Takes the answers so far.
    pub fn take_answers(&mut self, into: &mut Vec<(Ticket, Answer)>) {
        let from = into.len();
        {
            let mut answers = self.shared.lock();
            self.shared.count.fetch_sub(answers.len(), Ordering::SeqCst);
            into.append(&mut answers);
        }
        for (_, answer) in &into[from..] {
            match answer {
                Ok(_) => {}
                Err(Failure {
                    kind: FailureKind::Timeout,
                    ..
                }) => self.counts.timeouts += 1,
                Err(_) => self.counts.failures += 1,
            }
        }
    }

    /// What became of the requests so far.
    pub fn counts(&self) -> Counts {
        Counts {
            retries: self.shared.retries.load(Ordering::Relaxed),
            ..self.counts
        }
    }
}
