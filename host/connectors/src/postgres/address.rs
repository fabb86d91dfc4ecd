//! The option `url`: what the client understands of it, and the settings of TLS, of which it knows only half.

use millrace_core::{Error, Result};

/// Names that are taken out of a URL: those of libpq.
pub(super) const TLS_NAMES: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// An address and the settings of TLS in it, by place in [`TLS_NAMES`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Address {
    /// The address without them.
    pub(super) rest: String,
    pub(super) tls: [Option<String>; 4],
}

impl Address {
    /// Takes the settings of TLS out of a URL or of pairs of names and values.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if is_url {
            Self::of_url(text)
        } else {
            Self::of_pairs(text)
        }
    }

    fn of_url(text: &str) -> Result<Self> {
        let mut address = Address::default();
        let Some((front, query)) = text.split_once('?') else {
            address.rest = text.to_owned();
            return Ok(address);
        };
        let mut others = Vec::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some((name, value)) if TLS_NAMES.contains(&name) => {
                    let value = decoded(value).ok_or_else(|| unsound(name))?;
                    address.set(name, value)?;
                }
                _ => others.push(pair),
            }
        }
        address.rest = match others.is_empty() {
            true => front.to_owned(),
            false => format!("{front}?{}", others.join("&")),
        };
        Ok(address)
    }

    fn of_pairs(text: &str) -> Result<Self> {
        let mut address = Address::default();
        let mut rest = text;
        while let Some(start) = rest.find(|character: char| !character.is_whitespace()) {
            rest = &rest[start..];
            // What has no `=` is left to the client, who says so.
            let Some((name, after)) = rest.split_once('=') else {
                break;
            };
            let after = after.trim_start();
            let (value, length) = value(after).ok_or_else(|| unsound(name.trim()))?;
            let pair = &rest[..rest.len() - after.len() + length];
            rest = &after[length..];
            if TLS_NAMES.contains(&name.trim()) {
                address.set(name.trim(), value)?;
            } else {
                address.rest.push_str(pair);
                address.rest.push(' ');
            }
        }
        address.rest.push_str(rest);
        Ok(address)
    }

    fn set(&mut self, name: &str, value: String) -> Result<()> {
        let place = TLS_NAMES
            .iter()
            .position(|known| *known == name)
            .and_then(|place| self.tls.get_mut(place));
        match place {
            Some(place) if place.is_none() => {
                *place = Some(value);
                Ok(())
            }
            _ => Err(Error::user("CN0121", format!("option `url` has `{name}` twice"))),
        }
    }
}

fn unsound(name: &str) -> Error {
    Error::user(
        "CN0121",
        format!("option `url`: the value of `{name}` is not well formed"),
    )
}

/// The value of a pair and how long it is: up to a blank, or between single quotes; `\` takes what follows as it is.
fn value(text: &str) -> Option<(String, usize)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if quoted => return Some((value, at + 1)),
            '\\' => value.push(characters.next()?.1),
            blank if blank.is_whitespace() && !quoted => return Some((value, at)),
            other => value.push(other),
        }
    }
    if quoted { None } else { Some((value, text.len())) }
}

/// Without `%` and two hexadecimal digits.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_taken_out() {
        let check = |text: &str, rest: &str, mode: Option<&str>, root: Option<&str>| {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.rest, rest, "{text}");
            let [found_mode, found_root, _, _] = &address.tls;
            assert_eq!((found_mode.as_deref(), found_root.as_deref()), (mode, root), "{text}");
        };
        check("postgres://me:p@db/x", "postgres://me:p@db/x", None, None);
        check(
            "postgres://db/x?sslmode=require",
            "postgres://db/x",
            Some("require"),
            None,
        );
        check(
            "postgresql://db/x?connect_timeout=3&sslrootcert=%2Fa%20b&sslmode=verify-ca&user=me",
            "postgresql://db/x?connect_timeout=3&user=me",
            Some("verify-ca"),
            Some("/a b"),
        );
        check("host=db user=me", "host=db user=me ", None, None);
        check(
            r"host=db sslrootcert='/a \'b' password='s e' sslmode = disable user=me",
            "host=db password='s e' user=me ",
            Some("disable"),
            Some("/a 'b"),
        );
        check("<url>", "<url>", None, None);
        for wrong in [
            "postgres://db?sslmode=a&sslmode=b",
            "sslkey='a",
            "postgres://db?sslcert=%zz",
        ] {
            assert_eq!(Address::parse(wrong).unwrap_err().code(), "CN0121", "{wrong}");
        }
    }
}
