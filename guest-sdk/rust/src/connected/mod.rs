//! Two streams of different rows into one operator: what `connect` makes.
//!
//! A chain has two inputs then. Rows of each come in their order; the order between the two is whatever arrives first. The
//! watermark is the lesser of both. Functions with state are process functions: see [`process`](crate::process).

mod broadcast;
mod functions;
mod head;
mod keyed;
mod stream;

pub use broadcast::{BroadcastConnectedStream, UnkeyedBroadcastConnectedStream};
pub use functions::{CoFlatMap, CoMap};
pub use head::{CoFunction, CoRows};
pub use keyed::ConnectedKeyedStreams;
pub use stream::ConnectedStreams;
