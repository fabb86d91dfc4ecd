//! Joins: rows of two streams with the same key that belong together by time.
//!
//! [`KeyedStream::join`](crate::KeyedStream::join) and its relatives say which rows are put out that have no partner.
//! [`JoinedStreams::window`] says which rows are partners: those in the same window.
//!
//! Rows are kept in the guest by slot, where checkpoints find them as lists.

mod apply;
mod group;
mod head;
mod stream;
mod window;

pub use apply::{Full, Inner, Left, Pairing, Right};
pub use group::{CoGroupedStreams, CoGrouping, WindowedCoGroup};
pub use head::{Group, GroupFunction, GroupHead};
pub use stream::JoinedStreams;
pub use window::{WindowJoin, WindowedJoin};
