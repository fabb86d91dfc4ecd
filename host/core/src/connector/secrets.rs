//! Passwords in addresses, kept out of what people and files see.

/// What stands for a password.
const HIDDEN: &str = "***";

/// Names that a password goes by where names stand before `=`.
const NAMES: [&str; 3] = ["password", "pass", "sslpassword"];

/// A text with the passwords of all addresses in it hidden: those of URLs (`scheme://user:password@host`), and the
/// values of `password=`, as in a URL's query or in pairs of names and values.
///
/// ```
/// # use millrace_core::connector::without_passwords;
/// assert_eq!(without_passwords("redis://me:secret@db/0"), "redis://me:***@db/0");
/// assert_eq!(without_passwords("host=db password='a b' user=me"), "host=db password=*** user=me");
/// ```
pub fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((start, end)) = next_password(rest) {
        shown.push_str(&rest[..start]);
        shown.push_str(HIDDEN);
        rest = &rest[end..];
    }
    shown.push_str(rest);
    shown
}

/// Where the first password begins and ends.
fn next_password(text: &str) -> Option<(usize, usize)> {
    match (in_url(text), in_pair(text)) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn in_url(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = text[from..].find("://") {
        let start = from + at + "://".len();
        let url = &text[start..];
        let url = &url[..url.find(char::is_whitespace).unwrap_or(url.len())];
        let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
        // A password with such a character in it, which should have been escaped, is one all the same.
        let user = authority.rfind('@').or_else(|| {
            let (_, port) = authority.split_once(':')?;
            let is_port = port.chars().all(|digit| digit.is_ascii_digit());
            if is_port { None } else { url.rfind('@') }
        });
        if let Some(end) = user
            && let Some(colon) = url[..end].find(':')
            && colon + 1 < end
            && &url[colon + 1..end] != HIDDEN
        {
            return Some((start + colon + 1, start + end));
        }
        from = start;
    }
    None
}

fn in_pair(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = text[from..].find('=') {
        let equals = from + at;
        from = equals + 1;
        let before = text[..equals].trim_end();
        let name_start = before.rfind(|letter: char| !letter.is_ascii_alphabetic());
        let name_start = name_start.map_or(0, |other| {
            other + before[other..].chars().next().map_or(1, char::len_utf8)
        });
        if !NAMES.iter().any(|name| before[name_start..].eq_ignore_ascii_case(name)) {
            continue;
        }
        let blanks = text[from..].len() - text[from..].trim_start_matches([' ', '\t']).len();
        let start = from + blanks;
        let value = &text[start..];
        let end = start + value_length(value);
        if end > start && &text[start..end] != HIDDEN {
            return Some((start, end));
        }
    }
    None
}

/// Quoted until the next quote that no backslash is before, or until a blank or `&`.
fn value_length(value: &str) -> usize {
    let Some(quoted) = value.strip_prefix('\'') else {
        return value
            .find(|end: char| end.is_whitespace() || end == '&')
            .unwrap_or(value.len());
    };
    let mut escaped = false;
    let end = quoted.char_indices().find(|(_, character)| {
        let ends = *character == '\'' && !escaped;
        escaped = *character == '\\' && !escaped;
        ends
    });
    end.map_or(value.len(), |(at, _)| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden() {
        let check = |text: &str, expect: &str| assert_eq!(without_passwords(text), expect);
        for same in [
            "",
            "plain",
            "a=b",
            "s3://bucket/a@b",
            "postgres://me@db:5432/x",
            "http://db:80/a:b@c",
            "redis://:@db",
            "compass=north",
            "password.file=x",
        ] {
            check(same, same);
        }
        check("postgres://me:secret@db/x", "postgres://me:***@db/x");
        check("redis://:secret@db", "redis://:***@db");
        check("redis://me:a/b@c?d@db:1", "redis://me:***@db:1");
        check("see a://b:c@d and e://f:g@h.", "see a://b:***@d and e://f:***@h.");
        check(
            "redis+unix:///r.sock?pass=secret&db=1",
            "redis+unix:///r.sock?pass=***&db=1",
        );
        check(
            "postgres://db/x?user=me&PASSWORD=secret",
            "postgres://db/x?user=me&PASSWORD=***",
        );
        check("password = secret host=db", "password = *** host=db");
        check(r"password='a \'b' host=é", "password=*** host=é");
        check("é password='open", "é password=***");
        check("a://b:c@d?password=e", "a://b:***@d?password=***");
        check("a://b:***@d?password=***", "a://b:***@d?password=***");
    }
}
