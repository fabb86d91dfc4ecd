//! What a trigger keeps for the windows of a key: its state and its timers. A window is here from its first row to its
//! end, whether it has rows or not.
//!
//! The host has at most one timer of a key for a time; several windows may want it. So each window has a list of its own,
//! and a timer is deleted once no window wants it.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Timers, Trigger, TriggerContext, TriggerResult};
use crate::bindings::dataflow::StateKind;
use crate::chain::{RowContext, TimerAction};
use crate::process::{DeclaredState, StateCell, TimerKind};
use crate::results::record;
use crate::state::cell::Cell;
use crate::state::kept::state_fields;
use crate::value::{Owned, Record};
use crate::values::Timestamp;
use crate::window::Window;
use crate::window::by_window::{ByWindow, ForWindow};

/// When the input has ended, by the watermark: no row is as late as that. Windows of processing time end then too, for
/// nobody waits for the clock.
pub(crate) const END_OF_INPUT: Timestamp = Window::GLOBAL.end;

/// How long windows are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) clock: TimerKind,
    pub(crate) lateness_ms: i64,
}

impl Life {
    /// When a window is given up; never, if it does not end.
    pub(crate) fn end(self, window: Window) -> Option<Timestamp> {
        if window.is_global() {
            return None;
        }
        let over = window.over(self.clock).millis();
        Some(Timestamp::from_millis(match self.clock {
            TimerKind::EventTime => over.saturating_add(self.lateness_ms),
            TimerKind::ProcessingTime => over,
        }))
    }

    /// Whether it has ended, though it may take late rows.
    pub(crate) fn has_ended(self, window: Window, watermark: i64) -> bool {
        self.clock == TimerKind::EventTime && window.last().millis() <= watermark
    }

    /// Whether it takes no more rows.
    pub(crate) fn is_late(self, window: Window, watermark: i64) -> bool {
        let over = |end: Timestamp| end.millis() <= watermark;
        self.clock == TimerKind::EventTime && self.end(window).is_some_and(over)
    }
}

/// What is kept for a window.
#[derive(Debug)]
struct Entry<S> {
    state: S,
    timers: Timers,
}

/// As it is stored.
pub(crate) struct StoredTrigger<S> {
    start: Timestamp,
    end: Timestamp,
    state: S,
    event_timers: Vec<Timestamp>,
    processing_timers: Vec<Timestamp>,
}
record!(StoredTrigger<S> {
    start: Timestamp,
    end: Timestamp,
    state: S,
    event_timers: Vec<Timestamp>,
    processing_timers: Vec<Timestamp>
});

impl<S: Owned + Clone> ForWindow for Entry<S> {
    type Stored = Vec<StoredTrigger<S>>;

    fn store<'w>(windows: impl Iterator<Item = &'w (Window, Self)>) -> Self::Stored {
        let store = |(window, entry): &(Window, Self)| StoredTrigger {
            start: window.start,
            end: window.end,
            state: entry.state.clone(),
            event_timers: entry.timers.event.clone(),
            processing_timers: entry.timers.processing.clone(),
        };
        windows.map(store).collect()
    }

    fn restore(stored: Self::Stored) -> Vec<(Window, Self)> {
        let restore = |stored: StoredTrigger<S>| {
            let window = Window {
                start: stored.start,
                end: stored.end,
            };
            let timers = Timers {
                event: stored.event_timers,
                processing: stored.processing_timers,
            };
            let state = stored.state;
            (window, Entry { state, timers })
        };
        stored.into_iter().map(restore).collect()
    }

    fn heap_bytes(&self) -> usize {
        (self.timers.event.len() + self.timers.processing.len()) * size_of::<Timestamp>()
    }
}

/// A trigger with what it keeps, whose type is forgotten.
pub(crate) trait TriggerStore<T: Record> {
    /// Its state, to be declared.
    fn declared(&self) -> DeclaredState;
    /// What is wrong with its parameters.
    fn check(&self) -> Result<(), String>;
    fn merges(&self) -> bool;
    /// Whether it has nothing to do with rows of a window that has rows already and has not ended.
    fn only_waits(&self) -> bool;
    /// The windows of the key that have not ended.
    fn windows(&self) -> Vec<Window>;
    /// A row was added to a window.
    fn on_row(&self, row: &T::Of<'_>, window: Window, cx: &mut RowContext) -> TriggerResult;
    /// The windows that a timer of the key is for; whether the trigger has set it, or it is the window's end alone.
    fn due(&self, kind: TimerKind, time: Timestamp) -> Vec<(Window, bool)>;
    /// A timer that the trigger has set is due.
    fn on_timer(&self, window: Window, kind: TimerKind, time: Timestamp, cx: &mut RowContext) -> TriggerResult;
    /// Sets the timer for the end of a window, if it is not there.
    fn set_end(&self, window: Window, cx: &mut RowContext);
    /// Windows became one.
    fn on_merge(&self, into: Window, parts: &[Window], cx: &mut RowContext);
    /// A window has lost its rows: it is forgotten if it never ends and nothing would be lost.
    fn forget_idle(&self, window: Window);
    /// A window has ended.
    fn forget(&self, window: Window, cx: &mut RowContext);
}

/// A trigger with what it keeps.
pub(crate) struct Triggered<G, S> {
    trigger: G,
    life: Life,
    cell: Rc<RefCell<Cell<ByWindow<Entry<S>>>>>,
}

impl<G, S: Owned + Clone + Default> Triggered<G, S> {
    pub(crate) fn new(trigger: G, life: Life) -> Self {
        Triggered {
            trigger,
            life,
            cell: Rc::new(RefCell::new(Cell::new())),
        }
    }

    /// Lets the trigger act on a window, which is there afterwards.
    fn act<R>(
        &self,
        windows: &mut ByWindow<Entry<S>>,
        window: Window,
        cx: &mut RowContext,
        act: impl FnOnce(&G, &mut TriggerContext<'_, S>) -> R,
    ) -> R {
        let mut deleted = Vec::new();
        let life = self.life;
        let is_first = windows.is_empty();
        let create = || Entry {
            state: S::default(),
            timers: Timers::default(),
        };
        let result = windows.change(window, create, |entry, is_new| {
            if let Some(end) = life.end(window).filter(|_| is_new) {
                cx.timer(set(life.clock), end.millis());
                if is_first && life.clock == TimerKind::ProcessingTime {
                    cx.timer(TimerAction::SetEvent, END_OF_INPUT.millis());
                }
            }
            let mut context = TriggerContext {
                window,
                clock: life.clock,
                state: &mut entry.state,
                timers: &mut entry.timers,
                deleted: &mut deleted,
                cx,
            };
            act(&self.trigger, &mut context)
        });
        self.delete_unwanted(windows, deleted, cx);
        result
    }

    /// Deletes timers that no window wants any more. What is due already may come: it is for no window.
    fn delete_unwanted(&self, windows: &ByWindow<Entry<S>>, timers: Vec<(TimerKind, Timestamp)>, cx: &mut RowContext) {
        for (kind, time) in timers {
            let is_due = match kind {
                TimerKind::EventTime => time.millis() <= cx.watermark,
                TimerKind::ProcessingTime => time.millis() <= cx.now,
            };
            let mut entries = windows.iter();
            if !is_due
                && !entries.any(|(window, entry)| entry.timers.have(kind, time) || self.is_end(window, kind, time))
            {
                cx.timer(delete(kind), time.millis());
            }
        }
    }

    fn is_end(&self, window: Window, kind: TimerKind, time: Timestamp) -> bool {
        kind == self.life.clock && self.life.end(window) == Some(time)
    }

    /// Takes a window out, with what its end and its trigger have set.
    fn take(&self, windows: &mut ByWindow<Entry<S>>, window: Window) -> Option<(S, Vec<(TimerKind, Timestamp)>)> {
        let Entry { state, timers } = windows.remove(window)?;
        let end = self.life.end(window).map(|end| (self.life.clock, end));
        let event = timers.event.into_iter().map(|time| (TimerKind::EventTime, time));
        let processing = timers
            .processing
            .into_iter()
            .map(|time| (TimerKind::ProcessingTime, time));
        Some((state, event.chain(processing).chain(end).collect()))
    }

    fn write<R>(&self, change: impl FnOnce(&mut ByWindow<Entry<S>>) -> R) -> R {
        self.cell.borrow_mut().write(true, |windows| {
            let result = change(windows);
            (result, !windows.is_empty())
        })
    }
}

fn set(kind: TimerKind) -> TimerAction {
    match kind {
        TimerKind::EventTime => TimerAction::SetEvent,
        TimerKind::ProcessingTime => TimerAction::SetProcessing,
    }
}

fn delete(kind: TimerKind) -> TimerAction {
    match kind {
        TimerKind::EventTime => TimerAction::DeleteEvent,
        TimerKind::ProcessingTime => TimerAction::DeleteProcessing,
    }
}

impl<T: Record, G: Trigger<T>> TriggerStore<T> for Triggered<G, G::State> {
    fn declared(&self) -> DeclaredState {
        DeclaredState {
            name: "windows".to_owned(),
            aliases: Vec::new(),
            kind: StateKind::ListState,
            fields: state_fields::<Vec<StoredTrigger<G::State>>>(),
            migrations: Vec::new(),
            ttl: None,
            cell: StateCell::Slots(self.cell.clone()),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.trigger.check()
    }

    fn merges(&self) -> bool {
        self.trigger.merges()
    }

    fn only_waits(&self) -> bool {
        self.trigger.only_waits()
    }

    fn windows(&self) -> Vec<Window> {
        let mut cell = self.cell.borrow_mut();
        let windows = cell
            .read()
            .map(|windows| windows.iter().map(|(window, _)| window).collect());
        windows.unwrap_or_default()
    }

    fn on_row(&self, row: &T::Of<'_>, window: Window, cx: &mut RowContext) -> TriggerResult {
        self.write(|windows| self.act(windows, window, cx, |trigger, context| trigger.on_row(row, context)))
    }

    fn due(&self, kind: TimerKind, time: Timestamp) -> Vec<(Window, bool)> {
        let mut cell = self.cell.borrow_mut();
        let due = |(window, entry): (Window, &Entry<G::State>)| {
            let is_set = entry.timers.have(kind, time);
            (is_set || self.is_end(window, kind, time)).then_some((window, is_set))
        };
        let windows = cell.read().map(|windows| windows.iter().filter_map(due).collect());
        windows.unwrap_or_default()
    }

    fn on_timer(&self, window: Window, kind: TimerKind, time: Timestamp, cx: &mut RowContext) -> TriggerResult {
        self.write(|windows| {
            self.act(windows, window, cx, |trigger, context| {
                context.timers.of(kind).retain(|&other| other != time);
                match kind {
                    TimerKind::EventTime => trigger.on_event_time(time, context),
                    TimerKind::ProcessingTime => trigger.on_processing_time(time, context),
                }
            })
        })
    }

    fn set_end(&self, window: Window, cx: &mut RowContext) {
        if let Some(end) = self.life.end(window) {
            cx.timer(set(self.life.clock), end.millis());
        }
    }

    fn on_merge(&self, into: Window, parts: &[Window], cx: &mut RowContext) {
        self.write(|windows| {
            let (mut states, mut timers) = (Vec::new(), Vec::new());
            for (state, of_part) in parts.iter().filter_map(|&part| self.take(windows, part)) {
                states.push(state);
                timers.extend(of_part);
            }
            self.act(windows, into, cx, |trigger, context| trigger.on_merge(states, context));
            self.delete_unwanted(windows, timers, cx);
        });
    }

    fn forget_idle(&self, window: Window) {
        if self.life.end(window).is_some() {
            return;
        }
        self.write(|windows| {
            let is_idle = |entry: &Entry<G::State>| {
                entry.timers.event.is_empty()
                    && entry.timers.processing.is_empty()
                    && self.trigger.forgettable(&entry.state)
            };
            if windows.get(window).is_some_and(is_idle) {
                windows.remove(window);
            }
        });
    }

    fn forget(&self, window: Window, cx: &mut RowContext) {
        self.write(|windows| {
            if let Some((_, timers)) = self.take(windows, window) {
                self.delete_unwanted(windows, timers, cx);
            }
            let is_last = windows.is_empty() && self.life.clock == TimerKind::ProcessingTime;
            if is_last && cx.watermark < END_OF_INPUT.millis() {
                cx.timer(TimerAction::DeleteEvent, END_OF_INPUT.millis());
            }
        });
    }
}
