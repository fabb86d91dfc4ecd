//! The operators that run on the host beside user code: keys, timers and windows.
//!
//! They are synchronous and pure: blocks and watermarks in, calls of the user's functions (as the traits in
//! `millrace_core::function`) out. Nothing here knows wasm, threads, files or clocks.
//!
//! [`KeyTable`] maps keys to slots, [`TimerService`] keeps timers of slots, and [`KeyedOperator`] joins them to
//! a keyed function. [`WindowOperator`] does the same for windows and their accumulators. [`PatternOperator`] is a keyed
//! function of the host's own, for patterns of events. [`RequestsOperator`] has rows wait for answers to their requests,
//! [`LookupOperator`] looks rows up in tables.
//! `careful` keeps traps of the
//! guest away from both.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod careful;
mod changes;
mod entry_codec;
mod frozen_rows;
pub mod key_table;
pub mod keyed;
pub mod lookup;
pub mod pattern;
mod present;
pub mod requests;
mod residents;
mod slot_set;
mod time_buckets;
pub mod timers;
pub mod window;

#[cfg(test)]
#[path = "../../core/src/testing.rs"]
mod testing;
#[cfg(test)]
mod tree_tier;

pub use key_table::{KeyBatch, KeyTable};
pub use keyed::KeyedOperator;
pub use lookup::LookupOperator;
pub use pattern::{PatternCounters, PatternOperator};
pub use requests::RequestsOperator;
pub use timers::TimerService;
pub use window::{WindowCounters, WindowOperator};
