//! Packs what `jobctl` carries: the sources of the Rust SDK and of the WIT, the project template, and the
//! pages of `docs/errors`.
//!
//! Writes `packed.rs` into `OUT_DIR`: tables of (path, content) that include the files as they are in the
//! repository. The crates of the SDK inherit from the repository's workspace, so the pack ends with a
//! `Cargo.toml` that is that workspace cut down to them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

type Failure = Box<dyn std::error::Error>;

/// The SDK, its macros, and what tests of pipelines share with the host.
const SDK_CRATES: [&str; 3] = ["guest-sdk/rust", "guest-sdk/rust-derive", "host/pattern"];

/// A file to embed: its name in the pack and where it is now.
struct Packed {
    name: String,
    path: PathBuf,
}

fn main() -> Result<(), Failure> {
    // Read when run: the compiled script may be shared by several clones.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?)
        .join("../..")
        .canonicalize()?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let manifest = out.join("sdk-workspace.toml");
    fs::write(&manifest, sdk_workspace(&root)?)?;

    let mut sdk = Vec::new();
    for folder in SDK_CRATES.iter().chain(&["wit"]) {
        collect(&root, folder, &["guest-sdk/rust/template"], &mut sdk)?;
    }
    sdk.push(Packed {
        name: "Cargo.toml".into(),
        path: manifest,
    });
    let mut template = Vec::new();
    collect(&root, "guest-sdk/rust/template", &[], &mut template)?;
    let mut pages = Vec::new();
    collect(&root, "docs/errors", &[], &mut pages)?;

    let mut text = String::new();
    table(&mut text, "SDK_FILES", &sdk)?;
    table(&mut text, "TEMPLATE_FILES", &template)?;
    table(&mut text, "ERROR_PAGES", &pages)?;
    writeln!(text, "const SDK_HASH: &str = {:?};", hash(&sdk)?)?;
    fs::write(out.join("packed.rs"), text)?;
    Ok(())
}

/// All files below a folder, in order, without build outputs and the folders in `except`.
fn collect(root: &Path, folder: &str, except: &[&str], found: &mut Vec<Packed>) -> Result<(), Failure> {
    let path = root.join(folder);
    println!("cargo::rerun-if-changed={}", path.display());
    let mut entries = match fs::read_dir(&path) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>()?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| format!("{name:?} is not UTF-8"))?;
        let inner = format!("{folder}/{name}");
        if entry.file_type()?.is_dir() {
            if name != "target" && !except.contains(&inner.as_str()) {
                collect(root, &inner, except, found)?;
            }
        } else if name != "Cargo.lock" && !name.ends_with(".wasm") {
            found.push(Packed {
                name: inner,
                path: entry.path(),
            });
        }
    }
    Ok(())
}

/// The repository's workspace, cut down to the SDK's crates and what they inherit.
fn sdk_workspace(root: &Path) -> Result<String, Failure> {
    println!("cargo::rerun-if-changed={}", root.join("Cargo.toml").display());
    let whole: toml::Table = fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let whole = whole["workspace"].as_table().ok_or("no [workspace]")?;
    let mut inherited = BTreeSet::new();
    for member in SDK_CRATES {
        let manifest: toml::Table = fs::read_to_string(root.join(member).join("Cargo.toml"))?.parse()?;
        let targets = manifest.get("target").and_then(toml::Value::as_table);
        let targets = targets.into_iter().flat_map(toml::Table::values);
        for part in targets.filter_map(toml::Value::as_table).chain([&manifest]) {
            for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
                if let Some(section) = part.get(section).and_then(toml::Value::as_table) {
                    inherited.extend(section.keys().cloned());
                }
            }
        }
    }
    let mut dependencies = whole["dependencies"].as_table().ok_or("no dependencies")?.clone();
    dependencies.retain(|name, _| inherited.contains(name));

    let mut workspace = toml::Table::new();
    workspace.insert("resolver".into(), whole["resolver"].clone());
    workspace.insert("members".into(), toml::Value::try_from(SDK_CRATES)?);
    for key in ["package", "lints"] {
        workspace.insert(key.into(), whole[key].clone());
    }
    workspace.insert("dependencies".into(), toml::Value::Table(dependencies));
    let mut manifest = toml::Table::new();
    manifest.insert("workspace".into(), toml::Value::Table(workspace));
    Ok(format!(
        "# The Rust SDK of Millrace, as unpacked by jobctl.\n{manifest}"
    ))
}

fn table(text: &mut String, name: &str, files: &[Packed]) -> Result<(), Failure> {
    writeln!(text, "const {name}: &[(&str, &[u8])] = &[")?;
    for file in files {
        writeln!(text, "    ({:?}, include_bytes!({:?})),", file.name, file.path)?;
    }
    writeln!(text, "];")?;
    Ok(())
}

/// Twelve hex digits that change with any name or content.
fn hash(files: &[Packed]) -> Result<String, Failure> {
    let mut hasher = Sha256::new();
    for file in files {
        let content = fs::read(&file.path)?;
        hasher.update(file.name.len().to_le_bytes());
        hasher.update(&file.name);
        hasher.update(content.len().to_le_bytes());
        hasher.update(&content);
    }
    let digest = hasher.finalize();
    Ok(digest[..6].iter().map(|byte| format!("{byte:02x}")).collect())
}
