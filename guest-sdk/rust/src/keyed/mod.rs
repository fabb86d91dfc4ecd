//! Keys and what is computed per key.

mod aggregates;
mod rolling;
mod selector;
mod stream;

pub(crate) use aggregates::replaces;
pub use aggregates::{Count, Extreme, ExtremeBy, Number, Reduce, Sum, Total};
pub use rolling::{Rolling, RollingFunction};
pub use selector::{AsKey, KeySelector};
pub(crate) use selector::{KeyFunction, SharedKey, unfit_for_key};
pub use stream::KeyedStream;
