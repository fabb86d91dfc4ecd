//! The outside world: the only place where the engine reads a clock or asks for chance.

mod real;

pub use real::Clock;
pub(crate) use real::random_u32;
