//! Where libpq finds a password that nobody gave: the variable `PGPASSWORD`, then the file `~/.pgpass` (or the one that
//! `PGPASSFILE` names), with lines `host:port:database:user:password`.

use std::path::{Path, PathBuf};

/// Who connects where.
pub(super) struct Login<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password, if there is one.
pub(super) fn find(login: &Login<'_>) -> Option<String> {
    if let Some(password) = std::env::var("PGPASSWORD").ok().filter(|password| !password.is_empty()) {
        return Some(password);
    }
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let path = named.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".pgpass")))?;
    if !is_private(&path) {
        return None;
    }
    in_file(&std::fs::read_to_string(path).ok()?, login)
}

/// As with libpq, a file that others can read does not count.
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path);
    metadata.is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o077 == 0)
}

/// The password in the first line that fits.
fn in_file(text: &str, login: &Login<'_>) -> Option<String> {
    let port = login.port.to_string();
    let wanted = [login.host, &port, login.database, login.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for wanted in wanted {
            let (field, is_any, after) = field(rest)?;
            if !is_any && field != wanted {
                return None;
            }
            rest = after;
        }
        let mut password = String::new();
        let mut characters = rest.chars();
        while let Some(character) = characters.next() {
            password.push(match character {
                '\\' => characters.next()?,
                other => other,
            });
        }
        Some(password)
    })
}

/// A field that ends with `:`, whether it is `*`, and what is behind it.
fn field(text: &str) -> Option<(String, bool, &str)> {
    let mut field = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => return Some((field, &text[..at] == "*", &text[at + 1..])),
            '\\' => field.push(characters.next()?.1),
            other => field.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# a comment\ndb:5432:x:me:one\n*:*:x:me:two\\:\\\\\nd\\:b:1:*:*:three\nshort:1\n*:*:*:*:any:more\n";
        let check = |host: &str, port: u16, database: &str, user: &str, expect: &str| {
            let login = Login {
                host,
                port,
                database,
                user,
            };
            assert_eq!(in_file(text, &login).as_deref(), Some(expect));
        };
        check("db", 5432, "x", "me", "one");
        check("db", 5433, "x", "me", "two:\\");
        check("d:b", 1, "y", "you", "three");
        check("db", 5432, "y", "me", "any:more");
        let login = Login {
            host: "db",
            port: 1,
            database: "x",
            user: "me",
        };
        assert_eq!(in_file("other:1:x:me:no\n", &login), None);
    }
}
