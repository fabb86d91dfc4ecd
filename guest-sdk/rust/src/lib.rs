//! millrace-sdk
#![deny(unsafe_code)]
#![warn(missing_docs)]

// Derived code names this crate `::millrace`, also in this crate's own tests.
extern crate self as millrace;

#[doc(hidden)]
pub mod abi;
#[doc(hidden)]
pub mod bindings;
pub mod block;
pub mod chain;
pub mod connect;
pub mod environment;
mod flow;
mod graph;
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub mod harness;
pub mod keyed;
pub mod log;
pub mod metrics;
mod open;
pub mod parameters;
mod position;
pub mod prelude;
pub mod process;
mod results;
pub mod schema;
mod side;
pub mod state;
pub mod stream;
mod time;
pub mod value;
pub mod values;
pub mod window;

pub use flow::Flow;
pub use keyed::KeyedStream;
pub use millrace_sdk_derive::{Parameters, Record, pipeline};
pub use open::OpenContext;
pub use parameters::Parameters;
pub use process::{KeyedProcess, Setup};
pub use results::{Counted, Windowed};
pub use side::OutputTag;
pub use stream::{Out, Stream};
pub use value::{FieldRef, Owned, Record, Value};
pub use window::WindowedStream;

/// What a function that builds a dataflow returns; any error or message goes into it by `?`.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
