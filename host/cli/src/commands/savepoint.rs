//! `jobctl savepoint`.

use std::path::Path;

use millrace_core::checkpoint::CheckpointId;
use millrace_core::{Error, Result};
use millrace_state::savepoint::{self, Manifest};
use millrace_state::{Depth, RestoredCheckpoint, Storage};
use serde_json::json;

use crate::files;
use crate::output::{Printer, pairs};

/// Make a savepoint of a job: its state as Parquet tables, yours to keep, query and begin with
///
/// It is made of a checkpoint that the job has left in its checkpoint storage; the job need not run. The folder
/// holds everything and may be copied anywhere. `jobctl run --from` begins with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the job
    #[arg(value_name = "JOB")]
    job: String,

    /// Where the savepoint goes: a folder that is empty or not there yet, or a URL such as s3://bucket/folder
    #[arg(long, value_name = "SAVEPOINT")]
    to: String,

    /// Where the job keeps its checkpoints
    #[arg(long, value_name = "URL")]
    checkpoint_dir: String,

    /// Which checkpoint: `latest`, the newest sound one, or a number
    #[arg(long, value_name = "ID", default_value = "latest", value_parser = parse_checkpoint)]
    checkpoint: Which,

    /// Run of the job that the checkpoint is of, if not the newest that has it
    #[arg(long, value_name = "RUN")]
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
    let storage = Storage::open(&args.checkpoint_dir)?;
    let checkpoint = open(args, &storage, printer)?;
    let manifest = savepoint::write(&checkpoint, &absolute(&args.to)?)?;
    let bytes = bytes_of(&manifest);
    let value = json!({
        "savepoint": args.to,
        "job": manifest.job,
        "run": manifest.run,
        "checkpoint": manifest.checkpoint,
        "taken_ms": manifest.taken_ms,
        "operators": manifest.operators.len(),
        "entries": entries_of(&manifest),
        "bytes": bytes,
    });
    printer.data(&value, |_| {
        pairs(&[
            ("savepoint", args.to.clone()),
            ("job", manifest.job.clone()),
            ("checkpoint", format!("{} of run {}", manifest.checkpoint, manifest.run)),
            ("entries", entries_of(&manifest).to_string()),
            ("bytes", bytes.to_string()),
        ])
    })
}

fn bytes_of(manifest: &Manifest) -> u64 {
    let tables = manifest.operators.iter().flat_map(|operator| &operator.tables);
    tables.map(savepoint::SavedTable::bytes).sum()
}

fn entries_of(manifest: &Manifest) -> u64 {
    let subtasks = manifest.operators.iter().flat_map(|operator| &operator.subtasks);
    subtasks.map(|subtask| subtask.entries).sum()
}

fn open(args: &Args, storage: &Storage, printer: &Printer) -> Result<RestoredCheckpoint> {
    let checkpoints = storage.checkpoints(&args.job)?;
    let of_run = |run: &String| args.run.as_ref().is_none_or(|wanted| wanted == run);
    let mut skipped = None;
    for (run, id) in checkpoints.iter().rev().filter(|(run, _)| of_run(run)) {
        match args.checkpoint {
            Which::Id(wanted) if wanted != *id => continue,
            Which::Id(_) => return storage.open_checkpoint(&args.job, run, *id, Depth::Contents),
            Which::Latest => {}
        }
        match storage.open_checkpoint(&args.job, run, *id, Depth::Contents) {
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
    let (job, url) = (&args.job, storage.url());
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
