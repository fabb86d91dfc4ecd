//! The graph for programs: what the pipeline declares, with schemas as lists of fields.
//!
//! The graph's own types leave schemas out when they are serialized; they are put in here, in the words of the WIT.

use arrow_schema::Schema;
use millrace_core::connector::without_passwords;
use millrace_core::graph::{ConnectorConfig, Graph, Head, OperatorKind, StateDecl};
use serde_json::{Value, json};

use super::labels::type_text;

/// The whole graph.
pub fn render(graph: &Graph) -> Value {
    let mut value = serde_json::to_value(graph).expect("graphs have text keys only");
    for (index, operator) in graph.operators.iter().enumerate() {
        let place = &mut value["operators"][index]["kind"];
        match &operator.kind {
            OperatorKind::Source {
                connector,
                schema: rows,
                ..
            } => {
                place["Source"]["schema"] = schema(rows);
                place["Source"]["connector"]["options"] = options(connector);
            }
            OperatorKind::Sink { connector } => place["Sink"]["connector"]["options"] = options(connector),
            OperatorKind::Requests(requests) => place["Requests"]["schema"] = schema(&requests.schema),
            OperatorKind::Lookup(lookup) => {
                let place = &mut place["Lookup"];
                place["schema"] = schema(&lookup.schema);
                place["table"] = schema(&lookup.table);
                place["connector"]["options"] = options(&lookup.connector);
            }
            OperatorKind::Watermarks(_) | OperatorKind::Function { .. } => {}
        }
    }
    for (index, chain) in graph.chains.iter().enumerate() {
        let place = &mut value["chains"][index];
        place["inputs"] = chain.inputs.iter().map(|input| schema(input)).collect();
        for (port_index, port) in chain.ports.iter().enumerate() {
            let place = &mut place["ports"][port_index];
            place["schema"] = schema(&port.schema);
            place["computed_key"] = port.computed_key.as_ref().map_or(Value::Null, |key| schema(key));
        }
        match &chain.head {
            Head::Stateless => {}
            Head::Keyed { key_schema, states, .. } => {
                let place = &mut place["head"]["Keyed"];
                place["key_schema"] = schema(key_schema);
                for (state_index, state) in states.iter().enumerate() {
                    place["states"][state_index]["schema"] = state_schema(state);
                }
            }
            Head::Window {
                key_schema,
                accumulator,
                ..
            } => {
                let place = &mut place["head"]["Window"];
                place["key_schema"] = schema(key_schema);
                place["accumulator"]["schema"] = state_schema(accumulator);
            }
        }
    }
    value
}

/// Options of a connector as they may be shown.
fn options(connector: &ConnectorConfig) -> Value {
    let shown = |(name, value): &(String, String)| json!([name, without_passwords(value)]);
    connector.options.iter().map(shown).collect()
}

fn state_schema(state: &StateDecl) -> Value {
    schema(&state.schema)
}

fn schema(schema: &Schema) -> Value {
    let fields = schema.fields().iter();
    fields
        .map(|field| json!({ "name": field.name(), "type": type_text(field.data_type()), "nullable": field.is_nullable() }))
        .collect()
}
