//! The triggers that everybody knows.

use std::marker::PhantomData;
use std::time::Duration;

use super::{Trigger, TriggerContext, TriggerResult};
use crate::process::TimerKind;
use crate::time::{check_some, millis};
use crate::value::{Owned, Record};
use crate::values::Timestamp;
use crate::window::check_threshold;

/// When the watermark reaches the end of the window, and at every late row after that. Windows of event time have it
/// unless another is given.
///
/// ```
/// # use millrace::prelude::*;
/// # #[derive(Record, Clone)]
/// # struct Sale { shop: String, cents: i64, at: Timestamp }
/// /// A late row makes a result of its own, of what came since.
/// fn corrections(sales: KeyedStream<Sale, String>) {
///     sales
///         .window(Tumbling::of(Duration::from_secs(60)))
///         .allowed_lateness(Duration::from_secs(600))
///         .trigger(PurgingTrigger::of(EventTimeTrigger))
///         .sum(Sale::FIELDS.cents)
///         .sink("out", Stdout::ndjson());
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct EventTimeTrigger;

impl<T: Record> Trigger<T> for EventTimeTrigger {
    type State = bool;

    fn on_row(&self, _row: &T::Of<'_>, cx: &mut TriggerContext<'_, bool>) -> TriggerResult {
        if cx.window().is_global() {
            return TriggerResult::Continue;
        }
        let end = cx.window().last();
        if cx.watermark() >= Some(end) {
            return TriggerResult::Fire;
        }
        cx.set_event_timer(end);
        TriggerResult::Continue
    }

    fn on_event_time(&self, _time: Timestamp, _cx: &mut TriggerContext<'_, bool>) -> TriggerResult {
        TriggerResult::Fire
    }

    fn merges(&self) -> bool {
        true
    }

    fn on_merge(&self, _merged: Vec<bool>, cx: &mut TriggerContext<'_, bool>) {
        let end = cx.window().last();
        if cx.watermark() < Some(end) {
            cx.set_event_timer(end);
        }
    }

    fn only_waits(&self) -> bool {
        true
    }

    fn forgettable(&self, _state: &bool) -> bool {
        true
    }
}

/// When the clock reaches the end of the window. Windows of processing time have it unless another is given, and it fires at the
/// end of a bounded input. To windows of event time it is a clock beside theirs: a window whose event time is over first, as at
/// the end of a bounded input, is dropped without a result.
///
/// ```
/// # use millrace::prelude::*;
/// # #[derive(Record, Clone)]
/// # struct Sale { shop: String, cents: i64 }
/// fn live(sales: KeyedStream<Sale, String>) {
///     sales
///         .window(Tumbling::of(Duration::from_secs(60)).processing_time())
///         .trigger(ProcessingTimeTrigger)
///         .count()
///         .sink("out", Stdout::ndjson());
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ProcessingTimeTrigger;

impl<T: Record> Trigger<T> for ProcessingTimeTrigger {
    type State = bool;

    fn on_row(&self, _row: &T::Of<'_>, cx: &mut TriggerContext<'_, bool>) -> TriggerResult {
        if !cx.window().is_global() {
            cx.set_processing_timer(cx.window().end);
        }
        TriggerResult::Continue
    }

    fn on_processing_time(&self, _time: Timestamp, _cx: &mut TriggerContext<'_, bool>) -> TriggerResult {
        TriggerResult::Fire
    }

    fn merges(&self) -> bool {
        true
    }

    fn on_merge(&self, _merged: Vec<bool>, cx: &mut TriggerContext<'_, bool>) {
        cx.set_processing_timer(cx.window().end);
    }

    fn only_waits(&self) -> bool {
        true
    }

    fn forgettable(&self, _state: &bool) -> bool {
        true
    }
}

/// At every so many rows of a window. What has come since the last of them when the window ends is not put out, unless
/// the trigger is [`or_at_end`](CountTrigger::or_at_end). Rows stay unless it is [purging](PurgingTrigger).
///
/// ```
/// # use millrace::prelude::*;
/// let trigger = PurgingTrigger::of(CountTrigger::of(100));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct CountTrigger {
    rows: u64,
    at_end: bool,
}

impl CountTrigger {
    /// At every `rows` rows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let trigger = CountTrigger::of(100);
    /// ```
    pub fn of(rows: u64) -> Self {
        CountTrigger { rows, at_end: false }
    }

    /// Also when the window ends, by its clock; a window that never ends does not.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// /// At every hundred rows, and what is left at the end.
    /// let trigger = PurgingTrigger::of(CountTrigger::of(100).or_at_end());
    /// ```
    pub fn or_at_end(self) -> Self {
        CountTrigger { at_end: true, ..self }
    }
}

impl<T: Record> Trigger<T> for CountTrigger {
    type State = i64;

    fn on_row(&self, _row: &T::Of<'_>, cx: &mut TriggerContext<'_, i64>) -> TriggerResult {
        let is_late = self.at_end && !cx.window().is_global() && !cx.set_end();
        *cx.state() += 1;
        if *cx.state() as u64 >= self.rows || is_late {
            *cx.state() = 0;
            return TriggerResult::Fire;
        }
        TriggerResult::Continue
    }

    fn on_event_time(&self, _time: Timestamp, cx: &mut TriggerContext<'_, i64>) -> TriggerResult {
        *cx.state() = 0;
        TriggerResult::Fire
    }

    fn on_processing_time(&self, time: Timestamp, cx: &mut TriggerContext<'_, i64>) -> TriggerResult {
        Trigger::<T>::on_event_time(self, time, cx)
    }

    fn check(&self) -> Result<(), String> {
        match self.rows {
            0 => Err("the number of rows at which a window fires is at least 1, not 0".to_owned()),
            1.. => Ok(()),
        }
    }

    fn merges(&self) -> bool {
        true
    }

    fn on_merge(&self, merged: Vec<i64>, cx: &mut TriggerContext<'_, i64>) {
        *cx.state() = merged.into_iter().sum();
        if self.at_end {
            cx.set_end();
        }
    }

    fn forgettable(&self, state: &i64) -> bool {
        *state == 0
    }
}

/// The first boundary of intervals after this time.
fn next_boundary(after: i64, interval: Duration) -> i64 {
    let interval = millis(interval) as i64;
    (after.div_euclid(interval) * interval).saturating_add(interval)
}

/// At every interval of event time since 1970, from the first row of a window on, and at the end of the window.
///
/// When the watermark passes several boundaries at once, the window fires once for all of them.
///
/// ```
/// # use millrace::prelude::*;
/// # #[derive(Record, Clone)]
/// # struct Sale { shop: String, cents: i64, at: Timestamp }
/// /// The turnover of the day, every minute.
/// fn turnover(sales: KeyedStream<Sale, String>) {
///     sales
///         .window(Tumbling::of(Duration::from_secs(24 * 3600)))
///         .trigger(ContinuousEventTimeTrigger::of(Duration::from_secs(60)))
///         .sum(Sale::FIELDS.cents)
///         .sink("out", Stdout::ndjson());
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ContinuousEventTimeTrigger {
    interval: Duration,
}

impl ContinuousEventTimeTrigger {
    /// At every interval.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let trigger = ContinuousEventTimeTrigger::of(Duration::from_secs(60));
    /// ```
    pub fn of(interval: Duration) -> Self {
        ContinuousEventTimeTrigger { interval }
    }

    fn set_next(&self, after: i64, cx: &mut TriggerContext<'_, Option<Timestamp>>) {
        let after = after.max(cx.cx.watermark);
        let next = next_boundary(after, self.interval).min(cx.window().last().millis());
        if next > after {
            let next = Timestamp::from_millis(next);
            *cx.state() = Some(next);
            cx.set_event_timer(next);
        }
    }
}

impl<T: Record> Trigger<T> for ContinuousEventTimeTrigger {
    type State = Option<Timestamp>;

    fn on_row(&self, _row: &T::Of<'_>, cx: &mut TriggerContext<'_, Option<Timestamp>>) -> TriggerResult {
        if cx.has_ended() {
            return TriggerResult::Fire;
        }
        cx.set_end();
        if cx.state().is_none() {
            let time = cx.timestamp().map_or(i64::MIN, Timestamp::millis);
            self.set_next(time, cx);
        }
        TriggerResult::Continue
    }

    fn on_event_time(&self, time: Timestamp, cx: &mut TriggerContext<'_, Option<Timestamp>>) -> TriggerResult {
        if *cx.state() == Some(time) {
            *cx.state() = None;
            if !cx.is_end(TimerKind::EventTime, time) {
                self.set_next(time.millis(), cx);
            }
        }
        TriggerResult::Fire
    }

    fn on_processing_time(&self, _time: Timestamp, _cx: &mut TriggerContext<'_, Option<Timestamp>>) -> TriggerResult {
        TriggerResult::Fire
    }

    fn check(&self) -> Result<(), String> {
        check_some("the interval at which a window fires", self.interval)
    }

    fn merges(&self) -> bool {
        true
    }

    fn on_merge(&self, merged: Vec<Option<Timestamp>>, cx: &mut TriggerContext<'_, Option<Timestamp>>) {
        cx.set_end();
        if let Some(next) = merged.into_iter().flatten().min() {
            *cx.state() = Some(next);
            cx.set_event_timer(next);
        }
    }
}

/// At every interval of processing time since 1970, from the first row of a window on, and at the end of the window by
/// its clock.
///
/// ```
/// # use millrace::prelude::*;
/// # #[derive(Record, Clone)]
/// # struct Sale { shop: String, cents: i64, at: Timestamp }
/// /// The turnover of the day so far, every ten seconds.
/// fn turnover(sales: KeyedStream<Sale, String>) {
///     sales
///         .window(Tumbling::of(Duration::from_secs(24 * 3600)))
///         .trigger(ContinuousProcessingTimeTrigger::of(Duration::from_secs(10)))
///         .sum(Sale::FIELDS.cents)
///         .sink("out", Stdout::ndjson());
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ContinuousProcessingTimeTrigger {
    interval: Duration,
}

impl ContinuousProcessingTimeTrigger {
    /// At every interval.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let trigger = ContinuousProcessingTimeTrigger::of(Duration::from_secs(60));
    /// ```
    pub fn of(interval: Duration) -> Self {
        ContinuousProcessingTimeTrigger { interval }
    }

    fn set_next(&self, cx: &mut TriggerContext<'_, Option<Timestamp>>) {
        let mut next = next_boundary(cx.now().millis(), self.interval);
        if cx.clock() == TimerKind::ProcessingTime {
            next = next.min(cx.window().end.millis());
        }
        if next > cx.now().millis() {
            let next = Timestamp::from_millis(next);
            *cx.state() = Some(next);
            cx.set_processing_timer(next);
        }
    }
}

impl<T: Record> Trigger<T> for ContinuousProcessingTimeTrigger {
    type State = Option<Timestamp>;

    fn on_row(&self, _row: &T::Of<'_>, cx: &mut TriggerContext<'_, Option<Timestamp>>) -> TriggerResult {
        if cx.has_ended() {
            return TriggerResult::Fire;
        }
        cx.set_end();
        if cx.state().is_none() {
            self.set_next(cx);
        }
        TriggerResult::Continue
    }

    fn on_event_time(&self, _time: Timestamp, _cx: &mut TriggerContext<'_, Option<Timestamp>>) -> TriggerResult {
        TriggerResult::Fire
    }

    fn on_processing_time(&self, time: Timestamp, cx: &mut TriggerContext<'_, Option<Timestamp>>) -> TriggerResult {
        if *cx.state() == Some(time) {
            *cx.state() = None;
        }
        if cx.has_ended() {
            // Every row since then made a result of its own.
            return TriggerResult::Continue;
        }
        if cx.state().is_none() {
            self.set_next(cx);
        }
        TriggerResult::Fire
    }

    fn check(&self) -> Result<(), String> {
        check_some("the interval at which a window fires", self.interval)
    }

    fn merges(&self) -> bool {
        true
    }

    fn on_merge(&self, merged: Vec<Option<Timestamp>>, cx: &mut TriggerContext<'_, Option<Timestamp>>) {
        cx.set_end();
        if let Some(next) = merged.into_iter().flatten().min() {
            *cx.state() = Some(next);
            cx.set_processing_timer(next);
        }
    }
}

/// When a row is further than a threshold from the row at which the window last fired; of the first it is told nothing.
/// What has come since when the window ends is not put out.
///
/// ```
/// # use millrace::prelude::*;
/// # #[derive(Record, Clone)]
/// # struct Car { plate: String, meters: f64, speed: f64 }
/// /// The top speed so far, every hundred meters.
/// fn top_speeds(cars: KeyedStream<Car, String>) {
///     cars
///         .window(GlobalWindows)
///         .trigger(DeltaTrigger::of(100.0, |last: &Car, car: &Car| car.meters - last.meters))
///         .max(Car::FIELDS.speed)
///         .sink("out", Stdout::ndjson());
/// }
/// ```
pub struct DeltaTrigger<T, F> {
    threshold: f64,
    delta: F,
    row: PhantomData<fn(T)>,
}

impl<T, F> std::fmt::Debug for DeltaTrigger<T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeltaTrigger")
            .field("threshold", &self.threshold)
            .finish_non_exhaustive()
    }
}

impl<T, F: Fn(&T, &T) -> f64 + 'static> DeltaTrigger<T, F> {
    /// When `delta` of the row at which it last fired and the row at hand is more than `threshold`.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let trigger = DeltaTrigger::of(1.5, |last: &(f64,), row: &(f64,)| (row.0 - last.0).abs());
    /// ```
    pub fn of(threshold: f64, delta: F) -> Self {
        DeltaTrigger {
            threshold,
            delta,
            row: PhantomData,
        }
    }
}

impl<T, F> Trigger<T> for DeltaTrigger<T, F>
where
    T: Record + Owned + Clone,
    Option<T>: Owned,
    F: Fn(&T, &T) -> f64 + 'static,
{
    type State = Option<T>;

    fn check(&self) -> Result<(), String> {
        check_threshold(self.threshold)
    }

    fn on_row(&self, row: &T, cx: &mut TriggerContext<'_, Option<T>>) -> TriggerResult {
        match cx.state() {
            Some(last) if (self.delta)(last, row) > self.threshold => {
                *last = row.clone();
                TriggerResult::Fire
            }
            Some(_) => TriggerResult::Continue,
            None => {
                *cx.state() = Some(row.clone());
                TriggerResult::Continue
            }
        }
    }
}

/// A trigger after whose firings the rows of the window are dropped.
///
/// ```
/// # use millrace::prelude::*;
/// let every_hundred_rows = PurgingTrigger::of(CountTrigger::of(100));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PurgingTrigger<G> {
    trigger: G,
}

impl<G> PurgingTrigger<G> {
    /// As that trigger, but dropping rows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// let every_hundred_rows = PurgingTrigger::of(CountTrigger::of(100));
    /// ```
    pub fn of(trigger: G) -> Self {
        PurgingTrigger { trigger }
    }
}

fn purging(result: TriggerResult) -> TriggerResult {
    match result {
        TriggerResult::Fire => TriggerResult::FireAndPurge,
        TriggerResult::Continue | TriggerResult::Purge | TriggerResult::FireAndPurge => result,
    }
}

impl<T: Record, G: Trigger<T>> Trigger<T> for PurgingTrigger<G> {
    type State = G::State;

    fn on_row(&self, row: &T::Of<'_>, cx: &mut TriggerContext<'_, G::State>) -> TriggerResult {
        purging(self.trigger.on_row(row, cx))
    }

    fn on_event_time(&self, time: Timestamp, cx: &mut TriggerContext<'_, G::State>) -> TriggerResult {
        purging(self.trigger.on_event_time(time, cx))
    }

    fn on_processing_time(&self, time: Timestamp, cx: &mut TriggerContext<'_, G::State>) -> TriggerResult {
        purging(self.trigger.on_processing_time(time, cx))
    }

    fn check(&self) -> Result<(), String> {
        self.trigger.check()
    }

    fn merges(&self) -> bool {
        self.trigger.merges()
    }

    fn on_merge(&self, merged: Vec<G::State>, cx: &mut TriggerContext<'_, G::State>) {
        self.trigger.on_merge(merged, cx);
    }

    fn only_waits(&self) -> bool {
        self.trigger.only_waits()
    }

    fn forgettable(&self, state: &G::State) -> bool {
        self.trigger.forgettable(state)
    }
}
