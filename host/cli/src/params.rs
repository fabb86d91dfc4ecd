//! Values as they are written on the command line: parameters of pipelines, `--param name=value`, and origins.

use millrace_core::graph::Origin;

/// Splits `name=value` at the first `=`; the value may be empty and may contain more of them.
///
/// ```
/// use millrace_cli::params::parse;
/// assert_eq!(parse("query=a=b"), Ok(("query".into(), "a=b".into())));
/// assert!(parse("query").is_err());
/// ```
pub fn parse(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

/// Reads the value of `--allow-http`.
///
/// ```
/// use millrace_cli::params::parse_origin;
/// assert!(parse_origin("https://*.example.org").is_ok());
/// assert!(parse_origin("example.org").is_err());
/// ```
pub fn parse_origin(text: &str) -> Result<Origin, String> {
    Origin::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_split_at_the_first_equals_sign() {
        let check = |text: &str, expect: Option<(&str, &str)>| {
            let expect = expect.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(parse(text).ok(), expect, "{text}");
        };
        check("a=1", Some(("a", "1")));
        check("a=", Some(("a", "")));
        check("a=b=c", Some(("a", "b=c")));
        check("=1", None);
        check("a", None);
        check("", None);
    }
}
