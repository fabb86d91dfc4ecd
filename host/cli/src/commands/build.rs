//! `jobctl build`.

use std::path::PathBuf;
use std::time::Instant;

use millrace_core::Result;
use serde::Serialize;

use crate::guest::owners::BuildFolder;
use crate::guest::{compile, component, project, toolchain};
use crate::output::{self, Printer};
use crate::{cache, files, format};

/// Compile a pipeline project and wrap it into a component
///
/// Needs a Rust toolchain that can compile for wasm32-unknown-unknown: one of rustup with that target, or
/// Debian's packages; where there is none, says how to get one. Compiled dependencies are shared between
/// projects, in the cache folder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the project, or its Cargo.toml
    #[arg(value_name = "PROJECT", default_value = ".")]
    path: PathBuf,

    /// Cargo.toml of the project
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    manifest_path: Option<PathBuf>,

    /// File to write; without it, NAME.wasm in the project's folder
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Folder for compiled dependencies; without it, guest-target in the cache folder
    #[arg(long, value_name = "FOLDER", env = "MILLRACE_GUEST_TARGET")]
    guest_target: Option<PathBuf>,

    /// Use only the versions in Cargo.lock
    #[arg(long)]
    locked: bool,

    /// Do not use the network
    #[arg(long)]
    offline: bool,
}

#[derive(Serialize)]
struct Built {
    component: PathBuf,
    bytes: u64,
    toolchain: String,
    seconds: f64,
}

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let started = Instant::now();
    let project = project::Project::open(args.manifest_path.as_ref().unwrap_or(&args.path))?;
    project.check_sdk(&cache::folder()?)?;
    let (toolchain, warning) = toolchain::find(&project.folder)?;
    if let Some(warning) = warning {
        printer.note(warning);
    }
    let folder = match &args.guest_target {
        Some(folder) => folder.clone(),
        None => cache::folder()?.join("guest-target"),
    };
    let folder = BuildFolder::enter(&folder, || {
        printer.note("another project is being built: waiting for it")
    })?;
    let options = compile::Options {
        locked: args.locked,
        offline: args.offline,
    };
    let module = compile::compile(&project, &toolchain, &folder, options)?;
    drop(folder);
    let component = component::wrap(&module)?;
    let path = args
        .out
        .clone()
        .unwrap_or_else(|| project.folder.join(format!("{}.wasm", project.name)));
    files::write(&path, &component)?;
    let built = Built {
        component: path,
        bytes: component.len() as u64,
        toolchain: toolchain.to_string(),
        seconds: started.elapsed().as_secs_f64(),
    };
    printer.data(&built, |built| {
        output::pairs(&[
            ("component", built.component.display().to_string()),
            ("size", format::bytes(built.bytes)),
            ("toolchain", built.toolchain.clone()),
            ("took", format::elapsed(started.elapsed())),
        ])
    })
}
