//! `jobctl stop`.

use clap::error::{ContextKind, ContextValue, ErrorKind};
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

/// An error of the command line; with a hint, if the job was given as the place of the savepoint.
#[must_use]
pub fn with_hint(mut error: clap::Error, arguments: &[String]) -> clap::Error {
    if error.kind() == ErrorKind::MissingRequiredArgument
        && let Some(hint) = hint(arguments)
    {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error
}

/// `--savepoint` takes what follows, so that `jobctl stop --savepoint JOB` names no job.
fn hint(arguments: &[String]) -> Option<String> {
    let stop = arguments.iter().position(|argument| argument == "stop")?;
    let (mut named, mut rest) = (None, arguments[stop + 1..].iter());
    while let Some(argument) = rest.next() {
        match argument.strip_prefix("--savepoint") {
            Some("") => named = rest.next().filter(|next| !next.starts_with('-')).cloned(),
            Some(joined) => named = joined.strip_prefix('=').map(str::to_owned),
            None => {}
        }
    }
    let named = named?;
    Some(format!(
        "'{named}' was taken for the place of the savepoint; to stop job '{named}': 'jobctl stop {named} --savepoint [SAVEPOINT]'"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::commands::Cli;

    fn refused(arguments: &[&str]) -> String {
        let error = Cli::try_parse_from(arguments).expect_err("it is wrong");
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        with_hint(error, &arguments).to_string()
    }

    #[test]
    fn a_job_in_the_place_of_the_savepoint_is_told_from_none() {
        for arguments in [
            &["jobctl", "stop", "--savepoint", "orders"][..],
            &["jobctl", "stop", "--drain", "--savepoint=orders"],
            &["jobctl", "--output", "json", "stop", "--savepoint", "orders", "--drain"],
        ] {
            let said = refused(arguments);
            assert!(said.contains("<JOB>"), "{said}");
            assert!(said.contains("tip: 'orders' was taken for the place"), "{said}");
            assert!(said.contains("'jobctl stop orders --savepoint [SAVEPOINT]'"), "{said}");
        }
        for arguments in [
            &["jobctl", "stop"][..],
            &["jobctl", "stop", "--savepoint"],
            &["jobctl", "stop", "--savepoint", "--drain"],
            &["jobctl", "cancel"],
        ] {
            let said = refused(arguments);
            assert!(said.contains("<JOB>") && !said.contains("tip:"), "{said}");
        }
        Cli::try_parse_from(["jobctl", "stop", "orders", "--savepoint", "s"]).expect("both are named");
    }
}
