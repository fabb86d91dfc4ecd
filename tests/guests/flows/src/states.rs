//! One function with every kind of state, and one window, for export, import and drop.

use millrace::prelude::*;

use super::{Event, Params, generated};

#[derive(Record, Clone, Debug)]
struct Nested {
    name: String,
    at: Option<i64>,
}

struct States {
    value: ValueState<i64>,
    text: ValueState<String>,
    nested: ValueState<Nested>,
    list: ListState<String>,
    map: MapState<String, i64>,
}

/// What the states hold, told by the function.
#[derive(Record, Clone, Debug)]
struct Told {
    key: i64,
    value: i64,
    text: String,
    items: i64,
    entries: i64,
}

impl KeyedProcess for States {
    type In = Event;
    type Key = i64;
    type Out = Told;

    fn process(&mut self, event: Event, cx: &mut Context<'_, Self>) {
        // A negative value forgets.
        if event.value < 0 {
            self.value.clear();
            self.text.clear();
            self.nested.clear();
            self.list.clear();
            self.map.clear();
        } else {
            self.value.update(|value| *value += event.value);
            self.text.set(format!("text {}", event.value));
            self.nested.set(Nested {
                name: "x".repeat(event.value as usize % 5),
                at: (event.value % 2 == 0).then_some(event.time),
            });
            self.list.push(format!("item {}", event.value));
            self.map.insert(format!("entry {}", event.value % 3), event.value);
        }
        cx.push(Told {
            key: cx.key(),
            value: self.value.get().unwrap_or(-1),
            text: self.text.get().unwrap_or_default(),
            items: self.list.len() as i64,
            entries: self.map.len() as i64,
        });
    }
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let events = generated(flow, params);
    events
        .clone()
        .key_by(Event::FIELDS.key)
        .process(|setup| States {
            value: setup.value_state("value"),
            text: setup.value_state("text"),
            nested: setup.value_state("nested"),
            list: setup.list_state("list"),
            map: setup.map_state("map"),
        })
        .name("states")
        .sink("told", Discard::new());
    events
        .watermarks(Watermarks::monotonic(Event::FIELDS.time))
        .key_by(Event::FIELDS.key)
        .window(Sliding::of(Duration::from_millis(10), Duration::from_millis(5)))
        .aggregate_with(
            Vec::new,
            |all: &mut Vec<i64>, event: Event| all.push(event.value),
            |all: &mut Vec<i64>, other: &Vec<i64>| all.extend(other),
            |key: i64, window: Window, all: &Vec<i64>| Told {
                key,
                value: all.iter().sum(),
                text: window.start.millis().to_string(),
                items: all.len() as i64,
                entries: 0,
            },
        )
        .name("window")
        .sink("windows", Discard::new());
}
