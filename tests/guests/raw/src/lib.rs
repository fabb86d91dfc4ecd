//! A guest without the SDK, which breaks the contract on demand.
//!
//! Its parameter `kind` picks how. `graph` makes the graphs that must be refused before a row moves, `calls`
//! answers calls with what the host must not believe. With `kind=fine` it keeps to the contract, so that a
//! test can tell what it refuses from what it cannot do at all.

mod calls;
mod graph;

use std::cell::RefCell;

wit_bindgen::generate!({
    path: "../../../wit",
    world: "pipeline",
    generate_all,
});

pub(crate) use exports::millrace::pipeline::{dataflow, operators};
pub(crate) use millrace::pipeline::{collections, diagnostics, emit, environment, types};

thread_local! {
    static KIND: RefCell<String> = const { RefCell::new(String::new()) };
}

/// How the guest is to behave.
pub(crate) fn kind() -> String {
    KIND.with_borrow(Clone::clone)
}

struct Raw;

impl dataflow::Guest for Raw {
    fn parameters() -> Vec<dataflow::Parameter> {
        let parameter = |name: &str, default: &str| dataflow::Parameter {
            name: name.to_owned(),
            parameter_type: dataflow::ParameterType::Text,
            default_value: Some(default.to_owned()),
            doc: String::new(),
        };
        vec![parameter("kind", "fine"), parameter("head", "stateless")]
    }

    fn build(input: dataflow::BuildInput) -> Result<dataflow::Graph, String> {
        let value = |name: &str| {
            let found = input.parameters.iter().find(|(known, _)| known == name);
            found.map_or(String::new(), |(_, value)| value.clone())
        };
        KIND.set(value("kind"));
        Ok(graph::build(&value("kind"), &value("head")))
    }
}

export!(Raw);
