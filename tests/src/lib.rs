//! What the tests of the whole share: guests that are built once, jobs that are run, numbers to compare with.
//!
//! The tests themselves are in `it/`, one file per feature; the pipelines that they run are the packages in
//! `guests/` and the one of the benchmarks.

#![forbid(unsafe_code)]

pub mod certificates;
pub mod guests;
pub mod http;
pub mod jobs;
pub mod postgres;
pub mod random;
pub mod redis;
pub mod running;
pub mod s3;
