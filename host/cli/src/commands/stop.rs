//! `jobctl stop`.

use millrace_core::Result;
use millrace_engine::rest::messages::{SavepointRequest, StopRequest};

use super::savepoint::absolute;
use crate::output::{Printer, pairs};
use crate::running::{self, Which};

/// Stop a running job behind a savepoint or a last checkpoint
///
/// Sources end, and all that they have read is written and committed. Windows that are still open do not fire, unless
/// --drain says that no more input will ever come. If the stop fails (the savepoint cannot be written, say), the job
/// goes back to its last checkpoint and goes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,

    /// With a savepoint: in this folder, empty or not there yet, or at a URL; in a new folder of the job's savepoint
    /// folder if nothing or `default` follows
    #[arg(long, value_name = "SAVEPOINT", num_args = 0..=1, default_missing_value = DEFAULT)]
    savepoint: Option<String>,

    /// As if the input had ended: windows and event-time timers fire before
    #[arg(long)]
    drain: bool,
}

const DEFAULT: &str = "default";

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let target = |savepoint: &String| match savepoint.as_str() {
        DEFAULT => Ok(None),
        named => absolute(named).map(Some),
    };
    let request = StopRequest {
        savepoint: match &args.savepoint {
            None => None,
            Some(savepoint) => Some(SavepointRequest {
                target: target(savepoint)?,
            }),
        },
        drain: args.drain,
    };
    let job = args.which.find()?;
    let operation = running::wait(&job, job.stop(&request))?;
    printer.data(&operation, |operation| {
        let mut told = vec![("stopped", job.job.name.clone()), ("run", operation.run.clone())];
        told.extend(
            operation
                .savepoint
                .as_ref()
                .map(|savepoint| ("savepoint", savepoint.url.clone())),
        );
        pairs(&told)
    })
}
