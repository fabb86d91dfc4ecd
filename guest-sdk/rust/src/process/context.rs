//! What a process function sees beside its row, and what it can do.

use std::time::Duration;

use super::{CoProcess, KeyedProcess};
use crate::OutputTag;
use crate::bindings::operators;
use crate::chain::{Emit, RowContext, TimerAction};
use crate::position;
use crate::time::millis;
use crate::value::{Record, Value};
use crate::values::Timestamp;

/// A timer that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer<K> {
    /// The key that set it.
    pub key: K,
    /// When it was to fire.
    pub time: Timestamp,
    /// Which clock it follows.
    pub kind: TimerKind,
}

/// Which clock a timer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// Fires when the watermark reaches its time: when no earlier row will come.
    EventTime,
    /// Fires when the clock on the wall reaches its time.
    ProcessingTime,
}

impl TimerKind {
    /// Which clock it is; none where keys have their turn without a timer.
    pub(crate) fn of(kind: operators::TimerKind) -> Option<Self> {
        match kind {
            operators::TimerKind::EventTime => Some(TimerKind::EventTime),
            operators::TimerKind::ProcessingTime => Some(TimerKind::ProcessingTime),
            operators::TimerKind::Applied => None,
        }
    }
}

/// Finds the key of the entry at hand, when it is asked for.
pub(crate) trait KeySource<K> {
    fn key(&self) -> K;
}

/// What a [`KeyedProcess`] sees beside its row.
pub type Context<'c, P> = KeyedContext<'c, <P as KeyedProcess>::Key, <P as KeyedProcess>::Out>;

/// What a [`CoProcess`] sees beside its row.
pub type CoContext<'c, P> = KeyedContext<'c, <P as CoProcess>::Key, <P as CoProcess>::Out>;

/// What a process function sees beside its row, and what it can do: time, timers, output. `K` is the type of keys, `O`
/// that of the rows that it puts out.
///
/// See [`KeyedProcess`] for an example.
pub struct KeyedContext<'c, K, O: Value> {
    pub(crate) operator: u32,
    pub(crate) next: &'c mut (dyn Emit<O> + 'c),
    pub(crate) cx: &'c mut RowContext,
    pub(crate) key: &'c (dyn KeySource<K> + 'c),
    pub(crate) given: &'c mut u64,
}

impl<K, O: Value> std::fmt::Debug for KeyedContext<'_, K, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedContext")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

impl<K, O: Value> KeyedContext<'_, K, O> {
    /// The key of the row or timer. It is made anew each time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn show<P: KeyedProcess<Key = i64>>(cx: &Context<'_, P>) { info!("key {}", cx.key()); }
    /// ```
    pub fn key(&self) -> K {
        self.key.key()
    }

    /// Event time of the row or of an event-time timer; none if the stream has no event time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_late<P: KeyedProcess>(cx: &Context<'_, P>) -> bool { cx.timestamp() <= cx.watermark() }
    /// ```
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.cx.timestamp()
    }

    /// How far event time has come: no row at or before it is expected. None before the first watermark.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn is_late<P: KeyedProcess>(cx: &Context<'_, P>) -> bool { cx.timestamp() <= cx.watermark() }
    /// ```
    pub fn watermark(&self) -> Option<Timestamp> {
        self.cx.watermark()
    }

    /// Processing time. It stands still during a block.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn age<P: KeyedProcess>(made: Timestamp, cx: &Context<'_, P>) -> i64 { cx.now().millis() - made.millis() }
    /// ```
    pub fn now(&self) -> Timestamp {
        self.cx.now()
    }

    /// Puts a row out. It may borrow from anything that lives until this returns.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn twice<P: KeyedProcess<Out = (i64,)>>(n: i64, cx: &mut Context<'_, P>) {
    ///     cx.push((n,));
    ///     cx.push((n,));
    /// }
    /// ```
    #[inline(always)]
    pub fn push(&mut self, row: O::Of<'_>) {
        *self.given += 1;
        self.next.emit(row, self.cx);
        position::enter(self.operator);
    }

    /// Puts a row out that has another time than the entry at hand.
    pub(crate) fn push_at(&mut self, time: i64, row: O::Of<'_>) {
        let before = std::mem::replace(&mut self.cx.time, time);
        self.push(row);
        self.cx.time = before;
    }

    /// Sets a timer of event time.
    pub(crate) fn set_event_timer_millis(&mut self, time: i64) {
        self.cx.timer(TimerAction::SetEvent, time);
    }

    /// Puts a row out beside the main output. If nobody takes that output, the row is dropped.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// static BAD: OutputTag<(String,)> = OutputTag::new("bad");
    /// fn complain<P: KeyedProcess>(cx: &mut Context<'_, P>) { cx.side(&BAD, ("too large".into(),)); }
    /// ```
    pub fn side<T: Record>(&mut self, tag: &OutputTag<T>, row: T::Of<'_>) {
        let time = self.cx.time;
        self.cx.sides.push::<T>(self.operator, tag.name(), row, time);
    }

    /// Has `on_timer` called for this key when the watermark reaches this time. A key has at most one timer
    /// for each time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn remind<P: KeyedProcess>(at: Timestamp, cx: &mut Context<'_, P>) { cx.set_event_timer(at + Duration::from_secs(60)); }
    /// ```
    pub fn set_event_timer(&mut self, time: Timestamp) {
        self.cx.timer(TimerAction::SetEvent, time.millis());
    }

    /// The same at the next multiple of a length of time: many rows set few timers then ("timer coalescing"). Returns when
    /// that is.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// /// At most one timer a second, however many rows there are.
    /// fn remind<P: KeyedProcess>(at: Timestamp, cx: &mut Context<'_, P>) {
    ///     cx.set_coalesced_event_timer(at + Duration::from_secs(60), Duration::from_secs(1));
    /// }
    /// ```
    pub fn set_coalesced_event_timer(&mut self, time: Timestamp, each: Duration) -> Timestamp {
        let time = coalesced(time, each);
        self.set_event_timer(time);
        time
    }

    /// Deletes an event-time timer of this key.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn forget<P: KeyedProcess>(at: Timestamp, cx: &mut Context<'_, P>) { cx.delete_event_timer(at); }
    /// ```
    pub fn delete_event_timer(&mut self, time: Timestamp) {
        self.cx.timer(TimerAction::DeleteEvent, time.millis());
    }

    /// Has `on_timer` called for this key when the clock on the wall reaches this time.
    ///
    /// A job ends when its input does and waits for no such timer: those still pending then are dropped, and never
    /// fire. Event-time timers all fire at the end of the input, for the watermark is then after every time.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn flush_soon<P: KeyedProcess>(cx: &mut Context<'_, P>) { cx.set_processing_timer(cx.now() + Duration::from_secs(1)); }
    /// ```
    pub fn set_processing_timer(&mut self, time: Timestamp) {
        self.cx.timer(TimerAction::SetProcessing, time.millis());
    }

    /// The same at the next multiple of a length of time: see
    /// [`set_coalesced_event_timer`](Self::set_coalesced_event_timer).
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn flush_soon<P: KeyedProcess>(cx: &mut Context<'_, P>) {
    ///     cx.set_coalesced_processing_timer(cx.now(), Duration::from_secs(1));
    /// }
    /// ```
    pub fn set_coalesced_processing_timer(&mut self, time: Timestamp, each: Duration) -> Timestamp {
        let time = coalesced(time, each);
        self.set_processing_timer(time);
        time
    }

    /// Deletes a processing-time timer of this key.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn forget<P: KeyedProcess>(at: Timestamp, cx: &mut Context<'_, P>) { cx.delete_processing_timer(at); }
    /// ```
    pub fn delete_processing_timer(&mut self, time: Timestamp) {
        self.cx.timer(TimerAction::DeleteProcessing, time.millis());
    }
}

/// The next multiple of a length of time, the time itself if it is one.
fn coalesced(time: Timestamp, each: Duration) -> Timestamp {
    let each = i64::try_from(millis(each)).unwrap_or(i64::MAX).max(1);
    let at = time.millis();
    let past = at.rem_euclid(each);
    match past {
        0 => time,
        _ => Timestamp::from_millis(at.saturating_add(each - past)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_up_to_the_next_multiple() {
        for (time, each, expect) in [
            (0, 10, 0),
            (1, 10, 10),
            (10, 10, 10),
            (-1, 10, 0),
            (-10, 10, -10),
            (-19, 10, -10),
            (7, 0, 7),
            (i64::MAX, 1_000, i64::MAX),
        ] {
            let got = coalesced(Timestamp::from_millis(time), Duration::from_millis(each));
            assert_eq!(got.millis(), expect, "{time} each {each}");
        }
    }
}
