//! What goes wrong in process functions and windows.

use millrace::prelude::*;

use crate::{Item, Number, Params, items, timed};

/// Which call of a process function goes wrong, and how.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Open,
    Process,
    Timer,
    /// Sets one timer, and puts nothing out but there.
    Later,
    /// Keeps everything.
    Hoard,
    /// Sets a thousand timers per row.
    Timers,
    /// Each timer sets the next one.
    Periodic,
    /// Uses state where there is no key.
    StateInOpen,
}

struct Watch {
    fault: Fault,
    row: i64,
    count: ValueState<i64>,
    hoard: ListState<String>,
}

impl KeyedProcess for Watch {
    type In = Item;
    type Key = i64;
    type Out = Number;

    fn open(&mut self, cx: &OpenContext) {
        match self.fault {
            Fault::Open => panic!("subtask {} does not open", cx.subtask()),
            Fault::StateInOpen => self.count.set(1),
            _ => {}
        }
    }

    fn process(&mut self, item: Item, cx: &mut Context<'_, Self>) {
        match self.fault {
            Fault::Process if item.id == self.row => panic!("row {} is not welcome", item.id),
            Fault::Later if item.id != self.row => {}
            Fault::Timer | Fault::Later if item.id == self.row => {
                cx.set_event_timer(Timestamp::from_millis(item.time + 50))
            }
            Fault::Periodic if item.id == self.row => cx.set_event_timer(Timestamp::from_millis(item.time)),
            Fault::Hoard => self.hoard.push("x".repeat(4_000)),
            Fault::Timers => {
                for step in 1..=1_000 {
                    cx.set_event_timer(Timestamp::from_millis(item.time * 1_000 + step));
                }
            }
            _ => {
                self.count.update(|count| *count += 1);
                cx.push(Number { value: item.id });
            }
        }
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut Context<'_, Self>) {
        if self.fault == Fault::Timer {
            panic!("the timer of key {} is too much", timer.key);
        }
        if self.fault == Fault::Periodic {
            cx.set_event_timer(timer.time + Duration::from_millis(1));
            return;
        }
        cx.push(Number { value: 1 });
    }
}

fn watch(items: Stream<Rows<Item>>, params: &Params, fault: Fault) {
    let row = params.row;
    items
        .key_by(Item::FIELDS.key)
        .process(move |setup| Watch {
            fault,
            row,
            count: setup.value_state("count"),
            hoard: setup.list_state("hoard"),
        })
        .name("watch")
        .filter(|number| number.value >= 0)
        .name("after")
        .sink("out", Discard::new().sum("value"));
}

struct Meters {
    counters: Vec<Counter>,
}

impl KeyedProcess for Meters {
    type In = Item;
    type Key = i64;
    type Out = Number;

    fn process(&mut self, item: Item, cx: &mut Context<'_, Self>) {
        for counter in &self.counters {
            counter.add(1);
        }
        cx.push(Number { value: item.id });
    }
}

fn metrics(flow: &Flow, params: &Params, count: usize) {
    items(flow, params)
        .key_by(Item::FIELDS.key)
        .process(move |setup| Meters {
            counters: (0..count)
                .map(|index| setup.counter(&format!("meter {index}")))
                .collect(),
        })
        .name("meters")
        .sink("out", Discard::new().sum("value"));
}

/// A sum per window, which panics on the row where `add`, or in the window of the row where `finish`.
fn window(flow: &Flow, params: &Params, add: bool) {
    let row = params.row;
    timed(flow, params)
        .key_by(Item::FIELDS.key)
        .window(Tumbling::of(Duration::from_millis(100)))
        .aggregate_with(
            || 0i64,
            move |sum: &mut i64, item: Item| {
                assert!(!add || item.id != row, "row {} does not add up", item.id);
                *sum += item.id;
            },
            |sum: &mut i64, other: &i64| *sum += other,
            move |_key: i64, window: Window, sum: &i64| {
                let within = window.start.millis() <= row && row < window.end.millis();
                assert!(add || !within, "no end for the window at {}", window.start.millis());
                Number { value: *sum }
            },
        )
        .name("sums")
        .sink("out", Discard::new().sum("value"));
}

/// Adds the pipeline if the kind is one of these.
pub(crate) fn build(flow: &Flow, params: &Params) -> bool {
    match params.kind.as_str() {
        "keyed-fine" => watch(items(flow, params), params, Fault::None),
        "open" => watch(items(flow, params), params, Fault::Open),
        "state-in-open" => watch(items(flow, params), params, Fault::StateInOpen),
        "process" => watch(items(flow, params), params, Fault::Process),
        "timer" => watch(timed(flow, params), params, Fault::Timer),
        "later" => watch(items(flow, params), params, Fault::Later),
        "hoard" => watch(items(flow, params), params, Fault::Hoard),
        "periodic" => watch(timed(flow, params), params, Fault::Periodic),
        "timers" => watch(timed(flow, params), params, Fault::Timers),
        "metrics" => metrics(flow, params, 5_000),
        "some-metrics" => metrics(flow, params, 100),
        "add" => window(flow, params, true),
        "finish" => window(flow, params, false),
        "sum-overflow" => {
            items(flow, params)
                .map(|item: Item| Item {
                    key: 0,
                    id: i64::MAX / 100,
                    ..item
                })
                .key_by(Item::FIELDS.key)
                .sum(Item::FIELDS.id)
                .name("sum")
                .sink("out", Discard::new());
        }
        _ => return false,
    }
    true
}
