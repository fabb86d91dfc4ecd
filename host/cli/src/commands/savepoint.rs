//! `jobctl savepoint`.

use std::path::Path;

use millrace_core::checkpoint::CheckpointId;
use millrace_core::{Error, Result};
use millrace_engine::rest::messages::SavepointRequest;
use millrace_state::savepoint;
use millrace_state::{Depth, RestoredCheckpoint, Storage};
use serde_json::{Value, json};

use crate::output::{Printer, pairs};
use crate::{files, running};

/// Make a savepoint of a job: its state as Parquet tables, yours to keep, query and begin with
///
/// A running job makes it of the state that it has now, and goes on. With --checkpoint-dir it is made of a checkpoint
/// that the job has left there; the job need not run. The folder holds everything and may be copied anywhere. `jobctl
/// run --from` begins with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: running::Which,

    /// Where the savepoint goes: a folder that is empty or not there yet, or a URL such as s3://bucket/folder; for a
    /// running job a new folder in its savepoint folder if this is left out
    #[arg(long, value_name = "SAVEPOINT")]
    to: Option<String>,

    /// Make it of a checkpoint: where the job keeps them
    #[arg(long, value_name = "URL", requires = "to")]
    checkpoint_dir: Option<String>,

    /// Which checkpoint: `latest`, the newest sound one, or a number
    #[arg(long, value_name = "ID", default_value = "latest", value_parser = parse_checkpoint, requires = "checkpoint_dir")]
    checkpoint: Which,

    /// Run of the job that the checkpoint is of, if not the newest that has it
    #[arg(long, value_name = "RUN", requires = "checkpoint_dir")]
    run: Option<String>,
}

/// Which checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Latest,
    Id(CheckpointId),
}

fn parse_checkpoint(text: &str) -> Result<Which, String> {
    match text {
        "latest" => Ok(Which::Latest),
        digits => match digits.parse() {
            Ok(id) => Ok(Which::Id(CheckpointId(id))),
            Err(_) => Err("expected `latest` or the number of a checkpoint".to_owned()),
        },
    }
}

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    match (&args.checkpoint_dir, &args.to) {
        (Some(checkpoint_dir), Some(to)) => of_checkpoint(args, checkpoint_dir, to, printer),
        (_, to) => of_running(args, to.as_deref(), printer),
    }
}

fn of_running(args: &Args, to: Option<&str>, printer: &Printer) -> Result<()> {
    let request = SavepointRequest {
        target: to.map(absolute).transpose()?,
    };
    let job = args.which.find()?;
    let operation = running::wait(&job, job.savepoint(&request))?;
    let Some(savepoint) = &operation.savepoint else {
        return Err(Error::internal("a savepoint that is complete is nowhere"));
    };
    let value = json!({
        "savepoint": savepoint.url,
        "job": job.job.name,
        "run": operation.run,
        "checkpoint": savepoint.checkpoint,
        "taken_ms": savepoint.taken_ms,
        "operators": savepoint.operators,
        "entries": savepoint.entries,
        "bytes": savepoint.bytes,
    });
    print(&value, printer)
}

fn of_checkpoint(args: &Args, checkpoint_dir: &str, to: &str, printer: &Printer) -> Result<()> {
    let storage = Storage::open(checkpoint_dir)?;
    let checkpoint = open(args, &storage, printer)?;
    let manifest = savepoint::write(&checkpoint, &absolute(to)?)?;
    let value = json!({
        "savepoint": to,
        "job": manifest.job,
        "run": manifest.run,
        "checkpoint": manifest.checkpoint,
        "taken_ms": manifest.taken_ms,
        "operators": manifest.operators.len(),
        "entries": manifest.entries(),
        "bytes": manifest.bytes(),
    });
    print(&value, printer)
}

fn print(value: &Value, printer: &Printer) -> Result<()> {
    printer.data(value, |value| {
        let text = |name: &str| match &value[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        pairs(&[
            ("savepoint", text("savepoint")),
            ("job", text("job")),
            ("checkpoint", format!("{} of run {}", text("checkpoint"), text("run"))),
            ("entries", text("entries")),
            ("bytes", text("bytes")),
        ])
    })
}

fn open(args: &Args, storage: &Storage, printer: &Printer) -> Result<RestoredCheckpoint> {
    let checkpoints = storage.checkpoints(&args.which.job)?;
    let of_run = |run: &String| args.run.as_ref().is_none_or(|wanted| wanted == run);
    let mut skipped = None;
    for (run, id) in checkpoints.iter().rev().filter(|(run, _)| of_run(run)) {
        match args.checkpoint {
            Which::Id(wanted) if wanted != *id => continue,
            Which::Id(_) => return storage.open_checkpoint(&args.which.job, run, *id, Depth::Contents),
            Which::Latest => {}
        }
        match storage.open_checkpoint(&args.which.job, run, *id, Depth::Contents) {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(error) if millrace_state::codes::is_damage(error.code()) => {
                printer.note(&format!("checkpoint {id} of run {run} is passed over: {error}"));
                skipped.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    let what = match args.checkpoint {
        Which::Latest => "a checkpoint".to_owned(),
        Which::Id(id) => format!("checkpoint {id}"),
    };
    let (job, url) = (&args.which.job, storage.url());
    Err(skipped.unwrap_or_else(|| {
        let message = format!("`{url}` does not have {what} of job `{job}`");
        Error::user(millrace_state::codes::NOT_FOUND, message)
    }))
}

/// A place that stays the same whatever the current folder is.
pub(crate) fn absolute(place: &str) -> Result<String> {
    if place.contains("://") {
        return Ok(place.to_owned());
    }
    let path = std::path::absolute(place).map_err(|error| files::failed("find", Path::new(place), &error))?;
    Ok(path.to_string_lossy().into_owned())
}
