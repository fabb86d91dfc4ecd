//! What every key has gathered goes out whenever somebody says so.

use millrace::prelude::*;

use super::operators::Outputs;
use super::{Event, Params};

const FAR_MS: i64 = 4_000_000_000_000;

/// Sums since the last order; what is left goes out in the end.
struct Gather {
    sum: ValueState<i64>,
    orders: BroadcastState<i64, i64>,
    /// The order that is being carried out.
    order: i64,
}

impl KeyedBroadcastProcess for Gather {
    type In = Event;
    type Broadcast = Event;
    type Key = i64;
    type Out = Event;
    const APPLIES: bool = true;

    fn process(&mut self, row: Event, cx: &mut ReadOnlyContext<'_, Self>) {
        self.sum.update(|sum| *sum += row.value);
        cx.set_event_timer(Timestamp::from_millis(FAR_MS));
    }

    fn process_broadcast(&mut self, row: Event, cx: &mut BroadcastContext<'_, Self>) {
        let before = cx.writable(&self.orders).insert(row.value, row.time);
        assert_eq!(before, None, "each order comes once");
        self.order = row.value;
        cx.apply_to_every_key();
    }

    fn apply(&mut self, key: i64, cx: &mut ReadOnlyContext<'_, Self>) {
        assert!(self.orders.get(&self.order).is_some());
        if let Some(value) = self.sum.take() {
            let time = self.order;
            cx.push(Event { key, value, time });
        }
    }

    fn on_timer(&mut self, timer: Timer<i64>, cx: &mut ReadOnlyContext<'_, Self>) {
        if let Some(value) = self.sum.take() {
            let key = timer.key;
            cx.push(Event { key, value, time: -1 });
        }
    }
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let events = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", "mix % 1500")
        .column("value", "index")
        .column("time", "index");
    let orders = Generator::<Event>::new()
        .rows(params.rows as u64 / 100)
        .rate(40)
        .column("key", "0")
        .column("value", "index")
        .column("time", "index");
    let monotonic = || Watermarks::monotonic(Event::FIELDS.time);
    let orders = flow.source("orders", orders).watermarks(monotonic());
    let gathered = flow
        .source("events", events)
        .watermarks(monotonic())
        .key_by(Event::FIELDS.key)
        .connect_broadcast(orders)
        .process(|setup| Gather {
            sum: setup.value_state("sum"),
            orders: setup.broadcast_state("orders"),
            order: -1,
        })
        .uid("gather");
    Outputs(&params.output).put("gathered", gathered);
}
