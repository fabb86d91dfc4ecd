//! `jobctl new`.

use std::path::{Path, PathBuf};

use millrace_core::{Error, Result};
use serde::Serialize;

use crate::guest::{sdk, template};
use crate::output::Printer;
use crate::{cache, files};

/// Make a new pipeline project in Rust
///
/// The project is a folder with a small pipeline that builds and runs. The SDK that it uses is carried by jobctl
/// and unpacked into the cache folder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder to make; its last part becomes the project's name
    #[arg(value_name = "NAME")]
    path: PathBuf,
}

#[derive(Serialize)]
struct Made {
    name: String,
    path: PathBuf,
    sdk: PathBuf,
}

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let name = project_name(&args.path)?;
    if args.path.exists() {
        return Err(Error::user(
            "CL0002",
            format!("`{}` is already there", args.path.display()),
        ));
    }
    let sdk = sdk::unpack(&cache::folder()?)?;
    let contents = template::instantiate(&name, &sdk::crate_folder(&sdk))?;
    let made = files::write_folder(
        &args.path,
        contents
            .iter()
            .map(|(path, content)| (path.as_str(), content.as_slice())),
    )?;
    if !made {
        return Err(Error::user(
            "CL0002",
            format!("`{}` is already there", args.path.display()),
        ));
    }
    let made = Made {
        name,
        path: args.path.clone(),
        sdk,
    };
    printer.data(&made, next_steps)
}

/// The last part of the path, if a Cargo package can have that name.
fn project_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let refuse = |why: &str| {
        Error::user(
            "CL0001",
            format!("`{}` cannot be the name of a project: {why}", path.display()),
        )
    };
    if name.is_empty() {
        return Err(refuse("it has no last part"));
    }
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err(refuse("a name begins with a letter a-z"));
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        return Err(refuse("a name is made of letters a-z, digits, `-` and `_`"));
    }
    if template::RESERVED_NAMES.contains(&name) {
        return Err(refuse("the name has a meaning in Rust"));
    }
    Ok(name.to_owned())
}

fn next_steps(made: &Made) -> String {
    let Made { name, path, .. } = made;
    format!(
        "Made {name}. Next:\n  cd {}\n  jobctl build\n  jobctl run {name}.wasm --param input=input.txt\n",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |path: &str, expect: Option<&str>| {
            assert_eq!(project_name(Path::new(path)).ok().as_deref(), expect, "{path}");
        };
        check("clicks", Some("clicks"));
        check("some/where/clicks-2", Some("clicks-2"));
        check("clicks/", Some("clicks"));
        check("2clicks", None);
        check("click s", None);
        check("clické", None);
        check("..", None);
        check("", None);
        check("test", None);
        check("millrace", None);
    }
}
