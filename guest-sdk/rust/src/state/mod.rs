//! Keyed state: values, lists and maps that a process function keeps for each key.
//!
//! States are declared when the function is made, in [`Setup`](crate::Setup), and are fields of it. Each
//! call of the function sees the values of its row's key, and no other. The values live here, in pages
//! addressed by the slot that the host gives the key; the host asks for changed ones at checkpoints.

pub(crate) mod cell;
pub(crate) mod kept;
mod list;
mod map;
pub(crate) mod pages;
mod ttl;
mod value;

pub use kept::Kept;
pub use list::ListState;
pub use map::MapState;
pub use ttl::Ttl;
pub use value::ValueState;

use crate::value::Owned;

/// A handle of a state.
pub trait State {
    /// What is stored of it for a key: a value, a list, a map.
    type Stored: Owned;

    /// Tells it from all other states.
    #[doc(hidden)]
    fn place(&self) -> *const ();
}
