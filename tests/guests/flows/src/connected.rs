//! Rows from one connector to another, through state: how many there have been of each key. So each row of a key has a
//! number of its own, and rows that are lost or repeated show. With `spared` they go as they are.

use millrace::connect::{Description, Source};
use millrace::prelude::*;

use super::{Event, Params};

/// Any source, so that they have one type.
struct Any(Description);

impl Source for Any {
    type Record = Event;

    fn into_description(self) -> Description {
        self.0
    }
}

fn any(source: impl Source<Record = Event>) -> Any {
    Any(source.into_description())
}

const SCAN: Duration = Duration::from_millis(20);

fn source(params: &Params) -> Any {
    let files = |path: &str| Files::ndjson::<Event>(path);
    match params.from.as_str() {
        "follow" => any(files(&params.input).follow().scan_interval(SCAN)),
        "watch" => any(files(&params.input).watch().scan_interval(SCAN)),
        "hybrid" => any(Hybrid::of(files(&params.other)).then(files(&params.input).follow().scan_interval(SCAN))),
        "files" => any(files(&params.input)),
        "avro" => any(Files::avro::<Event>(&params.input)),
        "sqlite" => any(Sqlite::table::<Event>(&params.input, "events")),
        "tcp" => any(Tcp::ndjson::<Event>(&params.input).listen()),
        "webhook" => any(Webhook::listen::<Event>(&params.input).path("/events")),
        from => panic!("no source `{from}`"),
    }
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let events = flow.source("events", source(params)).uid("source");
    let disorder = params.disorder;
    let watermarks = Watermarks::bounded(Event::FIELDS.time, disorder).idle_after(Duration::from_secs(1));
    let events = events.watermarks(watermarks).uid("watermarks");
    if params.spared == 1 {
        write(events, params);
        return;
    }
    let counted = events.key_by(Event::FIELDS.key).count().uid("count");
    let numbered = counted.map(|counted: Counted<i64>| Event {
        key: counted.key,
        value: counted.count,
        time: 0,
    });
    write(numbered, params);
}

fn write<C: Chain>(rows: Stream<C>, params: &Params) {
    match params.to.as_str() {
        "" => rows.sink("out", Files::to_csv(&params.output)),
        "avro" => rows.sink("out", Files::to_avro(&params.output).codec(AvroCodec::Snappy)),
        "sqlite" => rows.sink("out", Sqlite::to(&params.output, "events").create(true).batch_rows(50)),
        "tcp" => rows.sink("out", Tcp::to_csv(&params.output).header(false)),
        "webhook" => {
            let sink = Webhook::to(&params.output).batch_rows(50);
            rows.sink("out", sink.attempts(10_000, Duration::from_millis(5)))
        }
        to => panic!("no sink `{to}`"),
    };
}
