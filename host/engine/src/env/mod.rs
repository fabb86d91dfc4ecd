//! The outside world: the only place where the engine reads a clock.

mod real;

pub use real::Clock;
