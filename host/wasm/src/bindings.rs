//! Host bindings generated from `wit/`; the types of the contract as the host sees them.

#![allow(missing_docs, reason = "generated; the WIT holds the documentation")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "pipeline",
    imports: { default: trappable },
});

pub(crate) use exports::millrace::pipeline::{dataflow, operators};
pub(crate) use millrace::pipeline::{collections, diagnostics, emit, environment, types};
