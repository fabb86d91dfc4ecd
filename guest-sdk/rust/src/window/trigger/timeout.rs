//! A trigger that does not wait for ever: another one, or a stretch of processing time without it.

use std::time::Duration;

use super::{Trigger, TriggerContext, TriggerResult};
use crate::process::TimerKind;
use crate::results::record;
use crate::time::check_some;
use crate::value::Record;
use crate::values::Timestamp;

/// When another trigger says so, when so much processing time has passed since the first row of a window, or since its last
/// firing the first, and when the window ends by its clock.
///
/// Whenever it fires it begins anew: what the other trigger keeps is forgotten and its timers are deleted, unless
/// [`keep_state`](Self::keep_state) is said. Rows stay; those of a firing by time do so even if the other trigger is
/// [purging](super::PurgingTrigger): give this one to it, and not the other way round. Rows that are late make the window fire
/// at once. The end of a bounded input is the end of windows that have one; in [`GlobalWindows`](super::super::GlobalWindows) what
/// has not fired by then is dropped.
///
/// ```
/// # use millrace::prelude::*;
/// # #[derive(Record, Clone)]
/// # struct Sale { shop: String, cents: i64 }
/// /// A hundred sales at a time, or what there is ten seconds after the first of them, and at the end of the hour.
/// fn batches(sales: KeyedStream<Sale, String>) {
///     let hundred = CountTrigger::of(100);
///     sales
///         .window(Tumbling::of(Duration::from_secs(3600)).processing_time())
///         .trigger(PurgingTrigger::of(ProcessingTimeoutTrigger::of(hundred, Duration::from_secs(10))))
///         .sum(Sale::FIELDS.cents)
///         .sink("out", Stdout::ndjson());
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ProcessingTimeoutTrigger<G> {
    trigger: G,
    timeout: Duration,
    since_last: bool,
    keeps_state: bool,
}

impl<G> ProcessingTimeoutTrigger<G> {
    /// When that trigger says so, or `timeout` after the first row since the last firing.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let trigger = ProcessingTimeoutTrigger::of(CountTrigger::of(100), Duration::from_secs(10));
    /// ```
    pub fn of(trigger: G, timeout: Duration) -> Self {
        ProcessingTimeoutTrigger {
            trigger,
            timeout,
            since_last: false,
            keeps_state: false,
        }
    }

    /// The time is counted from the last row: a window fires when none has come for so long. Flink's `resetTimerOnNewRecord`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let when_it_is_quiet = ProcessingTimeoutTrigger::of(CountTrigger::of(100), Duration::from_secs(10)).since_last_row();
    /// ```
    pub fn since_last_row(self) -> Self {
        ProcessingTimeoutTrigger {
            since_last: true,
            ..self
        }
    }

    /// A firing by time, or by a timer of the other trigger, leaves that one as it is: it counts on. Flink's
    /// `shouldClearOnTimeout = false`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let trigger = ProcessingTimeoutTrigger::of(CountTrigger::of(100), Duration::from_secs(10)).keep_state();
    /// ```
    pub fn keep_state(self) -> Self {
        ProcessingTimeoutTrigger {
            keeps_state: true,
            ..self
        }
    }
}

/// What is kept for a window.
#[doc(hidden)]
#[derive(Debug, Clone, Default)]
pub struct Timeout<S> {
    /// When it fires if nothing comes.
    at: Option<Timestamp>,
    /// The other trigger has a timer for that time too.
    is_shared: bool,
    nested: S,
}
record!(Timeout<S> { at: Option<Timestamp>, is_shared: bool, nested: S });

impl<G> ProcessingTimeoutTrigger<G> {
    /// Lets the other trigger act, which sees its own timers alone; those at the end of the window are everybody's.
    fn nested<S, R>(
        &self,
        cx: &mut TriggerContext<'_, Timeout<S>>,
        act: impl FnOnce(&G, &mut TriggerContext<'_, S>) -> R,
    ) -> R {
        let at = cx.state.at;
        if let Some(at) = at.filter(|_| !cx.state.is_shared) {
            cx.timers.processing.retain(|&other| other != at);
        }
        let mut context = TriggerContext {
            window: cx.window,
            clock: cx.clock,
            state: &mut cx.state.nested,
            timers: &mut *cx.timers,
            deleted: &mut *cx.deleted,
            cx: &mut *cx.cx,
        };
        let result = act(&self.trigger, &mut context);
        if let Some(at) = at {
            cx.state.is_shared = cx.timers.have(TimerKind::ProcessingTime, at);
            if !cx.state.is_shared {
                cx.timers.processing.push(at);
            }
        }
        result
    }

    /// Forgets when it was to fire.
    fn disarm<S>(cx: &mut TriggerContext<'_, Timeout<S>>) {
        if let Some(at) = cx.state.at.take()
            && !std::mem::take(&mut cx.state.is_shared)
            && !cx.is_end(TimerKind::ProcessingTime, at)
        {
            cx.delete_processing_timer(at);
        }
    }

    fn arm<S>(&self, cx: &mut TriggerContext<'_, Timeout<S>>, at: Timestamp) {
        cx.state.is_shared = cx.timers.have(TimerKind::ProcessingTime, at);
        cx.state.at = Some(at);
        cx.set_processing_timer(at);
    }

    /// Begins anew: as at the first row, but that the window still fires at its end.
    fn clear<S: Default>(cx: &mut TriggerContext<'_, Timeout<S>>) {
        cx.state.at = None;
        cx.state.is_shared = false;
        cx.state.nested = S::default();
        for kind in [TimerKind::EventTime, TimerKind::ProcessingTime] {
            for time in cx.timers.of(kind).clone() {
                if !cx.is_end(kind, time) {
                    cx.delete(kind, time);
                }
            }
        }
    }

    /// A timer of the window is due: the timeout, the end of the window, or one of the other trigger alone.
    fn timer<T: Record>(
        &self,
        kind: TimerKind,
        time: Timestamp,
        cx: &mut TriggerContext<'_, Timeout<G::State>>,
    ) -> TriggerResult
    where
        G: Trigger<T>,
    {
        let is_timeout = kind == TimerKind::ProcessingTime && cx.state.at == Some(time);
        let is_nested = !is_timeout || cx.state.is_shared;
        if is_timeout {
            cx.state.at = None;
            cx.state.is_shared = false;
        }
        let said = match (is_nested, kind) {
            (false, _) => TriggerResult::Continue,
            (true, TimerKind::EventTime) => self.nested(cx, |trigger, cx| trigger.on_event_time(time, cx)),
            (true, TimerKind::ProcessingTime) => self.nested(cx, |trigger, cx| trigger.on_processing_time(time, cx)),
        };
        let result = match said {
            TriggerResult::Continue if is_timeout || cx.is_end(kind, time) => TriggerResult::Fire,
            TriggerResult::Purge if is_timeout || cx.is_end(kind, time) => TriggerResult::FireAndPurge,
            _ => said,
        };
        if result.fires() && !self.keeps_state {
            Self::clear(cx);
        }
        result
    }
}

impl<T: Record, G: Trigger<T>> Trigger<T> for ProcessingTimeoutTrigger<G> {
    type State = Timeout<G::State>;

    fn on_row(&self, row: &T::Of<'_>, cx: &mut TriggerContext<'_, Self::State>) -> TriggerResult {
        let is_late = cx.has_ended();
        let said = self.nested(cx, |trigger, cx| trigger.on_row(row, cx));
        cx.set_end();
        if said.fires() || is_late {
            Self::clear(cx);
            return match said {
                TriggerResult::Continue => TriggerResult::Fire,
                TriggerResult::Purge => TriggerResult::FireAndPurge,
                TriggerResult::Fire | TriggerResult::FireAndPurge => said,
            };
        }
        if self.since_last {
            Self::disarm(cx);
        }
        if cx.state.at.is_none() {
            self.arm(cx, cx.now() + self.timeout);
        }
        said
    }

    fn on_event_time(&self, time: Timestamp, cx: &mut TriggerContext<'_, Self::State>) -> TriggerResult {
        self.timer(TimerKind::EventTime, time, cx)
    }

    fn on_processing_time(&self, time: Timestamp, cx: &mut TriggerContext<'_, Self::State>) -> TriggerResult {
        self.timer(TimerKind::ProcessingTime, time, cx)
    }

    fn check(&self) -> Result<(), String> {
        check_some("the time after which a window fires", self.timeout)?;
        self.trigger.check()
    }

    fn merges(&self) -> bool {
        self.trigger.merges()
    }

    fn on_merge(&self, merged: Vec<Self::State>, cx: &mut TriggerContext<'_, Self::State>) {
        let times = merged.iter().filter_map(|part| part.at);
        let at = if self.since_last { times.max() } else { times.min() };
        let nested = merged.into_iter().map(|part| part.nested).collect();
        self.nested(cx, |trigger, cx| trigger.on_merge(nested, cx));
        cx.set_end();
        if let Some(at) = at {
            self.arm(cx, at);
        }
    }

    fn forgettable(&self, state: &Self::State) -> bool {
        state.at.is_none() && self.trigger.forgettable(&state.nested)
    }
}
