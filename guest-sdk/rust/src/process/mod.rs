//! Process functions: rows of a key, of one stream or two, with state and timers; rows without a key, with state of their
//! subtask.

mod begin;
mod broadcast;
mod co;
mod context;
mod head;
mod operator;
mod setup;
mod stateful_co;
mod states;

use crate::OpenContext;
use crate::value::{Owned, Record, Value};

pub(crate) use begin::{BROADCAST_PROCESS, begin_process, begin_unkeyed};
pub use broadcast::{BesideBroadcast, BroadcastContext, KeyedBroadcastProcess, ReadOnlyContext, UnkeyedContext};
pub use co::{CoProcess, TwoInputs};
pub(crate) use context::KeySource;
pub use context::{CoContext, Context, KeyedContext, Timer, TimerKind};
pub(crate) use head::{Due, KeyedHead, RowKey, TimerKey};
pub use head::{Entries, KeyedRows, OneInput, ProcessFunction, Processing};
pub use operator::{BroadcastProcess, OfSubtask, OfSubtaskBeside, OperatorSetup, StatefulProcess};
pub use setup::Setup;
pub(crate) use setup::{DeclaredState, Migration, StateCell};
pub use stateful_co::{StatefulCoProcess, TwoOfSubtask};
pub(crate) use states::States;

/// A function of the rows of a key, with state and timers.
///
/// Its states are fields, declared in the [`Setup`] that [`KeyedStream::process`](crate::KeyedStream::process)
/// gives. Everything else that it keeps is lost when the job restarts.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Ping { host: String }
///
/// #[derive(Record, Clone)]
/// struct Silent { host: String, since: Timestamp }
///
/// /// Tells when a host was not heard of for a minute.
/// struct Watch { heard: ValueState<Timestamp> }
///
/// impl KeyedProcess for Watch {
///     type In = Ping;
///     type Key = String;
///     type Out = Silent;
///
///     fn process(&mut self, _row: Ping, cx: &mut Context<'_, Self>) {
///         let Some(now) = cx.timestamp() else { return };
///         self.heard.set(now);
///         cx.set_event_timer(now + Duration::from_secs(60));
///     }
///
///     fn on_timer(&mut self, timer: Timer<String>, cx: &mut Context<'_, Self>) {
///         let Some(since) = self.heard.get() else { return };
///         if timer.time == since + Duration::from_secs(60) {
///             cx.push(Silent { host: timer.key, since });
///             self.heard.clear();
///         }
///     }
/// }
///
/// fn watch(pings: Stream<Rows<Ping>>) {
///     pings
///         .key_by(Ping::FIELDS.host)
///         .process(|setup| Watch { heard: setup.value_state("heard") })
///         .uid("watch")
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub trait KeyedProcess: Sized + 'static {
    /// Rows that it takes.
    type In: Record;
    /// What they are keyed by.
    type Key: Owned + Clone;
    /// Rows that it puts out.
    type Out: Record;

    /// Prepares, before the first row. Heavy work belongs here.
    fn open(&mut self, cx: &OpenContext) {
        let _ = cx;
    }

    /// Ends, behind the last row and timer of a job whose input ends. Not where it is stopped, or fails: what is to be
    /// kept is state.
    fn close(&mut self) {}

    /// Takes a row.
    fn process(&mut self, row: <Self::In as Value>::Of<'_>, cx: &mut Context<'_, Self>);

    /// A timer of the key is due.
    fn on_timer(&mut self, timer: Timer<Self::Key>, cx: &mut Context<'_, Self>) {
        let _ = (timer, cx);
    }
}
