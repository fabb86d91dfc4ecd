//! Which files a path means: one file, the files of a folder, or a glob's matches.
//!
//! In a folder, files whose names begin with `.` or `_` are skipped, as other engines do: they are being
//! written, or are marks. So are those that a glob finds, and what is in such folders, unless the glob itself
//! begins a name so. Folders inside a folder are not entered; a glob such as `logs/**/*.csv` does that.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_core::{Error, Result};

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// Its path, which is text because it names a split.
    pub(crate) path: String,
    /// Its length.
    pub(crate) bytes: u64,
}

/// The files that `path` means, in the order of their paths; never none.
pub(crate) fn files(path: &str) -> Result<Vec<Input>> {
    let as_path = Path::new(path);
    let paths = match std::fs::metadata(as_path) {
        Ok(metadata) if metadata.is_dir() => folder(as_path)?,
        Ok(metadata) if metadata.is_file() => vec![as_path.to_owned()],
        Ok(_) => {
            return Err(Error::external(
                "IO0102",
                format!("`{path}` is no regular file; what comes through a pipe or terminal is read with `Stdin`"),
            ));
        }
        Err(_) if path.contains(['*', '?', '[']) => globbed(path)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::external(
                "IO0101",
                format!("`{path}`: there is no such file or folder"),
            ));
        }
        Err(error) => return Err(unreadable(path, &error)),
    };
    let mut inputs = paths.into_iter().map(input).collect::<Result<Vec<_>>>()?;
    inputs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(inputs)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>> {
    let shown = path.display();
    let fail = |error: std::io::Error| unreadable(&shown.to_string(), &error);
    let mut paths = Vec::new();
    for entry in visible(path)? {
        if std::fs::metadata(&entry).map_err(fail)?.is_file() {
            paths.push(entry);
        }
    }
    if paths.is_empty() {
        return Err(Error::external(
            "IO0101",
            format!(
                "folder `{shown}` has no files to read (names that begin with `.` or `_` and folders inside do not count)"
            ),
        ));
    }
    Ok(paths)
}

/// What is in a folder, but for names that begin with `.` or `_`.
fn visible(folder: &Path) -> Result<Vec<PathBuf>> {
    let fail = |error: std::io::Error| unreadable(&folder.display().to_string(), &error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if !entry.file_name().to_string_lossy().starts_with(['.', '_']) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

fn globbed(pattern: &str) -> Result<Vec<PathBuf>> {
    let paths = matches(pattern)?;
    if paths.is_empty() {
        return Err(Error::external(
            "IO0101",
            format!("no file matches `{pattern}` (names that begin with `.` or `_` match only a pattern that does)"),
        ));
    }
    Ok(paths)
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let matches = glob::glob(pattern).map_err(|error| {
        Error::user(
            "CN0113",
            format!("option `path` is `{pattern}`, which is no valid glob: {error}"),
        )
    })?;
    let mut paths = Vec::new();
    for path in matches {
        let path = path.map_err(|error| unreadable(&error.path().display().to_string(), error.error()))?;
        if path.is_file() && !is_hidden(&path, pattern) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// A file as it is found while others come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its path now.
    pub(crate) path: String,
    /// What stays the same when it grows or is renamed, and is another's if it is replaced.
    pub(crate) identity: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// When it was changed last, in ns since 1970.
    pub(crate) modified_ns: u128,
}

/// The files that `path` means now, in the order in which they were changed; maybe none. What cannot be looked at,
/// because it has just gone, is left out.
pub(crate) fn scan(path: &str) -> Result<Vec<Found>> {
    let as_path = Path::new(path);
    let paths = match std::fs::metadata(as_path) {
        Ok(metadata) if metadata.is_dir() => visible(as_path)?,
        Ok(_) => vec![as_path.to_owned()],
        Err(_) if path.contains(['*', '?', '[']) => matches(path)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(unreadable(path, &error)),
    };
    let mut found: Vec<Found> = paths.iter().filter_map(|path| find(path.to_str()?)).collect();
    found.sort_by(|a, b| (a.modified_ns, &a.path).cmp(&(b.modified_ns, &b.path)));
    Ok(found)
}

/// The file of this path, if there is one.
pub(crate) fn find(path: &str) -> Option<Found> {
    let metadata = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
    let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Some(Found {
        path: path.to_owned(),
        identity: identity(&metadata),
        bytes: metadata.len(),
        modified_ns: metadata.modified().map_or(0, since_1970),
    })
}

/// What a file is told from others by: its number in the file system, and when it was made, for numbers are used again.
pub(crate) fn identity(metadata: &Metadata) -> String {
    let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let created = metadata.created().map_or(0, since_1970);
    format!("{:x}-{created:x}", metadata.ino())
}

/// Whether a name in the path begins with `.` or `_`, and no part of the pattern that it was found by does.
fn is_hidden(path: &Path, pattern: &str) -> bool {
    let is_named = |name: &str| {
        pattern.split('/').any(|part| {
            part.chars().next() == name.chars().next()
                && glob::Pattern::new(part).is_ok_and(|pattern| pattern.matches(name))
        })
    };
    path.components().any(|component| match component {
        Component::Normal(name) => {
            let name = name.to_string_lossy();
            name.starts_with(['.', '_']) && !is_named(&name)
        }
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => false,
    })
}

/// Opens the file once, so that one that cannot be read is found before anything runs.
fn input(path: PathBuf) -> Result<Input> {
    let shown = path.display().to_string();
    let file = std::fs::File::open(&path).map_err(|error| unreadable(&shown, &error))?;
    let bytes = file.metadata().map_err(|error| unreadable(&shown, &error))?.len();
    let path = path
        .into_os_string()
        .into_string()
        .map_err(|_| Error::external("IO0102", format!("`{shown}` cannot be read: its name is not UTF-8")))?;
    Ok(Input { path, bytes })
}

/// A file or folder that is there but cannot be read.
pub(crate) fn unreadable(path: &str, error: &std::io::Error) -> Error {
    Error::external("IO0102", format!("`{path}` cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_files() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
        std::fs::create_dir(at("sub")).unwrap();
        for name in ["none", "_temporary", ".staged"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        for name in [
            "b.csv",
            "a.csv",
            "_SUCCESS",
            ".part-0-0.csv.inprogress",
            "sub/c.csv",
            "none/.x",
            ".hidden.csv",
            "_temporary/d.csv",
            ".staged/b.csv",
        ] {
            std::fs::write(at(name), name).unwrap();
        }
        let names = |path: &str| -> Vec<String> { files(path).unwrap().into_iter().map(|input| input.path).collect() };
        assert_eq!(names(&at("b.csv")), [at("b.csv")]);
        assert_eq!(names(&at("")), [at("a.csv"), at("b.csv")]);
        assert_eq!(names(&at("*.csv")), [at("a.csv"), at("b.csv")]);
        assert_eq!(names(&at("**/[bc].csv")), [at("b.csv"), at("sub/c.csv")]);
        assert_eq!(names(&at("**/.*.csv")), [at(".hidden.csv")]);
        assert_eq!(names(&at(".s*/b.csv")), [at(".staged/b.csv")]);
        assert_eq!(names(&at("_temporary/*")), [at("_temporary/d.csv")]);
        assert_eq!(names(&at(".hidden.csv")), [at(".hidden.csv")]);
        assert_eq!(files(&at("b.csv")).unwrap()[0].bytes, 5);
        for (path, code, says) in [
            (at("none"), "IO0101", "has no files to read"),
            (at("*.txt"), "IO0101", "no file matches"),
            (at("missing.csv"), "IO0101", "there is no such file"),
            ("/dev/null".to_owned(), "IO0102", "no regular file"),
            (at("a.csv/x"), "IO0102", "cannot be read"),
            (at("[.csv"), "CN0113", "no valid glob"),
        ] {
            let error = files(&path).unwrap_err();
            assert!(
                error.code() == code && error.to_string().contains(says) && error.to_string().contains(&path),
                "{error}"
            );
        }
    }
}
