//! The commands: one file each, whose doc comments are the help.

pub mod build;
pub mod cancel;
pub mod check;
pub mod checkpoint_args;
pub mod completions;
pub mod explain;
pub mod inspect;
pub mod list;
pub mod new;
pub mod run;
pub mod savepoint;
pub mod state;
pub mod state_args;
pub mod state_import;
pub mod stop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use millrace_core::Result;

use crate::output::{Format, Printer};

/// Make, build, run and inspect stream-processing pipelines
///
/// A pipeline is one wasm component. Data is printed to standard output, all else to standard error.
/// Exit codes: 0 success, 2 the command or the pipeline is wrong, 3 user code failed while running,
/// 4 a file or server failed, 5 the job was cancelled, 70 a bug in Millrace.
#[derive(Debug, Parser)]
#[command(name = "jobctl", version, max_term_width = 100)]
pub struct Cli {
    /// Print results as a table or as JSON
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of `jobctl`, in the order of the help.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(name = "new")]
    New(new::Args),
    Build(build::Args),
    Run(Box<run::Args>),
    Check(check::Args),
    List(list::Args),
    Savepoint(savepoint::Args),
    Stop(stop::Args),
    Cancel(cancel::Args),
    State(state::Args),
    Inspect(inspect::Args),
    Explain(explain::Args),
    Completions(completions::Args),
}

/// Carries out a command. Gives the exit code of one that did not fail.
pub fn run(command: Command, printer: &Printer) -> Result<ExitCode> {
    let done = match command {
        Command::Run(args) => return run::run(&args, printer),
        Command::New(args) => new::run(&args, printer),
        Command::Build(args) => build::run(&args, printer),
        Command::Check(args) => check::run(&args, printer),
        Command::List(args) => list::run(&args, printer),
        Command::Savepoint(args) => savepoint::run(&args, printer),
        Command::Stop(args) => stop::run(&args, printer),
        Command::Cancel(args) => cancel::run(&args, printer),
        Command::State(args) => state::run(&args, printer),
        Command::Inspect(args) => inspect::run(&args, printer),
        Command::Explain(args) => explain::run(&args, printer),
        Command::Completions(args) => completions::run(&args, printer),
    };
    done.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent_and_every_argument_has_help() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            assert!(sub.get_about().is_some(), "{} has no help", sub.get_name());
            for argument in sub.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} of {} has no help",
                    argument.get_id(),
                    sub.get_name()
                );
            }
        }
    }
}
