//! `jobctl`: makes, builds, runs and inspects pipelines.
//!
//! One file per command in [`commands`]; doc comments there are the help. Data goes to stdout, all else to
//! stderr ([`output`]); a failure prints its code and a remedy and decides the exit code ([`error`]). How a
//! running job is shown is in [`progress`], how a graph is drawn in [`graph_view`], how a Rust pipeline becomes a
//! component in [`guest`].

#![forbid(unsafe_code)]

pub mod cache;
pub mod commands;
pub mod data_dir;
pub mod error;
pub mod files;
mod folders;
pub mod format;
pub mod graph_view;
pub mod guest;
pub mod output;
pub mod pack;
pub mod params;
pub mod progress;
pub mod run_report;
pub mod running;
pub mod snapshot;

use std::process::ExitCode;

use clap::Parser as _;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = commands::Cli::try_parse().unwrap_or_else(|error| {
        let arguments: Vec<String> = std::env::args_os()
            .map(|text| text.to_string_lossy().into_owned())
            .collect();
        commands::stop::with_hint(error, &arguments).exit()
    });
    let printer = output::Printer::new(cli.output);
    match commands::run(cli.command, &printer) {
        Ok(code) => code,
        Err(error) => error::report(&error, cli.output),
    }
}
