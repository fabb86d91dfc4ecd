//! The outside world: the only place where the engine reads a clock or asks for chance. What the allocator is told is here too.

mod allocator;
mod real;

pub(crate) use allocator::keep_blocks;
pub use real::Clock;
pub(crate) use real::random_u32;
