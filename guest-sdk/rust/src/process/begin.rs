//! How a chain that begins with a process function is declared.

use super::{OperatorSetup, ProcessFunction, Processing, Setup, States};
use crate::Stream;
use crate::bindings::dataflow as wit;
use crate::graph::{Handle, Input};
use crate::schema::Field;

/// What functions beside a broadcast stream are called.
pub(crate) const BROADCAST_PROCESS: &str = "broadcast_process";

/// Makes the function, which declares its states, and begins a chain with it.
pub(crate) fn begin_process<F: ProcessFunction>(
    flow: &Handle,
    construct: &str,
    key_fields: Vec<Field>,
    inputs: Vec<Input>,
    make: impl FnOnce(&mut Setup) -> F,
) -> Stream<Processing<F>> {
    begin(flow, construct, Some(key_fields), inputs, make)
}

/// The same of a function of rows without a key.
pub(crate) fn begin_unkeyed<F: ProcessFunction>(
    flow: &Handle,
    construct: &str,
    inputs: Vec<Input>,
    make: impl FnOnce(&mut OperatorSetup) -> F,
) -> Stream<Processing<F>> {
    begin(flow, construct, None, inputs, |setup| {
        let mut operator = OperatorSetup::new(std::mem::replace(setup, Setup::new(0)));
        let function = make(&mut operator);
        *setup = operator.into_setup();
        function
    })
}

fn begin<F: ProcessFunction>(
    flow: &Handle,
    construct: &str,
    key_fields: Option<Vec<Field>>,
    inputs: Vec<Input>,
    make: impl FnOnce(&mut Setup) -> F,
) -> Stream<Processing<F>> {
    let operator = flow.borrow().operators.len() as u32;
    let mut setup = Setup::new(operator);
    let function = make(&mut setup);
    let states = States::new(std::mem::take(&mut setup.states));
    let mut graph = flow.borrow_mut();
    if let Some(mistake) = states.mistake() {
        graph.error_of(operator, mistake);
    }
    let broadcast = |input: &Input| {
        input
            .origins
            .iter()
            .any(|origin| matches!(origin.partition, wit::Partition::Broadcast))
    };
    let needs_state = key_fields.is_some() || construct == BROADCAST_PROCESS;
    if needs_state && inputs.iter().any(broadcast) && !states.has_broadcast() {
        graph.error_of(
            operator,
            "it takes a broadcast stream, and has no broadcast state to keep it in",
        );
    }
    let key_schema = key_fields.map(|fields| graph.schema(fields));
    let head = states.head(&mut graph, key_schema, F::APPLIES);
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
