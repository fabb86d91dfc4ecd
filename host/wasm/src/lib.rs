//! The wasm runtime: pipelines as components, instances with limits, block-wise calls.
//!
//! This crate owns wasmtime; nobody else names it. A [`Runtime`] holds the engine and the compiled-code
//! cache; a [`Pipeline`] is a compiled component; an [`Instance`] is one sandboxed copy of it, used by one
//! slot thread; a [`GuestChain`] runs one chain of an instance and implements the traits by which the
//! operators see user code. Blocks cross in the layout of `wit/CONFORMANCE.md`, written by [`codec::encode`]
//! and checked by [`codec::decode`].

#![deny(missing_docs)]

mod bindings;
mod chain;
pub mod codec;
mod collections;
mod component_cache;
mod convert;
mod counts;
mod examine;
mod host_state;
mod instance;
mod limits;
mod pattern;
mod runtime;
mod trap;
mod tried;

pub use chain::{CallOutput, GuestChain, Rejection};
pub use examine::{render_row, render_time};
pub use host_state::{LogLevel, LogSink, UserMetric, UserMetricKind};
pub use instance::{Instance, OpenConfig};
pub use limits::Limits;
pub use runtime::{Imports, Pipeline, Runtime};
