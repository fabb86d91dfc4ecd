//! Windows that run in the guest: any assigner, trigger and evictor, over keyed state and timers.
//!
//! The host knows nothing of them. To it this is a keyed function, whose states are lists with an entry for each window of
//! the key: what the trigger keeps (`trigger/store.rs`), what the function keeps or the rows that an evictor needs, and
//! states of the function itself. So checkpoints, savepoints, state backends and rescaling are those of any keyed state.
//!
//! The order of things is Flink's: a row is added to each of its windows that is not late, the trigger is asked, the
//! window fires, is purged. A window ends when its clock reaches its last ms, plus the allowed lateness.
//!
//! Rows come from one stream, or from two as rows of one type that says which ([`Inputs`]).

use std::cell::RefCell;
use std::rc::Rc;

use super::by_window::{ByWindow, ForWindow};
use super::evictor::{EvictorContext, RowStore, TakeRow};
use super::head::{Fired, WindowFunction};
use super::trigger::{END_OF_INPUT, Life, TriggerResult, TriggerStore};
use super::{Window, WindowAssigner};
use crate::OpenContext;
use crate::bindings::dataflow::StateKind;
use crate::bindings::operators::CallError;
use crate::chain::{Decoded, Emit, RowContext, Tail, Work, failure};
use crate::keyed::{KeyFunction, SharedKey};
use crate::metrics::Counter;
use crate::position;
use crate::process::{
    DeclaredState, Due, KeySource, KeyedHead, KeyedRows, Migration, RowKey, StateCell, States, TimerKey, TimerKind,
};
use crate::results::record;
use crate::schema::Field;
use crate::state::cell::Cell;
use crate::state::kept::state_fields;
use crate::value::{Owned, Record, Value};
use crate::values::Timestamp;

/// What the function keeps for a window.
pub(crate) struct Pane<W: WindowFunction>(W::Kept);

/// As it is stored.
pub(crate) struct StoredPane<V> {
    start: Timestamp,
    end: Timestamp,
    value: Option<V>,
}
record!(StoredPane<V> { start: Timestamp, end: Timestamp, value: Option<V> });

impl<W: WindowFunction> ForWindow for Pane<W> {
    type Stored = Vec<StoredPane<W::Stored>>;

    fn store<'w>(windows: impl Iterator<Item = &'w (Window, Self)>) -> Self::Stored {
        let store = |(window, pane): &(Window, Self)| StoredPane {
            start: window.start,
            end: window.end,
            value: W::to_stored(&pane.0),
        };
        windows.map(store).collect()
    }

    fn restore(stored: Self::Stored) -> Vec<(Window, Self)> {
        let restore = |stored: StoredPane<W::Stored>| {
            let window = Window {
                start: stored.start,
                end: stored.end,
            };
            Some((window, Pane(W::revived(stored.value?))))
        };
        stored.into_iter().filter_map(restore).collect()
    }

    fn heap_bytes(&self) -> usize {
        W::heap_bytes(&self.0)
    }
}

/// What is kept of the rows of windows.
pub(crate) enum Contents<W: WindowFunction> {
    /// What the function makes of them.
    Panes(Rc<RefCell<Cell<ByWindow<Pane<W>>>>>),
    /// All of them, for an evictor.
    Rows(Box<dyn RowStore<W::In>>),
}

impl<W: WindowFunction> Contents<W> {
    pub(crate) fn new(rows: Option<Box<dyn RowStore<W::In>>>) -> Self {
        let panes = || Contents::Panes(Rc::new(RefCell::new(Cell::new())));
        rows.map_or_else(panes, Contents::Rows)
    }

    /// Its state, to be declared.
    pub(crate) fn declared(&self, name: &str) -> DeclaredState {
        match self {
            Contents::Panes(cell) => DeclaredState {
                name: name.to_owned(),
                aliases: Vec::new(),
                kind: StateKind::ListState,
                fields: state_fields::<Vec<StoredPane<W::Stored>>>(),
                migrations: Vec::new(),
                ttl: None,
                cell: StateCell::Slots(cell.clone()),
            },
            Contents::Rows(rows) => rows.declared("rows"),
        }
    }

    /// Adds a row; whether it is the window's first.
    #[inline(always)]
    fn add(&self, function: &W, window: Window, time: Timestamp, row: <W::In as Value>::Of<'_>) -> bool {
        match self {
            Contents::Panes(cell) => cell.borrow_mut().write(true, |panes| {
                let add = |pane: &mut Pane<W>, is_new| {
                    function.add(&mut pane.0, row);
                    is_new
                };
                (panes.change(window, || Pane(function.create()), add), true)
            }),
            Contents::Rows(rows) => rows.add(window, time, row),
        }
    }

    fn merge(&self, function: &W, into: Window, parts: &[Window]) {
        match self {
            Contents::Panes(cell) => cell.borrow_mut().write(true, |panes| {
                let mut parts: Vec<_> = parts.iter().filter_map(|&part| panes.remove(part)).collect();
                if !parts.is_empty() {
                    let first = parts.remove(0);
                    let merge =
                        |pane: &mut Pane<W>, _| parts.iter().for_each(|part| function.merge(&mut pane.0, &part.0));
                    panes.change(into, || first, merge);
                }
                ((), !panes.is_empty())
            }),
            Contents::Rows(rows) => rows.merge(into, parts),
        }
    }

    fn remove(&self, window: Window) {
        match self {
            Contents::Panes(cell) => cell.borrow_mut().write(true, |panes| {
                panes.remove(window);
                ((), !panes.is_empty())
            }),
            Contents::Rows(rows) => rows.remove(window),
        }
    }
}

/// Adds rows to what a function keeps.
struct Adding<'a, W: WindowFunction> {
    function: &'a W,
    kept: W::Kept,
}

impl<W: WindowFunction> TakeRow<W::In> for Adding<'_, W> {
    fn take(&mut self, row: <W::In as Value>::Of<'_>) {
        self.function.add(&mut self.kept, row);
    }
}

/// What follows the window in its chain.
struct Next<'n, T: Record>(&'n mut (dyn Emit<T> + 'n));

impl<T: Record> Emit<T> for Next<'_, T> {
    fn emit(&mut self, row: T::Of<'_>, cx: &mut RowContext) {
        self.0.emit(row, cx);
    }
}

/// Where the rows of windows come from.
pub(crate) trait Inputs<W: WindowFunction>: Sized + 'static {
    /// How many streams they are.
    const STREAMS: u32;

    /// Hands each row of an input to the windows.
    fn rows<E: Tail<W::Out>>(
        windows: &mut GuestWindows<W, Self>,
        rows: &KeyedRows<'_>,
        cx: &mut RowContext,
        tail: &mut E,
    ) -> Result<(), CallError>;

    /// Puts a late row out; false: nobody gets it.
    fn put_late(&self, operator: u32, row: <W::In as Value>::Of<'_>, cx: &mut RowContext) -> bool;
}

/// The rows of one stream.
pub(crate) struct OneStream<T: Record, K> {
    pub(crate) selector: SharedKey<T, K>,
    /// Tag of the side output that gets late rows.
    pub(crate) late: Option<&'static str>,
}

/// Makes a row of windows of a row of a stream.
pub(crate) trait Tag<T: Record, R: Record> {
    fn tag<'a>(row: T::Of<'a>) -> R::Of<'a>;
}

/// The row itself.
struct Same;

impl<T: Record> Tag<T, T> for Same {
    #[inline(always)]
    fn tag<'a>(row: T::Of<'a>) -> T::Of<'a> {
        row
    }
}

impl<W: WindowFunction> Inputs<W> for OneStream<W::In, W::Key> {
    const STREAMS: u32 = 1;

    #[inline(always)]
    fn rows<E: Tail<W::Out>>(
        windows: &mut GuestWindows<W, Self>,
        rows: &KeyedRows<'_>,
        cx: &mut RowContext,
        tail: &mut E,
    ) -> Result<(), CallError> {
        let selector = Rc::clone(&windows.inputs.selector);
        windows.each_row::<W::In, Same, E>(rows, &*selector, cx, tail);
        Ok(())
    }

    fn put_late(&self, operator: u32, row: <W::In as Value>::Of<'_>, cx: &mut RowContext) -> bool {
        let Some(tag) = self.late else { return false };
        let time = cx.time;
        cx.sides.push::<W::In>(operator, tag, row, time);
        true
    }
}

/// The row or timer at hand.
struct AtHand<'h, W: WindowFunction> {
    key: &'h (dyn KeySource<W::Key> + 'h),
    cx: &'h mut RowContext,
    next: Next<'h, W::Out>,
}

/// Windows that run in the guest.
pub(crate) struct GuestWindows<W: WindowFunction, I = OneStream<<W as WindowFunction>::In, <W as WindowFunction>::Key>>
{
    pub(crate) function: W,
    pub(crate) operator: u32,
    pub(crate) inputs: I,
    pub(crate) assigner: Rc<dyn WindowAssigner<W::In>>,
    pub(crate) trigger: Box<dyn TriggerStore<W::In>>,
    /// What the assigner says of itself, and the trigger.
    pub(crate) merges: bool,
    pub(crate) only_waits: bool,
    pub(crate) contents: Contents<W>,
    pub(crate) states: States,
    pub(crate) life: Life,
    /// Late rows that nobody gets.
    pub(crate) dropped: Counter,
    /// Windows of the row at hand.
    pub(crate) assigned: Vec<Window>,
    pub(crate) given: u64,
}

impl<W: WindowFunction, I: Inputs<W>> GuestWindows<W, I> {
    /// See [`WindowHead`](super::head::WindowHead): what the function keeps is the first state, window by window.
    pub(crate) fn add_migration<Old: Owned>(
        &mut self,
        migrate: impl Fn(Old) -> W::Stored + 'static,
    ) -> Result<Vec<Field>, &'static str> {
        let Contents::Panes(_) = &self.contents else {
            return Err("with an evictor windows keep their rows, which have no migrations");
        };
        let pane = move |old: StoredPane<Old>| StoredPane {
            start: old.start,
            end: old.end,
            value: old.value.map(&migrate),
        };
        let migration = Migration::by(move |panes: Vec<StoredPane<Old>>| -> Vec<StoredPane<W::Stored>> {
            panes.into_iter().map(&pane).collect()
        });
        let fields = migration.fields.clone();
        self.states.add_migration(0, migration);
        Ok(fields)
    }

    /// Hands each row of a stream to its windows.
    #[inline(always)]
    pub(crate) fn each_row<T: Record, G: Tag<T, W::In>, E: Tail<W::Out>>(
        &mut self,
        rows: &KeyedRows<'_>,
        selector: &dyn KeyFunction<T, W::Key>,
        cx: &mut RowContext,
        tail: &mut E,
    ) {
        let decoded = Decoded::<T>::new(rows.block, cx.time_in);
        for (index, &slot) in rows.slots.iter().enumerate() {
            position::set_keyed_entry(index as u32, slot);
            position::enter(self.operator);
            decoded.set_time(index, cx);
            let key = RowKey {
                rows: &decoded,
                index,
                selector,
            };
            let mut at_hand = AtHand {
                key: &key,
                cx,
                next: Next(tail),
            };
            self.row(|| G::tag(T::get(&decoded.columns, index)), &mut at_hand);
        }
    }

    #[inline(always)]
    fn row<'b>(&mut self, row: impl Fn() -> <W::In as Value>::Of<'b>, at_hand: &mut AtHand<'_, W>) {
        let time = Timestamp::from_millis(match self.life.clock {
            TimerKind::EventTime => at_hand.cx.time,
            TimerKind::ProcessingTime => at_hand.cx.now,
        });
        let mut assigned = std::mem::take(&mut self.assigned);
        assigned.clear();
        self.assigner.assign(&row(), time, &mut assigned);
        let mut is_taken = false;
        for &window in &assigned {
            let window = match self.merges {
                true => self.merged(window, at_hand.cx),
                false => window,
            };
            if self.life.is_late(window, at_hand.cx.watermark) {
                continue;
            }
            is_taken = true;
            let is_first = self.contents.add(&self.function, window, time, row());
            let watermark = at_hand.cx.watermark;
            if self.only_waits && !is_first && !self.life.has_ended(window, watermark) {
                continue;
            }
            let result = self.trigger.on_row(&row(), window, at_hand.cx);
            self.carry_out(result, window, at_hand);
        }
        self.assigned = assigned;
        if !is_taken {
            self.refuse(row(), at_hand.cx);
        }
    }

    /// A row is in no window: if it is too late for that, it goes to the side output, or is dropped and counted.
    fn refuse(&self, row: <W::In as Value>::Of<'_>, cx: &mut RowContext) {
        let is_late = cx.time.saturating_add(self.life.lateness_ms) <= cx.watermark;
        if self.life.clock == TimerKind::ProcessingTime || !is_late {
            return;
        }
        if !self.inputs.put_late(self.operator, row, cx) {
            self.dropped.add(1);
        }
    }

    /// Merges a new window of the key with those that are there, and says what it is part of.
    fn merged(&self, window: Window, cx: &mut RowContext) -> Window {
        let mut windows = self.trigger.windows();
        if windows.contains(&window) {
            return window;
        }
        windows.push(window);
        let mut into = window;
        for merged in self.assigner.merge(&windows) {
            if merged.parts.contains(&window) {
                into = merged.window;
            }
            let parts: Vec<Window> = merged.parts.iter().copied().filter(|&part| part != window).collect();
            if !parts.is_empty() && parts != [merged.window] {
                self.trigger.on_merge(merged.window, &parts, cx);
                self.contents.merge(&self.function, merged.window, &parts);
            }
        }
        into
    }

    fn carry_out(&mut self, result: TriggerResult, window: Window, at_hand: &mut AtHand<'_, W>) {
        if result.fires() {
            self.fire(window, at_hand);
        }
        if result.purges() {
            self.contents.remove(window);
            self.trigger.forget_idle(window);
        }
    }

    /// Puts the result of a window out, if it has rows. Its time is the last of the window; of one that never ends, that of
    /// the row or timer.
    fn fire(&mut self, window: Window, at_hand: &mut AtHand<'_, W>) {
        let cx = &mut *at_hand.cx;
        let time = cx.time;
        if !window.is_global() {
            cx.time = window.last().millis();
        }
        let function = &self.function;
        let operator = self.operator;
        let mut finish = |kept: &W::Kept, cx: &mut RowContext| {
            let fired = Fired {
                operator,
                key: at_hand.key.key(),
                window,
                kept,
            };
            self.given += function.finish(fired, cx, &mut at_hand.next);
        };
        match &self.contents {
            Contents::Panes(cell) => {
                let mut cell = cell.borrow_mut();
                if let Some(pane) = cell.read().and_then(|panes| panes.get(window)) {
                    finish(&pane.0, cx);
                }
            }
            Contents::Rows(rows) => {
                let kept = function.create();
                let mut adding = Adding { function, kept };
                let evictor = EvictorContext {
                    window,
                    watermark: cx.watermark,
                    now: cx.now,
                };
                if rows.evict_before(&evictor, &mut adding) {
                    finish(&adding.kept, cx);
                    position::enter(operator);
                    rows.evict_after(&evictor);
                }
            }
        }
        cx.time = time;
        position::enter(operator);
    }

    fn timers<E: Tail<W::Out>>(&mut self, due: &Due<'_>, cx: &mut RowContext, tail: &mut E) {
        // Nobody can ask windows for every key.
        let Some(kind) = due.kind else { return };
        let keys = W::Key::column(&mut due.keys.buffers(), due.keys.rows());
        for (index, (&slot, &time)) in due.slots.iter().zip(due.times).enumerate() {
            position::set_keyed_entry(index as u32, slot);
            position::enter(self.operator);
            cx.time = match kind {
                TimerKind::EventTime => time,
                TimerKind::ProcessingTime => cx.watermark,
            };
            let key = TimerKey::<W::Key> { keys: &keys, index };
            let mut at_hand = AtHand {
                key: &key,
                cx,
                next: Next(tail),
            };
            let time = Timestamp::from_millis(time);
            self.timer(kind, time, &mut at_hand);
            if kind == TimerKind::EventTime && time == END_OF_INPUT {
                self.end_of_input(&mut at_hand);
            }
        }
    }

    fn timer(&mut self, kind: TimerKind, time: Timestamp, at_hand: &mut AtHand<'_, W>) {
        let due = self.trigger.due(kind, time);
        if due.is_empty() && kind == self.life.clock {
            // The end of a window in a job that kept its windows for another time.
            for window in self.trigger.windows() {
                self.trigger.set_end(window, at_hand.cx);
            }
        }
        for (window, is_set) in due {
            self.window_timer(window, is_set, kind, time, at_hand);
        }
    }

    /// A timer is due for a window; its trigger has set it, or it is the window's end alone.
    fn window_timer(
        &mut self,
        window: Window,
        is_set: bool,
        kind: TimerKind,
        time: Timestamp,
        at_hand: &mut AtHand<'_, W>,
    ) {
        if is_set {
            let result = self.trigger.on_timer(window, kind, time, at_hand.cx);
            self.carry_out(result, window, at_hand);
        }
        if kind != self.life.clock {
            return;
        }
        match self.life.end(window) {
            Some(end) if end <= time => {
                self.contents.remove(window);
                self.trigger.forget(window, at_hand.cx);
                self.function.forget(window);
            }
            // It may come from a job that kept its windows for less time.
            Some(_) if window.last() <= time => self.trigger.set_end(window, at_hand.cx),
            Some(_) | None => {}
        }
    }

    /// Ends windows of processing time as if the clock had come so far.
    fn end_of_input(&mut self, at_hand: &mut AtHand<'_, W>) {
        if self.life.clock == TimerKind::EventTime {
            return;
        }
        for window in self.trigger.windows() {
            let kind = TimerKind::ProcessingTime;
            let over = window.over(kind);
            for (due, is_set) in self.trigger.due(kind, over) {
                if due == window {
                    self.window_timer(window, is_set, kind, over, at_hand);
                }
            }
        }
    }

    pub(crate) fn run<E: Tail<W::Out>>(
        &mut self,
        work: &Work<'_>,
        cx: &mut RowContext,
        tail: &mut E,
    ) -> Result<(), CallError> {
        match *work {
            Work::Rows { block, slots, input } => {
                self.states.begin_call(slots, block)?;
                I::rows(self, &KeyedRows { input, block, slots }, cx, tail)?;
            }
            Work::Timers {
                kind,
                slots,
                times,
                keys,
            } => {
                self.states.begin_call(slots, keys)?;
                let due = Due {
                    kind: TimerKind::of(kind),
                    slots,
                    times,
                    keys,
                };
                self.timers(&due, cx, tail);
            }
            Work::Windows { .. } | Work::Matches { .. } => {
                return Err(failure("the windows of this chain are the guest's"));
            }
            Work::Close => {}
        }
        Ok(())
    }
}

impl<W: WindowFunction, I: Inputs<W>> KeyedHead for GuestWindows<W, I> {
    fn begin(&mut self, context: &OpenContext) {
        self.function.open(context);
    }

    fn end(&mut self) {
        self.function.close();
    }

    fn operator(&self) -> u32 {
        self.operator
    }

    fn states(&self) -> &States {
        &self.states
    }
}
