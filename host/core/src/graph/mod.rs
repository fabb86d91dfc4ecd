//! The logical graph: what a pipeline declares, before parallelism.
//!
//! [`logical`] mirrors `wit/dataflow.wit` in plain Rust with Arrow schemas; [`operator_ids`] says under which name
//! each operator's state is kept.

mod identity;
pub mod logical;
mod lookup;
mod origin;
mod requests;

pub use identity::{AUTO_PREFIX, operator_ids};
pub use logical::*;
pub use lookup::*;
pub use millrace_pattern::{AfterMatch, Connection, Contiguity, PatternDecl, PatternElement};
pub use origin::Origin;
pub use requests::*;
