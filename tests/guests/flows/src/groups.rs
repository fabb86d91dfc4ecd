//! Where operators run, if the parameter `groups` says so.
//!
//! `counts:slow,sink:out:1` has the operator that a pipeline calls `counts` run in the slot-sharing group `slow`, and `sink` in
//! `out` with one subtask. Others that could be given a group are in `default`; the rest goes where its inputs are.

use millrace::prelude::*;
use millrace::stream::SinkOperator;

use super::{Event, Params, generated};

/// The group of an operator, and its subtasks if they are said.
fn place<'p>(params: &'p Params, operator: &str) -> (&'p str, Option<u32>) {
    for item in params.groups.split(',') {
        let mut parts = item.split(':');
        if parts.next() == Some(operator) {
            let group = parts.next().expect("operator:group");
            return (group, parts.next().map(|subtasks| subtasks.parse().expect("a number")));
        }
    }
    ("default", None)
}

/// The stream with its last operator where it is to run.
pub(crate) fn placed<C: Chain>(stream: Stream<C>, params: &Params, operator: &str) -> Stream<C::Alone> {
    let (group, subtasks) = place(params, operator);
    let stream = match subtasks {
        Some(subtasks) => stream.parallelism(subtasks),
        None => stream,
    };
    stream.slot_sharing_group(group)
}

/// The same of a sink.
pub(crate) fn placed_sink(sink: SinkOperator, params: &Params) {
    let (group, subtasks) = place(params, "sink");
    let sink = match subtasks {
        Some(subtasks) => sink.parallelism(subtasks),
        None => sink,
    };
    sink.slot_sharing_group(group);
}

/// Functions that would be one chain, in groups of their own.
pub(crate) fn build(flow: &Flow, params: &Params) {
    generated(flow, params)
        .slot_sharing_group("in")
        .map(|event: Event| event)
        .name("first")
        .filter(|event| event.value >= 0)
        .name("second")
        .slot_sharing_group("middle")
        .parallelism(3)
        .map(|event: Event| event)
        .name("third")
        .filter(|event| event.value >= 0)
        .name("fourth")
        .slot_sharing_group("in")
        .key_by(|event: &Event| event.key % 7)
        .count()
        .uid("counts")
        .sink("out", Discard::new().sum("count").checksum())
        .slot_sharing_group("out");
}
