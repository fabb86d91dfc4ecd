//! How long state lives.

use std::time::Duration;

use crate::bindings::dataflow as wit;
use crate::time::{check_length, millis};

/// Time to live of a state: after so long without being renewed it is as if it had been cleared.
///
/// Given to a state of a process function by [`Setup::ttl`](crate::process::Setup::ttl), and to a rolling aggregate by
/// [`Stream::ttl`](crate::Stream::ttl).
///
/// - Time is processing time, and is looked at when a call begins: an expired value is never seen, and none goes while a
///   row is handled.
/// - A value, list or map expires as a whole, unlike the entries of maps and lists in Flink. Other states of the key and
///   its timers stay.
/// - Of a [`LargeMap`](crate::state::LargeMap) or [`LargeList`](crate::state::LargeList) each entry has a time of its own, as in
///   Flink: an insert or push begins it, and items of a list count from the first that has not expired.
/// - Keys that never come again are looked for, even when no rows come. They are found within about a tenth of the time
///   to live, or a tenth of a second if that is more.
/// - Checkpoints and savepoints hold when each state expires, and what has expired when they are restored is not there.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Click { id: String }
///
/// /// Puts out each click once, however often it is delivered within an hour.
/// struct Distinct { seen: ValueState<bool> }
///
/// impl Distinct {
///     fn new(setup: &mut Setup) -> Self {
///         let seen = setup.value_state("seen");
///         setup.ttl(&seen, Ttl::after(Duration::from_secs(3600)));
///         Distinct { seen }
///     }
/// }
///
/// impl KeyedProcess for Distinct {
///     type In = Click;
///     type Key = String;
///     type Out = Click;
///
///     fn process(&mut self, click: Click, cx: &mut Context<'_, Self>) {
///         if self.seen.get().is_none() {
///             self.seen.set(true);
///             cx.push(click);
///         }
///     }
/// }
///
/// fn distinct(clicks: Stream<Rows<Click>>) {
///     clicks.key_by(Click::FIELDS.id).process(Distinct::new).uid("distinct").sink("out", Stdout::ndjson());
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    after: Duration,
    renewed_by: wit::Renewal,
}

impl Ttl {
    /// So long after it was last written. Whole milliseconds count, at least one.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let an_hour = Ttl::after(Duration::from_secs(3600));
    /// ```
    pub fn after(time: Duration) -> Self {
        Ttl {
            after: time,
            renewed_by: wit::Renewal::Write,
        }
    }

    /// A read renews it like a write: it lives as long as it is used.
    ///
    /// A read counts once a twentieth of the time has passed since the last renewal, for what it renews has to be in the
    /// next checkpoint. So a state may expire by that much too early.
    ///
    /// Of a large map or list what is read is renewed entry by entry; an iterator reads ahead, up to some thousand entries.
    /// As its items then no longer expire in their order, the length of a `LargeList`, and so an item by its index,
    /// has all of the list looked through once a block. With [`after`](Self::after) alone the host knows the order.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let an_hour_of_silence = Ttl::after(Duration::from_secs(3600)).on_read_and_write();
    /// ```
    #[must_use]
    pub fn on_read_and_write(self) -> Self {
        Ttl {
            renewed_by: wit::Renewal::ReadOrWrite,
            ..self
        }
    }

    /// Whether it is some time, and not too long.
    pub(crate) fn check(self) -> Result<(), String> {
        check_length(Duration::from_millis(1), self.after)
    }

    pub(crate) fn declared(self) -> wit::TimeToLive {
        wit::TimeToLive {
            after_ms: millis(self.after),
            renewed_by: self.renewed_by,
        }
    }
}
