//! Functions that refuse rows: a refused row leaves nothing behind.

use millrace::harness::{Harness, block};
use millrace::prelude::*;

use crate::{Event, event, events};

static ODD: OutputTag<Event> = OutputTag::new("odd");

/// Refuses negative values; puts a row and its double out.
fn fragile(flow: &Flow) {
    let rows = events(flow)
        .flat_map(|event, out: &mut Out<'_, Event>| {
            if event.value % 2 != 0 {
                out.side(&ODD, event.clone());
            }
            out.push(event.clone());
            out.push(Event {
                value: event.value + 1,
                ..event
            });
        })
        .name("double")
        .try_map(|event| {
            if event.value < 0 {
                Err(format!("{} is negative", event.value))
            } else if event.value == 100 {
                Err("too much".to_owned())
            } else {
                Ok(event)
            }
        })
        .name("check")
        .on_reject(Reject::Skip)
        .filter(|event| event.value != 7);
    rows.side_output(&ODD).sink("odd", Discard::new());
    rows.sink("out", Discard::new());
}

#[test]
fn a_refused_row_leaves_nothing_behind() {
    let mut harness = Harness::build(fragile).expect("the flow is right");
    // 99 is odd and its second row is refused: its first and its side row go as well.
    let called = harness.process(
        0,
        &block([event(0, 1), event(1, -5), event(2, 99), event(3, 6), event(4, 3)]),
    );
    let main: Vec<i64> = called.rows::<Event>(1).iter().map(|event| event.value).collect();
    assert_eq!(main, [1, 2, 6, 3, 4]);
    let odd: Vec<i64> = called.rows::<Event>(0).iter().map(|event| event.value).collect();
    assert_eq!(odd, [1, 3]);
    let check = harness.operator("check");
    let expect = [
        (1, check, "-5 is negative".to_owned()),
        (2, check, "too much".to_owned()),
    ];
    assert_eq!(called.rejections(), expect);
    assert_eq!(called.result.emitted, [6, 6, 5]);
}

#[test]
fn every_entry_may_be_refused() {
    let mut harness = Harness::build(fragile).expect("the flow is right");
    let called = harness.process(0, &block((0..1000).map(|n| event(n, -3 - n))));
    assert!(called.result.outputs.is_empty());
    assert_eq!(called.rejections().len(), 1000);
    assert_eq!(called.result.emitted, [0, 0, 0]);
}

#[test]
fn large_outputs_of_a_refused_row_do_not_leave() {
    let mut harness = Harness::build(|flow| {
        events(flow)
            .try_flat_map(|event, out: &mut Out<'_, Event>| {
                for value in 0..200_000 {
                    out.push(Event { value, ..event });
                }
                if event.value < 0 { Err("negative") } else { Ok(()) }
            })
            .on_reject(Reject::Skip)
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let called = harness.process(0, &block([event(1, 1), event(2, -1), event(3, 1)]));
    let rows = called.rows::<Event>(0);
    assert_eq!(rows.len(), 400_000);
    assert!(rows.iter().all(|row| row.key != 2));
    assert_eq!(
        called.staged.len(),
        1,
        "the first entry's rows left when the second began"
    );
    assert_eq!(called.result.emitted, [400_000]);
}

#[test]
fn policies_are_in_the_graph() {
    use millrace::bindings::dataflow::{OperatorKind, RejectPolicy};
    let harness = Harness::build(|flow| {
        let text = Files::csv::<Event>("in.csv").on_reject(Reject::Skip);
        flow.source("in", text)
            .try_map(|event| {
                event
                    .value
                    .checked_abs()
                    .map(|value| Event { value, ..event })
                    .ok_or("too small")
            })
            .on_reject(Reject::dead_letter("bad.ndjson"))
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let operators = &harness.graph().operators;
    let OperatorKind::Source(source) = &operators[0].kind else {
        panic!("the first operator is the source");
    };
    assert!(matches!(source.on_reject, RejectPolicy::Skip));
    let OperatorKind::Function(function) = &operators[1].kind else {
        panic!("the second operator is the function");
    };
    assert!(matches!(&function.on_reject, RejectPolicy::DeadLetter(path) if path == "bad.ndjson"));
}

#[test]
fn a_policy_needs_somebody_who_refuses() {
    let built = Harness::build(|flow| {
        events(flow)
            .map(|event| event)
            .name("same")
            .on_reject(Reject::Skip)
            .sink("out", Discard::new());
    });
    let error = built.expect_err("map refuses nothing");
    assert_eq!(
        error,
        "operator `same` (`map`): it refuses no rows: `on_reject` belongs to sources, `try_map` and `try_flat_map`"
    );
}

#[test]
fn a_chain_with_state_ends_before_a_function_that_refuses() {
    let harness = Harness::build(|flow| {
        events(flow)
            .key_by(Event::FIELDS.key)
            .sum(Event::FIELDS.value)
            .map(|event| event)
            .try_map(|event| if event.value < 0 { Err("negative") } else { Ok(event) })
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let chains: Vec<_> = harness
        .graph()
        .chains
        .iter()
        .map(|chain| chain.operators.clone())
        .collect();
    assert_eq!(chains, [vec![1, 2], vec![3]]);
}
