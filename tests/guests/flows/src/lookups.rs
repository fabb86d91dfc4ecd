//! Rows that are looked up in tables: in memory, cached and uncached, with windows behind; and in a table that changes.

use millrace::prelude::*;

use super::operators::Outputs;
use super::{Event, Params};

/// A row of a table. Several have the same key.
#[derive(Record, Clone, Debug)]
struct Product {
    id: i64,
    region: String,
    name: String,
    cents: Option<i64>,
}

/// A row and what was found for it.
#[derive(Record, Clone, Debug)]
struct Priced {
    key: i64,
    value: i64,
    time: i64,
    name: Option<String>,
    cents: Option<i64>,
}

fn priced(event: Event, product: Option<Product>) -> Priced {
    let Event { key, value, time } = event;
    let (name, cents) = product.map_or((None, None), |product| (Some(product.name), product.cents));
    Priced {
        key,
        value,
        time,
        name,
        cents,
    }
}

/// Rows of key 0 have none.
fn id(event: &Event) -> Option<i64> {
    (event.key > 0).then_some(event.key)
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let outputs = Outputs(&params.output);
    let generator = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", "index % 50")
        .column("value", "index")
        .column("time", "index");
    let events = flow
        .source("events", generator)
        .watermarks(Watermarks::monotonic(Event::FIELDS.time));
    let file = || Files::csv::<Product>(&params.input);
    let database = || Sqlite::table::<Product>(&params.other, "products");
    let full = events
        .clone()
        .lookup_join(LookupTable::full(file(), Product::FIELDS.id), id, |event, product| {
            priced(event, Some(product))
        })
        .name("full")
        .share();
    let windows = full
        .clone()
        .key_by(Priced::FIELDS.key)
        .window(Tumbling::of(Duration::from_millis(100)))
        .count();
    outputs.put("windows", windows);
    outputs.put("full", full);
    let left =
        LookupTable::full(file(), (Product::FIELDS.region, Product::FIELDS.id)).refresh(Duration::from_millis(50));
    let region = |event: &Event| ["north", "south"][event.value as usize % 2].to_owned();
    let left = events
        .clone()
        .left_lookup_join(left, move |event| (region(event), event.key), priced);
    outputs.put("left", left.name("left"));
    let cached = LookupTable::cached(database(), Product::FIELDS.id, params.capacity as u64);
    let cached = events.clone().left_lookup_join(cached, id, priced).name("cached");
    outputs.put("cached", cached);
    let uncached = LookupTable::uncached(database(), (Product::FIELDS.id, Product::FIELDS.region));
    let uncached = events.lookup_join(
        uncached,
        move |event| (event.key, region(event)),
        |event, product| priced(event, Some(product)),
    );
    outputs.put("uncached", uncached.name("uncached"));
}

/// Rows of files that come, looked up in a table that changes, as `from` says; or of files that are there.
pub(crate) fn live(flow: &Flow, params: &Params) {
    let files = Files::ndjson::<Event>(&params.input);
    let events = match params.from.as_str() {
        "bounded" => flow.source("events", files),
        _ => flow.source("events", files.watch().scan_interval(Duration::from_millis(5))),
    };
    let mut file = Files::csv::<Product>(&params.other);
    match params.from.as_str() {
        "skipping" => file = file.on_reject(Reject::Skip),
        "followed" => file = file.follow(),
        _ => {}
    }
    if params.from == "keyed" {
        let table = Connector::source::<Product>("files").option("path", &params.other);
        let table = LookupTable::uncached(table, Product::FIELDS.id);
        return out(events.left_lookup_join(table, id, priced).name("priced"), params);
    }
    if params.from == "postgres" {
        let table = Postgres::table::<Product>(&params.other, "products").filter("region <> 'west'");
        let table = LookupTable::full(table, Product::FIELDS.id).refresh(Duration::from_millis(5));
        return out(events.left_lookup_join(table, id, priced).name("priced"), params);
    }
    let table = LookupTable::full(file, Product::FIELDS.id)
        .refresh(Duration::from_millis(5))
        .memory_max(1 << 20);
    out(events.left_lookup_join(table, id, priced).name("priced"), params);
}

fn out<C: Chain<Out = Priced>>(stream: Stream<C>, params: &Params) {
    let trap = params.trap;
    let checked = stream.map(move |row: Priced| {
        assert!(row.value != trap, "row {trap}");
        row
    });
    checked.sink("out", Files::to_ndjson(&params.output));
}
