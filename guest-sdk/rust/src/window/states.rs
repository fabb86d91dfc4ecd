//! States of windows: what a function of windows keeps for each window of a key, as it keeps other things for the key.

use std::cell::{Cell as StdCell, RefCell};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::Window;
use super::by_window::{ByWindow, ForWindow};
use super::head::OwnStates;
use crate::bindings::dataflow::StateKind;
use crate::process::{DeclaredState, Setup, StateCell};
use crate::results::record;
use crate::state::cell::Cell;
use crate::state::kept::{Kept, state_fields};
use crate::state::scope::{Place, Scope};
use crate::state::{AggregateFunction, AggregatingState, ListState, MapState, ReducingState, ValueState};
use crate::value::Owned;
use crate::values::Timestamp;

/// Values of windows: those of the window that fires are at hand.
///
/// The states of windows are those of keys, with this as their last parameter. They go when the window ends, not when it is
/// purged. Where windows merge there are none: nobody could say what becomes of the values.
///
/// ```
/// use millrace::prelude::*;
///
/// #[derive(Record, Clone)]
/// struct Sale { shop: String, article: String, cents: i64, at: Timestamp }
///
/// /// At every hundred sales of an hour, the articles that it had not put out before.
/// struct Articles { known: WindowMapState<String, i64> }
///
/// impl WindowProcess for Articles {
///     type In = Sale;
///     type Key = String;
///     type Out = Sale;
///
///     fn process(&mut self, sales: &[Sale], cx: &mut WindowContext<'_, Self>) {
///         for sale in sales {
///             if self.known.insert(sale.article.clone(), sale.cents).is_none() {
///                 cx.push(sale.clone());
///             }
///         }
///     }
/// }
///
/// fn articles(sales: KeyedStream<Sale, String>) {
///     sales
///         .window(Tumbling::of(Duration::from_secs(3600)))
///         .trigger(CountTrigger::of(100))
///         .process_with(|setup| Articles { known: setup.window_map_state("known") })
///         .sink("out", Stdout::ndjson());
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct OfWindow;

impl Scope for OfWindow {
    type Place<A: Kept> = WindowPlace<A>;
}

/// A value for each window of a key: see [`WindowProcess`](super::WindowProcess).
pub type WindowState<V> = ValueState<V, OfWindow>;

/// A list for each window of a key: see [`OfWindow`].
pub type WindowListState<T> = ListState<T, OfWindow>;

/// A map for each window of a key: see [`OfWindow`].
pub type WindowMapState<K, V> = MapState<K, V, OfWindow>;

/// A value for each window of a key, into which others are merged: see [`OfWindow`].
pub type WindowReducingState<T> = ReducingState<T, OfWindow>;

/// What the values added for each window of a key come to: see [`OfWindow`].
pub type WindowAggregatingState<A> = AggregatingState<A, OfWindow>;

/// What a state keeps for each window of a key.
type Windows<A> = ByWindow<WindowValue<A>>;

/// What is kept for the window that fires.
pub struct WindowPlace<A: Kept> {
    cell: Rc<RefCell<Cell<Windows<A>>>>,
    /// The window that fires.
    window: Rc<StdCell<Window>>,
}

impl<A: Kept> Place<A> for WindowPlace<A> {
    fn read<R>(&self, look: impl FnOnce(Option<&A>) -> R) -> R {
        let mut cell = self.cell.borrow_mut();
        let value = cell.read().and_then(|windows| windows.get(self.window.get()));
        look(value.map(|value| &value.0))
    }

    fn write<R>(&self, _reads: bool, change: impl FnOnce(&mut A) -> (R, bool)) -> R {
        let window = self.window.get();
        // What other windows keep stays.
        self.cell.borrow_mut().write(true, |windows| {
            let create = || WindowValue(A::create());
            let (result, present) = windows.change(window, create, |value, _| change(&mut value.0));
            if !present {
                windows.remove(window);
            }
            (result, !windows.is_empty())
        })
    }

    fn clear(&self) {
        Forget::forget(&*self.cell, self.window.get());
    }
}

/// What a state keeps for a window.
struct WindowValue<A>(A);

/// As it is stored.
struct StoredValue<V> {
    start: Timestamp,
    end: Timestamp,
    value: V,
}
record!(StoredValue<V> { start: Timestamp, end: Timestamp, value: V });

impl<A: Kept> ForWindow for WindowValue<A> {
    type Stored = Vec<StoredValue<A::Stored>>;

    fn store<'w>(windows: impl Iterator<Item = &'w (Window, Self)>) -> Self::Stored {
        let store = |(window, value): &(Window, Self)| {
            Some(StoredValue {
                start: window.start,
                end: window.end,
                value: value.0.to_stored()?,
            })
        };
        windows.filter_map(store).collect()
    }

    fn restore(stored: Self::Stored) -> Vec<(Window, Self)> {
        let restore = |StoredValue { start, end, value }| {
            let value = WindowValue(A::from_stored(Some(value)));
            (Window { start, end }, value)
        };
        stored.into_iter().map(restore).collect()
    }

    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

/// A state of windows whose type is forgotten.
trait Forget {
    /// A window has ended.
    fn forget(&self, window: Window);
}

impl<A: Kept> Forget for RefCell<Cell<Windows<A>>> {
    fn forget(&self, window: Window) {
        self.borrow_mut().write(true, |windows| {
            windows.remove(window);
            ((), !windows.is_empty())
        });
    }
}

/// Declares the states of a function of windows: all that [`Setup`] has, for the key, and those whose names begin with
/// `window_`, for [each window](OfWindow).
///
/// See [`WindowProcess`](super::WindowProcess) for an example.
pub struct WindowSetup {
    setup: Setup,
    window: Rc<StdCell<Window>>,
    by_window: Vec<Rc<dyn Forget>>,
}

impl std::fmt::Debug for WindowSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.setup.fmt(f)
    }
}

impl Deref for WindowSetup {
    type Target = Setup;
    fn deref(&self) -> &Setup {
        &self.setup
    }
}

impl DerefMut for WindowSetup {
    fn deref_mut(&mut self) -> &mut Setup {
        &mut self.setup
    }
}

impl WindowSetup {
    pub(super) fn new(operator: u32) -> Self {
        WindowSetup {
            setup: Setup::new(operator),
            window: Rc::new(StdCell::new(Window::GLOBAL)),
            by_window: Vec::new(),
        }
    }

    /// A value for each window of a key. It goes when the window ends.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut WindowSetup) -> WindowState<i64> { setup.window_state("firings") }
    /// ```
    pub fn window_state<V: Owned + Clone>(&mut self, name: &str) -> WindowState<V> {
        ValueState::at(self.declare(name))
    }

    /// A list for each window of a key. It goes when the window ends.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut WindowSetup) -> WindowListState<String> { setup.window_list_state("names") }
    /// ```
    pub fn window_list_state<T: Owned + Clone>(&mut self, name: &str) -> WindowListState<T>
    where
        Vec<T>: Owned,
    {
        ListState::at(self.declare(name))
    }

    /// A map for each window of a key. It goes when the window ends.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut WindowSetup) -> WindowMapState<String, i64> { setup.window_map_state("prices") }
    /// ```
    pub fn window_map_state<K: Owned + Clone + Ord, V: Owned + Clone>(&mut self, name: &str) -> WindowMapState<K, V>
    where
        BTreeMap<K, V>: Owned,
    {
        MapState::at(self.declare(name))
    }

    /// A value for each window of a key, into which each that is added is merged by a function. It goes when the window ends.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut WindowSetup) -> WindowReducingState<i64> {
    ///     setup.window_reducing_state("most", |most: &mut i64, rows| *most = rows.max(*most))
    /// }
    /// ```
    pub fn window_reducing_state<T: Owned + Clone>(
        &mut self,
        name: &str,
        reduce: impl Fn(&mut T, T) + 'static,
    ) -> WindowReducingState<T> {
        ReducingState::new(self.window_state(name), reduce)
    }

    /// What the values for each window of a key come to that are added, by a function: see [`AggregatingState`]. It goes when
    /// the window ends.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare<A: AggregateFunction>(setup: &mut WindowSetup, function: A) -> WindowAggregatingState<A> {
    ///     setup.window_aggregating_state("mean", function)
    /// }
    /// ```
    pub fn window_aggregating_state<A: AggregateFunction>(
        &mut self,
        name: &str,
        function: A,
    ) -> WindowAggregatingState<A> {
        AggregatingState::new(self.window_state(name), function)
    }

    fn declare<A: Kept>(&mut self, name: &str) -> WindowPlace<A> {
        let cell = Rc::new(RefCell::new(Cell::new()));
        self.by_window.push(cell.clone());
        self.setup.states.push(DeclaredState {
            name: name.to_owned(),
            aliases: Vec::new(),
            kind: StateKind::ListState,
            fields: state_fields::<Vec<StoredValue<A::Stored>>>(),
            migrations: Vec::new(),
            ttl: None,
            cell: StateCell::Slots(cell.clone()),
        });
        let window = Rc::clone(&self.window);
        WindowPlace { cell, window }
    }

    /// Takes out what was declared.
    pub(super) fn take_states(&mut self) -> OwnStates {
        OwnStates {
            states: std::mem::take(&mut self.setup.states),
            by_window: !self.by_window.is_empty(),
        }
    }

    /// A window fires.
    pub(super) fn enter(&self, window: Window) {
        self.window.set(window);
    }

    /// A window has ended.
    pub(super) fn forget(&self, window: Window) {
        self.by_window.iter().for_each(|state| state.forget(window));
    }
}
