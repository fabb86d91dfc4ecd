//! The words in a drawing: what an operator does, how rows are partitioned, what a schema is.

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use millrace_core::graph::{
    Chain, Edge, EventTime, Graph, Head, LookupDecl, OperatorIndex, OperatorKind, Origin, Partition, RejectPolicy,
    RequestOrder, RequestsDecl, StateDecl, TableAccess, WatermarkSource, WatermarkStrategy, WindowAssigner, WindowDecl,
};

use super::chain_of;
use crate::format::duration_ms;

/// What an operator does: `files source`, `window.aggregate, tumbling 1h`, ... and its parallelism if it has one.
pub(super) fn operator(graph: &Graph, index: OperatorIndex) -> String {
    let operator = &graph.operators[index.0 as usize];
    let (what, rejects) = match &operator.kind {
        OperatorKind::Source {
            connector, on_reject, ..
        } => (format!("{} source", connector.kind), Some(on_reject)),
        OperatorKind::Sink { connector } => (format!("{} sink", connector.kind), None),
        OperatorKind::Watermarks(strategy) => (watermarks(strategy), None),
        OperatorKind::Requests(declared) => (requests(declared), None),
        OperatorKind::Lookup(declared) => (lookup(declared), Some(&declared.on_reject)),
        OperatorKind::Function {
            construct, on_reject, ..
        } => {
            let head = chain_of(graph, index).filter(|(_, chain)| chain.operators.first() == Some(&index));
            let head = head.and_then(|(_, chain)| head_text(chain));
            (
                head.map_or_else(|| construct.clone(), |head| format!("{construct}, {head}")),
                Some(on_reject),
            )
        }
    };
    let mut text = what;
    match rejects {
        None | Some(RejectPolicy::Fail) => {}
        Some(RejectPolicy::Skip) => text += ", skips rejected rows",
        Some(RejectPolicy::DeadLetter(path)) => text += &format!(", rejected rows to {path}"),
    }
    match operator.parallelism {
        Some(parallelism) => format!("{text}, parallelism {parallelism}"),
        None => text,
    }
}

/// Side output and partition of an edge; nothing for plain forwarding of a main output.
pub(super) fn edge(graph: &Graph, edge: &Edge) -> String {
    let sender = chain_of(graph, edge.from_operator).map(|(_, chain)| chain);
    let port = sender.and_then(|chain| chain.ports.get(edge.from_port as usize));
    let mut parts = Vec::new();
    if let Some(side) = port.and_then(|port| port.side.as_ref()) {
        parts.push(format!("side {side}"));
    }
    match &edge.partition {
        Partition::Forward => {}
        Partition::HashFields(fields) => {
            let input =
                chain_of(graph, edge.to_operator).and_then(|(_, chain)| chain.inputs.get(edge.to_input as usize));
            let name = |field: &u32| match input.and_then(|input| input.fields().get(*field as usize)) {
                Some(field) => field.name().clone(),
                None => format!("column {field}"),
            };
            parts.push(format!(
                "key {}",
                fields.iter().map(name).collect::<Vec<_>>().join(", ")
            ));
        }
        Partition::HashComputed => parts.push("computed key".to_owned()),
        Partition::Rebalance => parts.push("rebalance".to_owned()),
        Partition::Rescale => parts.push("rescale".to_owned()),
        Partition::Shuffle => parts.push("shuffle".to_owned()),
        Partition::Numbered => parts.push("custom".to_owned()),
        Partition::Broadcast => parts.push("broadcast".to_owned()),
        Partition::Global => parts.push("global".to_owned()),
        Partition::SameSubtask => parts.push("forward".to_owned()),
    }
    parts.join(", ")
}

/// A schema on one line: `word: utf8, n: int64?` (`?` nullable).
pub fn schema_text(schema: &Schema) -> String {
    schema
        .fields()
        .iter()
        .map(|field| field_text(field))
        .collect::<Vec<_>>()
        .join(", ")
}

fn field_text(field: &Field) -> String {
    format!(
        "{}: {}{}",
        field.name(),
        type_text(field.data_type()),
        if field.is_nullable() { "?" } else { "" }
    )
}

/// A type in the words of the WIT.
pub(super) fn type_text(data_type: &DataType) -> String {
    match data_type {
        DataType::Decimal128(precision, scale) => format!("decimal({precision}, {scale})"),
        DataType::FixedSizeBinary(length) => format!("bytes[{length}]"),
        DataType::Time64(_) => "time".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(unit, zone) => {
            let unit = match unit {
                TimeUnit::Second => "s",
                TimeUnit::Millisecond => "ms",
                TimeUnit::Microsecond => "us",
                TimeUnit::Nanosecond => "ns",
            };
            zone.as_ref().map_or_else(
                || format!("timestamp[{unit}]"),
                |zone| format!("timestamp[{unit}, {zone}]"),
            )
        }
        DataType::List(item) => {
            format!(
                "list<{}{}>",
                type_text(item.data_type()),
                if item.is_nullable() { "?" } else { "" }
            )
        }
        DataType::Struct(members) => {
            format!(
                "{{{}}}",
                members
                    .iter()
                    .map(|member| field_text(member))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(members) if members.len() == 2 => {
                format!(
                    "map<{}, {}>",
                    type_text(members[0].data_type()),
                    type_text(members[1].data_type())
                )
            }
            other => format!("map<{other}>"),
        },
        other => other.to_string().to_lowercase(),
    }
}

/// A state on one line: `count: int64`. The type of a list or a map says that it is one.
pub(super) fn state_text(state: &StateDecl) -> String {
    let holds = state
        .schema
        .fields()
        .first()
        .map_or_else(String::new, |field| type_text(field.data_type()));
    let expires = match state.ttl {
        None => String::new(),
        Some(ttl) => format!(" (expires {ttl})"),
    };
    format!("{}: {holds}{expires}", state.name)
}

fn watermarks(strategy: &WatermarkStrategy) -> String {
    let time = match &strategy.time {
        EventTime::Field(name) => format!("event time {name}"),
        EventTime::Computed => "computed event time".to_owned(),
        EventTime::Ingestion => "time of ingestion".to_owned(),
    };
    let late = match &strategy.source {
        WatermarkSource::Bounded(0) => String::new(),
        WatermarkSource::Bounded(bound) => format!(", up to {} out of order", duration(*bound)),
        WatermarkSource::Field(name) => format!(", watermark {name}"),
        WatermarkSource::Computed => ", computed watermark".to_owned(),
        WatermarkSource::Clock(behind) => format!(", watermark {} behind the clock", duration(*behind)),
    };
    let idle = strategy.idle_after_ms;
    let idle = idle.map_or_else(String::new, |after| format!(", idle after {}", duration(after)));
    let alignment = strategy.alignment.as_ref().map_or_else(String::new, |alignment| {
        let drift = duration(alignment.max_drift_ms);
        format!(", at most {drift} ahead in group {}", alignment.group)
    });
    format!("{time}{late}{idle}{alignment}")
}

fn duration(ms: u64) -> String {
    duration_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// Where requests go, in which order rows go on, and how many may be under way.
fn requests(declared: &RequestsDecl) -> String {
    let origins = declared.origins.iter().map(Origin::to_string).collect::<Vec<_>>();
    let order = match declared.order {
        RequestOrder::Ordered => "ordered",
        RequestOrder::Unordered => "unordered",
    };
    let capacity = declared.capacity;
    format!(
        "HTTP requests to {}, {order}, up to {capacity} under way",
        origins.join(", ")
    )
}

/// Which table, by which key, and what of it the host has.
fn lookup(declared: &LookupDecl) -> String {
    let LookupDecl { connector, table, .. } = declared;
    let keys: Vec<&str> = declared
        .key
        .iter()
        .filter_map(|column| Some(table.fields().get(*column as usize)?.name().as_str()))
        .collect();
    let access = match declared.access {
        TableAccess::Full { refresh_ms: None, .. } => "read once".to_owned(),
        TableAccess::Full {
            refresh_ms: Some(every),
            ..
        } => format!("read every {}", duration(every)),
        TableAccess::Cached {
            rows_max,
            expire_after_ms,
            ..
        } => {
            let expires = expire_after_ms.map_or_else(String::new, |after| format!(" for {}", duration(after)));
            format!("up to {rows_max} rows cached{expires}")
        }
        TableAccess::Uncached => "uncached".to_owned(),
    };
    let kind = if declared.outer { "left lookup" } else { "lookup" };
    format!("{kind} in {} table by {}, {access}", connector.kind, keys.join(", "))
}

fn head_text(chain: &Chain) -> Option<String> {
    match &chain.head {
        Head::Stateless => None,
        Head::Keyed { states, .. } if states.is_empty() => None,
        Head::Keyed { states, .. } => Some(format!(
            "state {}",
            states.iter().map(state_text).collect::<Vec<_>>().join(", ")
        )),
        Head::Window { window, .. } => Some(window_text(window)),
    }
}

/// A window on some words: `tumbling 1h`, `session gap 30m, lateness 5m`.
pub(super) fn window_text(window: &WindowDecl) -> String {
    let shifted = |offset: i64| {
        if offset == 0 {
            String::new()
        } else {
            format!(" offset {}", duration_ms(offset))
        }
    };
    let assigner = match window.assigner {
        WindowAssigner::Tumbling { size_ms, offset_ms } => {
            format!("tumbling {}{}", duration_ms(size_ms), shifted(offset_ms))
        }
        WindowAssigner::Sliding {
            size_ms,
            slide_ms,
            offset_ms,
        } => {
            format!(
                "sliding {} every {}{}",
                duration_ms(size_ms),
                duration_ms(slide_ms),
                shifted(offset_ms)
            )
        }
        WindowAssigner::Session { gap_ms } => format!("session gap {}", duration_ms(gap_ms)),
    };
    match window.allowed_lateness_ms {
        0 => assigner,
        lateness => format!("{assigner}, lateness {}", duration_ms(lateness)),
    }
}
