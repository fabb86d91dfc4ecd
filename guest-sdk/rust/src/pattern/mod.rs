//! Patterns of events (complex event processing): sequences of rows that are looked for in a keyed stream.
//!
//! A [`Pattern`] says which rows follow each other, stage by stage; [`KeyedStream::pattern`](crate::KeyedStream::pattern)
//! looks for it in the rows of each key, and [`PatternStream::select`] makes a row of each match. Names and meaning are those
//! of Flink CEP.
//!
//! ```
//! use millrace::prelude::*;
//!
//! #[derive(Record)]
//! struct Login<'a> { user: &'a str, ok: bool, at: Timestamp }
//!
//! #[derive(Record)]
//! struct Alarm { user: String, since: Timestamp }
//!
//! /// Three failures in a row within a minute, and then a success: somebody guessed a password.
//! fn guessed(logins: Stream<Rows<Login<'static>>>) {
//!     let guessed = Pattern::<Login>::begin("failures")
//!         .where_(|login| !login.ok)
//!         .times(3)
//!         .consecutive()
//!         .next("success")
//!         .where_(|login| login.ok)
//!         .within(Duration::from_secs(60));
//!     logins
//!         .watermarks(Watermarks::bounded(Login::FIELDS.at, Duration::from_secs(5)))
//!         .key_by(Login::FIELDS.user)
//!         .pattern(guessed)
//!         .select(|found| Alarm { user: found.key(), since: found.first("failures").expect("three of them").at })
//!         .uid("guessed")
//!         .sink("out", Stdout::ndjson());
//! }
//! ```
//!
//! Conditions are asked of whole blocks as they come, and once for each row. Matching is done by the host, which keeps the
//! rows that it needs in its checkpoints. With event time the rows of a key are matched in its order: they wait until the
//! watermark has reached them.

mod builder;
mod condition;
mod declared;
mod head;
mod matched;
mod order;
mod stream;

pub use builder::{AfterMatch, Pattern};
pub use head::{MatchFunction, PatternHead, Select};
pub use matched::{Match, Matched};
pub use order::SortKey;
pub use stream::PatternStream;
