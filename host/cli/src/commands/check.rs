//! `jobctl check`.

use std::path::PathBuf;

use millrace_core::schema::{Change, Refusal};
use millrace_core::upgrade::{OperatorUpgrade, Outcome, StateUpgrade};
use millrace_core::{Error, Result};
use millrace_engine::{Beginning, Check, JobOptions, Loaded};
use serde_json::json;

use crate::output::{Align, Format, Printer, Table};
use crate::{cache, files, params};

/// Tell whether a pipeline can begin with a savepoint or checkpoint, and what becomes of its state
///
/// Nothing runs but the building of the dataflow. Each operator and state is kept, converted (how), migrated by the
/// pipeline's own function, new, dropped or incompatible (which field, and why). Where only the values can say whether
/// they fit, all of them are looked at. Fails exactly if `jobctl run --from` would refuse to begin.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline: a wasm component
    #[arg(value_name = "PIPELINE.wasm")]
    pipeline: PathBuf,

    /// What the job is to begin with: a savepoint, or a checkpoint (CHECKPOINT_DIR/JOB/RUN/chk-ID)
    #[arg(long, value_name = "SAVEPOINT")]
    from: String,

    /// Set a parameter of the pipeline
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = params::parse)]
    params: Vec<(String, String)>,

    /// Number of parallel subtasks of operators that do not set their own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    parallelism: u32,

    /// State that the pipeline does not declare may be left behind
    #[arg(long)]
    allow_non_restored_state: bool,
}

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let bytes = files::read(&args.pipeline)?;
    let context = |error: Error| error.context(format!("{}", args.pipeline.display()));
    let options = JobOptions {
        parallelism: args.parallelism,
        cache: Some(cache::folder()?.join("code")),
        ..JobOptions::default()
    };
    let loaded = Loaded::new(&bytes, options).map_err(context)?;
    let prepared = loaded.prepare(&args.params).map_err(context)?;
    let check = prepared.check(&Beginning {
        url: super::savepoint::absolute(&args.from)?,
        allow_non_restored_state: args.allow_non_restored_state,
        claim: false,
    })?;
    match printer.format() {
        Format::Json => printer.data(&as_json(&check), |_| String::new())?,
        Format::Table => printer.raw(as_table(&check).as_bytes())?,
    }
    match check.refusal {
        None => Ok(()),
        Some(refusal) => Err(refusal.context(format!("job `{}`", prepared.graph().name))),
    }
}

fn as_json(check: &Check) -> serde_json::Value {
    let refusal = check.refusal.as_ref();
    json!({
        "job": check.job,
        "run": check.run,
        "checkpoint": check.checkpoint,
        "can_begin": refusal.is_none(),
        "error": refusal.map(|error| json!({ "code": error.code(), "message": error.to_string() })),
        "upgrade": check.upgrade,
    })
}

fn as_table(check: &Check) -> String {
    let columns = ["operator", "id", "state", "outcome", "how or why"];
    let mut table = Table::new(&columns.map(|column| (column, Align::Left)));
    for operator in &check.upgrade.operators {
        let outcome = operator.outcome.name().to_owned();
        table.row(vec![
            operator.name.clone(),
            operator.id.clone(),
            String::new(),
            outcome,
            about_operator(operator),
        ]);
        for state in operator.key.iter().chain(&operator.states) {
            let outcome = state.outcome.name().to_owned();
            table.row(vec![
                String::new(),
                String::new(),
                state.name.clone(),
                outcome,
                about_state(state),
            ]);
        }
    }
    table.render()
}

fn about_operator(operator: &OperatorUpgrade) -> String {
    let mut parts = operator.reasons.clone();
    match (operator.parallelism_then, operator.parallelism_now) {
        (Some(then), Some(now)) if then != now => parts.push(format!("parallelism {then} to {now}")),
        (_, _) => {}
    }
    if operator.splits > 0 {
        parts.push(format!("positions in {} splits", operator.splits));
    }
    if operator.transactions > 0 {
        let what = match operator.outcome {
            Outcome::Dropped | Outcome::Incompatible => "prepared transactions",
            Outcome::Kept | Outcome::New | Outcome::Converted | Outcome::Migrated => "transactions to commit",
        };
        parts.push(format!("{} {what}", operator.transactions));
    }
    parts.join("; ")
}

fn about_state(state: &StateUpgrade) -> String {
    let changes = state.changes.iter().map(Change::to_string);
    let reasons = state.reasons.iter().map(Refusal::to_string);
    changes.chain(reasons).collect::<Vec<_>>().join("; ")
}
