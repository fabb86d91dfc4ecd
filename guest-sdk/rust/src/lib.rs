//! millrace-sdk
#![deny(unsafe_code)]
#![warn(missing_docs)]

// Derived code names this crate `::millrace`, also in this crate's own tests.
extern crate self as millrace;

pub mod block;
pub mod parameters;
pub mod schema;
pub mod value;
pub mod values;

pub use millrace_sdk_derive::{Parameters, Record, pipeline};
pub use parameters::Parameters;
pub use value::{Owned, Record, Value};
