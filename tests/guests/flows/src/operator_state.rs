//! Lists of subtasks: rows wait in them, and come out once each.

use millrace::prelude::*;

use super::operators::Outputs;
use super::{Event, Params};

/// Puts rows out some at a time.
struct Batches {
    waiting: ListState<Event>,
    size: usize,
}

impl StatefulProcess for Batches {
    type In = Event;
    type Out = Event;

    fn process(&mut self, event: Event, out: &mut Out<'_, Event>) {
        self.waiting.push(event);
        if self.waiting.len() >= self.size {
            self.finish(out);
        }
    }

    fn finish(&mut self, out: &mut Out<'_, Event>) {
        self.waiting.take().into_iter().for_each(|event| out.push(event));
    }
}

/// Keeps every value to the end.
struct Seen {
    seen: UnionState<Event>,
}

impl StatefulProcess for Seen {
    type In = Event;
    type Out = Event;

    fn process(&mut self, event: Event, _out: &mut Out<'_, Event>) {
        self.seen.own().push(event);
    }

    fn finish(&mut self, out: &mut Out<'_, Event>) {
        self.seen.own().take().into_iter().for_each(|event| out.push(event));
    }
}

/// What a subtask has in the end.
#[derive(Record, Clone, Debug)]
struct Held {
    subtask: u32,
    /// Items of all subtasks when the job went on.
    restored: i64,
    restored_sum: i64,
    own: i64,
    own_sum: i64,
}

/// Tells in the end what there is, and traps at a value.
struct Count {
    subtask: u32,
    trap: i64,
    /// Of a second version, which keeps text.
    seen: UnionState<i64>,
}

impl StatefulProcess for Count {
    type In = Event;
    type Out = Held;

    fn open(&mut self, cx: &OpenContext) {
        self.subtask = cx.subtask();
    }

    fn process(&mut self, event: Event, _out: &mut Out<'_, Held>) {
        self.seen.own().push(event.value);
        assert_ne!(event.value, self.trap, "a bad row");
    }

    fn finish(&mut self, out: &mut Out<'_, Held>) {
        let restored = self.seen.restored();
        out.push(Held {
            subtask: self.subtask,
            restored: restored.len() as i64,
            restored_sum: restored.iter().sum(),
            own: self.seen.own().len() as i64,
            own_sum: self.seen.own().with(|values| values.iter().sum()),
        });
    }
}

/// The same with items of another type.
struct CountText {
    subtask: u32,
    seen: UnionState<String>,
}

impl StatefulProcess for CountText {
    type In = Event;
    type Out = Held;

    fn open(&mut self, cx: &OpenContext) {
        self.subtask = cx.subtask();
    }

    fn process(&mut self, event: Event, _out: &mut Out<'_, Held>) {
        self.seen.own().push(event.value.to_string());
    }

    fn finish(&mut self, out: &mut Out<'_, Held>) {
        let sum = |values: &[String]| values.iter().filter_map(|value| value.parse::<i64>().ok()).sum();
        out.push(Held {
            subtask: self.subtask,
            restored: self.seen.restored().len() as i64,
            restored_sum: self.seen.with_restored(sum),
            own: self.seen.own().len() as i64,
            own_sum: self.seen.own().with(sum),
        });
    }
}

/// Of rows that go anywhere.
pub(crate) fn lists(events: &Stream<Rows<Event>>, outputs: &Outputs<'_>) {
    let batches = |setup: &mut OperatorSetup| Batches {
        waiting: setup.list_state("waiting"),
        size: 500,
    };
    let seen = |setup: &mut OperatorSetup| Seen {
        seen: setup.union_state("seen"),
    };
    outputs.put("list", events.clone().shuffle().process_with_state(batches));
    outputs.put("union-list", events.clone().rebalance().process_with_state(seen));
}

/// One list, in versions: `text` converts its items, `changed` has others and says nothing of it.
pub(crate) fn build(flow: &Flow, params: &Params) {
    let mut generator = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", "mix % 50")
        .column("value", "index")
        .column("time", "index");
    if params.rate > 0 {
        generator = generator.rate(params.rate as u64);
    }
    let events = flow.source("events", generator).uid("events").rebalance();
    let trap = params.trap;
    let outputs = Outputs(&params.output);
    match params.version.as_str() {
        "1" => outputs.put(
            "held",
            events
                .process_with_state(|setup| Count {
                    subtask: 0,
                    trap,
                    seen: setup.union_state("seen"),
                })
                .uid("count"),
        ),
        version => outputs.put(
            "held",
            events
                .process_with_state(|setup| {
                    let seen = setup.union_state("seen");
                    if version == "text" {
                        setup.migrate(&seen, |old: Vec<i64>| old.iter().map(i64::to_string).collect());
                    }
                    CountText { subtask: 0, seen }
                })
                .uid("count"),
        ),
    }
}
