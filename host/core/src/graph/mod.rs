//! The logical graph: what a pipeline declares, before parallelism.
//!
//! [`logical`] mirrors `wit/dataflow.wit` in plain Rust with Arrow schemas; [`operator_ids`] says under which name
//! each operator's state is kept.

mod identity;
pub mod logical;
mod lookup;
mod origin;
mod pattern;
mod requests;

pub use identity::{AUTO_PREFIX, operator_ids};
pub use logical::*;
pub use lookup::*;
pub use origin::Origin;
pub use pattern::*;
pub use requests::*;
