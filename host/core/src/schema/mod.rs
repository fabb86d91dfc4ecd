//! Schemas that change: what a field says of its earlier versions, and how old values become new ones.
//!
//! ```text
//!   stored schema --+
//!                   +-- resolve --> Conversion (how each value is made) + Changes (for people), or Refusals
//!   declared one  --+
//! ```
//!
//! The rules go by names, as those of Avro and Iceberg. [`resolve()`] decides them for a value, [`resolve_key`] for the
//! key of an operator, [`upgrade`](crate::upgrade) for a whole pipeline. Nothing here touches a value: the crate
//! `millrace-state` carries conversions out on Arrow arrays.

mod declared;
mod resolve;
#[cfg(test)]
mod tests;
mod types;
mod widen;

pub use declared::{Declared, DeclaredState, Hints, KeyedKind, KeyedSchema, Missing, SliceGrid, Variant};
pub(crate) use resolve::matches_by_name;
pub use resolve::{Change, Conversion, Member, Refusal, Resolved, TagTo, resolve, resolve_key};
pub use types::{field_text, parse_type, type_name};
pub use widen::{Role, Widening, widening};
