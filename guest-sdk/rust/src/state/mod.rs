//! State by slot: storage, and how it goes to the host and comes back.

pub(crate) mod codec;
pub(crate) mod pages;
