//! Where `jobctl` keeps what it can make again: `$MILLRACE_CACHE`, else `millrace` in the user's cache folder.

use std::path::PathBuf;

use millrace_core::{Error, Result};

use crate::folders::{Folder, variable};

/// The cache folder: `$MILLRACE_CACHE`, `$XDG_CACHE_HOME/millrace` or `~/.cache/millrace`.
pub fn folder() -> Result<PathBuf> {
    let folder = variable("MILLRACE_CACHE").or_else(|| Folder::Cache.locate());
    folder.ok_or_else(|| Error::user("CL0013", "no cache folder: neither MILLRACE_CACHE nor HOME is set"))
}
