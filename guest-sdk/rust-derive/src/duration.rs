//! The project's way to write a length of time: `250ms`, `10s`, `5m`, `2h`, `1d`.

/// Milliseconds of a length of time.
pub(crate) fn parse_ms(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use super::parse_ms;

    #[test]
    fn lengths_of_time() {
        let check = |text, expect| assert_eq!(parse_ms(text), expect, "{text}");
        check("250ms", Some(250));
        check("10s", Some(10_000));
        check("5m", Some(300_000));
        check("2h", Some(7_200_000));
        check("1d", Some(86_400_000));
        check("10", None);
        check("s", None);
        check("1.5s", None);
        check("-1s", None);
        check("+1s", None);
        check("10 s", None);
        check("10w", None);
        check("18446744073709551615s", None);
    }
}
