//! Graphs: `source` → `function` → `sink`, right or wrong in one way.
//!
//! The source gives rows of one int64 `id`; the function's port has the id, a text and a list, so that its
//! blocks have every kind of buffer.

use crate::dataflow::*;
use crate::types::{self, DataType};

const ROWS: u32 = 10;

fn field(name: &str, data_type: DataType, nullable: bool, children: u32) -> types::Field {
    types::Field {
        name: name.to_owned(),
        data_type,
        nullable,
        children,
        aliases: Vec::new(),
        when_missing: types::Missing::Undeclared,
        variants: Vec::new(),
    }
}

fn id() -> types::Field {
    field("id", DataType::Int64, false, 0)
}

/// Schemas by number: 0 input, 1 output, 2 state, 3 another input.
fn schemas() -> Vec<Vec<types::Field>> {
    vec![
        vec![id()],
        vec![
            id(),
            field("text", DataType::Utf8, true, 0),
            field("items", DataType::ListOf, false, 1),
            field("item", DataType::Int32, false, 0),
        ],
        vec![field("value", DataType::Int64, true, 0)],
        vec![field("id", DataType::Int32, false, 0)],
    ]
}

/// Schemas 4 and 5, of large states: a map and a list of int64.
fn large_schemas() -> [Vec<types::Field>; 2] {
    [
        vec![
            field("value", DataType::MapOf, true, 1),
            field("entries", DataType::StructOf, false, 2),
            field("key", DataType::Int64, false, 0),
            field("value", DataType::Int64, false, 0),
        ],
        vec![
            field("value", DataType::ListOf, true, 1),
            field("item", DataType::Int64, false, 0),
        ],
    ]
}

fn connector(kind: &str, options: &[(&str, &str)]) -> Connector {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    Connector {
        kind: kind.to_owned(),
        options: options.iter().map(owned).collect(),
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

fn function(name: &str, chain: u32) -> Operator {
    let function = Function {
        construct: "function".to_owned(),
        chain,
        on_reject: RejectPolicy::Skip,
    };
    operator(name, OperatorKind::Function(function))
}

fn edge(from_operator: u32, to_operator: u32, partition: Partition) -> Edge {
    Edge {
        from_operator,
        from_port: 0,
        to_operator,
        to_input: 0,
        partition,
    }
}

fn port(operator: u32, schema: u32) -> Port {
    Port {
        operator,
        side: None,
        schema,
        computes_time: false,
        computed_key: None,
    }
}

fn chain(operator: u32) -> Chain {
    Chain {
        operators: vec![operator],
        inputs: vec![0],
        head: Head::Stateless,
        ports: vec![port(operator, 1)],
    }
}

fn head(name: &str) -> Head {
    let state = |name: &str, kind| StateDecl {
        name: name.to_owned(),
        aliases: Vec::new(),
        kind,
        schema: 2,
        migrations: Vec::new(),
        ttl: None,
    };
    let large = |name: &str, kind, schema| StateDecl {
        schema,
        ..state(name, kind)
    };
    match name {
        "large" => Head::Keyed(Keyed {
            key_schema: 0,
            states: vec![
                state("one", StateKind::Value),
                large("map", StateKind::LargeMap, 4),
                large("list", StateKind::LargeList, 5),
            ],
            always_writes: false,
            applies: false,
            windows: None,
        }),
        "keyed" => Head::Keyed(Keyed {
            key_schema: 0,
            states: vec![state("one", StateKind::Value), state("two", StateKind::Value)],
            always_writes: false,
            applies: false,
            windows: None,
        }),
        "window" => Head::Window(KeyedWindow {
            key_schema: 0,
            window: Window {
                assigner: WindowAssigner::Tumbling(TumblingWindow {
                    size_ms: 5,
                    offset_ms: 0,
                }),
                allowed_lateness_ms: 0,
                late_ports: Vec::new(),
            },
            accumulator: state("sum", StateKind::Accumulator),
        }),
        _ => Head::Stateless,
    }
}

fn fine(head_name: &str) -> Graph {
    let source = Source {
        connector: connector("generator", &[("rows", &ROWS.to_string()), ("column.id", "index")]),
        schema: 0,
        on_reject: RejectPolicy::Fail,
    };
    let sink = Sink {
        connector: connector("discard", &[("sum", "id")]),
    };
    let watermarks = Watermarks {
        time: EventTime::Field("id".to_owned()),
        source: WatermarkSource::Bounded(0),
        idle_after_ms: None,
        alignment: None,
    };
    let head = head(head_name);
    let partition = match &head {
        Head::Stateless | Head::Unkeyed(_) => Partition::Forward,
        Head::Keyed(_) | Head::Window(_) | Head::Pattern(_) => Partition::HashFields(vec![0]),
    };
    Graph {
        name: "raw".to_owned(),
        schemas: match head_name {
            "large" => schemas().into_iter().chain(large_schemas()).collect(),
            _ => schemas(),
        },
        operators: vec![
            operator("source", OperatorKind::Source(source)),
            operator("time", OperatorKind::Watermarks(watermarks)),
            function("function", 0),
            operator("sink", OperatorKind::Sink(sink)),
        ],
        edges: vec![
            edge(0, 1, Partition::Forward),
            edge(1, 2, partition),
            edge(2, 3, Partition::Forward),
        ],
        chains: vec![Chain { head, ..chain(2) }],
        max_parallelism: 0,
    }
}

fn keyed(graph: &mut Graph) -> &mut Keyed {
    match &mut graph.chains[0].head {
        Head::Keyed(keyed) => keyed,
        _ => panic!("the chain is not keyed"),
    }
}

/// The graph for a kind; those of calls have the fine one.
pub(crate) fn build(kind: &str, head_name: &str) -> Graph {
    let mut graph = fine(head_name);
    match kind {
        "cycle" => {
            // function → again → function, beside the way to the sink.
            graph.chains.push(Chain {
                inputs: vec![1],
                ports: vec![port(4, 0)],
                ..chain(4)
            });
            graph.operators.push(function("again", 1));
            graph.edges.push(edge(2, 4, Partition::Forward));
            graph.edges.push(edge(4, 2, Partition::Forward));
        }
        "self-loop" => {
            graph.chains[0].ports[0].schema = 0;
            graph.edges.push(edge(2, 2, Partition::Forward));
        }
        "dangling-from" => graph.edges[2].from_operator = 17,
        "dangling-to" => graph.edges[2].to_operator = 17,
        "dangling-port" => graph.edges[2].from_port = 5,
        "dangling-input" => graph.edges[1].to_input = 5,
        "no-edge" => drop(graph.edges.remove(1)),
        "into-source" => graph.edges.push(edge(2, 0, Partition::Forward)),
        "out-of-sink" => graph.edges.push(edge(3, 2, Partition::Forward)),
        "mismatch" => graph.chains[0].inputs[0] = 3,
        "schema-index" => graph.chains[0].inputs[0] = 9,
        "chain-index" => graph.operators[2] = function("function", 9),
        "member-index" => graph.chains[0].operators = vec![9],
        "foreign-member" => graph.chains[0].operators = vec![2, 3],
        "no-name" => graph.operators[2].name = String::new(),
        "no-members" => graph.chains[0].operators = Vec::new(),
        "foreign-port" => graph.chains[0].ports[0].operator = 0,
        "uids" => {
            graph.operators[0].uid = Some("same".to_owned());
            graph.operators[2].uid = Some("same".to_owned());
        }
        "group-blank" => graph.operators[2].slot_sharing_group = Some(" ".to_owned()),
        "group-long" => graph.operators[2].slot_sharing_group = Some("g".repeat(300)),
        "auto-uid" => graph.operators[2].uid = Some("auto-0123".to_owned()),
        "empty-uid" => graph.operators[2].uid = Some(String::new()),
        "connector" => {
            graph.operators[3].kind = OperatorKind::Sink(Sink {
                connector: connector("telegraph", &[]),
            });
        }
        "option" => {
            graph.operators[3].kind = OperatorKind::Sink(Sink {
                connector: connector("discard", &[("colour", "green")]),
            });
        }
        "option-twice" => {
            graph.operators[3].kind = OperatorKind::Sink(Sink {
                connector: connector("discard", &[("sum", "id"), ("sum", "id")]),
            });
        }
        "key-column" => graph.edges[1].partition = Partition::HashFields(vec![7]),
        "key-type" => graph.chains[0].inputs[0] = 0,
        "not-keyed" => graph.edges[1].partition = Partition::Forward,
        "key-not-computed" => graph.edges[1].partition = Partition::HashComputed,
        "float-key" => {
            graph.schemas[0] = vec![field("id", DataType::Float64, false, 0)];
            graph.operators.remove(1);
            graph.operators.iter_mut().for_each(|operator| {
                if let OperatorKind::Function(function) = &mut operator.kind {
                    function.chain = 0;
                }
            });
            graph.chains[0].operators = vec![1];
            graph.chains[0].ports[0].operator = 1;
            graph.edges = vec![
                edge(0, 1, Partition::HashFields(vec![0])),
                edge(1, 2, Partition::Forward),
            ];
        }
        "time-field" => {
            graph.operators[1].kind = OperatorKind::Watermarks(Watermarks {
                time: EventTime::Field("when".to_owned()),
                source: WatermarkSource::Bounded(0),
                idle_after_ms: None,
                alignment: None,
            });
        }
        "time-not-computed" => {
            graph.operators[1].kind = OperatorKind::Watermarks(Watermarks {
                time: EventTime::Computed,
                source: WatermarkSource::Bounded(0),
                idle_after_ms: None,
                alignment: None,
            });
        }
        "mark-field" | "mark-not-computed" | "aligned" => {
            graph.operators[1].parallelism = (kind == "aligned").then_some(3);
            graph.operators[1].kind = OperatorKind::Watermarks(Watermarks {
                time: EventTime::Field("id".to_owned()),
                source: match kind {
                    "mark-field" => WatermarkSource::Field("when".to_owned()),
                    "mark-not-computed" => WatermarkSource::Computed,
                    _ => WatermarkSource::Bounded(0),
                },
                idle_after_ms: None,
                alignment: (kind == "aligned").then(|| WatermarkAlignment {
                    group: "all".to_owned(),
                    max_drift_ms: 5,
                }),
            });
        }
        "large-schema" => keyed(&mut graph).states[1].schema = 2,
        "large-key" => graph.schemas[4][2].data_type = DataType::Float64,
        "large-kind" => keyed(&mut graph).states[1].kind = StateKind::LargeList,
        "large-writes" => keyed(&mut graph).always_writes = true,
        "large-migrations" => keyed(&mut graph).states[1].migrations = vec![4],
        "large-accumulator" => {
            graph.schemas.extend(large_schemas());
            if let Head::Window(window) = &mut graph.chains[0].head {
                window.accumulator.kind = StateKind::LargeMap;
                window.accumulator.schema = 4;
            }
        }
        "state-schema" => graph.schemas[2] = vec![field("value", DataType::Int64, false, 0)],
        "schema-children" => graph.schemas[1].truncate(3),
        "schema-plain-children" => graph.schemas[0][0].children = 1,
        "schema-names" => graph.schemas[1][1].name = "id".to_owned(),
        "schema-deep" => {
            let nest = |_| field("deeper", DataType::ListOf, false, 1);
            graph.schemas[0] = (0..1_000).map(nest).chain([id()]).collect();
        }
        "schema-children-many" => graph.schemas[1][2].children = u32::MAX,
        "fixed-size-binary-0" => graph.schemas[1][1].data_type = DataType::FixedSizeBinary(0),
        "fixed-size-binary-huge" => graph.schemas[1][1].data_type = DataType::FixedSizeBinary(u32::MAX),
        "decimal" => {
            graph.schemas[1][1].data_type = DataType::Decimal128(types::DecimalType {
                precision: 77,
                scale: 0,
            });
        }
        "map" => graph.schemas[1][2].data_type = DataType::MapOf,
        "window-size" => {
            if let Head::Window(window) = &mut graph.chains[0].head {
                window.window.assigner = WindowAssigner::Tumbling(TumblingWindow {
                    size_ms: 0,
                    offset_ms: 0,
                });
            }
        }
        "window-huge" => {
            if let Head::Window(window) = &mut graph.chains[0].head {
                window.window.assigner = WindowAssigner::Session(SessionWindow { gap_ms: u64::MAX });
            }
        }
        "window-slices" => {
            if let Head::Window(window) = &mut graph.chains[0].head {
                window.window.assigner = WindowAssigner::Sliding(SlidingWindow {
                    size_ms: 86_400_000_000,
                    slide_ms: 1,
                    offset_ms: 0,
                });
            }
        }
        "late-port" => {
            if let Head::Window(window) = &mut graph.chains[0].head {
                window.window.late_ports = vec![Some(4)];
            }
        }
        "ttl" | "ttl-0" | "ttl-huge" => {
            let after_ms = match kind {
                "ttl-0" => 0,
                "ttl-huge" => u64::MAX,
                _ => 1,
            };
            let renewed_by = Renewal::Write;
            let ttl = Some(TimeToLive { after_ms, renewed_by });
            match &mut graph.chains[0].head {
                Head::Stateless => {}
                Head::Keyed(keyed) => {
                    keyed.always_writes = kind == "ttl";
                    keyed.states[0].ttl = ttl;
                }
                Head::Window(window) => window.accumulator.ttl = ttl,
                Head::Pattern(_) | Head::Unkeyed(_) => {}
            }
        }
        "max-parallelism" => graph.max_parallelism = u32::MAX,
        "parallelism-0" => graph.operators[2].parallelism = Some(0),
        "many-operators" => {
            let more = (0..20_000).map(|_| graph.operators[3].clone());
            let more: Vec<Operator> = more.collect();
            graph.operators.extend(more);
        }
        _ => {}
    }
    graph
}
