//! How a job of a test runs, and how it begins.

use std::collections::BTreeMap;

use super::job::{Job, erased};
use super::requests::Server;
use super::runner::Settings;
use super::snapshot::Snapshot;
use crate::Flow;
use crate::abi::Outcome;
use crate::http::{HttpError, Request, Response};
use crate::stream::Millis;

/// How a [`Job`] runs.
///
/// ```
/// use millrace::prelude::*;
/// use millrace::testing::Options;
///
/// # #[derive(Record, Clone)]
/// # struct Click { user: i64 }
/// let mut job = Options::new().parallelism(4).seed(17).start(|flow| {
///     let clicks = flow.source("clicks", Files::csv::<Click>("clicks.csv"));
///     clicks.key_by(Click::FIELDS.user).count().sink("counts", Discard::new());
/// });
/// job.push_all("clicks", (0..100).map(|user| Click { user: user % 10 }));
/// assert_eq!(job.rows::<Counted<i64>>("counts").len(), 100);
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    settings: Settings,
}

impl Default for Options {
    fn default() -> Self {
        Options::new()
    }
}

impl Options {
    /// One subtask of everything, one split of each source, a fixed order, the clock at 0.
    ///
    /// ```
    /// let options = millrace::testing::Options::new();
    /// ```
    pub fn new() -> Self {
        Options {
            settings: Settings {
                parallelism: 1,
                seed: None,
                splits: BTreeMap::new(),
                now: 0,
                attempt: 0,
                server: Server::default(),
            },
        }
    }

    /// Says what comes of HTTP requests, in place of servers. Without it a pipeline that makes one panics.
    ///
    /// ```
    /// use millrace::prelude::*;
    /// use millrace::testing::Options;
    ///
    /// # #[derive(Record, Clone)]
    /// # struct Order { id: i64, customer: String }
    /// # #[derive(Record, Debug, PartialEq)]
    /// # struct Rated { id: i64, score: Option<i64> }
    /// let server = |request: &Request| match request.url.as_str() {
    ///     "https://scores.example.org/ann" => Ok(Response::new(200, "7")),
    ///     _ => Err(HttpError::Timeout("no response".into())),
    /// };
    /// let mut job = Options::new().http(server).start(|flow| {
    ///     flow.source("orders", Stdin::ndjson::<Order>())
    ///         .async_map(
    ///             Http::ordered().origin("https://scores.example.org"),
    ///             |order| Request::get(format!("https://scores.example.org/{}", order.customer)),
    ///             |order, answer| Rated { id: order.id, score: answer.ok().and_then(|it| it.text().parse().ok()) },
    ///         )
    ///         .sink("rated", Discard::new());
    /// });
    /// let order = |id, customer: &str| Order { id, customer: customer.into() };
    /// job.push_all("orders", [order(1, "ann"), order(2, "bob")]);
    /// assert_eq!(job.rows::<Rated>("rated"), [Rated { id: 1, score: Some(7) }, Rated { id: 2, score: None }]);
    /// ```
    #[must_use]
    pub fn http(mut self, server: impl Fn(&Request) -> Result<Response, HttpError> + 'static) -> Self {
        self.settings.server = Server::new(server);
        self
    }

    /// Subtasks of what has no parallelism of its own.
    ///
    /// ```
    /// let options = millrace::testing::Options::new().parallelism(3);
    /// ```
    #[must_use]
    pub fn parallelism(mut self, subtasks: u32) -> Self {
        assert!(subtasks > 0, "there is at least one subtask");
        self.settings.parallelism = subtasks;
        self
    }

    /// Draws from a seed in which order what is under way arrives, how rows are cut into blocks, and how far everything
    /// has come when the next row is pushed. The same seed gives the same run.
    ///
    /// ```
    /// let options = millrace::testing::Options::new().seed(17);
    /// ```
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// How many splits a source has: files, partitions. Each has a watermark of its own.
    ///
    /// ```
    /// let options = millrace::testing::Options::new().splits("clicks", 2);
    /// ```
    #[must_use]
    pub fn splits(mut self, source: &str, splits: usize) -> Self {
        self.settings.splits.insert(source.to_owned(), splits);
        self
    }

    /// What time it is when the job begins. Without this it is 1970.
    ///
    /// ```
    /// let options = millrace::testing::Options::new().now(1_700_000_000_000);
    /// ```
    #[must_use]
    pub fn now(mut self, now: impl Millis) -> Self {
        self.settings.now = now.millis();
        self
    }

    /// Begins a job.
    ///
    /// # Panics
    /// If the pipeline cannot be built.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # fn pipeline(flow: &Flow) {}
    /// let job = millrace::testing::Options::new().start(pipeline);
    /// ```
    pub fn start<O: Outcome>(self, build: impl Fn(&Flow) -> O + 'static) -> Job {
        Job::begin(self.settings, erased(build), None)
    }

    /// Begins a job where another was, maybe of an earlier version of the pipeline, or at another parallelism. What the
    /// sinks have got is not part of a snapshot: theirs begins anew.
    ///
    /// # Panics
    /// If the pipeline cannot be built, or cannot go on from there.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// # fn pipeline(flow: &Flow) {}
    /// # use millrace::testing::{Job, Options};
    /// let snapshot = Job::new(pipeline).snapshot();
    /// let job = Options::new().parallelism(2).restore(&snapshot, pipeline);
    /// ```
    pub fn restore<O: Outcome>(mut self, snapshot: &Snapshot, build: impl Fn(&Flow) -> O + 'static) -> Job {
        self.settings.now = self.settings.now.max(snapshot.now());
        Job::begin(self.settings, erased(build), Some(snapshot))
    }
}
