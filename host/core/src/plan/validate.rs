//! What a graph must satisfy before it is planned. Errors name operators and fields.

use std::collections::{BTreeMap, BTreeSet};

use arrow_schema::{DataType, Schema};

use super::{groups, windows};
use crate::error::{Error, Result};
use crate::graph::{
    AUTO_PREFIX, Chain, Edge, EventTime, Graph, Head, Operator, OperatorIndex, OperatorKind, Partition, StateKind,
    WatermarkSource,
};
use crate::pattern;

fn refuse(code: &'static str, message: impl Into<String>) -> Result<()> {
    Err(Error::user(code, message))
}

/// Checks everything but cycles and parallelism.
pub(super) fn check(graph: &Graph) -> Result<()> {
    if !graph
        .operators
        .iter()
        .any(|operator| matches!(operator.kind, OperatorKind::Source { .. }))
    {
        return refuse("GR0004", "the pipeline has no source");
    }
    check_uids(graph)?;
    check_chains(graph)?;
    groups::check(graph)?;
    for edge in &graph.edges {
        check_edge(graph, edge)?;
    }
    check_connected(graph)
}

fn check_uids(graph: &Graph) -> Result<()> {
    let mut uids = BTreeMap::new();
    for operator in &graph.operators {
        let Some(uid) = &operator.uid else { continue };
        if uid.is_empty() || uid.starts_with(AUTO_PREFIX) {
            let name = &operator.name;
            return refuse(
                "GR0013",
                format!(
                    "operator `{name}` has the uid `{uid}`; a uid is not empty and does not begin with `{AUTO_PREFIX}`"
                ),
            );
        }
        let name = &operator.name;
        if let Some(other) = uids.insert(uid, name) {
            return refuse(
                "GR0005",
                format!("operators `{other}` and `{name}` both have the uid `{uid}`; a uid names one operator's state"),
            );
        }
    }
    Ok(())
}

fn operator(graph: &Graph, index: OperatorIndex) -> &Operator {
    &graph.operators[index.0 as usize]
}

fn chain_of<'a>(graph: &'a Graph, operator: &Operator) -> Option<&'a Chain> {
    match operator.kind {
        OperatorKind::Function { chain, .. } => graph.chains.get(chain.0 as usize),
        OperatorKind::Source { .. }
        | OperatorKind::Sink { .. }
        | OperatorKind::Watermarks(_)
        | OperatorKind::Requests(_)
        | OperatorKind::Lookup(_) => None,
    }
}

/// Every function is in exactly the chain it names, once.
fn check_chains(graph: &Graph) -> Result<()> {
    let mut members = BTreeSet::new();
    for (index, chain) in graph.chains.iter().enumerate() {
        if chain.operators.is_empty() {
            return refuse("GR0001", format!("chain {index} has no operators"));
        }
        for member in &chain.operators {
            let member_operator = operator(graph, *member);
            let named =
                matches!(member_operator.kind, OperatorKind::Function { chain, .. } if chain.0 as usize == index);
            if !named || !members.insert(*member) {
                return refuse(
                    "GR0001",
                    format!("operator `{}` does not belong to chain {index}", member_operator.name),
                );
            }
        }
        for port in &chain.ports {
            if !chain.operators.contains(&port.operator) {
                let name = &operator(graph, port.operator).name;
                return refuse(
                    "GR0001",
                    format!("chain {index} has a port of operator `{name}`, which is not in it"),
                );
            }
        }
        windows::check(graph, chain)?;
        check_late_ports(graph, chain)?;
        check_pattern(graph, chain)?;
        check_lifetimes(graph, chain)?;
        check_operator_state(graph, chain)?;
    }
    for (index, function) in graph.operators.iter().enumerate() {
        let is_function = matches!(function.kind, OperatorKind::Function { .. });
        if is_function && !members.contains(&OperatorIndex(index as u32)) {
            return refuse(
                "GR0001",
                format!("operator `{}` is missing from its chain", function.name),
            );
        }
    }
    Ok(())
}

/// A pattern makes sense, and has one input.
fn check_pattern(graph: &Graph, chain: &Chain) -> Result<()> {
    let Head::Keyed {
        pattern: Some(declared),
        ..
    } = &chain.head
    else {
        return Ok(());
    };
    let name = &operator(graph, chain.operators[0]).name;
    if chain.inputs.len() != 1 {
        return refuse("GR0018", format!("operator `{name}`: a pattern has one input"));
    }
    pattern::compile(declared)
        .map(drop)
        .map_err(|error| error.context(format!("operator `{name}`")))
}

fn check_late_ports(graph: &Graph, chain: &Chain) -> Result<()> {
    let late_ports = match &chain.head {
        Head::Window { window, .. } => window.late_ports.clone(),
        Head::Keyed {
            pattern: Some(pattern), ..
        } => vec![pattern.late_port],
        Head::Keyed { pattern: None, .. } | Head::Stateless => return Ok(()),
    };
    let name = &operator(graph, chain.operators[0]).name;
    for (input, late_port) in late_ports.iter().enumerate() {
        let Some(port) = *late_port else { continue };
        match chain.ports.get(port as usize) {
            Some(port) if chain.inputs.get(input) == Some(&port.schema) && port.computed_key.is_none() => {}
            Some(_) => refuse(
                "GR0007",
                format!("the late output of `{name}` does not have the schema of its input"),
            )?,
            None => refuse(
                "GR0006",
                format!("the late output of `{name}` is port {port}, which is not there"),
            )?,
        }
    }
    Ok(())
}

/// States of a key may have a time to live, if calls say what they touch.
fn check_lifetimes(graph: &Graph, chain: &Chain) -> Result<()> {
    let name = &operator(graph, chain.operators[0]).name;
    let (states, refused) = match &chain.head {
        Head::Stateless => return Ok(()),
        Head::Keyed {
            states, unkeyed: true, ..
        } => (
            states.as_slice(),
            Some("it belongs to no key, and lives until it is cleared"),
        ),
        Head::Keyed {
            states, always_writes, ..
        } => (
            states.as_slice(),
            always_writes.then_some("its calls do not say what they touch"),
        ),
        Head::Window { accumulator, .. } => (
            std::slice::from_ref(accumulator),
            Some("accumulators live as long as their windows"),
        ),
    };
    for state in states {
        let Some(ttl) = state.ttl else { continue };
        let short = (ttl.after_ms <= 0).then_some("it is less than a ms");
        let broadcast =
            (state.kind == StateKind::BroadcastMap).then_some("every subtask keeps a copy of broadcast state");
        if let Some(why) = refused.or(short).or(broadcast) {
            let state = &state.name;
            return refuse(
                "GR0015",
                format!("state `{state}` of `{name}` cannot have a time to live: {why}"),
            );
        }
    }
    Ok(())
}

/// Lists of a subtask are where rows have no key, and nothing else is but broadcast state.
fn check_operator_state(graph: &Graph, chain: &Chain) -> Result<()> {
    let Head::Keyed { states, unkeyed, .. } = &chain.head else {
        return Ok(());
    };
    let name = &operator(graph, chain.operators[0]).name;
    for state in states {
        let fits = match state.kind {
            StateKind::List | StateKind::BroadcastMap => true,
            StateKind::UnionList => *unkeyed,
            StateKind::Value | StateKind::Map | StateKind::LargeMap | StateKind::LargeList | StateKind::Accumulator => {
                !unkeyed
            }
        };
        if !fits {
            let (state, keyed) = (&state.name, if *unkeyed { "have no key" } else { "have a key" });
            return refuse(
                "GR0020",
                format!("state `{state}` of `{name}` is of a kind that there is not where rows {keyed}"),
            );
        }
    }
    Ok(())
}

/// Schema of the rows that leave an operator's port, if it has that port.
fn output_schema(graph: &Graph, index: OperatorIndex, port: u32) -> Option<&Schema> {
    let from = operator(graph, index);
    match &from.kind {
        OperatorKind::Source { schema, .. } => (port == 0).then_some(schema.as_ref()),
        OperatorKind::Sink { .. } => None,
        OperatorKind::Requests(requests) => (port == 0).then_some(requests.schema.as_ref()),
        OperatorKind::Lookup(lookup) => (port == 0).then_some(lookup.schema.as_ref()),
        OperatorKind::Watermarks(_) => {
            let upstream = graph.edges.iter().find(|edge| edge.to_operator == index)?;
            if port != 0 || upstream.from_operator >= index {
                return None; // operators are declared before those that read them, so this ends
            }
            output_schema(graph, upstream.from_operator, upstream.from_port)
        }
        OperatorKind::Function { .. } => chain_of(graph, from)?
            .ports
            .get(port as usize)
            .map(|port| port.schema.as_ref()),
    }
}

fn check_edge(graph: &Graph, edge: &Edge) -> Result<()> {
    let (from, to) = (operator(graph, edge.from_operator), operator(graph, edge.to_operator));
    let name = format!("edge from `{}` to `{}`", from.name, to.name);
    let Some(schema) = output_schema(graph, edge.from_operator, edge.from_port) else {
        return refuse(
            "GR0006",
            format!("{name}: `{}` has no output port {}", from.name, edge.from_port),
        );
    };
    check_partition(graph, edge, schema, &name)?;
    match &to.kind {
        OperatorKind::Source { .. } => refuse("GR0006", format!("{name}: `{}` is a source and takes no rows", to.name)),
        OperatorKind::Sink { .. } if edge.to_input != 0 => refuse("GR0006", format!("{name}: a sink has one input")),
        OperatorKind::Sink { .. } => Ok(()),
        OperatorKind::Watermarks(strategy) => {
            check_event_time(graph, edge, &strategy.time, schema, &name)?;
            check_watermarks(graph, edge, &strategy.source, schema, &name)
        }
        OperatorKind::Requests(requests) => requests.check(schema).map_err(|error| error.context(name)),
        OperatorKind::Lookup(lookup) => lookup.check(schema).map_err(|error| error.context(name)),
        OperatorKind::Function { .. } => {
            let chain = chain_of(graph, to).expect("chains were checked");
            if chain.operators[0] != edge.to_operator {
                return refuse("GR0006", format!("{name}: `{}` is not the head of its chain", to.name));
            }
            let Some(input) = chain.inputs.get(edge.to_input as usize) else {
                return refuse(
                    "GR0006",
                    format!("{name}: `{}` has no input {}", to.name, edge.to_input),
                );
            };
            check_schemas(schema, input, &name)
        }
    }
}

fn check_event_time(graph: &Graph, edge: &Edge, time: &EventTime, schema: &Schema, name: &str) -> Result<()> {
    match time {
        EventTime::Computed => {
            let computes = chain_of(graph, operator(graph, edge.from_operator))
                .and_then(|chain| chain.ports.get(edge.from_port as usize))
                .is_some_and(|port| port.computes_time);
            if computes {
                return Ok(());
            }
            refuse(
                "GR0009",
                format!("{name}: event time is to be computed, but the sender does not compute it"),
            )
        }
        EventTime::Ingestion => Ok(()),
        EventTime::Field(field) => {
            let Ok(column) = schema.field_with_name(field) else {
                return refuse(
                    "GR0009",
                    format!("{name}: event time is field `{field}`, which the rows do not have"),
                );
            };
            let is_time = matches!(
                column.data_type(),
                DataType::Int64 | DataType::Timestamp(_, _) | DataType::Date32
            );
            if is_time && !column.is_nullable() {
                return Ok(());
            }
            let null = if column.is_nullable() { "nullable " } else { "" };
            let message = format!(
                "{name}: event time is field `{field}`, a {null}{}; it must be an int64 in ms, a timestamp or a date, not nullable",
                column.data_type()
            );
            refuse("GR0009", message)
        }
    }
}

/// Rows can say the watermark: in a column, or as the computed key.
fn check_watermarks(graph: &Graph, edge: &Edge, source: &WatermarkSource, schema: &Schema, name: &str) -> Result<()> {
    let is_time = |data_type: &DataType| {
        matches!(
            data_type,
            DataType::Int64 | DataType::Timestamp(_, _) | DataType::Date32
        )
    };
    let found = match source {
        WatermarkSource::Bounded(_) | WatermarkSource::Clock(_) => return Ok(()),
        WatermarkSource::Field(field) => match schema.field_with_name(field) {
            Ok(column) if is_time(column.data_type()) => return Ok(()),
            Ok(column) => format!("field `{field}`, a {}", column.data_type()),
            Err(_) => format!("field `{field}`, which the rows do not have"),
        },
        WatermarkSource::Computed => {
            let port = chain_of(graph, operator(graph, edge.from_operator));
            let port = port.and_then(|chain| chain.ports.get(edge.from_port as usize));
            match port.and_then(|port| port.computed_key.as_ref()) {
                Some(key) if key.fields().len() == 1 && *key.field(0).data_type() == DataType::Int64 => return Ok(()),
                Some(_) => "computed, but not as one int64".to_owned(),
                None => "to be computed, but the sender does not compute it".to_owned(),
            }
        }
    };
    let message = format!("{name}: the watermark is {found}; rows say it as an int64 in ms, a timestamp or a date");
    refuse("GR0009", message)
}

fn check_partition(graph: &Graph, edge: &Edge, schema: &Schema, name: &str) -> Result<()> {
    let to = operator(graph, edge.to_operator);
    let key = match chain_of(graph, to).map(|chain| &chain.head) {
        Some(Head::Stateless | Head::Keyed { unkeyed: true, .. }) | None => None,
        Some(Head::Keyed { key_schema, .. } | Head::Window { key_schema, .. }) => Some(key_schema),
    };
    let computed = chain_of(graph, operator(graph, edge.from_operator))
        .and_then(|chain| chain.ports.get(edge.from_port as usize))
        .and_then(|port| port.computed_key.as_ref());
    let given: Vec<&DataType> = match &edge.partition {
        Partition::HashFields(fields) => {
            if let Some(field) = fields.iter().find(|field| **field as usize >= schema.fields().len()) {
                return refuse(
                    "GR0008",
                    format!("{name}: the key names column {field}, which the rows do not have"),
                );
            }
            fields
                .iter()
                .map(|field| schema.field(*field as usize).data_type())
                .collect()
        }
        Partition::HashComputed => match computed {
            Some(key) => key.fields().iter().map(|field| field.data_type()).collect(),
            None => {
                return refuse(
                    "GR0008",
                    format!("{name}: the key is to be computed, but the sender does not"),
                );
            }
        },
        Partition::Numbered if !computed.is_some_and(|key| is_number(key)) => {
            return refuse(
                "GR0008",
                format!("{name}: rows go by a number, but the sender computes none"),
            );
        }
        Partition::Forward
        | Partition::Rebalance
        | Partition::Rescale
        | Partition::Shuffle
        | Partition::Numbered
        | Partition::Broadcast
        | Partition::Global
        | Partition::SameSubtask => {
            // Of all edges of an input: a row with a key and one without cannot be told apart.
            let mut inputs = graph.edges.iter().filter(|other| is_same_input(other, edge));
            let broadcast = inputs.all(|other| other.partition == Partition::Broadcast);
            return match key {
                None => Ok(()),
                Some(_) if broadcast && has_broadcast_state(graph, to) => Ok(()),
                Some(_) => refuse(
                    "GR0008",
                    format!(
                        "{name}: `{}` is keyed, but the rows are not partitioned by key",
                        to.name
                    ),
                ),
            };
        }
    };
    let Some(key) = key else { return Ok(()) };
    let expected: Vec<&DataType> = key.fields().iter().map(|field| field.data_type()).collect();
    if expected != given {
        return refuse(
            "GR0008",
            format!("{name}: the key is {given:?}, but `{}` expects {expected:?}", to.name),
        );
    }
    Ok(())
}

/// Whether a computed key is the number of a subtask.
fn is_number(key: &Schema) -> bool {
    matches!(key.fields().as_ref(), [number] if *number.data_type() == DataType::UInt32 && !number.is_nullable())
}

fn is_same_input(a: &Edge, b: &Edge) -> bool {
    (a.to_operator, a.to_input) == (b.to_operator, b.to_input)
}

/// Whether the operator's chain has state that every subtask has whole.
fn has_broadcast_state(graph: &Graph, operator: &Operator) -> bool {
    match chain_of(graph, operator).map(|chain| &chain.head) {
        Some(Head::Keyed { states, .. }) => states.iter().any(|state| state.kind == StateKind::BroadcastMap),
        Some(Head::Stateless | Head::Window { .. }) | None => false,
    }
}

/// Names the first field in which two schemas differ.
fn check_schemas(from: &Schema, to: &Schema, name: &str) -> Result<()> {
    for field in to.fields() {
        let Ok(sent) = from.field_with_name(field.name()) else {
            return refuse(
                "GR0007",
                format!("{name}: field `{}` is expected, but not sent", field.name()),
            );
        };
        if sent.data_type() != field.data_type() || sent.is_nullable() != field.is_nullable() {
            let render = |field: &arrow_schema::Field| {
                format!(
                    "{}{}",
                    if field.is_nullable() { "nullable " } else { "" },
                    field.data_type()
                )
            };
            let message = format!(
                "{name}: field `{}` is sent as {}, but expected as {}",
                field.name(),
                render(sent),
                render(field)
            );
            return refuse("GR0007", message);
        }
    }
    if let Some(extra) = from
        .fields()
        .iter()
        .find(|field| to.field_with_name(field.name()).is_err())
    {
        return refuse(
            "GR0007",
            format!("{name}: field `{}` is sent, but not expected", extra.name()),
        );
    }
    let order = from
        .fields()
        .iter()
        .zip(to.fields())
        .find(|(sent, field)| sent.name() != field.name());
    match order {
        None => Ok(()),
        Some((sent, field)) => refuse(
            "GR0007",
            format!(
                "{name}: field `{}` is sent where `{}` is expected",
                sent.name(),
                field.name()
            ),
        ),
    }
}

/// Everything but sources is fed; every input of a chain is.
fn check_connected(graph: &Graph) -> Result<()> {
    for (index, operator) in graph.operators.iter().enumerate() {
        let index = OperatorIndex(index as u32);
        let fed = |input: u32| {
            graph
                .edges
                .iter()
                .any(|edge| edge.to_operator == index && edge.to_input == input)
        };
        let inputs = match &operator.kind {
            OperatorKind::Source { .. } => 0,
            OperatorKind::Sink { .. }
            | OperatorKind::Watermarks(_)
            | OperatorKind::Requests(_)
            | OperatorKind::Lookup(_) => 1,
            OperatorKind::Function { .. } => {
                let chain = chain_of(graph, operator).expect("chains were checked");
                if chain.operators[0] == index {
                    chain.inputs.len() as u32
                } else {
                    0
                }
            }
        };
        if let Some(input) = (0..inputs).find(|input| !fed(*input)) {
            return refuse("GR0006", format!("input {input} of `{}` has no edge", operator.name));
        }
    }
    Ok(())
}
