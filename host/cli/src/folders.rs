//! The user's folders: `jobctl` has one of its own in that for caches and in that for data, as the XDG Base Directory
//! Specification says.

use std::path::PathBuf;

/// A kind of folder.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Folder {
    /// For what can be made again.
    Cache,
    /// For what cannot.
    Data,
}

impl Folder {
    /// Where `jobctl`'s folder of this kind is; `None`: nothing says so.
    pub(crate) fn locate(self) -> Option<PathBuf> {
        self.find(variable)
    }

    fn find(self, variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        let (base, of_home) = match self {
            Folder::Cache => ("XDG_CACHE_HOME", ".cache"),
            Folder::Data => ("XDG_DATA_HOME", ".local/share"),
        };
        variable(base)
            .filter(|path| path.is_absolute())
            .or_else(|| variable("HOME").map(|home| home.join(of_home)))
            .map(|path| path.join("millrace"))
    }
}

/// An environment variable that names a folder.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_setting_wins() {
        let check = |folder: Folder, set: &[(&str, &str)], expect: Option<&str>| {
            let found = folder.find(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()));
            assert_eq!(found, expect.map(PathBuf::from), "{folder:?} {set:?}");
        };
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/c"), ("XDG_DATA_HOME", "/d")];
        check(Folder::Cache, &all, Some("/c/millrace"));
        check(Folder::Data, &all, Some("/d/millrace"));
        check(Folder::Cache, &all[..1], Some("/h/.cache/millrace"));
        check(Folder::Data, &all[..1], Some("/h/.local/share/millrace"));
        let relative = [("HOME", "/h"), ("XDG_CACHE_HOME", "c")];
        check(Folder::Cache, &relative, Some("/h/.cache/millrace"));
        check(Folder::Cache, &[], None);
    }
}
