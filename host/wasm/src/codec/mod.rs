//! Blocks to and from the bytes that cross: the layout of `wit/CONFORMANCE.md`.
//!
//! [`encode`] gathers Arrow columns into one allocation; [`decode`] checks everything that a guest could
//! get wrong and then builds Arrow arrays over the one lifted allocation without copying. Nothing is built
//! before its check.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{Malformed, decode, decode_columns};
pub use encode::{encode, encode_columns};

/// The bytes of a block as they cross.
pub use crate::bindings::types::Block as Wire;

/// Every buffer starts at a multiple of this from the start of the data.
pub const ALIGNMENT: usize = 16;

/// Where the buffer after one that ends at `end` starts.
pub(crate) fn next_start(end: usize) -> usize {
    end.next_multiple_of(ALIGNMENT)
}
