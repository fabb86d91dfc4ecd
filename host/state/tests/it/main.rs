//! Checkpoint storage as the engine uses it.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

mod damage;
mod fixture;
mod storing;
mod tables;
