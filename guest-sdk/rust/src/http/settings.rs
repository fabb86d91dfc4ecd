//! How requests are made.

use std::time::Duration;

use crate::bindings::dataflow as wit;
use crate::time::millis;

/// Rows under way unless something else is asked for.
const CAPACITY: u32 = 100;
/// How long a row waits.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a body.
const RESPONSE_BYTES_MAX: u64 = 1 << 20;

/// How the host makes requests: where to, how many at a time, for how long, how often.
///
/// See [the module](super) for an example.
#[derive(Debug, Clone)]
pub struct Http {
    order: wit::RequestOrder,
    origins: Vec<String>,
    capacity: u32,
    timeout: Duration,
    retry: Option<Retry>,
    response_bytes_max: u64,
}

impl Http {
    fn new(order: wit::RequestOrder) -> Self {
        Http {
            order,
            origins: Vec::new(),
            capacity: CAPACITY,
            timeout: TIMEOUT,
            retry: None,
            response_bytes_max: RESPONSE_BYTES_MAX,
        }
    }

    /// Rows go on in the order in which they came.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let scores = Http::ordered().origin("https://scores.example.org");
    /// ```
    pub fn ordered() -> Self {
        Http::new(wit::RequestOrder::Ordered)
    }

    /// Rows go on as they are answered, but never across a watermark.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let scores = Http::unordered().origin("https://scores.example.org");
    /// ```
    pub fn unordered() -> Self {
        Http::new(wit::RequestOrder::Unordered)
    }

    /// Where requests go: a scheme, a host, and a port if it is not the usual one. `https://*.example.org` are all hosts
    /// below a domain. There is at least one.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let both = Http::unordered().origin("https://*.example.org").origin("http://localhost:8080");
    /// ```
    #[must_use]
    pub fn origin(mut self, origin: &str) -> Self {
        self.origins.push(origin.to_owned());
        self
    }

    /// How many rows may be under way in a subtask, 100 unless it is said; at most 65,536. Each has its answer in memory
    /// until it goes on.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let scores = Http::unordered().origin("https://scores.example.org").capacity(1_000);
    /// ```
    #[must_use]
    pub fn capacity(self, capacity: u32) -> Self {
        Http { capacity, ..self }
    }

    /// How long a row waits for its answer, with all attempts; 10 s unless it is said.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let scores = Http::unordered().origin("https://scores.example.org").timeout(Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Http { timeout, ..self }
    }

    /// When a request is made again; never unless it is said.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let retry = Retry::attempts(3, Duration::from_millis(100));
    /// let scores = Http::unordered().origin("https://scores.example.org").retry(retry);
    /// ```
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        Http {
            retry: Some(retry),
            ..self
        }
    }

    /// Bytes that the body of a response may have, 1 MiB unless it is said. A longer one is
    /// [`TooLarge`](super::HttpError::TooLarge).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let pages = Http::unordered().origin("https://pages.example.org").response_bytes_max(16 << 20);
    /// ```
    #[must_use]
    pub fn response_bytes_max(self, response_bytes_max: u64) -> Self {
        Http {
            response_bytes_max,
            ..self
        }
    }

    /// As the contract has it, with the number of the schema of rows that go out.
    pub(crate) fn to_contract(&self, schema: u32) -> wit::Requests {
        wit::Requests {
            order: self.order,
            capacity: self.capacity,
            timeout_ms: millis(self.timeout),
            retry: self.retry.as_ref().map(|retry| wit::Retry {
                attempts: retry.attempts,
                delay_ms: millis(retry.delay),
                statuses: retry.statuses.clone(),
            }),
            origins: self.origins.clone(),
            response_bytes_max: self.response_bytes_max,
            schema,
        }
    }
}

/// When a request is made again: if the connection could not be had or broke, or the status is one of some.
///
/// ```
/// use millrace::prelude::*;
/// let retry = Retry::attempts(5, Duration::from_millis(100)).on_statuses([429, 503]);
/// ```
#[derive(Debug, Clone)]
pub struct Retry {
    attempts: u32,
    delay: Duration,
    statuses: Vec<u16>,
}

impl Retry {
    /// So many attempts in all. The delay is before the second, and doubles from one to the next; up to a half of it is left out
    /// by chance, so that rows that failed together do not come back together. A server that says `Retry-After` gets at least that. The last response is given if none was better. The statuses are 408, 425, 429, 500,
    /// 502, 503 and 504 unless [others](Self::on_statuses) are said.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let retry = Retry::attempts(3, Duration::from_millis(100));
    /// ```
    pub fn attempts(attempts: u32, delay: Duration) -> Self {
        Retry {
            attempts,
            delay,
            statuses: vec![408, 425, 429, 500, 502, 503, 504],
        }
    }

    /// Which statuses are worth another attempt, in place of the usual ones.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let retry = Retry::attempts(3, Duration::from_millis(100)).on_statuses([503]);
    /// ```
    #[must_use]
    pub fn on_statuses(self, statuses: impl IntoIterator<Item = u16>) -> Self {
        Retry {
            statuses: statuses.into_iter().collect(),
            ..self
        }
    }
}
