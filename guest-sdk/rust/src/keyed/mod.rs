//! Keys and what is computed per key.

mod rolling;
mod selector;
mod stream;

pub use rolling::{Number, Rolling, RollingFunction, Sum};
pub use selector::{AsKey, KeySelector};
pub use stream::KeyedStream;
