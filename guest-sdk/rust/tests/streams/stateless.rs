//! Functions without state: what they put out, what they count, how large outputs leave.

use millrace::harness::{Harness, block, timed_block};
use millrace::prelude::*;

use crate::{Event, Line, Word, event, events, lines, text_block, word};

#[test]
fn map_and_filter_are_one_chain() {
    let mut harness = Harness::build(|flow| {
        events(flow)
            .map(|event| Event {
                value: event.value * 31 + 7,
                ..event
            })
            .filter(|event| event.value % 3 != 0)
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    assert_eq!(harness.graph().chains.len(), 1);
    assert_eq!(harness.graph().chains[0].operators, [1, 2]);

    let called = harness.process(0, &block((0..1000).map(|n| event(n, n))));
    let expect: Vec<Event> = (0..1000)
        .map(|n| event(n, n * 31 + 7))
        .filter(|event| event.value % 3 != 0)
        .collect();
    assert_eq!(called.rows::<Event>(0), expect);
    assert_eq!(called.result.emitted, [1000, expect.len() as u64]);
}

#[test]
fn rows_borrow_from_the_block() {
    let mut harness = Harness::build(|flow| {
        lines(flow)
            .filter(|line| !line.text.is_empty())
            .flat_map(|line, out: &mut Out<'_, Word>| {
                for part in line.text.split(' ') {
                    out.push(word(part, 1));
                }
            })
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let called = harness.process(0, &text_block(&["to be", "", "or not"]));
    let words = ["to", "be", "or", "not"].map(|text| word(text, 1));
    assert_eq!(called.rows::<Word>(0), words);
    assert_eq!(called.result.emitted, [2, 4]);
}

#[test]
fn rows_put_out_may_borrow_from_the_function() {
    let mut harness = Harness::build(|flow| {
        lines(flow)
            .flat_map(|line, out: &mut Out<'_, Line<'static>>| {
                let upper = line.text.to_uppercase();
                upper.split(' ').for_each(|text| out.push(Line { text }));
            })
            .map(|line| word(line.text, 0))
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let called = harness.process(0, &text_block(&["to be"]));
    assert_eq!(called.rows::<Word>(0), [word("TO", 0), word("BE", 0)]);
    assert_eq!(called.result.emitted, [2, 2]);
}

#[test]
fn inspect_lets_rows_pass() {
    let mut harness = Harness::build(|flow| {
        events(flow)
            .inspect(|event| millrace::info!("saw {}", event.value))
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let called = harness.process(0, &block([event(1, 2)]));
    assert_eq!(called.rows::<Event>(0), [event(1, 2)]);
    assert_eq!(harness.lines().len(), 1);
    assert_eq!(harness.lines()[0].1, "saw 2");
}

#[test]
fn a_million_rows_of_one_leave_in_blocks() {
    const ROWS: i64 = 1_000_000;
    let mut harness = Harness::build(|flow| {
        events(flow)
            .flat_map(|event, out: &mut Out<'_, Event>| {
                for value in 0..event.value {
                    out.push(Event { value, ..event });
                }
            })
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let called = harness.process(0, &block([event(1, ROWS)]));
    assert_eq!(called.result.emitted, [ROWS as u64]);
    assert!(called.staged.len() >= 15, "{} blocks were staged", called.staged.len());
    for (_, staged) in &called.staged {
        assert!(staged.rows <= 65_536);
        assert!(staged.data.len() <= (1 << 20) + (1 << 16));
    }
    let rows = called.rows::<Event>(0);
    assert_eq!(rows.len(), ROWS as usize);
    assert!(rows.iter().zip(0..).all(|(row, value)| row.value == value));
}

#[test]
fn wide_rows_leave_by_their_bytes() {
    let mut harness = Harness::build(|flow| {
        events(flow)
            .flat_map(|event, out: &mut Out<'_, Word>| {
                let text = "x".repeat(1000);
                (0..event.value).for_each(|n| out.push(word(&text, n)));
            })
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let called = harness.process(0, &block([event(1, 5000)]));
    assert!(
        (3..=5).contains(&called.staged.len()),
        "{} blocks were staged",
        called.staged.len()
    );
    assert!(called.rows::<Word>(0).iter().zip(0..).all(|(row, n)| row.n == n));
}

#[test]
fn event_time_goes_with_the_rows() {
    let mut harness = Harness::build_with(
        |flow| {
            events(flow)
                .filter(|event| event.value > 1)
                .flat_map(|event, out: &mut Out<'_, Event>| {
                    out.push(event.clone());
                    out.push(event);
                })
                .sink("out", Discard::new());
        },
        |config| (config.time_in, config.time_out) = (true, true),
    )
    .expect("the flow is right");
    let called = harness.process(0, &timed_block((1..4).map(|n| (100 * n, event(n, n)))));
    let expect: Vec<(i64, Event)> = [
        (200, event(2, 2)),
        (200, event(2, 2)),
        (300, event(3, 3)),
        (300, event(3, 3)),
    ]
    .into();
    assert_eq!(called.timed::<Event>(0), expect);
}

#[test]
fn careful_calls_report_positions() {
    let mut harness = Harness::build_with(
        |flow| {
            events(flow)
                .filter(|event| event.value > 1)
                .map(|event| event)
                .sink("out", Discard::new());
        },
        |config| config.careful = true,
    )
    .expect("the flow is right");
    harness.process(0, &block([event(1, 1), event(2, 2)]));
    assert_eq!(harness.positions(), [(1, 0), (1, 1), (2, 1)]);
}

#[test]
fn a_panic_knows_where_it_was() {
    let mut harness = Harness::build(|flow| {
        events(flow)
            .map(|event| event)
            .map(|event| Event {
                value: 10 / event.value,
                ..event
            })
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let rows = block([event(1, 1), event(2, 0)]);
    let call = std::panic::AssertUnwindSafe(|| harness.process(0, &rows));
    let failed = std::panic::catch_unwind(call).is_err();
    assert!(failed);
    assert_eq!(millrace::harness::position(), (Some(2), Some(1)));
}

#[test]
fn empty_blocks_put_nothing_out() {
    let mut harness = Harness::build(|flow| {
        events(flow).map(|event| event).sink("out", Discard::new());
    })
    .expect("the flow is right");
    let called = harness.process(0, &block(Vec::<Event>::new()));
    assert!(called.result.outputs.is_empty());
    assert_eq!(called.result.emitted, [0]);
}
