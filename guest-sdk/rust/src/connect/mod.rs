//! Connectors: where rows come from and where they go. The host runs them; here they are described.

mod discard;
mod generator;

use crate::bindings::dataflow as wit;
use crate::value::Record;

pub use discard::Discard;
pub use generator::Generator;

/// Gives rows.
pub trait Source {
    /// The rows that it gives.
    type Record: Record;
    /// Kind and options, as the contract has them.
    fn connector(&self) -> wit::Connector;
    /// What happens to rows that cannot be read.
    fn on_reject(&self) -> wit::RejectPolicy {
        wit::RejectPolicy::Fail
    }
}

/// Takes rows.
pub trait Sink {
    /// Kind and options, as the contract has them.
    fn into_connector(self) -> wit::Connector;
}
