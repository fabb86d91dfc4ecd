//! One graph, drawn in every way: flights with a window, a side output that joins another stream, and a fan-out.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millrace_core::graph::*;
use millrace_core::schema::Hints;

use super::*;

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let fields: Vec<Field> = fields
        .iter()
        .map(|(name, data_type, null)| Field::new(*name, data_type.clone(), *null))
        .collect();
    Arc::new(Schema::new(fields))
}

fn connector(kind: &str) -> ConnectorConfig {
    ConnectorConfig {
        kind: kind.to_owned(),
        options: vec![("path".to_owned(), "a \"b\" & <c>".to_owned())],
    }
}

fn operator(name: &str, kind: OperatorKind) -> Operator {
    Operator {
        name: name.to_owned(),
        uid: None,
        kind,
        parallelism: None,
        slot_sharing_group: None,
    }
}

fn function(name: &str, construct: &str, chain: u32) -> Operator {
    let kind = OperatorKind::Function {
        construct: construct.to_owned(),
        chain: ChainIndex(chain),
        on_reject: RejectPolicy::Fail,
    };
    operator(name, kind)
}

fn edge(from: u32, from_port: u32, to: u32, partition: Partition) -> Edge {
    Edge {
        from_operator: OperatorIndex(from),
        from_port,
        to_operator: OperatorIndex(to),
        to_input: 0,
        partition,
    }
}

fn port(operator: u32, side: Option<&str>, schema: &SchemaRef) -> Port {
    Port {
        operator: OperatorIndex(operator),
        side: side.map(str::to_owned),
        schema: schema.clone(),
        hints: Vec::new(),
        computes_time: false,
        computed_key: None,
    }
}

/// flights -> parse, keep -> time -> hourly window -> out, with late rows to a file and a copy of all rows.
pub(crate) fn flights() -> Graph {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let rows = schema(&[("origin", DataType::Utf8, false), ("time", time, true)]);
    let key = schema(&[("origin", DataType::Utf8, false)]);
    let source = OperatorKind::Source {
        connector: connector("files"),
        schema: rows.clone(),
        hints: Vec::new(),
        on_reject: RejectPolicy::Skip,
    };
    let watermarks = OperatorKind::Watermarks(WatermarkStrategy {
        time: EventTime::Field("time".to_owned()),
        source: WatermarkSource::Bounded(86_400_000),
        idle_after_ms: None,
        alignment: None,
    });
    let window = WindowDecl {
        assigner: WindowAssigner::Tumbling {
            size_ms: 3_600_000,
            offset_ms: 0,
        },
        allowed_lateness_ms: 0,
        late_ports: vec![Some(1)],
    };
    let accumulator = StateDecl {
        name: "accumulator".to_owned(),
        aliases: Vec::new(),
        kind: StateKind::Accumulator,
        schema: schema(&[("value", DataType::Int64, true)]),
        hints: Hints::default(),
        migrations: Vec::new(),
        ttl: None,
    };
    Graph {
        name: "flights".to_owned(),
        operators: vec![
            operator("flights", source),
            function("parse", "map", 0),
            function("keep", "filter", 0),
            operator("time", watermarks),
            function("hourly", "window.aggregate", 1),
            operator(
                "out",
                OperatorKind::Sink {
                    connector: connector("files"),
                },
            ),
            operator(
                "late",
                OperatorKind::Sink {
                    connector: connector("stdout"),
                },
            ),
        ],
        edges: vec![
            edge(0, 0, 1, Partition::Forward),
            edge(2, 0, 3, Partition::Forward),
            edge(3, 0, 4, Partition::HashFields(vec![0])),
            edge(4, 0, 5, Partition::Forward),
            edge(4, 1, 6, Partition::Global),
            edge(2, 0, 6, Partition::Rebalance),
        ],
        chains: vec![
            Chain {
                operators: vec![OperatorIndex(1), OperatorIndex(2)],
                inputs: vec![rows.clone()],
                input_hints: Vec::new(),
                head: Head::Stateless,
                ports: vec![port(2, None, &rows)],
            },
            Chain {
                operators: vec![OperatorIndex(4)],
                inputs: vec![rows.clone()],
                input_hints: Vec::new(),
                head: Head::Window {
                    key_schema: key,
                    key_hints: Vec::new(),
                    window,
                    accumulator,
                },
                ports: vec![port(4, None, &rows), port(4, Some("late"), &rows)],
            },
        ],
        max_parallelism: 128,
    }
}

#[test]
fn as_text() {
    let expect = "\
flights
▶ flights  (files source, skips rejected rows)
└─ λ parse  (map)
   └╴ λ keep  (filter)
      ├─ ◷ time  (event time time, up to 1d out of order)
      │  └─ [key origin] λ hourly  (window.aggregate, tumbling 1h)
      │     ├─ ■ out  (files sink)
      │     └─ [side late, global] ■ late  (stdout sink)
      └─ [rebalance] late (see above)
";
    assert_eq!(text::render(&View::new(&flights())), expect);
}

#[test]
fn as_mermaid() {
    let text = mermaid::render(&View::new(&flights()));
    let expect = "\
flowchart LR
  subgraph chain0[\"chain 0\"]
    n1[\"<b>parse</b><br/>map\"]
    n2[\"<b>keep</b><br/>filter\"]
  end
  n0([\"<b>flights</b><br/>files source, skips rejected rows\"])
  n3{{\"<b>time</b><br/>event time time, up to 1d out of order\"}}
  n4[\"<b>hourly</b><br/>window.aggregate, tumbling 1h\"]
  n5[/\"<b>out</b><br/>files sink\"/]
  n6[/\"<b>late</b><br/>stdout sink\"/]
  n1 --- n2
  n0 --> n1
  n2 --> n3
  n3 -->|\"key origin\"| n4
  n4 --> n5
  n4 -->|\"side late, global\"| n6
  n2 -->|\"rebalance\"| n6
";
    assert_eq!(text, expect);
}

#[test]
fn as_dot() {
    let text = dot::render(&View::new(&flights()));
    assert!(text.starts_with("digraph \"flights\" {\n"));
    assert!(text.contains("  n1 [label=\"parse\\nmap\"];\n"), "{text}");
    assert!(
        text.contains("  subgraph cluster_0 { label=\"chain 0\"; style=dashed; n1; n2; }\n"),
        "{text}"
    );
    assert!(text.contains("  n1 -> n2 [arrowhead=none];\n"), "{text}");
    assert!(text.contains("  n3 -> n4 [label=\"key origin\"];\n"), "{text}");
}

#[test]
fn as_svg() {
    let mut graph = flights();
    graph.operators[1].name = "a <b> & \"c\"".to_owned();
    let text = svg::render(&View::new(&graph));
    assert_eq!(text.matches("<rect x=").count(), graph.operators.len());
    assert_eq!(
        text.matches("<path d=\"M").count() - 1,
        7,
        "a line for each link, and the arrowhead"
    );
    assert!(text.contains("a &lt;b&gt; &amp; &quot;c&quot;"));
    assert_eq!(text.matches("<g>").count(), text.matches("</g>").count());
    assert!(text.ends_with("</svg>\n"));
}

#[test]
fn in_svg_no_two_nodes_overlap() {
    let text = svg::render(&View::new(&flights()));
    let attribute = |part: &str, name: &str| -> f64 {
        let (_, rest) = part.split_once(&format!("{name}=\"")).expect("attribute");
        rest.split('"')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("number")
    };
    let boxes: Vec<(f64, f64)> = text
        .split("<rect x")
        .skip(1)
        .map(|part| {
            let part = format!("x{part}");
            (attribute(&part, "x"), attribute(&part, " y"))
        })
        .collect();
    for (index, a) in boxes.iter().enumerate() {
        for b in &boxes[..index] {
            assert!(
                (a.0 - b.0).abs() >= 210.0 || (a.1 - b.1).abs() >= 56.0,
                "{a:?} and {b:?}"
            );
        }
    }
}

#[test]
fn in_svg_lines_do_not_cross_without_need() {
    // Two operators with two sinks each, in an order that makes them cross.
    let mut graph = flights();
    graph.operators.truncate(1);
    graph.chains.clear();
    let sink = || OperatorKind::Sink {
        connector: connector("discard"),
    };
    graph
        .operators
        .extend((1..=6).map(|n| operator(&format!("o{n}"), sink())));
    graph.edges = [(0, 1), (0, 2), (1, 3), (2, 4), (1, 5), (2, 6)]
        .map(|(from, to)| edge(from, 0, to, Partition::Forward))
        .to_vec();
    let text = svg::render(&View::new(&graph));
    let height_of = |name: &str| -> f64 {
        let (_, node) = text.split_once(&format!("<g><title>{name} ")).expect("node");
        let (_, rest) = node.split_once(" y=\"").expect("attribute");
        rest.split('"')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("number")
    };
    let upper = if height_of("o1") < height_of("o2") {
        [3, 5, 4, 6]
    } else {
        [4, 6, 3, 5]
    };
    let upper = upper.map(|n| height_of(&format!("o{n}")));
    assert!(upper[0].max(upper[1]) < upper[2].min(upper[3]), "{upper:?}");
}

#[test]
fn as_json_with_schemas() {
    let value = json::render(&flights());
    assert_eq!(
        value["operators"][0]["kind"]["Source"]["schema"][1]["type"],
        "timestamp[ms, UTC]"
    );
    assert_eq!(value["operators"][0]["kind"]["Source"]["schema"][1]["nullable"], true);
    assert_eq!(value["chains"][1]["head"]["Window"]["key_schema"][0]["name"], "origin");
    assert_eq!(value["chains"][1]["ports"][1]["side"], "late");
}

#[test]
fn rows_that_nobody_takes_are_found_and_names_give_no_commands() {
    let mut graph = flights();
    assert_eq!(View::new(&graph).idle_ends(), [""; 0]);
    graph.operators[0].name = "in\u{1b}[2J\n".to_owned();
    graph.edges.retain(|edge| edge.from_operator.0 != 0);
    let view = View::new(&graph);
    assert_eq!(view.idle_ends(), ["in\\u{1b}[2J\\n"]);
    for drawing in [
        text::render(&view),
        mermaid::render(&view),
        dot::render(&view),
        svg::render(&view),
    ] {
        assert!(!drawing.contains('\u{1b}'), "{drawing}");
    }
}

#[test]
fn a_graph_that_is_wrong_is_drawn_all_the_same() {
    let mut graph = flights();
    graph.edges.push(edge(5, 0, 1, Partition::Forward));
    graph.edges.push(edge(77, 0, 1, Partition::Forward));
    graph.edges.push(edge(4, 9, 99, Partition::HashFields(vec![7])));
    let view = View::new(&graph);
    for drawing in [
        text::render(&view),
        mermaid::render(&view),
        dot::render(&view),
        svg::render(&view),
    ] {
        assert!(drawing.contains("hourly"));
    }
    let empty = View::new(&Graph {
        name: "empty".to_owned(),
        operators: vec![],
        edges: vec![],
        chains: vec![],
        max_parallelism: 0,
    });
    assert!(svg::render(&empty).ends_with("</svg>\n"));
}

#[test]
fn schemas_on_one_line() {
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    let schema = schema(&[
        ("id", DataType::Int64, false),
        ("tags", DataType::List(item), true),
        ("b", DataType::FixedSizeBinary(4), false),
    ]);
    assert_eq!(schema_text(&schema), "id: int64, tags: list<int64?>?, b: bytes[4]");
}
