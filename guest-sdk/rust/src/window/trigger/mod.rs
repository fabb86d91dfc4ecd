//! Triggers: when the result of a window is put out.
//!
//! `builtin` has those that everybody knows, `store` keeps what triggers keep, for each window of a key.

mod builtin;
mod store;
mod timeout;

use super::Window;
use crate::chain::{RowContext, TimerAction};
use crate::process::TimerKind;
use crate::value::{Owned, Record};
use crate::values::Timestamp;

pub use builtin::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DeltaTrigger, EventTimeTrigger,
    ProcessingTimeTrigger, PurgingTrigger,
};
pub(crate) use store::{END_OF_INPUT, Life, TriggerStore, Triggered};
pub use timeout::ProcessingTimeoutTrigger;

/// What becomes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// Its result is put out, and its rows stay.
    Fire,
    /// Its rows are dropped, without a result.
    Purge,
    /// Its result is put out, then its rows are dropped.
    FireAndPurge,
}

impl TriggerResult {
    /// Whether the result is put out.
    ///
    /// ```
    /// assert!(millrace::window::TriggerResult::FireAndPurge.fires());
    /// ```
    pub fn fires(self) -> bool {
        matches!(self, TriggerResult::Fire | TriggerResult::FireAndPurge)
    }

    /// Whether the rows are dropped.
    ///
    /// ```
    /// assert!(!millrace::window::TriggerResult::Fire.purges());
    /// ```
    pub fn purges(self) -> bool {
        matches!(self, TriggerResult::Purge | TriggerResult::FireAndPurge)
    }
}

/// Says when the result of a window is put out: given to [`WindowedStream::trigger`](crate::WindowedStream::trigger).
///
/// It is asked after each row of a window, and when a timer that it has set for a window is due. What it keeps is kept for
/// each window of a key, and saved. Timers that are still set when a window ends, and what was kept for it, go by
/// themselves.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Order { shop: i64, cents: i64, at: Timestamp }
///
/// /// At every thousand euros, and at the end of the window.
/// struct EveryThousand;
///
/// impl Trigger<Order> for EveryThousand {
///     type State = i64;
///
///     fn on_row(&self, order: &Order, cx: &mut TriggerContext<'_, i64>) -> TriggerResult {
///         let end = cx.window().last();
///         cx.set_event_timer(end);
///         *cx.state() += order.cents;
///         if *cx.state() < 1_000_00 {
///             return TriggerResult::Continue;
///         }
///         *cx.state() = 0;
///         TriggerResult::Fire
///     }
///
///     fn on_event_time(&self, _time: Timestamp, _cx: &mut TriggerContext<'_, i64>) -> TriggerResult {
///         TriggerResult::Fire
///     }
/// }
///
/// fn turnover(orders: KeyedStream<Order, i64>) {
///     orders
///         .window(Tumbling::of(Duration::from_secs(3600)))
///         .trigger(EveryThousand)
///         .sum(Order::FIELDS.cents)
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub trait Trigger<T: Record>: 'static {
    /// What it keeps for each window; `bool` if nothing.
    type State: Owned + Clone + Default;

    /// A row was added to the window.
    fn on_row(&self, row: &T::Of<'_>, cx: &mut TriggerContext<'_, Self::State>) -> TriggerResult;

    /// An event-time timer that it has set for the window is due.
    fn on_event_time(&self, time: Timestamp, cx: &mut TriggerContext<'_, Self::State>) -> TriggerResult {
        let _ = (time, cx);
        TriggerResult::Continue
    }

    /// A processing-time timer that it has set for the window is due.
    fn on_processing_time(&self, time: Timestamp, cx: &mut TriggerContext<'_, Self::State>) -> TriggerResult {
        let _ = (time, cx);
        TriggerResult::Continue
    }

    /// Whether its parameters make sense: asked when the pipeline is built. Without this it is taken for granted.
    ///
    /// # Errors
    /// Why not. The pipeline is refused with it.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether it can be used where windows merge: then it has [`on_merge`](Trigger::on_merge).
    fn merges(&self) -> bool {
        false
    }

    /// Windows became the one of the context, which keeps nothing yet. Timers of those windows are gone.
    fn on_merge(&self, merged: Vec<Self::State>, cx: &mut TriggerContext<'_, Self::State>) {
        let _ = (merged, cx);
    }

    /// Whether it has nothing to do with rows of a window that has rows already and has not ended.
    #[doc(hidden)]
    fn only_waits(&self) -> bool {
        false
    }

    /// Whether nothing would be lost if this were forgotten. A key whose windows never end is forgotten when they are empty
    /// and this is true of all of them.
    fn forgettable(&self, state: &Self::State) -> bool {
        let _ = state;
        false
    }
}

/// Timers that a trigger has set for a window.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    pub(crate) event: Vec<Timestamp>,
    pub(crate) processing: Vec<Timestamp>,
}

impl Timers {
    pub(crate) fn of(&mut self, kind: TimerKind) -> &mut Vec<Timestamp> {
        match kind {
            TimerKind::EventTime => &mut self.event,
            TimerKind::ProcessingTime => &mut self.processing,
        }
    }

    pub(crate) fn have(&self, kind: TimerKind, time: Timestamp) -> bool {
        match kind {
            TimerKind::EventTime => self.event.contains(&time),
            TimerKind::ProcessingTime => self.processing.contains(&time),
        }
    }
}

/// What a trigger sees and can do beside its answer.
pub struct TriggerContext<'c, S> {
    pub(crate) window: Window,
    pub(crate) clock: TimerKind,
    pub(crate) state: &'c mut S,
    pub(crate) timers: &'c mut Timers,
    /// Timers that it deleted: other windows of the key may have them too.
    pub(crate) deleted: &'c mut Vec<(TimerKind, Timestamp)>,
    pub(crate) cx: &'c mut RowContext,
}

impl<S> std::fmt::Debug for TriggerContext<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TriggerContext")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl<S> TriggerContext<'_, S> {
    /// The window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn at_the_end(cx: &mut TriggerContext<'_, i64>) { cx.set_event_timer(cx.window().last()); }
    /// ```
    pub fn window(&self) -> Window {
        self.window
    }

    /// Whether the window is of event time or of processing time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_live(cx: &TriggerContext<'_, i64>) -> bool { cx.clock() == TimerKind::ProcessingTime }
    /// ```
    pub fn clock(&self) -> TimerKind {
        self.clock
    }

    /// What the trigger keeps for the window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn count(cx: &mut TriggerContext<'_, i64>) { *cx.state() += 1; }
    /// ```
    pub fn state(&mut self) -> &mut S {
        self.state
    }

    /// Event time of the row or of an event-time timer; none if the stream has no event time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_late(cx: &TriggerContext<'_, i64>) -> bool { cx.timestamp() <= cx.watermark() }
    /// ```
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.cx.timestamp()
    }

    /// How far event time has come; none before the first watermark.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_over(cx: &TriggerContext<'_, i64>) -> bool { cx.watermark() >= Some(cx.window().last()) }
    /// ```
    pub fn watermark(&self) -> Option<Timestamp> {
        self.cx.watermark()
    }

    /// Processing time. It stands still during a block.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn soon(cx: &mut TriggerContext<'_, i64>) { cx.set_processing_timer(cx.now() + Duration::from_secs(1)); }
    /// ```
    pub fn now(&self) -> Timestamp {
        self.cx.now()
    }

    /// Has [`on_event_time`](Trigger::on_event_time) called for this window when the watermark reaches this time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn at_the_end(cx: &mut TriggerContext<'_, i64>) { cx.set_event_timer(cx.window().last()); }
    /// ```
    pub fn set_event_timer(&mut self, time: Timestamp) {
        self.set(TimerKind::EventTime, TimerAction::SetEvent, time);
    }

    /// Deletes an event-time timer of this window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn not_at_the_end(cx: &mut TriggerContext<'_, i64>) { cx.delete_event_timer(cx.window().last()); }
    /// ```
    pub fn delete_event_timer(&mut self, time: Timestamp) {
        self.delete(TimerKind::EventTime, time);
    }

    /// Has [`on_processing_time`](Trigger::on_processing_time) called for this window when the clock reaches this time. A window
    /// of processing time is over at its [`end`](Window::end): in its last millisecond rows come, too.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn soon(cx: &mut TriggerContext<'_, i64>) { cx.set_processing_timer(cx.now() + Duration::from_secs(1)); }
    /// ```
    pub fn set_processing_timer(&mut self, time: Timestamp) {
        self.set(TimerKind::ProcessingTime, TimerAction::SetProcessing, time);
    }

    /// Deletes a processing-time timer of this window.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn not_then(time: Timestamp, cx: &mut TriggerContext<'_, i64>) { cx.delete_processing_timer(time); }
    /// ```
    pub fn delete_processing_timer(&mut self, time: Timestamp) {
        self.delete(TimerKind::ProcessingTime, time);
    }

    fn set(&mut self, kind: TimerKind, action: TimerAction, time: Timestamp) {
        if !self.timers.have(kind, time) {
            self.timers.of(kind).push(time);
            self.cx.timer(action, time.millis());
        }
    }

    fn delete(&mut self, kind: TimerKind, time: Timestamp) {
        if self.timers.have(kind, time) {
            self.timers.of(kind).retain(|&other| other != time);
            self.deleted.push((kind, time));
        }
    }

    /// Has the trigger called when the window ends, by its clock; false: that is over, or never comes.
    fn set_end(&mut self) -> bool {
        if self.window.is_global() {
            return false;
        }
        let end = self.window.over(self.clock);
        match self.clock {
            TimerKind::EventTime if self.cx.watermark >= end.millis() => return false,
            TimerKind::EventTime => self.set_event_timer(end),
            TimerKind::ProcessingTime => self.set_processing_timer(end),
        }
        true
    }

    /// Whether the window has ended, by the watermark.
    fn has_ended(&self) -> bool {
        self.clock == TimerKind::EventTime && self.cx.watermark >= self.window.last().millis()
    }

    /// Whether this is the end of the window, by its clock.
    fn is_end(&self, kind: TimerKind, time: Timestamp) -> bool {
        kind == self.clock && time == self.window.over(kind)
    }
}
