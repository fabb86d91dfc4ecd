//! `jobctl completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;
use millrace_core::Result;

use crate::commands::Cli;
use crate::output::Printer;

/// Print a shell's completion script
///
/// For bash: `jobctl completions bash > ~/.local/share/bash-completion/completions/jobctl`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "jobctl", &mut script);
    printer.raw(&script)
}
