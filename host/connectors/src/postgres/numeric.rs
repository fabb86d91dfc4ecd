//! The binary form of `numeric`: digits to the base 10,000.

const NEGATIVE: u16 = 0x4000;
#[cfg(test)]
const NOT_A_NUMBER: u16 = 0xc000;

/// Most digits of an `i128`, and of a group more on either side.
const DIGITS_MAX: usize = 39 + 39 + 8;

/// Appends `value / 10^scale`, without its length in front.
pub(super) fn put(value: i128, scale: u16, out: &mut Vec<u8>) {
    let mut text = itoa::Buffer::new();
    let text = text.format(value.unsigned_abs()).as_bytes();
    let scale_digits = usize::from(scale);
    // Digits before and after the point, each filled up to whole groups.
    let whole = text.len().saturating_sub(scale_digits);
    let whole_groups = whole.div_ceil(4);
    let fraction_groups = scale_digits.div_ceil(4);
    let mut digits = [b'0'; DIGITS_MAX];
    let end = whole_groups * 4 + scale_digits;
    digits[end - text.len()..end].copy_from_slice(text);
    let groups = whole_groups + fraction_groups;
    let group = |index: usize| {
        let digits = &digits[index * 4..index * 4 + 4];
        digits
            .iter()
            .fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'))
    };
    let first = (0..groups).find(|index| group(*index) != 0).unwrap_or(groups);
    let last = (first..groups)
        .rev()
        .find(|index| group(*index) != 0)
        .map_or(first, |index| index + 1);
    let weight = if first == last {
        0
    } else {
        whole_groups as i16 - 1 - first as i16
    };
    let sign = if value < 0 { NEGATIVE } else { 0 };
    out.extend(((last - first) as i16).to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(sign.to_be_bytes());
    out.extend(scale.to_be_bytes());
    for index in first..last {
        out.extend(group(index).to_be_bytes());
    }
}

/// What it says, for people who read the tests.
#[cfg(test)]
fn shown(bytes: &[u8]) -> String {
    let word = |index: usize| u16::from_be_bytes([bytes[index * 2], bytes[index * 2 + 1]]);
    let (count, weight, scale) = (word(0), word(1) as i16, usize::from(word(3)));
    assert_ne!(word(2), NOT_A_NUMBER);
    assert_eq!(bytes.len(), 8 + usize::from(count) * 2);
    let digit = |place: i32| {
        let index = i32::from(weight) - place;
        if (0..i32::from(count)).contains(&index) {
            word(4 + index as usize)
        } else {
            0
        }
    };
    let whole: String = (0..=i32::from(weight).max(0))
        .rev()
        .map(|place| format!("{:04}", digit(place)))
        .collect();
    let fraction: String = (1..=scale.div_ceil(4) as i32)
        .map(|place| format!("{:04}", digit(-place)))
        .collect();
    let whole = whole.trim_start_matches('0');
    let sign = if word(2) == NEGATIVE { "-" } else { "" };
    format!(
        "{sign}{}.{}",
        if whole.is_empty() { "0" } else { whole },
        &fraction[..scale]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_in_groups() {
        let check = |value: i128, scale: u16, expect: &str| {
            let mut out = Vec::new();
            put(value, scale, &mut out);
            assert_eq!(shown(&out), expect, "{value} {scale}");
        };
        check(0, 0, "0.");
        check(0, 2, "0.00");
        check(5, 2, "0.05");
        check(-123_456, 2, "-1234.56");
        check(123_456, 0, "123456.");
        check(10_000, 0, "10000.");
        check(100_000_000, 4, "10000.0000");
        check(1, 5, "0.00001");
        check(i128::from(u64::MAX), 0, "18446744073709551615.");
        let most = 10_i128.pow(38) - 1;
        check(most, 38, &format!("0.{most}"));
        check(-most, 0, &format!("-{most}."));
        check(most, 37, "9.9999999999999999999999999999999999999");
    }

    #[test]
    fn no_group_is_sent_in_vain() {
        let mut out = Vec::new();
        put(10_000, 0, &mut out);
        assert_eq!(out, [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
    }
}
