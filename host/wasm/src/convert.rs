//! From the contract's declarations to the core's: schemas, graph, parameters.
//!
//! Nothing here trusts the guest: indices and shapes are checked as they are converted.

mod lookup;
mod pattern;
mod requests;

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use millrace_core::collections::CollectionKind;
use millrace_core::graph::{self, ChainIndex, OperatorIndex};
use millrace_core::key::check_key_schema;
use millrace_core::schema::{Declared, Hints, Missing, Variant};
use millrace_core::{Error, Result};

use crate::bindings::{dataflow, types};

/// Depth of nesting that a schema may have.
const SCHEMA_DEPTH_MAX: usize = 32;

/// Declarations (operators, chains, edges, schemas, fields) that a graph may have of each kind.
const DECLARATIONS_MAX: usize = 10_000;

/// Variants of a sum type: as many as a tag of one byte tells apart.
const VARIANTS_MAX: usize = 128;

/// Code of every error about a graph that breaks the contract.
const CODE: &str = "GR0001";

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::user(CODE, message))
}

/// A schema, and what its fields say of earlier versions.
struct DeclaredSchema {
    schema: SchemaRef,
    hints: Vec<Hints>,
}

/// A flat schema as an Arrow schema.
fn schema(fields: &[types::Field]) -> Result<DeclaredSchema> {
    let mut rest = fields;
    let (mut columns, mut hints) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (column, said) = field(&mut rest, 0)?;
        columns.push(column);
        hints.push(said);
    }
    unique_names(&columns, "the schema")?;
    Ok(DeclaredSchema {
        schema: Arc::new(Schema::new(columns)),
        hints,
    })
}

fn unique_names(fields: &[Field], owner: &str) -> Result<()> {
    let mut names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => refuse(format!("{owner} has two fields named `{}`", pair[0])),
        None => Ok(()),
    }
}

fn field(rest: &mut &[types::Field], depth: usize) -> Result<(Field, Hints)> {
    let Some((first, tail)) = rest.split_first() else {
        return refuse("a schema ends before all children of its fields");
    };
    if depth > SCHEMA_DEPTH_MAX {
        return refuse(format!(
            "field `{}` is nested deeper than {SCHEMA_DEPTH_MAX}",
            first.name
        ));
    }
    *rest = tail;
    let (mut children, mut said) = (Vec::new(), Vec::new());
    for _ in 0..first.children {
        let (child, hints) = field(rest, depth + 1)?;
        children.push(child);
        said.push(hints);
    }
    let data_type = data_type(first, children)?;
    if !first.variants.is_empty() && (data_type != DataType::Int8 || first.variants.len() > VARIANTS_MAX) {
        return refuse(format!("field `{}` has variants and is no tag of them", first.name));
    }
    let variant = |variant: &types::VariantName| Variant {
        name: variant.name.clone(),
        aliases: variant.aliases.clone(),
    };
    let hints = Hints {
        aliases: first.aliases.clone(),
        missing: match &first.when_missing {
            types::Missing::Undeclared => Missing::Undeclared,
            types::Missing::Zero => Missing::Zero,
            types::Missing::Text(text) => Missing::Text(text.clone()),
        },
        variants: first.variants.iter().map(variant).collect(),
        children: said,
    };
    Ok((Field::new(&first.name, data_type, first.nullable), hints))
}

fn data_type(field: &types::Field, children: Vec<Field>) -> Result<DataType> {
    use types::DataType as T;
    let expected = match field.data_type {
        T::ListOf | T::MapOf => Some(1),
        T::StructOf => None,
        _ => Some(0),
    };
    if expected.is_some_and(|expected| expected != children.len()) {
        return refuse(format!(
            "field `{}` has {} children, which its type does not have",
            field.name,
            children.len()
        ));
    }
    Ok(match &field.data_type {
        T::Boolean => DataType::Boolean,
        T::Int8 => DataType::Int8,
        T::Int16 => DataType::Int16,
        T::Int32 => DataType::Int32,
        T::Int64 => DataType::Int64,
        T::Uint8 => DataType::UInt8,
        T::Uint16 => DataType::UInt16,
        T::Uint32 => DataType::UInt32,
        T::Uint64 => DataType::UInt64,
        T::Float32 => DataType::Float32,
        T::Float64 => DataType::Float64,
        T::Decimal128(decimal) => {
            if decimal.precision == 0 || decimal.precision > 38 || decimal.scale.unsigned_abs() > 38 {
                return refuse(format!("field `{}` is a decimal of more than 38 digits", field.name));
            }
            DataType::Decimal128(decimal.precision, decimal.scale)
        }
        T::Utf8 => DataType::Utf8,
        T::Binary => DataType::Binary,
        T::FixedSizeBinary(width) => match i32::try_from(*width) {
            Ok(width) if width > 0 && width <= 65_536 => DataType::FixedSizeBinary(width),
            _ => {
                return refuse(format!(
                    "field `{}` has {width} bytes per value; 1 to 65536 are possible",
                    field.name
                ));
            }
        },
        T::Date32 => DataType::Date32,
        T::Time64 => DataType::Time64(TimeUnit::Microsecond),
        T::Timestamp(timestamp) => {
            DataType::Timestamp(time_unit(timestamp.unit), timestamp.zone.as_deref().map(Arc::from))
        }
        T::ListOf => DataType::List(Arc::new(only(children))),
        T::StructOf => {
            unique_names(&children, &format!("field `{}`", field.name))?;
            DataType::Struct(Fields::from(children))
        }
        T::MapOf => map_type(field, only(children))?,
    })
}

fn only(children: Vec<Field>) -> Field {
    children.into_iter().next().expect("the number of children was checked")
}

fn map_type(field: &types::Field, entries: Field) -> Result<DataType> {
    let valid = match entries.data_type() {
        DataType::Struct(members) => members.len() == 2 && !members[0].is_nullable() && !entries.is_nullable(),
        _ => false,
    };
    if !valid {
        return refuse(format!(
            "field `{}` is a map whose child is not a struct of key and value",
            field.name
        ));
    }
    Ok(DataType::Map(Arc::new(entries), false))
}

fn time_unit(unit: types::TimeUnit) -> TimeUnit {
    match unit {
        types::TimeUnit::Second => TimeUnit::Second,
        types::TimeUnit::Millisecond => TimeUnit::Millisecond,
        types::TimeUnit::Microsecond => TimeUnit::Microsecond,
        types::TimeUnit::Nanosecond => TimeUnit::Nanosecond,
    }
}

/// Declared parameters.
pub(crate) fn parameters(parameters: Vec<dataflow::Parameter>) -> Vec<graph::Parameter> {
    let parameter_type = |parameter_type| match parameter_type {
        dataflow::ParameterType::Text => graph::ParameterType::Text,
        dataflow::ParameterType::Integer => graph::ParameterType::Integer,
        dataflow::ParameterType::Float => graph::ParameterType::Float,
        dataflow::ParameterType::Boolean => graph::ParameterType::Boolean,
        dataflow::ParameterType::Duration => graph::ParameterType::Duration,
    };
    parameters
        .into_iter()
        .map(|parameter| graph::Parameter {
            name: parameter.name,
            parameter_type: parameter_type(parameter.parameter_type),
            default_value: parameter.default_value,
            doc: parameter.doc,
        })
        .collect()
}

/// The whole graph. Checks indices into tables; what the graph means is checked by the planner.
pub(crate) fn graph(graph: dataflow::Graph) -> Result<graph::Graph> {
    for (what, count) in [
        ("operators", graph.operators.len()),
        ("edges", graph.edges.len()),
        ("chains", graph.chains.len()),
        ("schemas", graph.schemas.len()),
    ] {
        if count > DECLARATIONS_MAX {
            return refuse(format!("the graph has {count} {what}; {DECLARATIONS_MAX} are possible"));
        }
    }
    let schemas = graph
        .schemas
        .iter()
        .map(|fields| schema(fields))
        .collect::<Result<Vec<_>>>()?;
    let tables = Tables {
        schemas,
        operators: graph.operators.len(),
        chains: graph.chains.len(),
    };
    Ok(graph::Graph {
        name: graph.name,
        operators: graph
            .operators
            .into_iter()
            .map(|operator| tables.operator(operator))
            .collect::<Result<_>>()?,
        edges: graph
            .edges
            .into_iter()
            .map(|edge| tables.edge(edge))
            .collect::<Result<_>>()?,
        chains: graph
            .chains
            .into_iter()
            .map(|chain| tables.chain(chain))
            .collect::<Result<_>>()?,
        max_parallelism: graph.max_parallelism,
    })
}

/// What indices in a graph may point to.
struct Tables {
    schemas: Vec<DeclaredSchema>,
    operators: usize,
    chains: usize,
}

impl Tables {
    fn schema(&self, index: u32) -> Result<SchemaRef> {
        self.declared(index).map(|declared| declared.schema.clone())
    }

    fn declared(&self, index: u32) -> Result<&DeclaredSchema> {
        match self.schemas.get(index as usize) {
            Some(schema) => Ok(schema),
            None => refuse(format!(
                "the graph names schema {index}, but has {}",
                self.schemas.len()
            )),
        }
    }

    fn operator_index(&self, index: u32) -> Result<OperatorIndex> {
        if (index as usize) < self.operators {
            return Ok(OperatorIndex(index));
        }
        refuse(format!("the graph names operator {index}, but has {}", self.operators))
    }

    fn operator(&self, operator: dataflow::Operator) -> Result<graph::Operator> {
        if operator.name.is_empty() {
            return refuse("an operator has no name");
        }
        let kind = match operator.kind {
            dataflow::OperatorKind::Source(source) => graph::OperatorKind::Source {
                connector: connector(source.connector),
                schema: self.schema(source.schema)?,
                hints: self.declared(source.schema)?.hints.clone(),
                on_reject: reject_policy(source.on_reject),
            },
            dataflow::OperatorKind::Sink(sink) => graph::OperatorKind::Sink {
                connector: connector(sink.connector),
            },
            dataflow::OperatorKind::Watermarks(watermarks) => {
                graph::OperatorKind::Watermarks(graph::WatermarkStrategy {
                    time: match watermarks.time {
                        dataflow::EventTime::Field(name) => graph::EventTime::Field(name),
                        dataflow::EventTime::Computed => graph::EventTime::Computed,
                        dataflow::EventTime::Ingestion => graph::EventTime::Ingestion,
                    },
                    source: match watermarks.source {
                        dataflow::WatermarkSource::Bounded(ms) => graph::WatermarkSource::Bounded(ms),
                        dataflow::WatermarkSource::Field(name) => graph::WatermarkSource::Field(name),
                        dataflow::WatermarkSource::Computed => graph::WatermarkSource::Computed,
                        dataflow::WatermarkSource::Clock(ms) => graph::WatermarkSource::Clock(ms),
                    },
                    idle_after_ms: watermarks.idle_after_ms,
                    alignment: watermarks.alignment.map(|alignment| graph::WatermarkAlignment {
                        group: alignment.group,
                        max_drift_ms: alignment.max_drift_ms,
                    }),
                })
            }
            dataflow::OperatorKind::Requests(requests) => graph::OperatorKind::Requests(self.requests(requests)?),
            dataflow::OperatorKind::Lookup(lookup) => graph::OperatorKind::Lookup(self.lookup(lookup)?),
            dataflow::OperatorKind::Function(function) => {
                if function.chain as usize >= self.chains {
                    return refuse(format!(
                        "operator `{}` is in chain {}, which is not there",
                        operator.name, function.chain
                    ));
                }
                graph::OperatorKind::Function {
                    construct: function.construct,
                    chain: ChainIndex(function.chain),
                    on_reject: reject_policy(function.on_reject),
                }
            }
        };
        Ok(graph::Operator {
            name: operator.name,
            uid: operator.uid,
            kind,
            parallelism: operator.parallelism,
            slot_sharing_group: operator.slot_sharing_group,
        })
    }

    fn edge(&self, edge: dataflow::Edge) -> Result<graph::Edge> {
        Ok(graph::Edge {
            from_operator: self.operator_index(edge.from_operator)?,
            from_port: edge.from_port,
            to_operator: self.operator_index(edge.to_operator)?,
            to_input: edge.to_input,
            partition: match edge.partition {
                dataflow::Partition::Forward => graph::Partition::Forward,
                dataflow::Partition::HashFields(fields) => graph::Partition::HashFields(fields),
                dataflow::Partition::HashComputed => graph::Partition::HashComputed,
                dataflow::Partition::Rebalance => graph::Partition::Rebalance,
                dataflow::Partition::Rescale => graph::Partition::Rescale,
                dataflow::Partition::Shuffle => graph::Partition::Shuffle,
                dataflow::Partition::Numbered => graph::Partition::Numbered,
                dataflow::Partition::Broadcast => graph::Partition::Broadcast,
                dataflow::Partition::Global => graph::Partition::Global,
                dataflow::Partition::SameSubtask => graph::Partition::SameSubtask,
            },
        })
    }

    fn chain(&self, chain: dataflow::Chain) -> Result<graph::Chain> {
        let head = match chain.head {
            dataflow::Head::Stateless => graph::Head::Stateless,
            dataflow::Head::Keyed(keyed) => self.keyed(keyed)?,
            dataflow::Head::Unkeyed(unkeyed) => self.unkeyed(unkeyed)?,
            dataflow::Head::Pattern(pattern) => self.pattern(pattern, &chain.inputs)?,
            dataflow::Head::Window(window) => graph::Head::Window {
                key_schema: self.schema(window.key_schema)?,
                key_hints: self.declared(window.key_schema)?.hints.clone(),
                window: graph::WindowDecl {
                    assigner: assigner(window.window.assigner),
                    allowed_lateness_ms: bounded_millis(window.window.allowed_lateness_ms),
                    late_ports: window.window.late_ports,
                },
                accumulator: self.accumulator(window.accumulator)?,
            },
        };
        let input_hints = chain.inputs.iter().map(|index| self.declared(*index));
        Ok(graph::Chain {
            input_hints: input_hints
                .map(|declared| Ok(declared?.hints.clone()))
                .collect::<Result<_>>()?,
            operators: chain
                .operators
                .into_iter()
                .map(|index| self.operator_index(index))
                .collect::<Result<_>>()?,
            inputs: chain
                .inputs
                .into_iter()
                .map(|index| self.schema(index))
                .collect::<Result<_>>()?,
            head,
            ports: chain
                .ports
                .into_iter()
                .map(|port| self.port(port))
                .collect::<Result<_>>()?,
        })
    }

    fn keyed(&self, keyed: dataflow::Keyed) -> Result<graph::Head> {
        let states = keyed.states.into_iter().map(|state| self.state(state));
        let states = states.collect::<Result<Vec<_>>>()?;
        let large = states.iter().find(|state| state.kind.is_large());
        if let (Some(large), true) = (large, keyed.always_writes) {
            let name = &large.name;
            return refuse(format!(
                "state `{name}` is large, in a chain that writes all states always"
            ));
        }
        Ok(graph::Head::Keyed {
            key_schema: self.schema(keyed.key_schema)?,
            key_hints: self.declared(keyed.key_schema)?.hints.clone(),
            states,
            always_writes: keyed.always_writes,
            pattern: None,
            unkeyed: false,
            applies: keyed.applies,
            windows: keyed.windows,
        })
    }

    fn unkeyed(&self, unkeyed: dataflow::Unkeyed) -> Result<graph::Head> {
        let states = unkeyed.states.into_iter().map(|state| self.state(state));
        Ok(graph::Head::Keyed {
            key_schema: graph::subtask_key(),
            key_hints: Vec::new(),
            states: states.collect::<Result<_>>()?,
            always_writes: false,
            pattern: None,
            unkeyed: true,
            applies: false,
            windows: None,
        })
    }

    fn state(&self, state: dataflow::StateDecl) -> Result<graph::StateDecl> {
        let value = self.state_value(&state.name, state.schema)?;
        let migrations = state.migrations.iter().map(|old| self.state_value(&state.name, *old));
        let migrations = migrations.collect::<Result<_>>()?;
        let kind = match state.kind {
            dataflow::StateKind::Value => graph::StateKind::Value,
            dataflow::StateKind::ListState => graph::StateKind::List,
            dataflow::StateKind::MapState => graph::StateKind::Map,
            dataflow::StateKind::Accumulator => graph::StateKind::Accumulator,
            dataflow::StateKind::LargeMap => graph::StateKind::LargeMap,
            dataflow::StateKind::LargeList => graph::StateKind::LargeList,
            dataflow::StateKind::BroadcastMap => graph::StateKind::BroadcastMap,
            dataflow::StateKind::UnionList => graph::StateKind::UnionList,
        };
        let state = graph::StateDecl {
            name: state.name,
            aliases: state.aliases,
            kind,
            schema: self.schema(state.schema)?,
            hints: value.hints,
            migrations,
            ttl: state.ttl.map(time_to_live).transpose()?,
        };
        check_large(&state)?;
        Ok(state)
    }

    fn accumulator(&self, state: dataflow::StateDecl) -> Result<graph::StateDecl> {
        let state = self.state(state)?;
        if state.kind.is_large() {
            return refuse(format!("the accumulator `{}` of a window is large", state.name));
        }
        Ok(state)
    }

    /// The one field of a state's schema.
    fn state_value(&self, state: &str, index: u32) -> Result<Declared> {
        let declared = self.declared(index)?;
        match (declared.schema.fields().as_ref(), declared.hints.as_slice()) {
            ([field], [hints]) if field.is_nullable() => Ok(Declared {
                field: field.clone(),
                hints: hints.clone(),
            }),
            _ => refuse(format!("the schema of state `{state}` is not one nullable field")),
        }
    }

    fn port(&self, port: dataflow::Port) -> Result<graph::Port> {
        Ok(graph::Port {
            operator: self.operator_index(port.operator)?,
            side: port.side,
            schema: self.schema(port.schema)?,
            hints: self.declared(port.schema)?.hints.clone(),
            computes_time: port.computes_time,
            computed_key: port.computed_key.map(|index| self.schema(index)).transpose()?,
        })
    }
}

/// A large state is made of entries, which nobody but the host converts.
fn check_large(state: &graph::StateDecl) -> Result<()> {
    let (kind, what) = match state.kind {
        graph::StateKind::LargeMap | graph::StateKind::BroadcastMap => (CollectionKind::Map, "map"),
        graph::StateKind::LargeList => (CollectionKind::List, "list"),
        graph::StateKind::Value
        | graph::StateKind::List
        | graph::StateKind::Map
        | graph::StateKind::Accumulator
        | graph::StateKind::UnionList => return Ok(()),
    };
    let name = &state.name;
    let Some(collection) = state.collection().filter(|collection| collection.kind == kind) else {
        return refuse(format!("the schema of state `{name}`, a large {what}, is no {what}"));
    };
    // What cannot tell keys apart cannot tell entries apart either.
    let key = collection.entry.as_ref().clone().with_name("key");
    check_key_schema(&Schema::new(vec![key])).map_err(|error| error.context(format!("state `{name}`")))?;
    if !state.migrations.is_empty() {
        return refuse(format!(
            "state `{name}` is large and has migrations, which see values as a whole"
        ));
    }
    Ok(())
}

fn connector(connector: dataflow::Connector) -> graph::ConnectorConfig {
    graph::ConnectorConfig {
        kind: connector.kind,
        options: connector.options,
    }
}

fn reject_policy(policy: dataflow::RejectPolicy) -> graph::RejectPolicy {
    match policy {
        dataflow::RejectPolicy::Fail => graph::RejectPolicy::Fail,
        dataflow::RejectPolicy::Skip => graph::RejectPolicy::Skip,
        dataflow::RejectPolicy::DeadLetter(path) => graph::RejectPolicy::DeadLetter(path),
    }
}

/// Durations over a hundred million years overflow event time.
fn time_to_live(ttl: dataflow::TimeToLive) -> Result<graph::TimeToLive> {
    Ok(graph::TimeToLive {
        after_ms: millis(ttl.after_ms, "time to live")?,
        renewed_by: match ttl.renewed_by {
            dataflow::Renewal::Write => graph::Renewal::Write,
            dataflow::Renewal::ReadOrWrite => graph::Renewal::ReadOrWrite,
        },
    })
}

fn millis(value: u64, what: &str) -> Result<i64> {
    match i64::try_from(value) {
        Ok(value) if value < i64::MAX / 4 => Ok(value),
        _ => refuse(format!("{what} of {value} ms is too long")),
    }
}

/// As many as there can be at most, which the plan refuses.
fn bounded_millis(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn assigner(assigner: dataflow::WindowAssigner) -> graph::WindowAssigner {
    match assigner {
        dataflow::WindowAssigner::Tumbling(window) => graph::WindowAssigner::Tumbling {
            size_ms: bounded_millis(window.size_ms),
            offset_ms: window.offset_ms,
        },
        dataflow::WindowAssigner::Sliding(window) => graph::WindowAssigner::Sliding {
            size_ms: bounded_millis(window.size_ms),
            slide_ms: bounded_millis(window.slide_ms),
            offset_ms: window.offset_ms,
        },
        dataflow::WindowAssigner::Session(window) => graph::WindowAssigner::Session {
            gap_ms: bounded_millis(window.gap_ms),
        },
    }
}
