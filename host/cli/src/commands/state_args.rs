//! Options of `jobctl run` that say where the state of keys and windows is.

use std::path::{Path, PathBuf};

use millrace_core::{Error, Result};
use millrace_engine::StateBackend;

use crate::cache;

/// State backends.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "State")]
pub struct StateArgs {
    /// Where the state of keys and windows is while the job runs
    #[arg(long, value_enum, default_value_t = Kind::Memory)]
    state_backend: Kind,

    /// Memory of each slot for state, in MiB; what does not fit is on disk (rocksdb)
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    state_cache: u32,

    /// Folder in which state that does not fit is kept while the job runs (rocksdb) [default: `state` in the cache
    /// folder]
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// In memory
    Memory,
    /// On disk, with the hot part in memory
    Rocksdb,
}

/// State on disk, for as long as this lives.
#[derive(Debug)]
pub struct StateFolder(Option<PathBuf>);

impl Drop for StateFolder {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            // What stays is found by the next job in this folder.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Name of a process's folder begins with this.
const PREFIX: &str = "jobctl-";

impl StateArgs {
    /// The backend, and the folder to be removed when the job has ended.
    pub fn open(&self) -> Result<(StateBackend, StateFolder)> {
        if self.state_backend == Kind::Memory {
            return Ok((StateBackend::Memory, StateFolder(None)));
        }
        let parent = match &self.state_dir {
            Some(folder) => folder.clone(),
            None => cache::folder()?.join("state"),
        };
        let failed = |error: std::io::Error| {
            let message = format!("the folder `{}` of state cannot be used: {error}", parent.display());
            Error::external("CS0301", message)
        };
        std::fs::create_dir_all(&parent).map_err(failed)?;
        remove_left_over(&parent).map_err(failed)?;
        let folder = parent.join(format!("{PREFIX}{}", std::process::id()));
        let backend = StateBackend::RocksDb {
            folder: folder.clone(),
            cache_bytes: self.state_cache as usize * (1 << 20),
        };
        Ok((backend, StateFolder(Some(folder))))
    }
}

/// Removes the folders of processes that are no more: one that was killed could not.
fn remove_left_over(parent: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let name = entry?.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some(process) = process.and_then(|process| process.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new("/proc").join(process.to_string()).exists() {
            std::fs::remove_dir_all(parent.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_dead_processes_go_and_all_else_stays() {
        let parent = tempfile::tempdir().unwrap();
        let own = format!("{PREFIX}{}", std::process::id());
        for name in [own.as_str(), "jobctl-4194305", "jobctl-x", "photos"] {
            std::fs::create_dir_all(parent.path().join(name).join("inner")).unwrap();
        }
        remove_left_over(parent.path()).unwrap();
        let left = std::fs::read_dir(parent.path()).unwrap();
        let mut left = left.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        left.sort();
        let mut expected = [own.as_str(), "jobctl-x", "photos"];
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
