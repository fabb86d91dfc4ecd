//! Joins: rows of two streams with the same key that belong together by time.
//!
//! [`KeyedStream::join`](crate::KeyedStream::join) and its relatives say which rows are put out that have no partner.
//! What follows says which rows are partners: those in the same window ([`JoinedStreams::window`]), or those that are not
//! too far apart ([`JoinedStreams::between`]).
//!
//! [`KeyedStream::temporal_join`](crate::KeyedStream::temporal_join) joins rows with what was valid at their time.
//!
//! All keep rows in the guest by slot, where checkpoints find them as lists. Windows that the host does not know, or that have
//! a trigger or an evictor, are those of [`window`](crate::window), whose rows are [`TaggedUnion`]s; what they store is said
//! [there](crate::window#what-is-stored).

mod apply;
mod between;
mod group;
mod guest;
mod head;
mod interval;
mod stream;
mod tagged;
mod temporal;
mod window;

pub use apply::{Full, Inner, Left, Pairing, Right};
pub use between::{IntervalJoinedStreams, TimeBound};
pub use group::{CoGroupedStreams, CoGrouping, WindowedCoGroup};
pub use head::{Group, GroupFunction, GroupHead};
pub use interval::IntervalJoin;
pub use stream::JoinedStreams;
pub use tagged::TaggedUnion;
pub use temporal::{TemporalJoin, TemporallyJoinedStreams};
pub use window::{WindowJoin, WindowedJoin};
