//! The operators that run on the host beside user code: keys, timers and windows.
//!
//! They are synchronous and pure: blocks and watermarks in, calls of the user's functions (as the traits in
//! `millrace_core::function`) out. Nothing here knows wasm, threads, files or clocks.
//!
//! [`KeyTable`] maps keys to slots.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod key_table;

#[cfg(test)]
mod testing;

pub use key_table::{KeyBatch, KeyTable};
