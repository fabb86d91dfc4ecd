//! The Cargo project of a pipeline, as far as it matters before it is compiled.

use std::path::{Path, PathBuf};

use millrace_core::{Error, Result};

use crate::guest::sdk;
use crate::{files, pack};

/// A package that can be built into a pipeline.
#[derive(Debug)]
pub struct Project {
    /// Name of the package.
    pub name: String,
    /// Folder of its `Cargo.toml`.
    pub folder: PathBuf,
    /// Its `Cargo.toml`.
    pub manifest: PathBuf,
    /// Where the manifest says that the SDK is, if it is a path.
    sdk_path: Option<PathBuf>,
}

impl Project {
    /// Reads a project's manifest. `path` is it, or its folder.
    pub fn open(path: &Path) -> Result<Self> {
        let manifest = if path.is_dir() {
            path.join("Cargo.toml")
        } else {
            path.to_owned()
        };
        if !manifest.is_file() {
            return Err(Error::user(
                "CL0004",
                format!("there is no project at `{}`: no Cargo.toml", path.display()),
            ));
        }
        let text = files::read_text(&manifest)?;
        let refuse = |why: String| Error::user("CL0004", format!("`{}` {why}", manifest.display()));
        let table: toml::Table = text
            .parse()
            .map_err(|error| refuse(format!("is not a manifest: {error}")))?;
        let Some(package) = table.get("package") else {
            return Err(refuse(
                "is a workspace, not a package; name the folder of one of its members".to_owned(),
            ));
        };
        let Some(name) = package.get("name").and_then(toml::Value::as_str) else {
            return Err(refuse("gives the package no name".to_owned()));
        };
        if !is_cdylib(&table) {
            let message = format!("package `{name}` is no cdylib, so Cargo makes no wasm module of it");
            return Err(Error::user("CL0005", message));
        }
        let sdk_path = table
            .get("dependencies")
            .and_then(|all| all.get("millrace-sdk")?.get("path")?.as_str());
        let folder = match manifest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Project {
            name: name.to_owned(),
            sdk_path: sdk_path.map(|path| folder.join(path)),
            folder,
            manifest,
        })
    }

    /// Makes sure that an SDK in the cache is there: unpacks it if it is the one of this version, and says what to
    /// write where another is gone.
    pub fn check_sdk(&self, cache: &Path) -> Result<()> {
        let Some(path) = &self.sdk_path else { return Ok(()) };
        if !path.starts_with(sdk::all(cache)) || path.is_dir() {
            return Ok(());
        }
        let current = sdk::crate_folder(&sdk::unpack(cache)?);
        if *path == current {
            return Ok(());
        }
        Err(Error::user(
            "CL0012",
            format!(
                "the SDK that `{}` uses is gone from the cache. In its [dependencies], write the one of this jobctl ({}):\n\n    \
                 millrace-sdk = {{ path = {} }}\n",
                self.manifest.display(),
                pack::VERSION,
                toml::Value::String(current.display().to_string()),
            ),
        ))
    }
}

fn is_cdylib(manifest: &toml::Table) -> bool {
    let library = manifest.get("lib");
    let types = library.and_then(|library| library.get("crate-type").or_else(|| library.get("crate_type")));
    let types = types.and_then(toml::Value::as_array);
    types.is_some_and(|types| types.iter().any(|kind| kind.as_str() == Some("cdylib")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> (tempfile::TempDir, Result<Project>) {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::write(folder.path().join("Cargo.toml"), text).expect("manifest");
        let project = Project::open(folder.path());
        (folder, project)
    }

    const GOOD: &str = "[package]\nname = \"a\"\n[lib]\ncrate-type = [\"cdylib\"]\n";

    #[test]
    fn manifests() {
        let check = |text: &str, expect: Result<&str, &str>| {
            let (_folder, project) = open(text);
            assert_eq!(
                project.as_ref().map(|p| p.name.as_str()).map_err(|e| e.code()),
                expect,
                "{text}"
            );
        };
        check(GOOD, Ok("a"));
        check("[workspace]\nmembers = []\n", Err("CL0004"));
        check("[package\n", Err("CL0004"));
        check("[package]\n", Err("CL0004"));
        check("[package]\nname = \"a\"\n", Err("CL0005"));
        check(
            "[package]\nname = \"a\"\n[lib]\ncrate-type = [\"lib\"]\n",
            Err("CL0005"),
        );
    }

    #[test]
    fn a_missing_project_is_named() {
        let error = Project::open(Path::new("/no/such")).expect_err("nothing there");
        assert_eq!(error.to_string(), "there is no project at `/no/such`: no Cargo.toml");
    }

    #[test]
    fn an_sdk_that_is_gone_from_the_cache_is_unpacked_or_reported() {
        let cache = tempfile::tempdir().expect("temporary folder");
        let with = |path: &Path| {
            format!(
                "{GOOD}[dependencies]\nmillrace-sdk = {{ path = {:?} }}\n",
                path.display().to_string()
            )
        };
        let current = sdk::crate_folder(&sdk::folder(cache.path()));

        let (_folder, project) = open(&with(&current));
        project
            .expect("project")
            .check_sdk(cache.path())
            .expect("unpacked again");
        assert!(current.is_dir());

        let (_folder, project) = open(&with(&sdk::all(cache.path()).join("0.0.1-abc/guest-sdk/rust")));
        let error = project.expect("project").check_sdk(cache.path()).expect_err("gone");
        assert_eq!(error.code(), "CL0012");
        assert!(error.to_string().contains(&current.display().to_string()));
    }
}
