//! Tests of pipelines and of their functions, under `cargo test`: no wasm, no host, no clock that runs by itself.
//!
//! A [`Job`] runs a pipeline in the test's own thread. The test gives it rows in place of its sources, moves event time
//! and processing time, and looks at what came to the sinks, at states and at timers:
//!
//! ```
//! use millrace::prelude::*;
//! use millrace::testing::{Job, Options};
//!
//! #[derive(Record, Clone)]
//! struct Login { user: i64, ok: bool, at: Timestamp }
//!
//! #[derive(Record, Debug, PartialEq)]
//! struct Alarm { user: i64, failures: i64 }
//!
//! /// Raises an alarm at three failures within a minute.
//! struct Guard { failures: ValueState<i64> }
//!
//! impl KeyedProcess for Guard {
//!     type In = Login;
//!     type Key = i64;
//!     type Out = Alarm;
//!
//!     fn process(&mut self, login: Login, cx: &mut Context<'_, Self>) {
//!         let failures = self.failures.update(|failures| { *failures += 1; *failures });
//!         match failures {
//!             1 => cx.set_event_timer(login.at + Duration::from_secs(60)),
//!             3 => cx.push(Alarm { user: login.user, failures }),
//!             _ => {}
//!         }
//!     }
//!
//!     fn on_timer(&mut self, _timer: Timer<i64>, _cx: &mut Context<'_, Self>) {
//!         self.failures.clear();
//!     }
//! }
//!
//! fn alarms(flow: &Flow) -> Result<()> {
//!     flow.source("logins", Files::ndjson::<Login>("logins.ndjson"))
//!         .watermarks(Watermarks::bounded(Login::FIELDS.at, Duration::from_secs(5)))
//!         .filter(|login| !login.ok)
//!         .key_by(Login::FIELDS.user)
//!         .process(|setup| Guard { failures: setup.value_state("failures") })
//!         .uid("guard")
//!         .sink("alarms", Stdout::ndjson());
//!     Ok(())
//! }
//!
//! let failed = |second: i64| Login { user: 7, ok: false, at: Timestamp::from_millis(second * 1_000) };
//! let mut job = Job::new(alarms);
//! job.push("logins", failed(1));
//! job.push("logins", failed(2));
//! assert_eq!(job.state::<i64>("guard", "failures", 7), Some(2));
//! assert_eq!(job.event_timers("guard", 7), [Timestamp::from_millis(61_000)]);
//!
//! // The job fails, and goes on from its last checkpoint, at another parallelism.
//! let mut job = Options::new().parallelism(3).restore(&job.snapshot(), alarms);
//! job.push("logins", failed(3));
//! assert_eq!(job.rows::<Alarm>("alarms"), [Alarm { user: 7, failures: 3 }]);
//!
//! // The watermark is 5 s behind: at 1:06 the minute is over.
//! job.push("logins", Login { ok: true, ..failed(67) });
//! assert_eq!(job.state::<i64>("guard", "failures", 7), None);
//! ```
//!
//! # What it is, and what it is not
//!
//! A job of this module does what the host does: when windows fire and what is late, how sessions merge, in which order
//! timers of a key fire, when state expires, how watermarks of several inputs become one, what a restart keeps. That is
//! tested against the host. Patterns of events are found by the host's own code. Differences are
//!
//! - Nothing is fast, and nothing is bounded: every row is looked at on its own, and all is in memory.
//! - Connectors and formats do not run: sources give what the test gives, sinks keep what they get. So no source waits for
//!   others ([alignment](crate::stream::Watermarks::aligned)): the test is who reads.
//! - HTTP requests are not made: [`Options::http`] says what comes of them, at once and in order.
//! - Tables that rows are looked up in have the rows that [`Job::table`] says.
//! - Keys are spread over subtasks in another way than the host spreads them.
//! - A panic of the pipeline is a panic of the test, and so is a row that is refused where [the policy](crate::connect::Reject)
//!   is to fail. Rows refused under another policy are in [`Job::refused`].
//!
//! # Patterns of events
//!
//! A pattern is looked for as anywhere else: rows wait for the watermark, what is complete goes on, and what runs out of time
//! does so when the watermark, or without event time the clock, says so. Between two rows a test sees what has begun:
//!
//! ```
//! use millrace::prelude::*;
//! use millrace::testing::{self, Job};
//!
//! #[derive(Record, Clone, Debug, PartialEq)]
//! struct Login { user: String, ok: bool }
//!
//! fn guessed(flow: &Flow) {
//!     let guessed = Pattern::<Login>::begin("failures")
//!         .where_(|login| !login.ok)
//!         .times(2)
//!         .next("success")
//!         .where_(|login| login.ok)
//!         .within(Duration::from_secs(60));
//!     testing::source::<Login>(flow, "logins")
//!         .key_by(Login::FIELDS.user)
//!         .pattern(guessed)
//!         .select(|found| (found.key(), found.rows("failures").count() as i64))
//!         .uid("guessed")
//!         .sink("alarms", Discard::new());
//! }
//!
//! let login = |ok| Login { user: "ann".to_owned(), ok };
//! let mut job = Job::new(guessed);
//! job.push_at("logins", 2_000, login(false));
//! job.push_at("logins", 1_000, login(false));
//! job.watermark("logins", 2_500);
//! assert_eq!(job.partial_matches::<Login>("guessed", "ann").len(), 2);
//!
//! // The job fails, and goes on.
//! job.restart();
//! job.push_at("logins", 3_000, login(true));
//! job.watermark("logins", 3_000);
//! assert_eq!(job.rows::<(String, i64)>("alarms"), [("ann".to_owned(), 2)]);
//! ```
//!
//! # Windows
//!
//! [`Job::windows`] shows which windows of a key are open, what each keeps and when it fires, be they the host's or, with a
//! trigger, the pipeline's; [`Job::window_state`] what a function of windows keeps for one of them.
//!
//! # One function
//!
//! [`source`] is a stream for whatever is to be tested, with times and watermarks as the test gives them:
//! [`Job::push_at`], [`Job::watermark`].
//!
//! # Rows in any order
//!
//! What a pipeline puts out should not depend on the order in which rows come, as far as
//! they may be out of order: [`assert_order_does_not_matter`] tries many. Rows of a key and of equal time that a pattern is
//! looked for in need an order for that
//! ([`order_equal_times_by`](crate::pattern::PatternStream::order_equal_times_by)).

mod collections;
mod convert;
mod datum;
mod guest;
mod inspect;
mod job;
mod keyed;
mod lookup;
mod open_windows;
mod operator;
mod options;
mod patterns;
mod plan;
mod property;
mod random;
mod requests;
mod runner;
mod snapshot;
mod source;
mod spread;
mod time;
mod windows;

use crate::parameters::Parameters;

pub use inspect::{IntoKey, RefusedRow};
pub use job::Job;
pub use open_windows::OpenWindow;
pub use options::Options;
pub use property::{Disorder, assert_order_does_not_matter};
pub use snapshot::Snapshot;
pub use source::source;

pub(crate) use collections::{Collection, Collections, called, enter, leave};
pub(crate) use datum::{Datum, columns};

/// Parameters as `jobctl run --param name=value` gives them: those that are not named have their defaults.
///
/// # Panics
/// If one is missing, unknown, or not what it should be.
///
/// ```
/// use millrace::prelude::*;
/// use millrace::testing;
///
/// #[derive(Parameters)]
/// struct Params {
///     /// File to read
///     input: String,
///     /// Length of windows
///     #[parameter(default = "10s")]
///     window: Duration,
/// }
///
/// let params: Params = testing::parameters(&[("input", "book.txt")]);
/// assert_eq!(params.window, Duration::from_secs(10));
/// ```
pub fn parameters<P: Parameters>(given: &[(&str, &str)]) -> P {
    let declared = P::declare();
    for (name, _) in given {
        let is_known = declared.iter().any(|parameter| parameter.name == *name);
        assert!(is_known, "there is no parameter `{name}`");
    }
    let value = |name: &str| {
        given
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    };
    let values: Vec<(String, String)> = declared
        .into_iter()
        .filter_map(|parameter| {
            Some((
                parameter.name.clone(),
                value(&parameter.name).or(parameter.default_value)?,
            ))
        })
        .collect();
    P::parse(&values).unwrap_or_else(|error| panic!("{error}"))
}
