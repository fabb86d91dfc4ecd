//! What a process function declares when it is made.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::bindings::dataflow::StateKind;
use crate::metrics::{Counter, Gauge, Histogram};
use crate::schema::Field;
use crate::state::cell::ErasedState;
use crate::state::kept::state_fields;
use crate::state::{ListState, MapState, ValueState};
use crate::value::Owned;

/// Declares the states and metrics of a process function.
///
/// A state's name, with the operator's uid, is its identity in savepoints: renaming it forgets it.
///
/// ```
/// use millrace::prelude::*;
///
/// struct Orders { total: ValueState<i64>, items: ListState<String>, prices: MapState<String, i64>, late: Counter }
///
/// impl Orders {
///     fn new(setup: &mut Setup) -> Self {
///         Orders {
///             total: setup.value_state("total"),
///             items: setup.list_state("items"),
///             prices: setup.map_state("prices"),
///             late: setup.counter("late"),
///         }
///     }
/// }
/// ```
pub struct Setup {
    operator: u32,
    pub(crate) states: Vec<DeclaredState>,
}

/// A state that was declared.
pub(crate) struct DeclaredState {
    pub(crate) name: String,
    pub(crate) kind: StateKind,
    pub(crate) fields: Vec<Field>,
    pub(crate) cell: Rc<dyn ErasedState>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.states.iter().map(|state| state.name.as_str());
        f.debug_list().entries(names).finish()
    }
}

impl Setup {
    pub(crate) fn new(operator: u32) -> Self {
        Setup {
            operator,
            states: Vec::new(),
        }
    }

    /// One value per key.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut Setup) -> ValueState<i64> { setup.value_state("count") }
    /// ```
    pub fn value_state<T: Owned + Clone>(&mut self, name: &str) -> ValueState<T> {
        let (state, cell) = ValueState::new();
        self.declare(name, StateKind::Value, state_fields::<T>(), cell);
        state
    }

    /// A list per key.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut Setup) -> ListState<String> { setup.list_state("names") }
    /// ```
    pub fn list_state<T: Owned + Clone>(&mut self, name: &str) -> ListState<T>
    where
        Vec<T>: Owned,
    {
        let (state, cell) = ListState::new();
        self.declare(name, StateKind::ListState, state_fields::<Vec<T>>(), cell);
        state
    }

    /// A map per key.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut Setup) -> MapState<String, i64> { setup.map_state("prices") }
    /// ```
    pub fn map_state<K: Owned + Clone + Ord, V: Owned + Clone>(&mut self, name: &str) -> MapState<K, V>
    where
        BTreeMap<K, V>: Owned,
    {
        let (state, cell) = MapState::new();
        self.declare(name, StateKind::MapState, state_fields::<BTreeMap<K, V>>(), cell);
        state
    }

    /// A number that only grows.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut Setup) -> Counter { setup.counter("late") }
    /// ```
    pub fn counter(&mut self, name: &str) -> Counter {
        Counter::new(self.operator, name)
    }

    /// A number that goes up and down.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut Setup) -> Gauge { setup.gauge("temperature") }
    /// ```
    pub fn gauge(&mut self, name: &str) -> Gauge {
        Gauge::new(self.operator, name)
    }

    /// A distribution of numbers.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut Setup) -> Histogram { setup.histogram("size") }
    /// ```
    pub fn histogram(&mut self, name: &str) -> Histogram {
        Histogram::new(self.operator, name)
    }

    fn declare(&mut self, name: &str, kind: StateKind, fields: Vec<Field>, cell: Rc<dyn ErasedState>) {
        self.states.push(DeclaredState {
            name: name.to_owned(),
            kind,
            fields,
            cell,
        });
    }
}

/// A name that is used twice.
pub(crate) fn repeated_name(states: &[DeclaredState]) -> Option<&str> {
    let repeated =
        |(index, state): &(usize, &DeclaredState)| states[..*index].iter().any(|before| before.name == state.name);
    states
        .iter()
        .enumerate()
        .find(repeated)
        .map(|(_, state)| state.name.as_str())
}
