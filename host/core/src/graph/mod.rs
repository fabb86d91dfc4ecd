//! The logical graph: what a pipeline declares, before parallelism.
//!
//! [`logical`] mirrors `wit/dataflow.wit` in plain Rust with Arrow schemas.

pub mod logical;

pub use logical::*;
