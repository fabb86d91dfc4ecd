//! Reading and writing of files with errors that name them; outputs appear complete or not at all.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use millrace_core::{Error, Result};

/// Reads a text file.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| failed("read", path, &error))
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| failed("read", path, &error))
}

/// Makes a folder and those above it.
pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| failed("create", path, &error))
}

/// Replaces a file at once: readers see the old content or the new.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let written = (|| -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".jobctl-").tempfile_in(folder)?;
        file.write_all(content)?;
        make_readable(file.as_file())?;
        file.persist(path)?;
        Ok(())
    })();
    written.map_err(|error| failed("write", path, &error))
}

/// Writes files below a folder that must not exist yet; it appears with all of them or not at all. Gives false
/// if somebody else made it meanwhile.
pub fn write_folder<'a>(path: &Path, files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<bool> {
    let parent = path.parent().unwrap_or(Path::new("."));
    create_folder(parent)?;
    let staged = tempfile::Builder::new()
        .prefix(".jobctl-")
        .tempdir_in(parent)
        .map_err(|error| failed("create a folder in", parent, &error))?;
    for (name, content) in files {
        let file = staged.path().join(name);
        create_folder(file.parent().unwrap_or(staged.path()))?;
        fs::write(&file, content).map_err(|error| failed("write", &file, &error))?;
    }
    open_folder(staged.path()).map_err(|error| failed("write", staged.path(), &error))?;
    match fs::rename(staged.path(), path) {
        Ok(()) => {
            // Nothing is left to clean up at the old name.
            let _ = staged.keep();
            Ok(true)
        }
        Err(_) if path.is_dir() => Ok(false),
        Err(error) => Err(failed("create", path, &error)),
    }
}

/// An I/O failure in words: "cannot read `x`: no such file".
pub fn failed(verb: &str, path: &Path, error: &io::Error) -> Error {
    // Errors of temporary files name these files, which nobody knows; their source is the system's error.
    let source = error.get_ref().and_then(|wrapped| wrapped.source());
    let error = source.map_or_else(|| error.to_string(), ToString::to_string);
    Error::external("CL0010", format!("cannot {verb} `{}`: {error}", path.display()))
}

/// Temporary files are private to their owner; results are as readable as any other file.
#[cfg(unix)]
fn make_readable(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_: &fs::File) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn open_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn open_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_once_with_all_its_files() {
        let base = tempfile::tempdir().expect("temporary folder");
        let path = base.path().join("a/b");
        let files = [("x.txt", b"1".as_slice()), ("in/y.txt", b"2")];
        assert!(write_folder(&path, files.into_iter()).expect("first"));
        assert!(!write_folder(&path, files.into_iter()).expect("second"));
        assert_eq!(fs::read(path.join("in/y.txt")).expect("y"), b"2");
        let beside = fs::read_dir(base.path().join("a")).expect("listing").count();
        assert_eq!(beside, 1, "nothing is left beside the folder");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = write(Path::new("/proc/no/such"), b"").expect_err("no such folder");
        assert_eq!(error.code(), "CL0010");
        assert!(
            error.to_string().starts_with("cannot write `/proc/no/such`: "),
            "{error}"
        );
    }
}
