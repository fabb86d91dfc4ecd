//! The states of a keyed head: what the host asks of them, by number.

use super::setup::{DeclaredState, Migration, StateCell};
use crate::bindings::dataflow as wit;
use crate::bindings::operators::{CallError, CollectionWrites};
use crate::block::Block;
use crate::chain::{check_slots, failure};
use crate::graph::GraphBuilder;
use crate::position;
use crate::state::Ttl;
use crate::state::cell::ErasedState;

/// The states that a keyed head declared, in that order.
pub(crate) struct States {
    states: Vec<DeclaredState>,
}

impl States {
    pub(crate) fn new(states: Vec<DeclaredState>) -> Self {
        States { states }
    }

    /// The head that has them, as the contract writes it; without a key they are the subtask's.
    pub(crate) fn head(&self, graph: &mut GraphBuilder, key_schema: Option<u32>, applies: bool) -> wit::Head {
        let declare = |state: &DeclaredState| wit::StateDecl {
            name: state.name.clone(),
            aliases: state.aliases.clone(),
            kind: state.kind,
            schema: graph.schema(state.fields.clone()),
            migrations: {
                let migrations = state.migrations.iter();
                migrations.map(|old| graph.schema(old.fields.clone())).collect()
            },
            ttl: state.ttl.map(Ttl::declared),
        };
        let states = self.states.iter().map(declare).collect();
        match key_schema {
            None => wit::Head::Unkeyed(wit::Unkeyed { states }),
            Some(key_schema) => wit::Head::Keyed(wit::Keyed {
                key_schema,
                states,
                always_writes: false,
                applies,
                windows: None,
            }),
        }
    }

    /// What is wrong with the names of the states, if something is.
    pub(crate) fn mistake(&self) -> Option<String> {
        if self.states.iter().any(|state| state.name.is_empty()) {
            return Some("one of its states has an empty name".to_owned());
        }
        if self.states.iter().any(|state| state.name == "timers") {
            return Some("no state is called `timers`: that is where savepoints keep the timers".to_owned());
        }
        let lives = |state: &DeclaredState| {
            let time = state.ttl.map_or(Ok(()), Ttl::check);
            time.map_err(|error| format!("the time to live of its state `{}` {error}", state.name))
        };
        if let Some(error) = self.states.iter().find_map(|state| lives(state).err()) {
            return Some(error);
        }
        let mut states = self.states.iter().enumerate();
        let repeated =
            states.find(|(index, state)| self.states[..*index].iter().any(|before| before.name == state.name));
        repeated.map(|(_, state)| format!("its state `{}` is declared twice", state.name))
    }

    /// Whether rows of a broadcast stream can be kept.
    pub(crate) fn has_broadcast(&self) -> bool {
        self.states
            .iter()
            .any(|state| state.kind == wit::StateKind::BroadcastMap)
    }

    /// A call begins, over rows or timers of these slots: brings what they hold into the cache.
    pub(crate) fn begin_call(&self, slots: &[u32], rows: &Block) -> Result<(), CallError> {
        check_slots(slots, rows)?;
        position::set_entries(slots.len());
        self.warm(slots);
        Ok(())
    }

    fn warm(&self, slots: &[u32]) {
        self.kept().for_each(|state| state.warm(slots));
    }

    /// The states whose values are here.
    fn kept(&self) -> impl Iterator<Item = &dyn ErasedState> {
        self.states.iter().filter_map(|state| match &state.cell {
            StateCell::Slots(cell) => Some(cell.as_ref()),
            StateCell::Host(_) => None,
        })
    }

    fn kept_state(&self, state: u32) -> Result<&dyn ErasedState, CallError> {
        match &self.state(state)?.cell {
            StateCell::Slots(cell) => Ok(cell.as_ref()),
            StateCell::Host(_) => Err(failure(format!("state {state} is large: the host has its values"))),
        }
    }

    fn state(&self, state: u32) -> Result<&DeclaredState, CallError> {
        let unknown = || failure(format!("there is no state {state}"));
        self.states.get(state as usize).ok_or_else(unknown)
    }

    pub(crate) fn export(&self, state: u32, slots: &[u32]) -> Result<Block, CallError> {
        Ok(self.kept_state(state)?.export(slots))
    }

    pub(crate) fn import(&self, state: u32, slots: &[u32], values: &Block) -> Result<(), CallError> {
        check_slots(slots, values)?;
        self.kept_state(state)?.import(slots, values);
        Ok(())
    }

    /// Values of a state from those of an earlier version, by a function of that operator.
    pub(crate) fn migrate(&self, operator: u32, state: u32, migration: u32, old: &Block) -> Result<Block, CallError> {
        Migration::run(&self.state(state)?.migrations, operator, (state, migration), old)
    }

    /// Adds a migration of a state.
    pub(crate) fn add_migration(&mut self, state: usize, migration: Migration) {
        self.states[state].migrations.push(migration);
    }

    pub(crate) fn drop_slots(&self, slots: &[u32]) {
        self.kept().for_each(|state| state.drop_slots(slots));
    }

    /// Takes what happened to the states during the call: flags and change of live bytes.
    pub(crate) fn take_touched(&self, touched: &mut Vec<u8>, live_bytes: &mut Vec<i64>) {
        let entries = position::entries();
        let flags: Vec<Vec<u8>> = self.kept().map(ErasedState::take_flags).collect();
        if flags.iter().any(|flags| !flags.is_empty()) {
            for flags in &flags {
                touched.extend_from_slice(flags);
                touched.resize(touched.len() + entries - flags.len(), 0);
            }
        }
        let changes: Vec<i64> = self.kept().map(ErasedState::take_live_bytes).collect();
        if changes.iter().any(|&change| change != 0) {
            *live_bytes = changes;
        }
    }

    /// Takes what the call did to large states.
    pub(crate) fn take_writes(&self) -> Vec<CollectionWrites> {
        let collections = self.states.iter().filter_map(|state| match &state.cell {
            StateCell::Slots(_) => None,
            StateCell::Host(cell) => cell.take_writes(),
        });
        collections.collect()
    }
}
