//! Dataflows, tested without wasm: each construct through real blocks, call by call.

mod applied;
mod co_state;
mod connected;
mod exchange;
mod groups;
mod guest_windows;
mod inference;
mod joins;
mod keyed;
mod large;
mod lookups;
mod models;
mod open_windows;
mod operator_state;
mod pattern_conditions;
mod patterns;
mod process;
mod random;
mod reduced;
mod rejects;
mod stateless;
mod testing;
mod windows;

use millrace::prelude::*;

/// The row of most tests.
#[derive(Record, Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) key: i64,
    pub(crate) value: i64,
}

pub(crate) fn event(key: i64, value: i64) -> Event {
    Event { key, value }
}

/// A row that borrows.
#[derive(Record, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) text: &'a str,
}

/// A row of text.
#[derive(Record, Debug, Clone, PartialEq)]
pub(crate) struct Word {
    pub(crate) word: String,
    pub(crate) n: i64,
}

pub(crate) fn word(word: &str, n: i64) -> Word {
    Word { word: word.into(), n }
}

pub(crate) fn events(flow: &Flow) -> Stream<Rows<Event>> {
    flow.source("events", Generator::new())
}

pub(crate) fn lines(flow: &Flow) -> Stream<Rows<Line<'static>>> {
    flow.source("lines", Stdin::text())
}

/// Lines as a block.
pub(crate) fn text_block(texts: &[&str]) -> millrace::block::Block {
    millrace::harness::block(texts.iter().map(|text| (text.to_string(),)))
}
