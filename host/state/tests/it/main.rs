//! Checkpoint storage as the engine uses it.

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

#[path = "../../../core/src/testing.rs"]
mod testing;

mod crash;
mod damage;
mod disk_full;
mod editing;
mod fixture;
mod rescaling;
#[cfg(feature = "cloud")]
mod s3;
mod storing;
mod tables;
