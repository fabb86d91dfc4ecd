//! Slot-sharing groups: which operators name one, and where chains end because of it.

use millrace::bindings::dataflow::{Graph, OperatorKind};
use millrace::harness::{Harness, block};
use millrace::prelude::*;
use millrace::testing::{self, Options};

use crate::{Event, Word, event, events, word};

/// Operators by name: the group that each names, and its chain.
fn named(graph: &Graph) -> Vec<(&str, Option<&str>, Option<u32>)> {
    let operators = graph.operators.iter();
    let named = operators.map(|operator| {
        let chain = match &operator.kind {
            OperatorKind::Function(function) => Some(function.chain),
            _ => None,
        };
        (operator.name.as_str(), operator.slot_sharing_group.as_deref(), chain)
    });
    named.collect()
}

fn members(graph: &Graph, chain: u32) -> Vec<&str> {
    let operators = graph.chains[chain as usize].operators.iter();
    operators
        .map(|operator| graph.operators[*operator as usize].name.as_str())
        .collect()
}

#[test]
fn a_function_in_a_group_begins_a_chain() {
    let mut harness = Harness::build(|flow| {
        events(flow)
            .slot_sharing_group("in")
            .map(|event| Event {
                value: event.value + 1,
                ..event
            })
            .name("first")
            .filter(|event| event.value > 2)
            .name("second")
            .parallelism(3)
            .slot_sharing_group("slow")
            .uid("second")
            .map(|event| word(&format!("w{}", event.key), event.value))
            .name("third")
            .sink("out", Discard::new())
            .slot_sharing_group("out");
    })
    .expect("the flow is right");
    let graph = harness.graph();
    assert_eq!(
        named(graph),
        [
            ("events", Some("in"), None),
            ("first", None, Some(0)),
            ("second", Some("slow"), Some(1)),
            ("third", None, Some(1)),
            ("out", Some("out"), None)
        ]
    );
    assert_eq!(
        (members(graph, 0), members(graph, 1)),
        (vec!["first"], vec!["second", "third"])
    );
    // What was said before and behind is of the function.
    let parallelism: Vec<_> = graph.operators.iter().map(|operator| operator.parallelism).collect();
    assert_eq!(parallelism, [None, None, Some(3), Some(3), None]);
    assert_eq!(graph.operators[2].uid.as_deref(), Some("second"));
    let edges: Vec<_> = graph
        .edges
        .iter()
        .map(|edge| (edge.from_operator, edge.to_operator))
        .collect();
    assert_eq!(edges, [(0, 1), (1, 2), (3, 4)]);
    let passed = harness.process(0, &block([event(1, 1), event(2, 2)])).rows::<Event>(0);
    assert_eq!(passed, [event(1, 2), event(2, 3)]);
    let called = harness.process(1, &block(passed));
    assert_eq!(called.rows::<Word>(0), [word("w2", 3)]);
    assert_eq!(called.result.emitted, [1, 1]);
}

#[test]
fn what_begins_a_chain_anyway_stays_as_it_is() {
    let build = |group: Option<&'static str>| {
        Harness::build(move |flow| {
            let counts = events(flow).key_by(|event: &Event| event.key % 3).count().uid("counts");
            let counts = match group {
                Some(group) => counts.slot_sharing_group(group),
                None => counts.slot_sharing_group("default"),
            };
            counts.filter(|count| count.count > 1).sink("out", Discard::new());
        })
        .expect("the flow is right")
    };
    let (plain, grouped) = (build(None), build(Some("heavy")));
    let shape = |harness: &Harness| {
        let chains = 0..harness.graph().chains.len() as u32;
        chains
            .map(|chain| members(harness.graph(), chain).join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(shape(&plain), ["key_by", "count filter"]);
    assert_eq!(shape(&grouped), shape(&plain));
    assert_eq!(
        grouped.graph().operators[2].slot_sharing_group.as_deref(),
        Some("heavy")
    );
}

/// A closure for the key is computed where the function is, and not by one more function: state stays where it is.
#[test]
fn a_group_adds_no_operator() {
    let harness = Harness::build(|flow| {
        events(flow)
            .map(|event| event)
            .filter(|event| event.value > 0)
            .slot_sharing_group("a")
            .key_by(|event: &Event| event.key % 3)
            .count()
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let names: Vec<_> = named(harness.graph()).into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(names, ["events", "map", "filter", "count", "out"]);
    assert!(harness.graph().chains[1].ports[0].computed_key.is_some());
}

#[test]
fn helpers_of_a_function_are_in_its_group() {
    let harness = Harness::build(|flow| {
        events(flow)
            .async_map(
                Http::ordered().origin("https://scores.example.org"),
                |event| Request::get(format!("https://scores.example.org/{}", event.key)),
                |event, _| event,
            )
            .name("scored")
            .slot_sharing_group("requests")
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let groups: Vec<_> = named(harness.graph())
        .into_iter()
        .map(|(name, group, _)| (name, group))
        .collect();
    assert_eq!(groups[2], ("scored requests", Some("requests")));
    assert_eq!(groups[3], ("scored", Some("requests")));
}

#[test]
fn side_outputs_of_what_is_before_stay() {
    static NEGATIVE: OutputTag<Event> = OutputTag::new("negative");
    let mut harness = Harness::build(|flow| {
        let split = events(flow).flat_map(|event, out: &mut Out<'_, Event>| match event.value < 0 {
            true => out.side(&NEGATIVE, event),
            false => out.push(event),
        });
        let negative = split.side_output(&NEGATIVE);
        let kept = split.filter(|event| event.value != 7).slot_sharing_group("b");
        negative.sink("negative", Discard::new());
        kept.sink("kept", Discard::new());
    })
    .expect("the flow is right");
    let called = harness.process(0, &block([event(1, -1), event(2, 7), event(3, 8)]));
    assert_eq!(called.rows::<Event>(0), [event(1, -1)]);
    let passed = called.rows::<Event>(1);
    assert_eq!(passed, [event(2, 7), event(3, 8)]);
    assert_eq!(harness.process(1, &block(passed)).rows::<Event>(0), [event(3, 8)]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |build: fn(&Flow), parts: &[&str]| {
        let error = Harness::build(build).expect_err("it makes no sense");
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    refused(
        |flow| {
            drop(
                events(flow)
                    .slot_sharing_group("")
                    .sink("out", Discard::new())
                    .slot_sharing_group(" "),
            )
        },
        &["`events`", "`out`", "without a name"],
    );
    refused(
        |flow| {
            let other = flow.source("more", Files::csv::<Event>("more.csv"));
            let both = events(flow).union(other).slot_sharing_group("a");
            both.sink("out", Discard::new());
        },
        &["a union is no operator and has no slot-sharing group"],
    );
    refused(
        |flow| {
            let both = events(flow)
                .map(|event| event)
                .name("first")
                .slot_sharing_group("a")
                .filter(|event| event.value > 0)
                .name("second")
                .share();
            both.slot_sharing_group("b").sink("out", Discard::new());
        },
        &["`first`", "`a`", "`second`", "`b`", "fused"],
    );
    refused(
        |flow| {
            static TAG: OutputTag<Event> = OutputTag::new("side");
            let split = events(flow)
                .filter(|event| event.value > 0)
                .flat_map(|event, out: &mut Out<'_, Event>| out.push(event))
                .name("split");
            split.side_output(&TAG).sink("side", Discard::new());
            split.slot_sharing_group("a").sink("out", Discard::new());
        },
        &["`split`", "behind its side output"],
    );
}

/// In a test all runs in one thread, whatever groups there are.
#[test]
fn tests_run_pipelines_with_groups() {
    let build = |group: &'static str| {
        move |flow: &Flow| {
            testing::source::<Event>(flow, "events")
                .slot_sharing_group("in")
                .map(|event| event)
                .filter(|event| event.value > 0)
                .slot_sharing_group(group)
                .key_by(Event::FIELDS.key)
                .sum(Event::FIELDS.value)
                .uid("sums")
                .sink("out", Discard::new())
                .slot_sharing_group("out");
        }
    };
    let mut job = Options::new().parallelism(2).start(build("a"));
    job.push("events", event(1, 2));
    job.push("events", event(1, -5));
    let snapshot = job.snapshot();
    let mut job = Options::new().parallelism(3).restore(&snapshot, build("b"));
    job.push("events", event(1, 4));
    assert_eq!(job.rows::<Event>("out"), [event(1, 6)]);
}
