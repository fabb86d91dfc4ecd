//! What a process function declares when it is made.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::bindings::dataflow::StateKind;
use crate::bindings::operators::CallError;
use crate::block::Block;
use crate::chain::failure;
use crate::metrics::{Counter, Gauge, Histogram};
use crate::position;
use crate::schema::Field;
use crate::state::cell::ErasedState;
use crate::state::kept::{read_values, state_fields, write_values};
use crate::state::large::ErasedCollection;
use crate::state::{
    AggregateFunction, AggregatingState, BroadcastState, LargeList, LargeMap, ListState, MapState, ReducingState,
    State, Ttl, UnionState, ValueState, WholeState,
};
use crate::value::Owned;

/// Declares the states and metrics of a process function.
///
/// A state's name, with the operator's uid, is its identity in savepoints: one that is renamed needs an
/// [alias](Setup::alias).
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
    pub(crate) aliases: Vec<String>,
    pub(crate) kind: StateKind,
    pub(crate) fields: Vec<Field>,
    pub(crate) migrations: Vec<Migration>,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) cell: StateCell,
}

/// Where the values of a state are.
pub(crate) enum StateCell {
    /// Here, by slot.
    Slots(Rc<dyn ErasedState>),
    /// In the host, entry by entry.
    Host(Rc<dyn ErasedCollection>),
}

/// How values of an earlier version become those of a state.
pub(crate) struct Migration {
    /// Schema of the earlier version.
    pub(crate) fields: Vec<Field>,
    migrate: Box<dyn Fn(&Block) -> Block>,
}

impl Migration {
    /// By a function of one value.
    pub(crate) fn by<Old: Owned, New: Owned>(migrate: impl Fn(Old) -> New + 'static) -> Self {
        let migrate = move |block: &Block| {
            let old: Vec<Option<Old>> = read_values(block).collect();
            write_values(old.into_iter().map(|old| old.map(&migrate)))
        };
        Migration {
            fields: state_fields::<Old>(),
            migrate: Box::new(migrate),
        }
    }

    /// Values of a state of an operator from those of an earlier version, by the migration of this number.
    pub(crate) fn run(
        all: &[Migration],
        operator: u32,
        (state, number): (u32, u32),
        old: &Block,
    ) -> Result<Block, CallError> {
        let unknown = || failure(format!("state {state} has no migration {number}"));
        let migration = all.get(number as usize).ok_or_else(unknown)?;
        position::enter(operator);
        let migrated = (migration.migrate)(old);
        position::leave();
        Ok(migrated)
    }
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
        self.declare(name, StateKind::Value, state_fields::<T>(), StateCell::Slots(cell));
        state
    }

    /// One value per key, into which each that is added is merged by a function.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut Setup) -> ReducingState<i64> {
    ///     setup.reducing_state("total", |total, cents| *total += cents)
    /// }
    /// ```
    pub fn reducing_state<T: Owned + Clone>(
        &mut self,
        name: &str,
        reduce: impl Fn(&mut T, T) + 'static,
    ) -> ReducingState<T> {
        ReducingState::new(self.value_state(name), reduce)
    }

    /// What the values per key come to that are added, by a function: see [`AggregatingState`].
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare<A: AggregateFunction>(setup: &mut Setup, function: A) -> AggregatingState<A> {
    ///     setup.aggregating_state("mean", function)
    /// }
    /// ```
    pub fn aggregating_state<A: AggregateFunction>(&mut self, name: &str, function: A) -> AggregatingState<A> {
        AggregatingState::new(self.value_state(name), function)
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
        let cell = StateCell::Slots(cell);
        self.declare(name, StateKind::ListState, state_fields::<Vec<T>>(), cell);
        state
    }

    /// A list of a subtask, beside which there are the items of all at times.
    pub(crate) fn union_state<T: Owned + Clone>(&mut self, name: &str) -> UnionState<T>
    where
        Vec<T>: Owned,
    {
        let (state, cell) = UnionState::new();
        let cell = StateCell::Slots(cell);
        self.declare(name, StateKind::UnionList, state_fields::<Vec<T>>(), cell);
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
        let cell = StateCell::Slots(cell);
        self.declare(name, StateKind::MapState, state_fields::<BTreeMap<K, V>>(), cell);
        state
    }

    /// A map per key whose entries live in the host, so that there may be any number of them.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut Setup) -> LargeMap<String, i64> { setup.large_map("prices") }
    /// ```
    pub fn large_map<K: Owned + Clone + Ord, V: Owned + Clone>(&mut self, name: &str) -> LargeMap<K, V>
    where
        BTreeMap<K, V>: Owned,
    {
        let (state, cell) = LargeMap::new(self.states.len() as u32);
        let cell = StateCell::Host(cell);
        self.declare(name, StateKind::LargeMap, state_fields::<BTreeMap<K, V>>(), cell);
        state
    }

    /// A map that every subtask has whole. Only a [`KeyedBroadcastProcess`](crate::process::KeyedBroadcastProcess) has a use
    /// for it.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut Setup) -> BroadcastState<String, i64> { setup.broadcast_state("limits") }
    /// ```
    pub fn broadcast_state<K: Owned + Clone + Ord, V: Owned + Clone>(&mut self, name: &str) -> BroadcastState<K, V>
    where
        BTreeMap<K, V>: Owned,
    {
        let (state, cell) = BroadcastState::new(self.states.len() as u32);
        let cell = StateCell::Host(cell);
        self.declare(name, StateKind::BroadcastMap, state_fields::<BTreeMap<K, V>>(), cell);
        state
    }

    /// A list per key whose items live in the host, so that there may be any number of them.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// fn declare(setup: &mut Setup) -> LargeList<String> { setup.large_list("names") }
    /// ```
    pub fn large_list<T: Owned + Clone>(&mut self, name: &str) -> LargeList<T>
    where
        Vec<T>: Owned,
    {
        let (state, cell) = LargeList::new(self.states.len() as u32);
        let cell = StateCell::Host(cell);
        self.declare(name, StateKind::LargeList, state_fields::<Vec<T>>(), cell);
        state
    }

    /// Says that a state had another name: it is found under that too in what an earlier version has left.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// struct Orders { total: ValueState<i64> }
    ///
    /// fn declare(setup: &mut Setup) -> Orders {
    ///     let total = setup.value_state("total");
    ///     setup.alias(&total, "sum");
    ///     Orders { total }
    /// }
    /// ```
    pub fn alias(&mut self, state: &impl State, name: &str) {
        self.declared(state).aliases.push(name.to_owned());
    }

    /// Gives a state a time to live: see [`Ttl`].
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// struct Carts { items: ListState<String> }
    ///
    /// fn declare(setup: &mut Setup) -> Carts {
    ///     let items = setup.list_state("items");
    ///     setup.ttl(&items, Ttl::after(Duration::from_secs(1800)).on_read_and_write());
    ///     Carts { items }
    /// }
    /// ```
    pub fn ttl(&mut self, state: &impl State, ttl: Ttl) {
        self.declared(state).ttl = Some(ttl);
    }

    /// Converts what an earlier version has left of a state, where its schema was exactly that of `Old`; may be said
    /// for several. What is not converted so is converted by the rules of [state that changes](crate#state-that-changes), or refused.
    ///
    /// The function sees a key's value, list or map as a whole; those of large states are converted by the rules alone. It must depend on nothing else, for after a failure it
    /// may be called with the same value again.
    ///
    /// ```
    /// # use millrace::prelude::*;
    /// #[derive(Record, Clone)]
    /// struct EurosV1 { euros: i64 }
    ///
    /// #[derive(Record, Clone)]
    /// struct Total { cents: i64 }
    ///
    /// struct Orders { total: ValueState<Total>, names: ListState<String> }
    ///
    /// fn declare(setup: &mut Setup) -> Orders {
    ///     let total = setup.value_state("total");
    ///     setup.migrate(&total, |old: EurosV1| Total { cents: old.euros * 100 });
    ///     let names = setup.list_state("names");
    ///     setup.migrate(&names, |old: Vec<i64>| old.iter().map(|id| format!("order {id}")).collect());
    ///     Orders { total, names }
    /// }
    /// ```
    pub fn migrate<S: WholeState, Old: Owned>(&mut self, state: &S, migrate: impl Fn(Old) -> S::Stored + 'static) {
        self.declared(state).migrations.push(Migration::by(migrate));
    }

    /// # Panics
    /// If the state was declared elsewhere.
    fn declared(&mut self, state: &impl State) -> &mut DeclaredState {
        let place = state.place();
        let found = self.states.iter_mut().find(|declared| declared.place() == place);
        found.expect("a state is declared where it is changed: in the same `Setup`")
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

    fn declare(&mut self, name: &str, kind: StateKind, fields: Vec<Field>, cell: StateCell) {
        self.states.push(DeclaredState {
            name: name.to_owned(),
            aliases: Vec::new(),
            kind,
            fields,
            migrations: Vec::new(),
            ttl: None,
            cell,
        });
    }
}

impl DeclaredState {
    /// Tells it from all others, as [`State::place`] does.
    fn place(&self) -> *const () {
        match &self.cell {
            StateCell::Slots(cell) => Rc::as_ptr(cell).cast(),
            StateCell::Host(cell) => Rc::as_ptr(cell).cast(),
        }
    }
}
