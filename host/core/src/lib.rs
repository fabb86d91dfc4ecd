//! The pure heart of Millrace: what a dataflow is, what moves through it, and the traits by which the
//! parts of the host meet.
//!
//! There is no I/O, clock, thread or async runtime here, and no wasm: everything is a value or a
//! deterministic function. Read in this order: [`block`] (what moves), [`graph`] (what a pipeline
//! declares), [`plan`] (what runs), [`function`] (what user code looks like to the operators),
//! [`connector`] (sources and sinks), [`key`] and [`time`] (what is decided about keys and watermarks), [`checkpoint`] (what survives),
//! [`pattern`] (what is stored of patterns of events), [`requests`] (what is asked of servers for rows),
//! [`schema`] and [`upgrade`] (what survives a change of the pipeline).

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod backend;
pub mod block;
pub mod checkpoint;
pub mod collections;
pub mod connector;
pub mod control;
pub mod error;
pub mod function;
pub mod graph;
pub mod key;
pub mod pattern;
pub mod plan;
pub mod random;
pub mod requests;
pub mod schema;
#[cfg(test)]
mod testing;
pub mod time;
pub mod upgrade;

pub use error::{Error, Fault, Result};
