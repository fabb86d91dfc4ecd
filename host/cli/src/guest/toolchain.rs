//! Finds a Rust toolchain that compiles for wasm32-unknown-unknown.
//!
//! Two kinds are known. *Prebuilt*: the active `rustc` (of rustup or of a distribution) has the standard library for
//! the target. *Debian*: Debian's newest rustc comes without it but with its sources, and builds it once. What is
//! there is looked up in [`Facts`]; [`choose`] decides and says what is missing.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use millrace_core::{Error, Result};

/// The target that guests are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The oldest rustc that compiles the SDK (edition 2024), as (major, minor).
const RUSTC_OLDEST: (u32, u32) = (1, 85);

/// A toolchain and how it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// `cargo` and `rustc` from the path, with the target installed.
    Prebuilt {
        /// What `rustc --version` says.
        version: String,
    },
    /// Debian's packages rustc-web, cargo-web, rust-web-src and lld.
    Debian {
        /// What `rustc --version` says.
        version: String,
        /// The linker, a `wasm-ld-*`.
        linker: PathBuf,
    },
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Toolchain::Prebuilt { version } => write!(f, "{version}"),
            Toolchain::Debian { version, .. } => write!(f, "{version}, Debian's, with a standard library built here"),
        }
    }
}

/// A rustc: its version and whether the target's standard library is there, compiled or as source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rustc {
    /// What `rustc --version` says.
    pub version: String,
    /// The standard library for the target is installed.
    pub has_target: bool,
    /// The sources of the standard library are installed.
    pub has_source: bool,
}

/// What is installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `rustc` on the path, with a `cargo` beside it.
    pub active: Option<Rustc>,
    /// `rustup` is on the path.
    pub has_rustup: bool,
    /// `/usr/bin/rustc`, with `/usr/bin/cargo`.
    pub system: Option<Rustc>,
    /// A `wasm-ld` with or without a version.
    pub linker: Option<PathBuf>,
    /// Debian's package manager is there.
    pub has_apt: bool,
}

/// Finds the toolchain for a project; its folder matters, since rustup chooses by it. With it comes what the person
/// should know of the choice.
pub fn find(project: &Path) -> Result<(Toolchain, Option<&'static str>)> {
    let facts = look(project);
    choose(&facts).map(|toolchain| {
        let warning = warning(&facts, &toolchain);
        (toolchain, warning)
    })
}

/// Somebody who has rustup means its toolchain.
fn warning(facts: &Facts, chosen: &Toolchain) -> Option<&'static str> {
    let replaced = facts.has_rustup && facts.active.is_none() && matches!(chosen, Toolchain::Debian { .. });
    replaced.then_some(
        "warning: rustup has no toolchain that works here (`rustc --version` in the project says why; is \
         RUSTUP_TOOLCHAIN or a rust-toolchain.toml wrong?): Debian's is used instead",
    )
}

/// The toolchain to use, or an error that says what to install.
pub fn choose(facts: &Facts) -> Result<Toolchain> {
    if let Some(rustc) = &facts.active
        && rustc.has_target
        && recent(&rustc.version)
    {
        return Ok(Toolchain::Prebuilt {
            version: rustc.version.clone(),
        });
    }
    if let (Some(rustc), Some(linker)) = (&facts.system, &facts.linker)
        && rustc.has_source
        && recent(&rustc.version)
    {
        return Ok(Toolchain::Debian {
            version: rustc.version.clone(),
            linker: linker.clone(),
        });
    }
    Err(Error::user("CL0006", missing(facts)))
}

fn missing(facts: &Facts) -> String {
    let mut text = match &facts.active {
        None => "no Rust toolchain found (rustc and cargo)".to_owned(),
        Some(rustc) if !recent(&rustc.version) => {
            format!(
                "{} is too old: {}.{} or newer is needed",
                rustc.version, RUSTC_OLDEST.0, RUSTC_OLDEST.1
            )
        }
        Some(rustc) => format!(
            "{} cannot compile for {TARGET}: its standard library is not installed",
            rustc.version
        ),
    };
    let rustup = format!("rustup target add {TARGET}");
    text += ". Install it with\n\n";
    text += &match (&facts.active, facts.has_rustup) {
        (Some(rustc), true) if !recent(&rustc.version) => format!("    rustup update && {rustup}\n"),
        (_, true) => format!("    {rustup}\n"),
        (_, false) => format!("    rustup from https://rustup.rs, then: {rustup}\n"),
    };
    if facts.has_apt {
        text += "\nor, with Debian's packages (the standard library is then compiled once, in a minute),\n\n    \
                 apt-get install --no-install-recommends rustc-web cargo-web rust-web-src lld-19\n";
    }
    text
}

fn recent(version: &str) -> bool {
    parse_version(version).is_some_and(|version| version >= RUSTC_OLDEST)
}

/// `rustc 1.95.0 (59807616e 2026-04-14)` is (1, 95).
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn look(project: &Path) -> Facts {
    let has_apt = on_path("apt-get").is_some();
    Facts {
        active: on_path("cargo").and_then(|_| rustc(OsStr::new("rustc"), project)),
        has_rustup: on_path("rustup").is_some(),
        system: Path::new("/usr/bin/cargo")
            .exists()
            .then(|| rustc(OsStr::new("/usr/bin/rustc"), project))
            .flatten(),
        linker: linker(),
        has_apt,
    }
}

fn rustc(program: &OsStr, project: &Path) -> Option<Rustc> {
    let print = |what: &[&str]| {
        let output = Command::new(program)
            .args(what)
            .current_dir(project)
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let version = print(&["--version"])?;
    let libraries = print(&["--print", "target-libdir", "--target", TARGET]).map(PathBuf::from);
    let sysroot = print(&["--print", "sysroot"]).map(PathBuf::from);
    Some(Rustc {
        version,
        has_target: libraries.is_some_and(|folder| has_std(&folder)),
        has_source: sysroot.is_some_and(|folder| folder.join("lib/rustlib/src/rust/library/std/Cargo.toml").exists()),
    })
}

fn has_std(libraries: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(libraries) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

/// The newest `wasm-ld-N` on the path, else `wasm-ld`.
fn linker() -> Option<PathBuf> {
    (14..40)
        .rev()
        .find_map(|version| on_path(&format!("wasm-ld-{version}")))
        .or_else(|| on_path("wasm-ld"))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(version: &str, has_target: bool, has_source: bool) -> Option<Rustc> {
        Some(Rustc {
            version: format!("rustc {version} (abc 2026-01-01)"),
            has_target,
            has_source,
        })
    }

    fn chosen(facts: &Facts) -> Result<&'static str, String> {
        match choose(facts) {
            Ok(Toolchain::Prebuilt { .. }) => Ok("prebuilt"),
            Ok(Toolchain::Debian { .. }) => Ok("debian"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_toolchain_of_rustup_that_does_not_work_is_not_replaced_in_silence() {
        let facts = Facts {
            has_rustup: true,
            system: compiler("1.95.0", false, true),
            linker: Some(PathBuf::from("wasm-ld-19")),
            ..Facts::default()
        };
        let chosen = choose(&facts).expect("Debian's");
        assert!(warning(&facts, &chosen).is_some_and(|text| text.contains("RUSTUP_TOOLCHAIN")));
        let without = Facts {
            has_rustup: false,
            ..facts
        };
        assert_eq!(warning(&without, &chosen), None);
    }

    #[test]
    fn the_active_toolchain_is_preferred() {
        let facts = Facts {
            active: compiler("1.95.0", true, false),
            system: compiler("1.96.0", false, true),
            linker: Some("wasm-ld-19".into()),
            ..Facts::default()
        };
        assert_eq!(chosen(&facts), Ok("prebuilt"));
    }

    #[test]
    fn debian_stands_in_for_a_missing_or_old_target() {
        let check = |active: Option<Rustc>| {
            let facts = Facts {
                active,
                system: compiler("1.96.0", false, true),
                linker: Some("wasm-ld-19".into()),
                ..Facts::default()
            };
            assert_eq!(chosen(&facts), Ok("debian"));
        };
        check(None);
        check(compiler("1.95.0", false, false));
        check(compiler("1.63.0", true, false));
    }

    #[test]
    fn what_is_missing_is_said() {
        let check = |facts: Facts, expect: &[&str]| {
            let message = chosen(&facts).expect_err("nothing usable");
            for part in expect {
                assert!(message.contains(part), "{part:?} is not in {message}");
            }
        };
        check(Facts::default(), &["no Rust toolchain found", "https://rustup.rs"]);
        let old = Facts {
            active: compiler("1.63.0", true, false),
            has_rustup: true,
            ..Facts::default()
        };
        check(
            old,
            &["rustc 1.63.0", "too old: 1.85", "rustup update && rustup target add"],
        );
        let no_linker = Facts {
            active: compiler("1.95.0", false, false),
            system: compiler("1.96.0", false, true),
            has_apt: true,
            ..Facts::default()
        };
        check(
            no_linker,
            &["cannot compile for wasm32-unknown-unknown", "rust-web-src lld-19"],
        );
    }

    #[test]
    fn versions() {
        assert_eq!(parse_version("rustc 1.95.0 (59807616e 2026-04-14)"), Some((1, 95)));
        assert_eq!(parse_version("rustc 1.97.0-nightly (abc)"), Some((1, 97)));
        assert_eq!(parse_version("error: no default toolchain"), None);
    }
}
