//! How a chain that begins with a process function is declared.

use super::{DeclaredState, ProcessFunction, Processing, Setup};
use crate::Stream;
use crate::bindings::dataflow as wit;
use crate::graph::{GraphBuilder, Handle, Input};
use crate::schema::Field;
use crate::state::Ttl;

/// Makes the function, which declares its states, and begins a chain with it.
pub(crate) fn begin_process<F: ProcessFunction>(
    flow: &Handle,
    construct: &str,
    key_fields: Vec<Field>,
    inputs: Vec<Input>,
    make: impl FnOnce(&mut Setup) -> F,
) -> Stream<Processing<F>> {
    let operator = flow.borrow().operators.len() as u32;
    let mut setup = Setup::new(operator);
    let function = make(&mut setup);
    let states = std::mem::take(&mut setup.states);
    let mut graph = flow.borrow_mut();
    if let Some(name) = super::setup::repeated_name(&states) {
        let message = format!("state `{name}` is declared twice by the same process function");
        graph.error(message);
    }
    let broadcast = |input: &Input| {
        input
            .origins
            .iter()
            .any(|origin| matches!(origin.partition, wit::Partition::Broadcast))
    };
    let has_state = states.iter().any(|state| state.kind == wit::StateKind::BroadcastMap);
    if inputs.iter().any(broadcast) && !has_state {
        graph.error(format!(
            "`{construct}` takes a broadcast stream, and has no broadcast state to keep it in"
        ));
    }
    let head = wit::Head::Keyed(wit::Keyed {
        key_schema: graph.schema(key_fields),
        states: states.iter().map(|state| declared(&mut graph, state)).collect(),
        always_writes: false,
    });
    let (chain, number) = graph.begin_chain(construct, inputs, head);
    drop(graph);
    assert_eq!(
        operator, number,
        "a function does not change the graph while it is made"
    );
    Stream::opened(
        flow.clone(),
        chain,
        operator,
        Processing::new(function, operator, states),
    )
}

fn declared(graph: &mut GraphBuilder, state: &DeclaredState) -> wit::StateDecl {
    let migrations = state.migrations.iter();
    wit::StateDecl {
        name: state.name.clone(),
        aliases: state.aliases.clone(),
        kind: state.kind,
        schema: graph.schema(state.fields.clone()),
        migrations: migrations.map(|old| graph.schema(old.fields.clone())).collect(),
        ttl: state.ttl.map(Ttl::declared),
    }
}
