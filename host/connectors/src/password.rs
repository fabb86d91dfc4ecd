//! Passwords of servers: where they come from, and how they stay out of what people see.
//!
//! Next to the URL there are the options `password.file` and `password.env`: parameters of a job are seen by many
//! (`ps`, logs of schedulers, the descriptions of checkpoints), a file or a variable by those who may.

use millrace_core::connector::Options;
use millrace_core::{Error, Result};

/// Where a password is to be found; it is read when a connection is made, so that it may change while a job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Password {
    /// Wherever the connector looks by itself: its URL, say.
    Unspecified,
    /// In this file, but for a line end behind it.
    File(String),
    /// In this environment variable.
    Environment(String),
}

impl Password {
    /// Takes the options `password.file` and `password.env`.
    pub(crate) fn take(options: &mut Options) -> Result<Self> {
        match (options.text("password.file"), options.text("password.env")) {
            (None, None) => Ok(Password::Unspecified),
            (Some(path), None) => Ok(Password::File(path)),
            (None, Some(name)) => Ok(Password::Environment(name)),
            (Some(_), Some(_)) => {
                let message = "options `password.file` and `password.env` exclude each other";
                Err(Error::user("CN0116", message))
            }
        }
    }

    /// The password; `None`: unspecified.
    pub(crate) fn read(&self) -> Result<Option<String>> {
        match self {
            Password::Unspecified => Ok(None),
            Password::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(error) => {
                    let message = format!("option `password.file`: `{path}` cannot be read: {error}");
                    Err(Error::user("CN0116", message))
                }
            },
            Password::Environment(name) => match std::env::var(name) {
                Ok(text) => Ok(Some(text)),
                Err(_) => {
                    let message = format!("option `password.env`: there is no environment variable `{name}`");
                    Err(Error::user("CN0116", message))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::options;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<String>> {
        let mut options = options(pairs);
        let password = Password::take(&mut options)?;
        options.finish()?;
        password.read()
    }

    #[test]
    fn passwords_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, " with blanks \r\n").unwrap();
        assert_eq!(read(&[]).unwrap(), None);
        let found = read(&[("password.file", path.to_str().unwrap())]).unwrap();
        assert_eq!(found.as_deref(), Some(" with blanks "));
        // One that tests have for certain.
        assert!(read(&[("password.env", "PATH")]).unwrap().is_some());
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |pairs: &[(&str, &str)], part: &str| {
            let error = read(pairs).unwrap_err();
            assert_eq!(error.code(), "CN0116");
            assert!(error.to_string().contains(part), "{error}");
        };
        check(&[("password.file", "/nowhere/secret")], "`/nowhere/secret`");
        check(&[("password.env", "NO_SUCH_VARIABLE")], "`NO_SUCH_VARIABLE`");
        check(&[("password.env", "A"), ("password.file", "b")], "exclude");
    }
}
