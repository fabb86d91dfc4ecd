//! The contract as Rust: generated from `wit/` at compile time.
//!
//! Nothing here is written by hand and nothing of it is meant for pipelines; the rest of the crate is the
//! face over it. `abi` implements the exports, `abi::host` calls the imports.
#![allow(
    unsafe_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "generated"
)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "pipeline",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "millrace::bindings",
});

pub use self::exports::millrace::pipeline::{dataflow, operators};
pub use self::millrace::pipeline::{collections, diagnostics, emit, environment, types};
