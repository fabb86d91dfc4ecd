//! The rows of windows that have an evictor: all of them, for each window of a key.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Evictor, EvictorContext, TimedRow};
use crate::bindings::dataflow::StateKind;
use crate::process::{DeclaredState, StateCell};
use crate::results::record;
use crate::state::cell::Cell;
use crate::state::kept::state_fields;
use crate::value::{Owned, Record};
use crate::values::Timestamp;
use crate::window::Window;
use crate::window::by_window::{ByWindow, ForWindow};

record!(TimedRow<T> { time: Timestamp, row: T });

/// The rows of a window as they are stored.
pub(crate) struct StoredRows<T> {
    start: Timestamp,
    end: Timestamp,
    rows: Vec<TimedRow<T>>,
}
record!(StoredRows<T> { start: Timestamp, end: Timestamp, rows: Vec<TimedRow<T>> });

/// The rows of a window.
struct WindowRows<T>(Vec<TimedRow<T>>);

impl<T: Owned + Clone> ForWindow for WindowRows<T> {
    type Stored = Vec<StoredRows<T>>;

    fn store<'w>(windows: impl Iterator<Item = &'w (Window, Self)>) -> Self::Stored {
        let store = |(window, rows): &(Window, Self)| StoredRows {
            start: window.start,
            end: window.end,
            rows: rows.0.clone(),
        };
        windows.map(store).collect()
    }

    fn restore(stored: Self::Stored) -> Vec<(Window, Self)> {
        let restore = |stored: StoredRows<T>| {
            let window = Window {
                start: stored.start,
                end: stored.end,
            };
            (window, WindowRows(stored.rows))
        };
        stored.into_iter().map(restore).collect()
    }

    fn heap_bytes(&self) -> usize {
        self.0.len() * size_of::<TimedRow<T>>()
    }
}

/// What takes the rows of a window.
pub(crate) trait TakeRow<T: Record> {
    fn take(&mut self, row: T::Of<'_>);
}

/// The rows of windows and their evictor, whose type is forgotten.
pub(crate) trait RowStore<T: Record> {
    /// Its state, to be declared.
    fn declared(&self, name: &str) -> DeclaredState;
    /// What is wrong with the evictor's parameters.
    fn check(&self) -> Result<(), String>;
    /// Adds a row; whether it is the window's first.
    fn add(&self, window: Window, time: Timestamp, row: T::Of<'_>) -> bool;
    /// Gives the rows that are left to the window's function; false: there are none.
    fn evict_before(&self, cx: &EvictorContext, taker: &mut dyn TakeRow<T>) -> bool;
    fn evict_after(&self, cx: &EvictorContext);
    fn merge(&self, into: Window, parts: &[Window]);
    fn remove(&self, window: Window);
}

/// The rows of windows and their evictor.
pub(crate) struct WithEvictor<T: Owned + Clone, V> {
    evictor: V,
    cell: Rc<RefCell<Cell<ByWindow<WindowRows<T>>>>>,
}

impl<T: Owned + Clone, V> WithEvictor<T, V> {
    pub(crate) fn new(evictor: V) -> Self {
        WithEvictor {
            evictor,
            cell: Rc::new(RefCell::new(Cell::new())),
        }
    }

    /// Changes the rows of a window; without rows it has no entry.
    fn change<R>(&self, window: Window, change: impl FnOnce(&mut Vec<TimedRow<T>>) -> R) -> R {
        self.cell.borrow_mut().write(true, |windows| {
            let (result, is_empty) = windows.change(
                window,
                || WindowRows(Vec::new()),
                |rows, _| (change(&mut rows.0), rows.0.is_empty()),
            );
            if is_empty {
                windows.remove(window);
            }
            (result, !windows.is_empty())
        })
    }
}

impl<T, V> RowStore<T> for WithEvictor<T, V>
where
    T: Record + Owned + Clone,
    V: Evictor<T>,
{
    fn declared(&self, name: &str) -> DeclaredState {
        DeclaredState {
            name: name.to_owned(),
            aliases: Vec::new(),
            kind: StateKind::ListState,
            fields: state_fields::<Vec<StoredRows<T>>>(),
            migrations: Vec::new(),
            ttl: None,
            cell: StateCell::Slots(self.cell.clone()),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.evictor.check()
    }

    fn add(&self, window: Window, time: Timestamp, row: T) -> bool {
        self.change(window, |rows| {
            rows.push(TimedRow { time, row });
            rows.len() == 1
        })
    }

    fn evict_before(&self, cx: &EvictorContext, taker: &mut dyn TakeRow<T>) -> bool {
        self.change(cx.window, |rows| {
            if !rows.is_empty() {
                self.evictor.evict_before(rows, cx);
            }
            rows.iter().for_each(|row| taker.take(row.row.clone()));
            !rows.is_empty()
        })
    }

    fn evict_after(&self, cx: &EvictorContext) {
        self.change(cx.window, |rows| self.evictor.evict_after(rows, cx));
    }

    fn merge(&self, into: Window, parts: &[Window]) {
        self.cell.borrow_mut().write(true, |windows| {
            let parts = parts.iter().filter_map(|&part| windows.remove(part));
            let rows: Vec<TimedRow<T>> = parts.flat_map(|rows| rows.0).collect();
            if !rows.is_empty() {
                windows.change(into, || WindowRows(Vec::new()), |merged, _| merged.0 = rows);
            }
            ((), !windows.is_empty())
        });
    }

    fn remove(&self, window: Window) {
        self.cell.borrow_mut().write(true, |windows| {
            windows.remove(window);
            ((), !windows.is_empty())
        });
    }
}
