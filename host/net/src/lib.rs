//! Exchange: how blocks get from one subtask to another.
//!
//! [`queue`] is the bounded channel between two slots of one worker; [`partition`] splits a block by
//! receiver. Remote workers come with the network shuffle; nothing here knows about threads but the waker.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod partition;
pub mod queue;
