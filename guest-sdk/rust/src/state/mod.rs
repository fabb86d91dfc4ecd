//! Keyed state: values, lists and maps that a process function keeps for each key.
//!
//! States are declared when the function is made, in [`Setup`](crate::Setup), and are fields of it. Each
//! call of the function sees the values of its row's key, and no other. The values live here, in pages
//! addressed by the slot that the host gives the key; the host asks for changed ones at checkpoints. Those of
//! [`LargeMap`] and [`LargeList`] live in the host, entry by entry. A [`BroadcastState`] belongs to no key.
//!
//! Values, lists and maps may also be [of windows](crate::window::OfWindow): that is the [`Scope`] of a handle.
//!
//! Where rows have no key a [`ListState`] is that of the subtask, and so is a [`UnionState`]: see
//! [`StatefulProcess`](crate::StatefulProcess).

mod aggregating;
mod broadcast;
pub(crate) mod cell;
pub(crate) mod kept;
pub(crate) mod large;
mod list;
mod map;
pub(crate) mod pages;
mod reducing;
pub(crate) mod scope;
mod ttl;
mod union;
mod value;

pub use aggregating::{AggregateFunction, AggregatingState};
pub use broadcast::{BroadcastState, BroadcastWriter};
pub use kept::Kept;
pub use large::{LargeList, LargeListIter, LargeMap, LargeMapIter};
pub use list::ListState;
pub use map::MapState;
pub use reducing::ReducingState;
pub use scope::{OfKey, Scope};
pub use ttl::Ttl;
pub use union::UnionState;
pub use value::ValueState;

use crate::value::Owned;

/// A handle of a state of a key, or of a subtask.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no state of a key",
    note = "a state of windows goes with its windows: it has no aliases and no time to live"
)]
pub trait State {
    /// Tells it from all other states.
    #[doc(hidden)]
    fn place(&self) -> *const ();
}

/// A state that is stored as a whole for each key, and so can be [migrated](crate::Setup::migrate) as one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not stored as a whole",
    note = "a large state is stored entry by entry, a state of windows with what other windows have: both are converted by the rules alone"
)]
pub trait WholeState: State {
    /// What is stored of it for a key: a value, a list, a map.
    type Stored: Owned;
}
