//! `jobctl cancel`.

use millrace_core::Result;

use crate::output::{Printer, pairs};
use crate::running::{self, Which};

/// End a running job at once
///
/// No last checkpoint is taken, and what no checkpoint holds is not committed. Checkpoints stay: `jobctl run --restore
/// latest` goes on from the last one. To end a job with all that it has read, use `jobctl stop`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
}

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let job = args.which.find()?;
    let operation = running::wait(&job, job.cancel())?;
    printer.data(&operation, |operation| {
        pairs(&[("cancelled", job.job.name.clone()), ("run", operation.run.clone())])
    })
}
