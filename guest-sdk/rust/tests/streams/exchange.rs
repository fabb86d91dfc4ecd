//! The graph: edges, ports, unions, event time, names, mistakes.

use millrace::bindings::dataflow::{Edge, EventTime, OperatorKind, Partition, WatermarkSource};
use millrace::harness::{Harness, block};
use millrace::prelude::*;

use crate::{Event, Line, Word, event, events, lines};

fn edges(harness: &Harness) -> Vec<(u32, u32, u32)> {
    let edge = |edge: &Edge| (edge.from_operator, edge.from_port, edge.to_operator);
    harness.graph().edges.iter().map(edge).collect()
}

#[test]
fn a_shared_stream_fans_out() {
    let mut harness = Harness::build(|flow| {
        let shared = events(flow).map(|event| event).share();
        shared
            .clone()
            .filter(|event| event.value > 0)
            .sink("positive", Discard::new());
        shared.sink("all", Discard::new());
    })
    .expect("the flow is right");
    assert_eq!(edges(&harness), [(0, 0, 1), (1, 0, 2), (2, 0, 3), (1, 0, 4)]);
    let called = harness.process(0, &block([event(1, 1)]));
    assert_eq!(called.rows::<Event>(0), [event(1, 1)]);
}

#[test]
fn a_source_fans_out_as_it_is() {
    let harness = Harness::build(|flow| {
        let events = events(flow);
        events.clone().sink("a", Discard::new());
        events.sink("b", Discard::new()).uid("b").parallelism(3);
    })
    .expect("the flow is right");
    assert_eq!(edges(&harness), [(0, 0, 1), (0, 0, 2)]);
    assert!(harness.graph().chains.is_empty());
    let sink = &harness.graph().operators[2];
    assert_eq!((sink.uid.as_deref(), sink.parallelism), (Some("b"), Some(3)));
}

#[test]
fn a_union_enters_one_input() {
    let harness = Harness::build(|flow| {
        let first = events(flow);
        let second = flow.source("more", Files::csv::<Event>("more.csv"));
        let both = first.union(second.filter(|event| event.value > 0));
        both.key_by(Event::FIELDS.key).count().sink("out", Discard::new());
    })
    .expect("the flow is right");
    assert_eq!(edges(&harness), [(1, 0, 2), (0, 0, 3), (2, 0, 3), (3, 0, 4)]);
    let hashed = |edge: &&Edge| matches!(&edge.partition, Partition::HashFields(fields) if fields == &[0]);
    assert_eq!(harness.graph().edges.iter().filter(hashed).count(), 2);
}

#[test]
fn partitions_are_on_the_edges() {
    let harness = Harness::build(|flow| {
        let events = events(flow);
        events.clone().rebalance().map(|event| event).sink("a", Discard::new());
        events.clone().broadcast().sink("b", Discard::new());
        events.global().sink("c", Discard::new());
    })
    .expect("the flow is right");
    let partition = |to: u32| {
        let edge = harness.graph().edges.iter().find(|edge| edge.to_operator == to);
        edge.expect("there is such an edge").partition.clone()
    };
    assert!(matches!(partition(1), Partition::Rebalance));
    assert!(matches!(partition(harness.operator("a")), Partition::Forward));
    assert!(matches!(partition(harness.operator("b")), Partition::Broadcast));
    assert!(matches!(partition(harness.operator("c")), Partition::Global));
}

#[test]
fn rows_stay_in_their_subtask_where_it_is_said() {
    let harness = Harness::build(|flow| {
        let events = events(flow);
        let kept = || events.clone().filter(|event| event.value > 0);
        events.clone().forward().sink("a", Discard::new());
        kept().forward().sink("b", Discard::new());
        kept().forward().share().sink("c", Discard::new());
        // Behind a fused function it is said no more.
        kept().forward().map(|event| event).sink("d", Discard::new());
        // What was fused is taken apart.
        let apart = kept().forward().map(|event| event).name("e");
        apart.slot_sharing_group("apart").forward().sink("f", Discard::new());
        kept().forward().rebalance().sink("g", Discard::new());
        let both = kept().forward().union(events.clone());
        both.map(|event| event).name("h").sink("i", Discard::new());
    })
    .expect("the flow is right");
    let stays = |name: &str| {
        let to = harness.operator(name);
        let edges = harness.graph().edges.iter().filter(|edge| edge.to_operator == to);
        let stays = edges.map(|edge| matches!(edge.partition, Partition::SameSubtask));
        stays.collect::<Vec<_>>()
    };
    for name in ["a", "b", "c", "e", "f"] {
        assert_eq!(stays(name), [true], "{name}");
    }
    assert_eq!((stays("d"), stays("g")), (vec![false], vec![false]));
    assert_eq!(stays("h"), [true, false]);
}

#[test]
#[should_panic(
    expected = "`forward` from `events`, of parallelism 2, to `three`, of parallelism 3: rows stay in their subtask only where"
)]
fn rows_cannot_stay_where_the_parallelism_differs() {
    let options = millrace::testing::Options::new().parallelism(2);
    drop(options.start(|flow: &Flow| {
        let events = millrace::testing::source::<Event>(flow, "events").forward();
        events
            .map(|event| event)
            .name("three")
            .parallelism(3)
            .sink("out", Discard::new());
    }));
}

#[test]
fn event_time_is_a_field_or_computed() {
    let mut harness = Harness::build(|flow| {
        let events = events(flow);
        let by_field = Watermarks::monotonic(Event::FIELDS.value).idle_after(Duration::from_secs(9));
        events.clone().watermarks(by_field).sink("a", Discard::new());
        let by_function = Watermarks::bounded_by(|event: &Event| event.value * 10, Duration::from_secs(2));
        events.watermarks(by_function).sink("b", Discard::new());
    })
    .expect("the flow is right");
    let graph = harness.graph();
    let watermarks: Vec<_> = graph
        .operators
        .iter()
        .filter_map(|operator| match &operator.kind {
            OperatorKind::Watermarks(watermarks) => Some(watermarks),
            _ => None,
        })
        .collect();
    let bound = |watermarks: &millrace::bindings::dataflow::Watermarks| match watermarks.source {
        WatermarkSource::Bounded(ms) => ms,
        WatermarkSource::Field(_) | WatermarkSource::Computed | WatermarkSource::Clock(_) => {
            panic!("it follows the latest row")
        }
    };
    assert!(matches!(&watermarks[0].time, EventTime::Field(name) if name == "value"));
    assert_eq!((bound(watermarks[0]), watermarks[0].idle_after_ms), (0, Some(9_000)));
    assert!(matches!(&watermarks[1].time, EventTime::Computed));
    assert_eq!((bound(watermarks[1]), watermarks[1].idle_after_ms), (2_000, None));
    assert!(graph.chains[0].ports[0].computes_time);
    let called = harness.process(0, &block([event(1, 7), event(2, 8)]));
    assert_eq!(
        called.with_system::<Event, i64>(0),
        [(event(1, 7), 70), (event(2, 8), 80)]
    );
}

#[test]
fn event_time_has_a_type() {
    let built = Harness::build(|flow| {
        let words: Stream<Rows<Word>> = flow.source("words", Generator::new());
        words
            .watermarks(Watermarks::monotonic(Word::FIELDS.word))
            .sink("a", Discard::new());
    });
    let error = built.expect_err("text is no time");
    assert!(
        error.starts_with("operator `watermarks`: field `word` is Utf8: event time is"),
        "{error}"
    );
}

#[test]
fn event_time_can_stay_behind_the_clock() {
    let timed = |align: bool, lag: Duration| {
        Harness::build(move |flow| {
            let watermarks = Watermarks::monotonic(Event::FIELDS.value).behind_clock(lag);
            let watermarks = match align {
                true => watermarks.aligned("all", lag),
                false => watermarks,
            };
            let timed = events(flow).watermarks(watermarks).name("times");
            timed.sink("out", Discard::new());
        })
    };
    let harness = timed(false, Duration::from_secs(2)).expect("a graph");
    let declared = harness
        .graph()
        .operators
        .iter()
        .find_map(|operator| match &operator.kind {
            OperatorKind::Watermarks(watermarks) => Some(watermarks.source.clone()),
            _ => None,
        });
    assert!(matches!(declared, Some(WatermarkSource::Clock(2_000))), "{declared:?}");
    let told = timed(true, Duration::from_secs(2)).err().unwrap_or_default();
    assert_eq!(
        told,
        "operator `times`: they are to be aligned in the group `all`, and follow the clock: none is ever ahead of others"
    );
    let told = timed(false, Duration::from_micros(5)).err().unwrap_or_default();
    assert_eq!(
        told,
        "operator `times`: the lag behind the clock is whole milliseconds, not 5µs"
    );
}

#[test]
fn names_and_parallelism_belong_to_operators() {
    let harness = Harness::build(|flow| {
        flow.name("pipeline");
        flow.max_parallelism(64);
        events(flow)
            .name("source")
            .parallelism(2)
            .map(|event| event)
            .name("same")
            .uid("same-1")
            .filter(|event| event.value > 0)
            .parallelism(4)
            .sink("out", Discard::new());
    })
    .expect("the flow is right");
    let graph = harness.graph();
    assert_eq!((graph.name.as_str(), graph.max_parallelism), ("pipeline", 64));
    let found: Vec<_> = graph
        .operators
        .iter()
        .map(|operator| (operator.name.as_str(), operator.parallelism))
        .collect();
    assert_eq!(
        found,
        [
            ("source", Some(2)),
            ("same", Some(4)),
            ("filter", Some(4)),
            ("out", None)
        ]
    );
    assert_eq!(graph.operators[1].uid.as_deref(), Some("same-1"));
}

#[test]
fn mistakes_are_all_reported() {
    let built = Harness::build(|flow| {
        let events = events(flow);
        events
            .clone()
            .map(|event| event)
            .parallelism(2)
            .filter(|_| true)
            .parallelism(3)
            .sink("out", Discard::new());
        events
            .clone()
            .union(events)
            .name("both")
            .sink("all", Discard::new())
            .parallelism(0);
    });
    let error = built.expect_err("there are three mistakes");
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(
        lines,
        [
            "a union is no operator and has no name: give it to the operator before or after",
            "operator `all`: its parallelism cannot be 0",
            "`map` asks for parallelism 2 and `filter` for 3, but they are fused into one: put `.rebalance()` between them",
        ]
    );
}

#[test]
fn side_outputs_need_a_function_that_has_them() {
    static TAG: OutputTag<Event> = OutputTag::new("tag");
    let built = Harness::build(|flow| {
        let mapped = events(flow).map(|event| event);
        mapped.side_output(&TAG).sink("out", Discard::new());
    });
    let error = built.expect_err("map has no side outputs");
    assert!(
        error.starts_with("operator `map`: it has no side output `tag`: only `process`"),
        "{error}"
    );
    let built = Harness::build(|flow| {
        events(flow).side_output(&TAG).sink("out", Discard::new());
    });
    let error = built.expect_err("a source has no side outputs");
    assert_eq!(
        error,
        "operator `events`: it has no side output `tag`: only functions have side outputs"
    );
}

#[test]
fn connectors_are_described() {
    let harness = Harness::build(|flow| {
        let generator = Generator::<Event>::new()
            .rows(5)
            .column("key", "index")
            .column("value", "mix % 7");
        flow.source("made", generator)
            .sink("kept", Files::to_csv("out").delimiter(';').roll_rows(10).roll_rows(20));
        lines(flow)
            .map(|line: Line<'_>| event(0, line.text.len() as i64))
            .sink("shown", Stdout::csv().header(false));
    })
    .expect("the flow is right");
    let described: Vec<(&str, Vec<String>)> = harness
        .graph()
        .operators
        .iter()
        .filter_map(|operator| match &operator.kind {
            OperatorKind::Source(source) => Some(&source.connector),
            OperatorKind::Sink(sink) => Some(&sink.connector),
            OperatorKind::Function(_)
            | OperatorKind::Watermarks(_)
            | OperatorKind::Requests(_)
            | OperatorKind::Lookup(_) => None,
        })
        .map(|connector| {
            let options = connector.options.iter().map(|(name, value)| format!("{name}={value}"));
            (connector.kind.as_str(), options.collect())
        })
        .collect();
    let expect = [
        ("generator", vec!["rows=5", "column.key=index", "column.value=mix % 7"]),
        (
            "files",
            vec!["path=out", "format=csv", "csv.delimiter=;", "roll.rows=20"],
        ),
        ("stdin", vec!["format=text"]),
        ("stdout", vec!["format=csv", "csv.header=false"]),
    ];
    let expect = expect.map(|(kind, options)| (kind, options.into_iter().map(str::to_owned).collect::<Vec<String>>()));
    assert_eq!(described, expect);
}
