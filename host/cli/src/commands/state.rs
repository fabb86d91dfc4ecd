//! `jobctl state`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use millrace_core::{Error, Result};
use millrace_engine::rest::messages::StateRequest;
use millrace_state::codes;
use millrace_state::savepoint::{self, Column, Held, SavedOperator, SavedTable, StateKind, shown_name};
use millrace_state::{Depth, Savepoint};
use serde_json::{Map, Value, json};

use crate::data_dir::DataDir;
use crate::files;
use crate::output::{Align, Format, Printer, Table};
use crate::running::{self, Which};

/// Read the state of a savepoint or a running job: list it, look a key up, export a table; or make a savepoint from tables
///
/// Nothing is run, and the pipeline is needed for `import` alone. Running jobs are asked by `get`; all else is of savepoints.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List operators and their states with rows, bytes and schemas
    Ls {
        /// The savepoint: a folder or URL
        savepoint: String,
    },
    /// Print what an operator holds for a key, in a savepoint or in a running job
    ///
    /// A running job says what it holds when it comes to the question, between two blocks of rows: no checkpoint need
    /// hold that yet, and a failure may take it back. The first argument is a savepoint, if there is one, and else a job.
    Get {
        /// The savepoint (a folder or URL), or the name or run of a running job
        #[arg(value_name = "SAVEPOINT|JOB")]
        from: String,
        #[command(flatten)]
        data_dir: DataDir,
        /// Id or name of the operator
        operator: String,
        /// The key: a text for each of its fields
        #[arg(required = true, allow_negative_numbers = true)]
        key: Vec<String>,
        /// Entries of each large map or list of a running job, at most
        #[arg(long, value_name = "ENTRIES", default_value_t = 1_000)]
        limit: u32,
    },
    /// Make a savepoint from Parquet tables, alone or over another savepoint
    ///
    /// A table has the fields of the operator's key as columns, and a column with the state's name for its value; of
    /// `timers`, `windows`, `sessions` and large states the columns that `state export` shows. Types may be narrower. The key group is
    /// computed. `jobctl run --from` begins with the result.
    Import(super::state_import::ImportArgs),
    /// Print a state of all keys, or write it to a file
    Export {
        /// The savepoint: a folder or URL
        savepoint: String,
        /// Id or name of the operator
        operator: String,
        /// Name of the state, or `timers`
        state: String,
        /// Form of the rows
        #[arg(long, value_enum, default_value_t, value_name = "FORM")]
        format: Form,
        /// File to write instead of standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

/// Form of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Form {
    /// For people; with --output json a JSON document
    #[default]
    Table,
    /// A JSON object on each line
    Ndjson,
    /// Comma-separated, nested values as JSON
    Csv,
    /// One Parquet file
    Parquet,
}

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    match &args.command {
        Command::Ls { savepoint } => list(&Savepoint::open(savepoint, Depth::Sizes)?, printer),
        Command::Get {
            from,
            data_dir,
            operator,
            key,
            limit,
        } => {
            let which = Which {
                job: from.clone(),
                data_dir: data_dir.clone(),
            };
            get(&which, operator, key, *limit, printer)
        }
        Command::Import(args) => super::state_import::run(args, printer),
        Command::Export {
            savepoint,
            operator,
            state,
            format,
            to,
        } => {
            let savepoint = Savepoint::open(savepoint, Depth::Sizes)?;
            let exported = export(&savepoint, operator, state, *format, printer)?;
            match to {
                Some(file) => files::write(file, &exported),
                None => printer.raw(&exported),
            }
        }
    }
}

fn kind_name(kind: StateKind) -> &'static str {
    match kind {
        StateKind::None => "none",
        StateKind::Keyed => "keyed",
        StateKind::Windows => "windows",
        StateKind::Sessions => "sessions",
    }
}

fn list(savepoint: &Savepoint, printer: &Printer) -> Result<()> {
    let manifest = savepoint.manifest();
    let table = |table: &SavedTable| {
        json!({
            "name": shown_name(table),
            "table": table.name,
            "rows": table.rows,
            "bytes": table.bytes(),
            "schema": table.state,
            "columns": table.columns,
        })
    };
    let operator = |operator: &SavedOperator| {
        json!({
            "id": operator.id,
            "name": operator.name,
            "kind": kind_name(operator.kind),
            "parallelism": operator.parallelism,
            "key": operator.key,
            "splits": operator.subtasks.iter().map(|subtask| subtask.splits.len()).sum::<usize>(),
            "states": operator.tables.iter().map(table).collect::<Vec<_>>(),
        })
    };
    let value = json!({
        "job": manifest.job,
        "run": manifest.run,
        "checkpoint": manifest.checkpoint,
        "pipeline": manifest.pipeline,
        "parameters": manifest.parameters,
        "taken_ms": manifest.taken_ms,
        "max_parallelism": manifest.max_parallelism,
        "operators": manifest.operators.iter().map(operator).collect::<Vec<_>>(),
    });
    printer.data(&value, |_| {
        let mut lines = Table::new(&[
            ("operator", Align::Left),
            ("id", Align::Left),
            ("state", Align::Left),
            ("rows", Align::Right),
            ("bytes", Align::Right),
            ("key", Align::Left),
            ("value", Align::Left),
        ]);
        for operator in &manifest.operators {
            for table in &operator.tables {
                lines.row(vec![
                    operator.name.clone(),
                    operator.id.clone(),
                    shown_name(table).to_owned(),
                    table.rows.to_string(),
                    table.bytes().to_string(),
                    Column::shown_all(&operator.key),
                    table.state.as_ref().map(Column::shown).unwrap_or_default(),
                ]);
            }
        }
        lines.render()
    })
}

fn find_operator<'a>(savepoint: &'a Savepoint, name: &str) -> Result<&'a SavedOperator> {
    let manifest = savepoint.manifest();
    if let Some(operator) = manifest.operator(name) {
        return Ok(operator);
    }
    let named: Vec<&SavedOperator> = manifest
        .operators
        .iter()
        .filter(|operator| operator.name == name)
        .collect();
    let url = savepoint.url();
    match named.as_slice() {
        [operator] => Ok(operator),
        [] => {
            let message = format!("savepoint `{url}` has no operator `{name}`");
            Err(Error::user(codes::NO_STATE, message))
        }
        several => {
            let ids: Vec<&str> = several.iter().map(|operator| operator.id.as_str()).collect();
            let message = format!(
                "savepoint `{url}` has operators `{name}` with the ids {}",
                ids.join(", ")
            );
            Err(Error::user(codes::NO_STATE, message))
        }
    }
}

/// What is held for a key, in a savepoint or by a running job.
fn get(which: &Which, operator: &str, key: &[String], limit: u32, printer: &Printer) -> Result<()> {
    let savepoint = match Savepoint::open(&which.job, Depth::Sizes) {
        Ok(savepoint) => Some(savepoint),
        // What is a path or a URL is no job.
        Err(error) if error.code() == codes::NO_SAVEPOINT && !which.job.contains('/') => None,
        Err(error) => return Err(error),
    };
    let held = match savepoint {
        Some(savepoint) => savepoint.held(find_operator(&savepoint, operator)?, key)?,
        None => {
            let job = which.find()?;
            let request = StateRequest {
                operator: operator.to_owned(),
                key: key.to_vec(),
                limit: Some(limit),
            };
            let answer = running::answered(&job, job.state(&request))?;
            for state in &answer.more {
                printer.note(&format!(
                    "`{state}` has more entries; `--limit` says how many are shown"
                ));
            }
            answer.held
        }
    };
    let mut states = Map::new();
    let mut lines = Table::new(&[("state", Align::Left), ("value", Align::Left)]);
    for Held { state, whole, value } in held {
        lines.row(vec![state.clone(), value.to_string()]);
        if whole {
            states.insert(state, value);
        } else if let Value::Array(all) = states.entry(state).or_insert_with(|| json!([])) {
            all.push(value);
        }
    }
    if states.is_empty() {
        printer.note("nothing is held for this key");
    }
    printer.data(&Value::Object(states), |_| lines.render())
}

fn export(savepoint: &Savepoint, operator: &str, state: &str, form: Form, printer: &Printer) -> Result<Vec<u8>> {
    let operator = find_operator(savepoint, operator)?;
    let table = operator.table(state).ok_or_else(|| {
        let message = format!("operator `{}` has no state `{state}`", operator.name);
        Error::user(codes::NO_STATE, message)
    })?;
    let batches = savepoint.read_table(table, 0..savepoint.manifest().max_parallelism)?;
    if form == Form::Parquet {
        let schema = table.schema().expect("the schemas of an opened savepoint were checked");
        return Ok(savepoint::to_parquet(&schema, &batches)?.to_vec());
    }
    let mut rows = Vec::new();
    for batch in &batches {
        rows.extend(savepoint::rows_as_json(batch)?);
    }
    Ok(match (form, printer.format()) {
        (Form::Ndjson, _) => lines_of(rows.iter().map(|row| json!(row).to_string())),
        (Form::Table, Format::Json) => lines_of([json!(rows).to_string()]),
        (Form::Csv, _) => {
            let header = table.columns.iter().map(|column| csv(&column.name));
            let header = header.collect::<Vec<_>>().join(",");
            let lines = rows.iter().map(|row| {
                let cells = table.columns.iter().map(|column| csv(&cell(&row[&column.name])));
                cells.collect::<Vec<_>>().join(",")
            });
            lines_of([header].into_iter().chain(lines))
        }
        (Form::Table | Form::Parquet, _) => {
            let header: Vec<(&str, Align)> = table
                .columns
                .iter()
                .map(|column| (column.name.as_str(), Align::Left))
                .collect();
            let mut lines = Table::new(&header);
            for row in &rows {
                lines.row(table.columns.iter().map(|column| cell(&row[&column.name])).collect());
            }
            lines.render().into_bytes()
        }
    })
}

fn lines_of(lines: impl IntoIterator<Item = String>) -> Vec<u8> {
    let mut text = String::new();
    for line in lines {
        text += &line;
        text.push('\n');
    }
    text.into_bytes()
}

/// A value as text: nothing for null, nested ones as JSON.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A field of a CSV file, in quotes if it needs them.
fn csv(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_csv_are_quoted_where_they_must_be() {
        for (value, expect) in [
            (json!(null), ""),
            (json!("plain"), "plain"),
            (json!("a,b"), "\"a,b\""),
            (json!({"a": "b"}), "\"{\"\"a\"\":\"\"b\"\"}\""),
            (json!(1.5), "1.5"),
        ] {
            assert_eq!(csv(&cell(&value)), expect);
        }
    }
}
