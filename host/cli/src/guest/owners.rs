//! Whose results the shared build folder holds.
//!
//! To Cargo, packages of one name at the same place of their workspaces are one package in a shared folder, and it takes
//! what was compiled last for what it would compile: of two copies of a project the older would get the newer's component.
//! So one build at a time is in the folder, and before it the results of its packages are removed where another project
//! has left them.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use millrace_core::{Error, Result};
use serde_json::Value;

use crate::files;

/// A build folder that nobody else builds in.
#[derive(Debug)]
pub struct BuildFolder {
    /// Its path, absolute.
    pub path: PathBuf,
    /// Released when it is closed.
    _lock: File,
}

/// A package of a workspace.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    /// As `cargo clean -p` wants it.
    id: String,
    name: String,
}

impl BuildFolder {
    /// Waits until nobody else builds in the folder, which is made if it is not there. `busy` is called before it waits.
    pub fn enter(folder: &Path, busy: impl FnOnce()) -> Result<Self> {
        let owners = folder.join("owners");
        files::create_folder(&owners)?;
        let path = std::path::absolute(folder).map_err(|error| files::failed("find", folder, &error))?;
        let file = path.join(".jobctl-lock");
        let failed = |error| files::failed("lock", &file, &error);
        let lock = File::create(&file).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                busy();
                lock.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(BuildFolder { path, _lock: lock })
    }

    /// Makes the folder this workspace's, as `cargo metadata --no-deps` describes it. `clean` removes the results of a
    /// package, by its id.
    pub fn own(&self, metadata: &[u8], clean: impl Fn(&str) -> Result<()>) -> Result<()> {
        let Some((root, members)) = workspace(metadata) else {
            return Err(Error::internal(
                "Cargo describes the workspace in a way that is not known",
            ));
        };
        for member in members {
            let file = self.path.join("owners").join(&member.name);
            let owner = fs::read(&file).unwrap_or_default();
            if owner != root.as_bytes() {
                clean(&member.id)?;
                files::write(&file, root.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Root and packages of a workspace.
fn workspace(metadata: &[u8]) -> Option<(String, Vec<Member>)> {
    let metadata: Value = serde_json::from_slice(metadata).ok()?;
    let members = metadata["workspace_members"].as_array()?;
    let members = metadata["packages"].as_array()?.iter().filter_map(|package| {
        let member = Member {
            id: package["id"].as_str()?.to_owned(),
            name: package["name"].as_str()?.to_owned(),
        };
        members.contains(&package["id"]).then_some(member)
    });
    let root = metadata["workspace_root"].as_str()?.to_owned();
    Some((root, members.collect()))
}

/// What a command prints; its errors are the terminal's.
pub fn output(mut command: Command) -> Result<Option<Vec<u8>>> {
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| {
        let name = command.get_program().display();
        Error::external("CL0010", format!("cannot start `{name}`: {error}"))
    })?;
    Ok(output.status.success().then_some(output.stdout))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn metadata(root: &str, names: &[&str]) -> Vec<u8> {
        let id = |name: &str| format!("path+file://{root}/{name}#0.1.0");
        let packages = names
            .iter()
            .map(|name| serde_json::json!({"id": id(name), "name": name}));
        let members = names.iter().map(|name| id(name));
        serde_json::json!({
            "workspace_root": root, "packages": packages.collect::<Vec<_>>(), "workspace_members": members.collect::<Vec<_>>()
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn what_another_project_left_is_removed() {
        let base = tempfile::tempdir().expect("temporary folder");
        let folder = BuildFolder::enter(&base.path().join("build"), || panic!("nobody is there")).expect("a folder");
        let cleaned = |root: &str, names: &[&str]| {
            let cleaned = RefCell::new(Vec::new());
            let clean = |id: &str| {
                cleaned.borrow_mut().push(id.to_owned());
                Ok(())
            };
            folder.own(&metadata(root, names), clean).expect("owned");
            cleaned.into_inner()
        };
        let id = |root: &str, name: &str| format!("path+file://{root}/{name}#0.1.0");
        assert_eq!(cleaned("/a", &["words", "lib"]), [id("/a", "words"), id("/a", "lib")]);
        assert_eq!(cleaned("/a", &["words", "lib"]), [""; 0]);
        assert_eq!(
            cleaned("/b", &["words", "other"]),
            [id("/b", "words"), id("/b", "other")]
        );
        assert_eq!(cleaned("/a", &["words", "lib"]), [id("/a", "words")]);
        // What could not be removed is not owned.
        let refuse = |_: &str| Err(Error::internal("no"));
        assert!(folder.own(&metadata("/b", &["words"]), refuse).is_err());
        assert_eq!(cleaned("/a", &["words", "lib"]), [""; 0]);
        assert!(folder.own(b"{}", |_| Ok(())).is_err());
    }

    #[test]
    fn one_build_at_a_time() {
        let base = tempfile::tempdir().expect("temporary folder");
        let first = BuildFolder::enter(base.path(), || {}).expect("a folder");
        let (told, hear) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second =
                scope.spawn(|| BuildFolder::enter(base.path(), || told.send(()).expect("somebody hears")).is_ok());
            hear.recv().expect("it waits");
            assert!(!second.is_finished());
            drop(first);
            assert!(second.join().expect("no panic"));
        });
    }
}
