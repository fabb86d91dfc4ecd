//! Pipelines that misbehave on purpose.
//!
//! The parameter `kind` picks what goes wrong, `row` the row on which it does: row i of the source has
//! id = i, key = i mod 10 and time = i ms. Failures that depend on a row happen on that row alone, so that a
//! test can ask whether the message names it. `stateless` holds what happens in functions without state,
//! `keyed` process functions and windows, `build` what is wrong before a row moves.

mod build;
mod keyed;
mod stateless;

use millrace::prelude::*;

/// What the source gives.
#[derive(Record, Clone, Debug)]
pub struct Item {
    id: i64,
    key: i64,
    time: i64,
}

/// What most functions put out.
#[derive(Record, Clone, Debug)]
pub struct Number {
    value: i64,
}

#[derive(Parameters)]
pub struct Params {
    /// What goes wrong
    kind: String,
    /// Row on which it goes wrong
    #[parameter(default = "1234")]
    row: i64,
    /// Rows of the source
    #[parameter(default = "5000")]
    rows: i64,
    /// File or folder that some kinds write to
    #[parameter(default = "")]
    path: String,
}

fn items(flow: &Flow, params: &Params) -> Stream<Rows<Item>> {
    let generator = Generator::new()
        .rows(params.rows as u64)
        .column("id", "index")
        .column("key", "index % 10")
        .column("time", "index");
    flow.source("items", generator)
}

fn timed(flow: &Flow, params: &Params) -> Stream<Rows<Item>> {
    items(flow, params).watermarks(Watermarks::monotonic(Item::FIELDS.time))
}

#[millrace::pipeline]
fn hostile(flow: &Flow, params: Params) -> Result<()> {
    if stateless::build(flow, &params) || keyed::build(flow, &params) || build::build(flow, &params)? {
        return Ok(());
    }
    Err(format!("there is no kind `{}`", params.kind).into())
}
