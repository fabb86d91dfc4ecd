//! What calls of a chain go by, from the graph.

use std::rc::Rc;

use arrow_schema::{FieldRef, Fields, SchemaRef};
use millrace_core::graph::{Chain, Graph, Head, StateDecl};

use crate::collections::LargeState;
use crate::instance::OpenConfig;

/// What a chain needs to know of the graph to make calls.
#[derive(Debug, Clone)]
pub(crate) struct ChainInfo {
    pub(crate) index: u32,
    pub(crate) ports: Vec<PortInfo>,
    pub(crate) key_fields: Fields,
    pub(crate) operators: Vec<(u32, String)>,
    /// Task and subtask, before the chain's log lines.
    pub(crate) place: Rc<str>,
    /// Schema of each state: one nullable field.
    pub(crate) states: Vec<SchemaRef>,
    pub(super) state_names: Vec<String>,
    /// Numbers of the states that the guest keeps by slot, which are all but large ones.
    pub(crate) resident: Vec<u32>,
    pub(crate) large: Rc<[LargeState]>,
    /// Of each state the schemas that the guest migrates.
    pub(super) migrations: Vec<Vec<FieldRef>>,
    pub(crate) head: HeadKind,
    /// Of a pattern.
    pub(crate) conditions: u32,
    /// The pattern orders rows of equal time.
    pub(crate) orders_equal_times: bool,
    /// Rows may ask for every key.
    pub(super) applies: bool,
}

/// Which calls a chain takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadKind {
    Stateless,
    Keyed,
    Window,
    Pattern,
}

/// What blocks of a port are.
#[derive(Debug, Clone)]
pub(crate) struct PortInfo {
    pub(super) schema: SchemaRef,
    pub(super) time: bool,
    pub(super) key: Option<SchemaRef>,
}

impl ChainInfo {
    pub(super) fn new(graph: &Graph, index: u32, config: OpenConfig) -> Self {
        let chain: &Chain = &graph.chains[index as usize];
        let ports = chain.ports.iter().map(|port| PortInfo {
            schema: port.schema.clone(),
            time: config.time_out || port.computes_time,
            key: port.computed_key.clone(),
        });
        let (key_fields, states, head): (_, &[StateDecl], _) = match &chain.head {
            Head::Stateless => (Fields::empty(), &[], HeadKind::Stateless),
            // Its state is the host's.
            Head::Keyed {
                key_schema,
                pattern: Some(_),
                ..
            } => (key_schema.fields().clone(), &[], HeadKind::Pattern),
            Head::Keyed { key_schema, states, .. } => (key_schema.fields().clone(), states, HeadKind::Keyed),
            Head::Window {
                key_schema,
                accumulator,
                ..
            } => {
                let accumulator = std::slice::from_ref(accumulator);
                (key_schema.fields().clone(), accumulator, HeadKind::Window)
            }
        };
        let pattern = match &chain.head {
            Head::Keyed { pattern, .. } => pattern.as_ref(),
            Head::Stateless | Head::Window { .. } => None,
        };
        let migrations = states.iter().map(|state| {
            let old = state.migrations.iter().map(|old| old.field.clone());
            old.collect()
        });
        let resident = (0..).zip(states).filter(|(_, state)| !state.kind.is_large());
        let large = (0..).zip(states).filter_map(|(number, state)| {
            let schema = state.collection()?;
            Some(LargeState::new(number, &schema))
        });
        let name = |index: u32| graph.operators[index as usize].name.clone();
        let names: Vec<String> = chain.operators.iter().map(|operator| name(operator.0)).collect();
        ChainInfo {
            place: format!("{}[{}]", names.join(" → "), config.subtask).into(),
            index,
            ports: ports.collect(),
            key_fields,
            operators: chain
                .operators
                .iter()
                .map(|operator| (operator.0, name(operator.0)))
                .collect(),
            states: states.iter().map(|state| state.schema.clone()).collect(),
            state_names: states.iter().map(|state| state.name.clone()).collect(),
            resident: resident.map(|(number, _)| number).collect(),
            large: large.collect(),
            migrations: migrations.collect(),
            head,
            applies: matches!(&chain.head, Head::Keyed { applies: true, .. }),
            conditions: pattern.map_or(0, |pattern| pattern.conditions.len() as u32),
            orders_equal_times: pattern.is_some_and(|pattern| pattern.orders_equal_times),
        }
    }

    /// The operator's name, or those of the whole chain.
    pub(crate) fn operator_name(&self, operator: Option<u32>) -> String {
        let known = operator.and_then(|operator| self.operators.iter().find(|(index, _)| *index == operator));
        match known {
            Some((_, name)) => format!("operator `{name}`"),
            None => {
                let names: Vec<&str> = self.operators.iter().map(|(_, name)| name.as_str()).collect();
                format!("operator `{}`", names.join("` or `"))
            }
        }
    }
}
