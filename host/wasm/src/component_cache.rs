//! Compiled code on disk, by content hash.
//!
//! A file holds what wasmtime serialised, under a name made of the component's SHA-256 and the engine's
//! compatibility hash, so that another version or configuration never finds it. Files are written beside
//! and renamed; a damaged or foreign file is compiled anew. The folder belongs to the user alone (mode 700)
//! because loading compiled code trusts it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// SHA-256 of a component, in hexadecimal: its identity everywhere.
pub(crate) fn content_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cached_path(folder: &Path, engine: &Engine, hash: &str) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    folder.join(format!("{hash}-{:016x}.cwasm", hasher.finish()))
}

fn create_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether files in the folder can only come from this user.
fn is_private(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & 0o022 == 0)
}

/// Loads a component from the cache, or compiles it and keeps the result. Failures of the cache itself only
/// cost time.
pub(crate) fn load_or_compile(
    engine: &Engine,
    folder: Option<&Path>,
    bytes: &[u8],
    hash: &str,
) -> wasmtime::Result<Component> {
    let Some(folder) = folder else {
        return Component::new(engine, bytes);
    };
    let path = cached_path(folder, engine, hash);
    if path.exists() && is_private(folder) {
        // SAFETY: the file lies in a folder that only this user can write, under a name that contains the
        // engine's compatibility hash, and was renamed into place after `store` wrote it completely from
        // `Component::serialize`; wasmtime checks its own header besides.
        if let Ok(component) = unsafe { Component::deserialize_file(engine, &path) } {
            return Ok(component);
        }
    }
    let component = Component::new(engine, bytes)?;
    if let Ok(code) = component.serialize() {
        // A full disk or a read-only home must not stop a job: the next start compiles again.
        let _ = store(folder, &path, &code);
    }
    Ok(component)
}

fn store(folder: &Path, path: &Path, code: &[u8]) -> std::io::Result<()> {
    create_private_folder(folder)?;
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    let result = fs::write(&unfinished, code).and_then(|()| fs::rename(&unfinished, path));
    if result.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    result
}
