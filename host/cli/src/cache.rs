//! Where `jobctl` keeps what it can make again: `$MILLRACE_CACHE`, else `millrace` in the user's cache folder.

use std::path::PathBuf;

use millrace_core::{Error, Result};

/// The cache folder: `$MILLRACE_CACHE`, `$XDG_CACHE_HOME/millrace` or `~/.cache/millrace`.
pub fn folder() -> Result<PathBuf> {
    locate(variable).ok_or_else(|| Error::user("CL0013", "no cache folder: neither MILLRACE_CACHE nor HOME is set"))
}

/// An environment variable that names a folder.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

fn locate(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("MILLRACE_CACHE")
        .or_else(|| {
            variable("XDG_CACHE_HOME")
                .filter(|path| path.is_absolute())
                .map(|path| path.join("millrace"))
        })
        .or_else(|| variable("HOME").map(|home| home.join(".cache/millrace")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_setting_wins() {
        let check = |set: &[(&str, &str)], expect: Option<&str>| {
            let found = locate(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()));
            assert_eq!(found, expect.map(PathBuf::from), "{set:?}");
        };
        check(&[("HOME", "/h")], Some("/h/.cache/millrace"));
        check(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], Some("/x/millrace"));
        check(
            &[("HOME", "/h"), ("XDG_CACHE_HOME", "relative")],
            Some("/h/.cache/millrace"),
        );
        check(&[("HOME", "/h"), ("MILLRACE_CACHE", "/m")], Some("/m"));
        check(&[], None);
    }
}
