//! Process functions: state, flags, timers, side outputs, metrics.

use std::collections::BTreeMap;

use millrace::bindings::dataflow::{Head, Renewal, StateKind};
use millrace::bindings::operators;
use millrace::harness::{Harness, block, keys, round_trip, timed_block};
use millrace::prelude::*;

use crate::{Event, event, events};

static BIG: OutputTag<(i64,)> = OutputTag::new("big");

/// Does one thing for each row, as its value says.
struct Everything {
    last: ValueState<i64>,
    all: ListState<i64>,
    seen: MapState<i64, i64>,
    rows: Counter,
    highest: Gauge,
    sizes: Histogram,
    opened: u32,
}

impl Everything {
    fn new(setup: &mut Setup) -> Self {
        Everything {
            last: setup.value_state("last"),
            all: {
                let all = setup.list_state("all");
                setup.ttl(&all, Ttl::after(Duration::from_millis(1500)).on_read_and_write());
                all
            },
            seen: setup.map_state("seen"),
            rows: setup.counter("rows"),
            highest: setup.gauge("highest"),
            sizes: setup.histogram("sizes"),
            opened: 0,
        }
    }
}

impl KeyedProcess for Everything {
    type In = Event;
    type Key = i64;
    type Out = Event;

    fn open(&mut self, cx: &OpenContext) {
        self.opened = cx.parallelism();
    }

    fn process(&mut self, row: Event, cx: &mut Context<'_, Self>) {
        assert_eq!(cx.key(), row.key);
        assert_eq!(self.opened, 1);
        self.rows.add(1);
        match row.value {
            0 => self.last.clear(),
            1 => drop(self.last.get()),
            2 => self.last.set(row.key * 100),
            3 => {
                self.last.set(5);
                self.last.clear();
            }
            4 => {
                self.last.clear();
                self.last.update(|last| *last += 1);
            }
            5 => self.all.push(row.key),
            6 => self.all.clear(),
            7 => drop(self.seen.insert(row.key, 1)),
            8 => drop(self.seen.remove(&row.key)),
            9 => cx.set_event_timer(Timestamp::from_millis(90)),
            10 => cx.delete_event_timer(Timestamp::from_millis(90)),
            11 => cx.set_processing_timer(cx.now() + Duration::from_millis(11)),
            12 => cx.delete_processing_timer(Timestamp::from_millis(11)),
            13 => cx.side(&BIG, (row.key,)),
            14 => {
                self.highest.set(14.0);
                self.highest.set(15.0);
                self.sizes.record(1.0);
                self.sizes.record(2.0);
            }
            _ => cx.push(row),
        }
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        assert_eq!(cx.key(), timer.key);
        let last = self.last.take().unwrap_or(-1);
        cx.push(event(timer.key, timer.time.millis() * 1000 + last));
    }
}

fn everything(flow: &Flow) {
    let processed = events(flow).key_by(Event::FIELDS.key).process(Everything::new);
    processed.side_output(&BIG).sink("big", Discard::new());
    processed.sink("out", Discard::new());
}

fn harness() -> Harness {
    Harness::build(everything).expect("the flow is right")
}

/// Runs rows of one key each, slots as keys.
fn run(harness: &mut Harness, rows: &[(i64, i64)]) -> millrace::harness::Called {
    let slots: Vec<u32> = rows.iter().map(|row| row.0 as u32).collect();
    harness.process_keyed(0, &slots, &block(rows.iter().map(|&(key, value)| event(key, value))))
}

#[test]
fn states_are_in_the_graph() {
    let harness = harness();
    let Head::Keyed(keyed) = &harness.graph().chains[0].head else {
        panic!("the head is keyed");
    };
    assert!(!keyed.always_writes);
    let names: Vec<&str> = keyed.states.iter().map(|state| state.name.as_str()).collect();
    assert_eq!(names, ["last", "all", "seen"]);
    let ttls = keyed.states.iter().map(|state| state.ttl);
    let ttls = ttls.map(|ttl| ttl.map(|ttl| (ttl.after_ms, ttl.renewed_by)));
    assert_eq!(
        ttls.collect::<Vec<_>>(),
        [None, Some((1500, Renewal::ReadOrWrite)), None]
    );
    let kinds: Vec<StateKind> = keyed.states.iter().map(|state| state.kind).collect();
    assert!(matches!(
        kinds[..],
        [StateKind::Value, StateKind::ListState, StateKind::MapState]
    ));
}

#[test]
fn flags_say_what_happened() {
    let mut harness = harness();
    let called = run(
        &mut harness,
        &[(1, 99), (2, 2), (2, 1), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (7, 8)],
    );
    let touched: Vec<&[u8]> = called.result.touched.chunks(9).collect();
    let expect: [&[u8]; 3] = [
        &[0, 2, 1, 4, 3, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 2, 4, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 2, 5],
    ];
    assert_eq!(touched, expect);
    assert!(called.result.live_bytes.iter().all(|&bytes| bytes > 0));
    let called = run(&mut harness, &[(1, 99)]);
    assert!(called.result.touched.is_empty() && called.result.live_bytes.is_empty());
}

#[test]
fn every_key_has_its_own_state() {
    let mut harness = harness();
    run(&mut harness, &[(1, 2), (2, 2), (5000, 5), (5000, 5), (3, 7)]);
    assert_eq!(harness.export::<i64>(0, 0, &[1, 2, 3]), [Some(100), Some(200), None]);
    assert_eq!(
        harness.export::<Vec<i64>>(0, 1, &[1, 5000]),
        [None, Some(vec![5000, 5000])]
    );
    assert_eq!(
        harness.export::<BTreeMap<i64, i64>>(0, 2, &[3, 9]),
        [Some([(3, 1)].into()), None]
    );
    harness.drop_state(0, &[1, 5000]);
    assert_eq!(harness.export::<i64>(0, 0, &[1, 2]), [None, Some(200)]);
    assert_eq!(harness.export::<Vec<i64>>(0, 1, &[5000]), [None]);
}

#[test]
fn state_moves_to_another_instance() {
    let mut harness = harness();
    run(&mut harness, &[(1, 2), (2, 5), (2, 5), (3, 7)]);
    let blocks: Vec<_> = (0..3)
        .map(|state| round_trip(harness.export_block(0, state, &[1, 2, 3])))
        .collect();
    let mut other = self::harness();
    for (state, values) in blocks.iter().enumerate() {
        other.import_block(0, state as u32, &[10, 20, 30], values);
    }
    assert_eq!(other.export::<i64>(0, 0, &[10, 20, 30]), [Some(100), None, None]);
    assert_eq!(
        other.export::<Vec<i64>>(0, 1, &[10, 20, 30]),
        [None, Some(vec![2, 2]), None]
    );
    assert_eq!(other.export::<BTreeMap<i64, i64>>(0, 2, &[30]), [Some([(3, 1)].into())]);
}

#[test]
fn live_bytes_go_down_again() {
    let mut harness = harness();
    run(&mut harness, &[(1, 5), (1, 5), (1, 5)]);
    let called = run(&mut harness, &[(1, 5)]);
    assert_eq!(called.result.live_bytes, [0, 8, 0]);
    let called = run(&mut harness, &[(1, 6)]);
    assert_eq!(called.result.live_bytes, [0, -32, 0]);
}

#[test]
fn timers_are_set_and_fire() {
    let mut harness = harness();
    let called = run(&mut harness, &[(1, 2), (1, 9), (2, 10), (3, 11), (4, 12)]);
    assert_eq!(called.timers(), [(1, 90, 0), (2, 90, 1), (3, 11, 2), (4, 11, 3)]);
    let keys = keys([1i64, 7]);
    let called = harness.timers(0, operators::TimerKind::EventTime, &[1, 7], &[90, 91], &keys);
    assert_eq!(called.rows::<Event>(1), [event(1, 90_100), event(7, 90_999)]);
    assert_eq!(called.result.touched, [[5, 5], [0, 0], [0, 0]].concat());
}

#[test]
fn rows_of_timers_have_a_time() {
    let build = |flow: &Flow| everything(flow);
    let mut harness = Harness::build_with(build, |config| (config.time_in, config.time_out) = (true, true))
        .expect("the flow is right");
    harness.at.watermark = 80;
    let called = harness.process_keyed(0, &[1], &timed_block([(33, event(1, 77))]));
    assert_eq!(called.timed::<Event>(1), [(33, event(1, 77))]);
    let called = harness.timers(0, operators::TimerKind::EventTime, &[1], &[70], &keys([1i64]));
    assert_eq!(called.timed::<Event>(1)[0].0, 70);
    let called = harness.timers(0, operators::TimerKind::ProcessingTime, &[1], &[9999], &keys([1i64]));
    assert_eq!(called.timed::<Event>(1)[0].0, 80);
}

#[test]
fn side_rows_leave_by_their_own_port() {
    let mut harness = harness();
    let called = run(&mut harness, &[(1, 13), (2, 77), (3, 13)]);
    assert_eq!(called.rows::<(i64,)>(0), [(1,), (3,)]);
    assert_eq!(called.rows::<Event>(1), [event(2, 77)]);
    assert_eq!(called.result.emitted, [1]);
    let ports = &harness.graph().chains[0].ports;
    assert_eq!(ports[0].side.as_deref(), Some("big"));
    assert_eq!(ports[1].side, None);
}

#[test]
fn metrics_are_reported_once_a_call() {
    let mut harness = harness();
    run(&mut harness, &[(1, 14), (2, 77)]);
    run(&mut harness, &[(1, 77)]);
    let operator = harness.operator("process");
    assert_eq!(harness.metric(operator, "rows"), [3.0]);
    assert_eq!(harness.metric(operator, "highest"), [15.0]);
    assert_eq!(harness.metric(operator, "sizes"), [1.0, 2.0]);
}

#[test]
fn a_function_may_only_have_side_outputs() {
    let mut harness = Harness::build(|flow| {
        let processed = events(flow).key_by(Event::FIELDS.key).process(Everything::new);
        processed.side_output(&BIG).sink("big", Discard::new());
    })
    .expect("the flow is right");
    let called = run(&mut harness, &[(1, 13), (2, 77)]);
    assert_eq!(called.rows::<(i64,)>(0), [(1,)]);
    assert_eq!(called.result.outputs.len(), 1);
    assert_eq!(harness.graph().chains[0].ports.len(), 1);
}

#[test]
fn mistakes_are_named() {
    let twice = Harness::build(|flow| {
        let make = |setup: &mut Setup| {
            setup.list_state::<i64>("last");
            Everything::new(setup)
        };
        events(flow)
            .key_by(Event::FIELDS.key)
            .process(make)
            .sink("out", Discard::new());
    });
    let error = twice.expect_err("a name is used twice");
    assert_eq!(error, "operator `process`: its state `last` is declared twice");

    let typed = Harness::build(|flow| {
        static OTHER: OutputTag<Event> = OutputTag::new("big");
        let processed = events(flow).key_by(Event::FIELDS.key).process(Everything::new);
        processed.side_output(&BIG).sink("a", Discard::new());
        processed.side_output(&OTHER).sink("b", Discard::new());
    });
    assert_eq!(
        typed.expect_err("two types"),
        "operator `process`: its side output `big` is taken with two types of rows"
    );
}
