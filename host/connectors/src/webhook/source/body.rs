//! Bodies of requests as JSON lines, which is what rows are parsed from.
//!
//! A JSON document, an object or an array of them, is checked as a whole and becomes lines in place: what stands between the
//! objects is a line end then, and line ends within them, which can only be white space, are blanks. So row `n` of an array is line
//! `n`, and a value that is no object is a line that the parser rejects.

use serde::de::IgnoredAny;

/// What a body is, by its `content-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One JSON document.
    Document,
    /// One on each line.
    Lines,
}

impl Kind {
    /// Of a media type, its parameters left out; `None`: it is neither.
    pub(super) fn of(content_type: &str) -> Option<Kind> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/json" => Some(Kind::Document),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonl"
            | "application/jsonlines"
            | "application/x-jsonlines" => Some(Kind::Lines),
            // `application/cloudevents+json` and the like.
            other if other.ends_with("+json") => Some(Kind::Document),
            _ => None,
        }
    }
}

/// The body as lines; or why it is no JSON, and where.
pub(super) fn into_lines(kind: Kind, body: &mut [u8]) -> Result<(), String> {
    match kind {
        Kind::Lines => Ok(()),
        Kind::Document => {
            let checked = serde_json::from_slice::<IgnoredAny>(body);
            checked.map_err(|error| format!("the body is not JSON: {error}"))?;
            cut(body);
            Ok(())
        }
    }
}

/// Makes lines of a document.
fn cut(document: &mut [u8]) {
    let first = document.iter().find(|byte| !byte.is_ascii_whitespace());
    let is_array = first == Some(&b'[');
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in document {
        if in_text {
            in_text = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        match *byte {
            b'"' => in_text = true,
            b'[' | b'{' => {
                depth += 1;
                if is_array && depth == 1 {
                    *byte = b' ';
                }
            }
            b']' | b'}' => {
                depth -= 1;
                if is_array && depth == 0 {
                    *byte = b' ';
                }
            }
            b',' if is_array && depth == 1 => *byte = b'\n',
            b'\n' | b'\r' => *byte = b' ',
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(body: &str) -> Result<Vec<String>, String> {
        let mut body = body.as_bytes().to_vec();
        into_lines(Kind::Document, &mut body)?;
        let text = String::from_utf8(body).expect("it was UTF-8");
        Ok(text.lines().map(|line| line.trim().to_owned()).collect())
    }

    #[test]
    fn documents_become_lines() {
        let check = |body: &str, expect: &[&str]| assert_eq!(lines(body).expect("JSON"), expect, "{body}");
        check(r#"{"a":[1,2]}"#, &[r#"{"a":[1,2]}"#]);
        check("[]", &[""]);
        check(r#"[{"a":1},{"a":2}]"#, &[r#"{"a":1}"#, r#"{"a":2}"#]);
        check(
            "[\r\n {\n\"a\" :\r\n[1,\n2]},\n3,[4,5]\n]\n",
            &[r#"{ "a" :  [1, 2]}"#, "3", "[4,5]"],
        );
        check(
            r#"[{"a":"],[\"\\"},{"b,":"{\\\""}]"#,
            &[r#"{"a":"],[\"\\"}"#, r#"{"b,":"{\\\""}"#],
        );
        check(" 7 ", &["7"]);
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (body, part) in [
            ("", "EOF"),
            ("{\n\"a\":}", "line 2 column 5"),
            ("[1,2", "EOF"),
            ("{} {}", "trailing"),
            ("[\"\n\"]", "control character"),
        ] {
            let reason = lines(body).expect_err(body);
            assert!(
                reason.starts_with("the body is not JSON: ") && reason.contains(part),
                "{reason}"
            );
        }
    }

    #[test]
    fn kinds_go_by_the_content_type() {
        for (text, kind) in [
            ("application/json", Some(Kind::Document)),
            ("Application/JSON; charset=utf-8", Some(Kind::Document)),
            ("application/cloudevents+json", Some(Kind::Document)),
            ("application/x-ndjson", Some(Kind::Lines)),
            ("application/jsonl", Some(Kind::Lines)),
            ("text/plain", None),
            ("application/x-www-form-urlencoded", None),
            ("", None),
        ] {
            assert_eq!(Kind::of(text), kind, "{text}");
        }
    }
}
