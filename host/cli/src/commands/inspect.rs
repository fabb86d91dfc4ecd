//! `jobctl inspect`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::ValueEnum;
use millrace_core::connector::{Delivery, Replay, without_passwords};
use millrace_core::graph::{Graph, Head, Operator, OperatorKind, Origin, Parameter, ParameterType, StateKind};
use millrace_core::plan::{Plan, TaskIndex};
use millrace_core::{Error, Result};
use millrace_engine::{JobOptions, Loaded, Prepared};
use serde_json::{Value, json};

use crate::graph_view::{self, View};
use crate::output::{Align, Format, Printer, Table, printable_line};
use crate::{cache, files, format, params};

/// Show what a pipeline is: parameters, operators, schemas, state, imports, graph
///
/// Nothing runs but the building of the dataflow, in a sandbox. Required parameters that are not given get a
/// placeholder such as `<input>`; if the graph cannot be built with these, parameters and imports are shown alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline: a wasm component
    #[arg(value_name = "PIPELINE.wasm")]
    pipeline: PathBuf,

    /// Set a parameter of the pipeline
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = params::parse)]
    params: Vec<(String, String)>,

    /// Print only the graph, in this form
    #[arg(long, value_enum, value_name = "FORM")]
    graph: Option<GraphForm>,
}

/// How a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphForm {
    /// A tree of operators
    Text,
    /// For Markdown
    Mermaid,
    /// For Graphviz
    Dot,
    /// A picture
    Svg,
}

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let bytes = files::read(&args.pipeline)?;
    let context = |error: Error| error.context(format!("{}", args.pipeline.display()));
    let options = JobOptions {
        cache: Some(cache::folder()?.join("code")),
        ..JobOptions::default()
    };
    let loaded = Loaded::new(&bytes, options).map_err(context)?;
    let mut declared = loaded.parameters().to_vec();
    for parameter in &mut declared {
        parameter.default_value = parameter.default_value.take().map(|value| without_passwords(&value));
    }
    let imports = loaded.imports().to_vec();
    let hash = loaded.hash().to_owned();
    let (given, invented) = with_placeholders(&declared, &args.params);
    if !invented.is_empty() {
        printer.note(&format!(
            "placeholders stand for required parameters: {}",
            invented.join(", ")
        ));
    }
    let prepared = match loaded.prepare(&given) {
        Ok(prepared) => prepared,
        Err(error) => {
            if args.graph.is_none() {
                without_graph(&hash, bytes.len(), &declared, &imports, &error, printer)?;
            }
            return Err(context(error.context("the graph could not be built")));
        }
    };
    let graph = prepared.graph();
    let view = View::new(graph);
    view.warn(printer);
    if let Some(form) = args.graph {
        let drawing = match form {
            GraphForm::Text => graph_view::text::render(&view),
            GraphForm::Mermaid => graph_view::mermaid::render(&view),
            GraphForm::Dot => graph_view::dot::render(&view),
            GraphForm::Svg => graph_view::svg::render(&view),
        };
        return printer.raw(drawing.as_bytes());
    }
    match printer.format() {
        Format::Json => printer.data(&as_json(&hash, bytes.len(), &declared, &imports, &prepared), |_| {
            String::new()
        }),
        Format::Table => {
            let text = as_text(&hash, bytes.len(), &declared, &imports, &prepared, &view);
            printer.raw(text.as_bytes())
        }
    }
}

/// What can be said of a pipeline whose graph cannot be built with these parameters.
fn without_graph(
    hash: &str,
    bytes: usize,
    declared: &[Parameter],
    imports: &[String],
    error: &Error,
    printer: &Printer,
) -> Result<()> {
    if printer.format() == Format::Json {
        let value = json!({
            "sha256": hash,
            "bytes": bytes,
            "parameters": declared,
            "imports": imports,
            "graph": null,
            "error": { "code": error.code(), "message": error.to_string() },
        });
        return printer.data(&value, |_| String::new());
    }
    let mut text = format!("size      {}\nsha256    {hash}\n", format::bytes(bytes as u64));
    section(&mut text, "parameters", &parameters(declared));
    section(&mut text, "imports", &imports_text(imports));
    printer.raw(text.as_bytes())
}

fn section(text: &mut String, title: &str, body: &str) {
    if !body.is_empty() {
        text.push_str(&format!("\n{title}\n{}", indent(body)));
    }
}

fn imports_text(imports: &[String]) -> String {
    if imports.is_empty() {
        return "none\n".to_owned();
    }
    imports.join("\n") + "\n"
}

/// Given parameters, with placeholders for the required ones that are missing, and the names of those.
fn with_placeholders(declared: &[Parameter], given: &[(String, String)]) -> (Vec<(String, String)>, Vec<String>) {
    let mut all = given.to_vec();
    let mut invented = Vec::new();
    for parameter in declared {
        if parameter.default_value.is_some() || given.iter().any(|(name, _)| *name == parameter.name) {
            continue;
        }
        let placeholder = match parameter.parameter_type {
            ParameterType::Text => format!("<{}>", parameter.name),
            ParameterType::Integer | ParameterType::Float => "1".to_owned(),
            ParameterType::Boolean => "false".to_owned(),
            ParameterType::Duration => "1s".to_owned(),
        };
        invented.push(parameter.name.clone());
        all.push((parameter.name.clone(), placeholder));
    }
    (all, invented)
}

fn as_json(hash: &str, bytes: usize, declared: &[Parameter], imports: &[String], prepared: &Prepared) -> Value {
    let graph = prepared.graph();
    let sources = prepared.replays().map(|(operator, replay)| {
        let name = &graph.operators[operator.0 as usize].name;
        json!({ "name": name, "replay": replay_name(replay) })
    });
    let sources = sources.collect::<Vec<_>>();
    let sinks = prepared.deliveries().map(|(operator, delivery)| {
        let name = &graph.operators[operator.0 as usize].name;
        json!({ "name": name, "delivery": delivery_name(delivery) })
    });
    let sinks = sinks.collect::<Vec<_>>();
    let groups = slot_groups(prepared.plan());
    let groups = groups.map(|(name, slots, tasks)| json!({ "name": name, "slots": slots, "tasks": tasks }));
    json!({
        "sha256": hash,
        "bytes": bytes,
        "parameters": declared,
        "imports": imports,
        "sources": sources,
        "sinks": sinks,
        "asks_for": { "http": origins(graph) },
        "slot_sharing_groups": groups.collect::<Vec<_>>(),
        "graph": graph_view::json::render(graph),
    })
}

fn as_text(
    hash: &str,
    bytes: usize,
    declared: &[Parameter],
    imports: &[String],
    prepared: &Prepared,
    view: &View,
) -> String {
    let graph = prepared.graph();
    let mut text = format!(
        "pipeline  {}\nsize      {}\nsha256    {hash}\n",
        printable_line(&graph.name),
        format::bytes(bytes as u64)
    );
    section(&mut text, "parameters", &parameters(declared));
    section(&mut text, "graph", &graph_view::text::render(view));
    section(&mut text, "slots, at parallelism 1", &slots(prepared.plan()));
    section(&mut text, "streams", &streams(graph));
    section(&mut text, "state", &states(graph));
    section(&mut text, "sources", &sources(prepared));
    section(&mut text, "sinks", &sinks(prepared));
    section(&mut text, "asks for", &asks_for(graph));
    section(&mut text, "imports", &imports_text(imports));
    text
}

/// Origins that the pipeline sends requests to, each once.
fn origins(graph: &Graph) -> BTreeSet<String> {
    let requests = graph.operators.iter().filter_map(|operator| match &operator.kind {
        OperatorKind::Requests(requests) => Some(requests),
        OperatorKind::Source { .. }
        | OperatorKind::Sink { .. }
        | OperatorKind::Watermarks(_)
        | OperatorKind::Lookup(_)
        | OperatorKind::Function { .. } => None,
    });
    requests
        .flat_map(|requests| requests.origins.iter().map(Origin::to_string))
        .collect()
}

/// What the owner of a job has to grant.
fn asks_for(graph: &Graph) -> String {
    let line = |origin: String| format!("HTTP to {origin} (granted by --allow-http {origin})\n");
    origins(graph).into_iter().map(line).collect()
}

fn indent(body: &str) -> String {
    body.lines().map(|line| format!("  {line}\n")).collect()
}

fn parameters(declared: &[Parameter]) -> String {
    if declared.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("name", Align::Left),
        ("type", Align::Left),
        ("default", Align::Left),
        ("meaning", Align::Left),
    ]);
    for parameter in declared {
        let default = parameter
            .default_value
            .clone()
            .unwrap_or_else(|| "(required)".to_owned());
        let kind = format!("{:?}", parameter.parameter_type).to_lowercase();
        table.row(vec![parameter.name.clone(), kind, default, parameter.doc.clone()]);
    }
    table.render()
}

/// The groups of slots: of each its name, how many slots it has, and the tasks that run there.
fn slot_groups(plan: &Plan) -> impl Iterator<Item = (&str, usize, Vec<&str>)> {
    plan.placement.groups().iter().map(|group| {
        let tasks = plan.tasks.iter().enumerate();
        let tasks = tasks.filter(|(task, _)| plan.placement.group_of(TaskIndex(*task)) == group);
        let names = tasks.map(|(_, task)| task.name.as_str()).collect();
        (group.name.as_str(), group.slots.len(), names)
    })
}

/// The groups of slots, if there is more than the default one.
fn slots(plan: &Plan) -> String {
    if plan.placement.is_undivided() {
        return String::new();
    }
    let mut table = Table::new(&[("group", Align::Left), ("slots", Align::Right), ("tasks", Align::Left)]);
    for (group, slots, tasks) in slot_groups(plan) {
        table.row(vec![group.to_owned(), slots.to_string(), tasks.join(", ")]);
    }
    table.render()
}

fn streams(graph: &Graph) -> String {
    let mut table = Table::new(&[
        ("operator", Align::Left),
        ("output", Align::Left),
        ("columns", Align::Left),
    ]);
    for operator in &graph.operators {
        if let OperatorKind::Source { schema, .. } = &operator.kind {
            table.row(vec![
                operator.name.clone(),
                "main".to_owned(),
                graph_view::schema_text(schema),
            ]);
        }
    }
    for port in graph.chains.iter().flat_map(|chain| &chain.ports) {
        let operator = graph.operators[port.operator.0 as usize].name.clone();
        let output = port.side.clone().unwrap_or_else(|| "main".to_owned());
        table.row(vec![operator, output, graph_view::schema_text(&port.schema)]);
    }
    table.render()
}

fn sources(prepared: &Prepared) -> String {
    let mut table = Table::new(&[
        ("operator", Align::Left),
        ("connector", Align::Left),
        ("replay", Align::Left),
        ("rows since the checkpoint, after a restart", Align::Left),
    ]);
    for (operator, replay) in prepared.replays() {
        let operator = &prepared.graph().operators[operator.0 as usize];
        let meaning = match replay {
            Replay::Replayed => "are read again",
            Replay::Resent => "were not acknowledged: their senders repeat them, and each counts once if it has a key",
            Replay::Lost => "are lost",
            Replay::Refused => "cannot be read again: the job cannot go on",
        };
        let row = [
            operator.name.as_str(),
            connector_kind(operator),
            replay_name(replay),
            meaning,
        ];
        table.row(row.map(str::to_owned).to_vec());
    }
    table.render()
}

fn replay_name(replay: Replay) -> &'static str {
    match replay {
        Replay::Replayed => "replayed",
        Replay::Resent => "resent",
        Replay::Lost => "lost",
        Replay::Refused => "refused",
    }
}

fn connector_kind(operator: &Operator) -> &str {
    match &operator.kind {
        OperatorKind::Source { connector, .. } | OperatorKind::Sink { connector } => &connector.kind,
        OperatorKind::Watermarks(_)
        | OperatorKind::Requests(_)
        | OperatorKind::Lookup(_)
        | OperatorKind::Function { .. } => "",
    }
}

fn sinks(prepared: &Prepared) -> String {
    let mut table = Table::new(&[
        ("operator", Align::Left),
        ("connector", Align::Left),
        ("delivery", Align::Left),
        ("with checkpoints, after a restart", Align::Left),
    ]);
    for (operator, delivery) in prepared.deliveries() {
        let operator = &prepared.graph().operators[operator.0 as usize];
        let meaning = match delivery {
            Delivery::ExactlyOnce => "each row is there once",
            Delivery::Idempotent => "rows may be written again, over themselves",
            Delivery::AtLeastOnce => "rows may be repeated: this sink cannot take them back",
        };
        let row = [
            operator.name.as_str(),
            connector_kind(operator),
            delivery_name(delivery),
            meaning,
        ];
        table.row(row.map(str::to_owned).to_vec());
    }
    table.render()
}

fn delivery_name(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::ExactlyOnce => "exactly-once",
        Delivery::Idempotent => "idempotent",
        Delivery::AtLeastOnce => "at-least-once",
    }
}

fn states(graph: &Graph) -> String {
    let mut table = Table::new(&[
        ("operator", Align::Left),
        ("key", Align::Left),
        ("state", Align::Left),
        ("kind", Align::Left),
        ("value", Align::Left),
    ]);
    let mut any = false;
    for chain in &graph.chains {
        let operator = &graph.operators[chain.operators[0].0 as usize].name;
        let (key_schema, states) = match &chain.head {
            Head::Stateless => continue,
            Head::Keyed { key_schema, states, .. } => (key_schema, states.as_slice()),
            Head::Window {
                key_schema,
                accumulator,
                ..
            } => (key_schema, std::slice::from_ref(accumulator)),
        };
        for state in states {
            any = true;
            table.row(vec![
                operator.clone(),
                graph_view::schema_text(key_schema),
                state.name.clone(),
                kind_name(state.kind).to_owned(),
                graph_view::schema_text(&state.schema),
            ]);
        }
    }
    if any { table.render() } else { String::new() }
}

fn kind_name(kind: StateKind) -> &'static str {
    match kind {
        StateKind::Value => "value",
        StateKind::List => "list",
        StateKind::Map => "map",
        StateKind::LargeMap => "large map",
        StateKind::BroadcastMap => "broadcast map",
        StateKind::LargeList => "large list",
        StateKind::Accumulator => "accumulator",
        StateKind::UnionList => "union list",
    }
}
