//! Well-behaved pipelines whose results the tests compute a second time.
//!
//! The parameter `kind` picks one. `windows` has those over event time, `edges` every way from subtask to subtask,
//! `applied` what is done to every key, `states` one function with every kind of state, `durable` what must
//! survive, `large` maps and lists in the host, `enums` those read and written, `operators` one of each (with
//! `guest_windows`), `evolving` what changes, `groups` what runs in slots of its own, `lifetimes` state that expires, `operator-state` lists of subtasks,
//! `patterns` patterns of events, `requests` rows that ask a server,
//! `lookups` rows that are looked up in tables, `poison` functions that trap, `queried` what can be asked for, `connected` reads
//! and writes what `from` and `to` say, `streams` endless ones and slow ones, `two-inputs` operators of two inputs.

mod applied;
mod connected;
mod durable;
mod edges;
mod enums;
mod evolving;
mod groups;
mod guest_windows;
mod joined_windows;
mod large;
mod lifetimes;
mod lookups;
mod operator_state;
mod operators;
mod patterns;
mod poison;
mod queried;
mod requests;
mod states;
mod streams;
mod two_inputs;
mod windows;

use millrace::prelude::*;

/// What most sources give.
#[derive(Record, Clone, Debug)]
pub struct Event {
    key: i64,
    value: i64,
    time: i64,
}

#[derive(Parameters)]
pub struct Params {
    /// Which pipeline
    kind: String,
    /// File to read
    #[parameter(default = "")]
    input: String,
    /// Second file to read
    #[parameter(default = "")]
    other: String,
    /// Folder to write to
    #[parameter(default = "")]
    output: String,
    /// URL of a PostgreSQL server to write to instead
    #[parameter(default = "")]
    postgres: String,
    /// Columns of the key, if rows are to replace others there
    #[parameter(default = "")]
    upsert: String,
    /// URL of a Redis server to write to instead
    #[parameter(default = "")]
    redis: String,
    /// What rows become there
    #[parameter(default = "list")]
    structure: String,
    /// Dead-letter file for some of the rows
    #[parameter(default = "")]
    letters: String,
    /// Version of a pipeline that has several
    #[parameter(default = "1")]
    version: String,
    /// Rows of generated sources
    #[parameter(default = "1000")]
    rows: i64,
    /// Length of windows, or of gaps
    #[parameter(default = "10ms")]
    size: Duration,
    /// Distance of sliding windows
    #[parameter(default = "5ms")]
    slide: Duration,
    /// Shift of windows
    #[parameter(default = "0ms")]
    offset: Duration,
    /// How far rows may be out of order
    #[parameter(default = "0ms")]
    disorder: Duration,
    /// How long fired windows wait
    #[parameter(default = "0ms")]
    lateness: Duration,
    /// After how long an input is idle; 0: never
    #[parameter(default = "0ms")]
    idle: Duration,
    /// How far sources may be ahead of each other; 0: as far as they like
    #[parameter(default = "0ms")]
    drift: Duration,
    /// Number of keys
    #[parameter(default = "97")]
    keys: i64,
    /// Rows a second; 0: as fast as can be
    #[parameter(default = "0")]
    rate: i64,
    /// Rounds of work for each result; 0: none, and no exchange before it
    #[parameter(default = "0")]
    work: i64,
    /// Row that panics; -1: none
    #[parameter(default = "-1")]
    trap: i64,
    /// What traps, as place:row
    #[parameter(default = "")]
    bad: String,
    /// Different keys of a large map
    #[parameter(default = "1000")]
    spread: i64,
    /// Bytes of an entry of a large map, besides
    #[parameter(default = "5")]
    bytes: i64,
    /// Source to read from, where there are several
    #[parameter(default = "")]
    from: String,
    /// Sink to write to, where there are several
    #[parameter(default = "")]
    to: String,
    /// Rows that may wait for answers
    #[parameter(default = "20")]
    capacity: i64,
    /// 1: without that
    #[parameter(default = "0")]
    spared: i64,
    /// Slot-sharing groups of some operators, as operator:group:subtasks
    #[parameter(default = "")]
    groups: String,
}

fn generated(flow: &Flow, params: &Params) -> Stream<Rows<Event>> {
    let generator = Generator::new()
        .rows(params.rows as u64)
        .column("key", "mix % 50")
        .column("value", "index % 1000")
        .column("time", "index / 10");
    flow.source("events", generator)
}

#[millrace::pipeline]
pub fn flows(flow: &Flow, params: Params) -> Result<()> {
    flow.name(&params.kind);
    if windows::build(flow, &params) || edges::build(flow, &params) || streams::build(flow, &params) {
        return Ok(());
    }
    match params.kind.as_str() {
        "states" => states::build(flow, &params),
        "enums" => enums::build(flow, &params),
        "applied" => applied::build(flow, &params),
        "connected" => connected::build(flow, &params),
        "durable" => durable::build(flow, &params),
        "evolving" => evolving::build(flow, &params),
        "groups" => groups::build(flow, &params),
        "large" => large::build(flow, &params),
        "lifetimes" => lifetimes::build(flow, &params),
        "operators" | "clock" => operators::build(flow, &params),
        "operator-state" => operator_state::build(flow, &params),
        "patterns" => patterns::build(flow, &params),
        "pattern-traps" => patterns::traps(flow, &params),
        "pattern-bound" => patterns::bounded(flow, &params),
        "pattern-order" => patterns::ordered(flow, &params),
        "pattern-clock" => patterns::clock(flow, &params),
        "two-inputs" => two_inputs::build(flow, &params),
        "aligned" => two_inputs::aligned(flow, &params),
        "poison" => poison::build(flow, &params),
        "requests" => requests::build(flow, &params),
        "request-traps" => requests::traps(flow, &params),
        "outcomes" => requests::outcomes(flow, &params),
        "lookups" => lookups::build(flow, &params),
        "live-lookup" => lookups::live(flow, &params),
        "queried" => queried::build(flow, &params),
        kind => return Err(format!("there is no kind `{kind}`").into()),
    }
    Ok(())
}
