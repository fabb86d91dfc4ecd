//! `jobctl state import`.

use std::path::PathBuf;

use millrace_core::graph::operator_ids;
use millrace_core::schema::KeyedSchema;
use millrace_core::{Error, Result};
use millrace_engine::{JobOptions, Loaded, Prepared};
use millrace_state::savepoint::{self, Writer};
use millrace_state::{Depth, Savepoint, codes};
use serde_json::json;

use crate::output::{Printer, pairs};
use crate::{cache, files, params};

/// Which tables become whose state.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The pipeline, whose graph says what the operator keeps: a wasm component
    #[arg(value_name = "PIPELINE.wasm")]
    pipeline: PathBuf,

    /// Uid, id or name of the operator
    operator: String,

    /// A state and the Parquet file that it is made of
    #[arg(required = true, value_name = "STATE=FILE", value_parser = params::parse)]
    tables: Vec<(String, String)>,

    /// Where the savepoint goes: a folder that is empty or not there yet, or a URL
    #[arg(long, value_name = "SAVEPOINT")]
    to: String,

    /// A savepoint whose state is kept but for these tables
    #[arg(long, value_name = "SAVEPOINT")]
    from: Option<String>,

    /// Set a parameter of the pipeline
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = params::parse)]
    params: Vec<(String, String)>,
}

/// Carries out the command.
pub(crate) fn run(args: &ImportArgs, printer: &Printer) -> Result<()> {
    let bytes = files::read(&args.pipeline)?;
    let context = |error: Error| error.context(format!("{}", args.pipeline.display()));
    let options = JobOptions {
        cache: Some(cache::folder()?.join("code")),
        ..JobOptions::default()
    };
    let prepared = Loaded::new(&bytes, options)
        .and_then(|loaded| loaded.prepare(&args.params))
        .map_err(context)?;
    let operator = find(&prepared, &args.operator)?;
    let source = args
        .from
        .as_ref()
        .map(|from| Savepoint::open(from, Depth::Sizes))
        .transpose()?;
    let to = super::savepoint::absolute(&args.to)?;
    let mut writer = match &source {
        Some(source) => Writer::edit(source, &to)?,
        None => {
            let (job, groups) = (&prepared.graph().name, prepared.plan().max_parallelism);
            // The tables do not say when their state was.

            Writer::new(&to, job, groups, 0)?
        }
    };
    let saved = writer.manifest().operator(&operator.id);
    if let Some(then) = saved.and_then(|saved| saved.windows.as_ref())
        && let Some(now) = &operator.schema.windows
        && then != now
    {
        let name = &operator.name;
        let message =
            format!("the savepoint has {then} of operator `{name}`, and the pipeline {now}: windows cannot change");
        return Err(Error::user("CK0010", message));
    }
    if writer
        .manifest()
        .operator(&operator.id)
        .is_none_or(|saved| saved.layout().is_none())
    {
        writer.remove_operator(&operator.id);
        writer.add_operator(&operator.id, &operator.name, &operator.schema)?;
    }
    for (state, file) in &args.tables {
        let rows = savepoint::from_parquet(files::read(file.as_ref())?.into());
        let rows = rows.map_err(|error| error.context(format!("`{file}`")))?;
        writer.set_table(&operator.id, state, &rows)?;
    }
    let manifest = writer.finish()?;
    let saved = manifest.operator(&operator.id);
    let tables = saved.iter().flat_map(|saved| &saved.tables);
    let rows: Vec<(String, u64)> = tables.map(|table| (table.name.clone(), table.rows)).collect();
    let value = json!({
        "savepoint": args.to,
        "operator": operator.id,
        "rows": rows.iter().map(|(name, rows)| (name.clone(), json!(rows))).collect::<serde_json::Map<_, _>>(),
    });
    printer.data(&value, |_| {
        let mut lines = vec![("savepoint", args.to.clone()), ("operator", operator.id.clone())];
        lines.extend(rows.iter().map(|(name, rows)| (name.as_str(), format!("{rows} rows"))));
        pairs(&lines)
    })
}

struct Found {
    id: String,
    name: String,
    schema: KeyedSchema,
}

fn find(prepared: &Prepared, wanted: &str) -> Result<Found> {
    let graph = prepared.graph();
    let ids = operator_ids(graph);
    let mut keyed = graph.chains.iter().filter_map(|chain| {
        let head = chain.operators[0].0 as usize;
        Some(Found {
            id: ids[head].clone(),
            name: graph.operators[head].name.clone(),
            schema: KeyedSchema::of_head(&chain.head)?,
        })
    });
    let mut fitting: Vec<Found> = keyed
        .by_ref()
        .filter(|found| found.id == wanted || found.name == wanted)
        .collect();
    if let Some(at) = fitting.iter().position(|found| found.id == wanted) {
        return Ok(fitting.swap_remove(at));
    }
    match fitting.len() {
        1 => Ok(fitting.remove(0)),
        0 => {
            let message = format!("the pipeline has no operator `{wanted}` that keeps state");
            Err(Error::user(codes::NO_STATE, message))
        }
        _ => {
            let ids: Vec<String> = fitting.into_iter().map(|found| found.id).collect();
            let message = format!("the pipeline has operators `{wanted}` with the ids {}", ids.join(", "));
            Err(Error::user(codes::NO_STATE, message))
        }
    }
}
