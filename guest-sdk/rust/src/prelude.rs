//! Everything that a pipeline usually needs: `use millrace::prelude::*;`.

pub use crate::chain::Rows;
pub use crate::connect::{Discard, Generator};
pub use crate::{Flow, Out, Result, Stream};
