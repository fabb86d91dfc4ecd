//! Rows that ask a server: in order and as they are answered, with windows behind; all that can come of a request; and functions
//! that trap in front of a request and behind its answer.

use millrace::prelude::*;

use super::operators::Outputs;
use super::poison::{self, Poison};
use super::{Event, Params};

/// A row and what the server said.
#[derive(Record, Clone, Debug)]
struct Said {
    key: i64,
    value: i64,
    time: i64,
    said: String,
}

fn said(event: Event, answer: std::result::Result<Response, HttpError>) -> Said {
    let said = match answer {
        Ok(response) if response.is_success() => response.text().into_owned(),
        Ok(response) => format!("status {}", response.status),
        Err(HttpError::Timeout(_)) => "timeout".to_owned(),
        Err(HttpError::Connection(_)) => "connection".to_owned(),
        Err(HttpError::TooLarge(_)) => "too large".to_owned(),
        Err(HttpError::NotAllowed(_)) => "not allowed".to_owned(),
        Err(HttpError::Invalid(_)) => "invalid".to_owned(),
        Err(HttpError::NotAsked) => "not asked".to_owned(),
    };
    Said {
        key: event.key,
        value: event.value,
        time: event.time,
        said,
    }
}

fn events(flow: &Flow, params: &Params) -> Stream<Rows<Event>> {
    let generator = Generator::<Event>::new()
        .rows(params.rows as u64)
        .column("key", "index % 50")
        .column("value", "index")
        .column("time", "index");
    flow.source("events", generator)
        .watermarks(Watermarks::monotonic(Event::FIELDS.time))
}

pub(crate) fn build(flow: &Flow, params: &Params) {
    let outputs = Outputs(&params.output);
    let events = events(flow, params);
    let configured = |http: Http| {
        http.origin(&params.from)
            .capacity(params.capacity as u32)
            .timeout(Duration::from_secs(60))
            .retry(Retry::attempts(5, Duration::from_millis(2)))
    };
    let url = |part: &'static str| {
        let server = params.from.clone();
        move |event: &Event| Request::get(format!("{server}/{part}/{}", event.value))
    };
    let ordered = events
        .clone()
        .async_map(configured(Http::ordered()), url("ordered"), said)
        .name("ordered")
        .uid("asks-in-order");
    outputs.put("ordered", ordered);
    let unordered = events
        .async_map(configured(Http::unordered()), url("unordered"), said)
        .name("unordered")
        .uid("asks")
        .share();
    let windows = unordered
        .clone()
        .key_by(Said::FIELDS.key)
        .window(Tumbling::of(Duration::from_millis(100)))
        .count();
    outputs.put("windows", windows);
    outputs.put("unordered", unordered);
}

/// What comes of a request depends on the row's number.
pub(crate) fn outcomes(flow: &Flow, params: &Params) {
    let http = Http::ordered()
        .origin(&params.from)
        .timeout(Duration::from_secs(2))
        .response_bytes_max(1_000);
    let server = params.from.clone();
    let asked = move |event: &Event| match event.value % 6 {
        0 => None,
        1 => Some(Request::get("http://localhost:1/other")),
        2 => Some(Request::get("no URL")),
        _ => Some(Request::post(format!("{server}/outcomes/{}", event.value), "body").header("x-test", "1")),
    };
    let answered = events(flow, params).try_async_map(http, asked, |event, answer| match event.value {
        11 => Err("eleven"),
        _ => Ok(said(event, answer)),
    });
    Outputs(&params.output).put("out", answered.on_reject(Reject::Skip));
}

/// Traps on the rows that `bad` says: where they ask, and where they are answered, in either order of rows. A job that is spared
/// does not have these rows.
pub(crate) fn traps(flow: &Flow, params: &Params) {
    let poison = Poison::new(params);
    let events = poison::events(flow, params);
    let configured = |http: Http| http.origin(&params.from).capacity(params.capacity as u32);
    let outputs = Outputs(&params.output);
    let ways: [(_, &'static [&'static str; 2], _); 2] = [
        ("ordered", &["ask-ordered", "end-ordered"], configured(Http::ordered())),
        (
            "unordered",
            &["ask-unordered", "end-unordered"],
            configured(Http::unordered()),
        ),
    ];
    for (name, places, http) in ways {
        let [ask, end] = *places;
        let (asks, ends, server) = (poison.clone(), poison.clone(), params.from.clone());
        let asked = move |event: &Event| {
            assert!(!asks.is(ask, event.value), "row {} has no question", event.value);
            Request::get(format!("{server}/{name}/{}", event.value))
        };
        let answered = move |event: Event, answer| {
            assert!(
                !ends.is(end, event.value),
                "row {} has no use for an answer",
                event.value
            );
            said(event, answer)
        };
        let rows = poison::only(events.clone(), &poison, places).async_map(http, asked, answered);
        outputs.put(name, rows.name(name).uid(name));
    }
}
