//! The SDK's sources in the user's cache: one folder per version and content, complete or not there at all.

use std::path::{Path, PathBuf};

use millrace_core::Result;

use crate::{files, pack};

/// Folder of this version of the SDK below the cache folder.
pub fn folder(cache: &Path) -> PathBuf {
    all(cache).join(format!("{}-{}", pack::VERSION, pack::sdk_hash()))
}

/// Folder in which all versions of the SDK are.
pub fn all(cache: &Path) -> PathBuf {
    cache.join("sdk")
}

/// The package `millrace-sdk` in an unpacked SDK.
pub fn crate_folder(sdk: &Path) -> PathBuf {
    sdk.join("guest-sdk/rust")
}

/// Unpacks the SDK unless it is there, and gives its folder.
pub fn unpack(cache: &Path) -> Result<PathBuf> {
    let folder = folder(cache);
    if !folder.is_dir() {
        files::write_folder(&folder, pack::sdk_files().iter().copied())?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_is_unpacked_once() {
        let cache = tempfile::tempdir().expect("temporary folder");
        let folder = unpack(cache.path()).expect("first");
        let manifest = crate_folder(&folder).join("Cargo.toml");
        let written = manifest.metadata().and_then(|file| file.modified()).expect("manifest");
        assert_eq!(unpack(cache.path()).expect("second"), folder);
        assert_eq!(
            manifest.metadata().and_then(|file| file.modified()).expect("manifest"),
            written
        );
        for (name, content) in pack::sdk_files() {
            assert_eq!(std::fs::read(folder.join(name)).expect("file"), *content, "{name}");
        }
    }
}
