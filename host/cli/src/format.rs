//! Numbers, sizes, durations and times as people read them.

use std::time::Duration;

use millrace_core::block::{Millis, WATERMARK_MAX, WATERMARK_MIN};
use millrace_core::time::civil;

const DAY_MS: i64 = 86_400_000;

/// A number with commas.
///
/// ```
/// assert_eq!(millrace_cli::format::count(1234567), "1,234,567");
/// ```
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits and a unit: `1.23 M`.
///
/// ```
/// assert_eq!(millrace_cli::format::short(1_234_567.0), "1.23 M");
/// assert_eq!(millrace_cli::format::short(950.0), "950");
/// ```
pub fn short(number: f64) -> String {
    let mut scaled = number;
    for unit in ["", " k", " M", " G"] {
        if scaled < 999.5 {
            return if unit.is_empty() || scaled >= 99.95 {
                format!("{scaled:.0}{unit}")
            } else if scaled >= 9.995 {
                format!("{scaled:.1}{unit}")
            } else {
                format!("{scaled:.2}{unit}")
            };
        }
        scaled /= 1000.0;
    }
    format!("{scaled:.0} T")
}

/// A size in bytes: `812 B`, `64.2 KiB`, `1.30 GiB`.
pub fn bytes(size: u64) -> String {
    if size < 1024 {
        return format!("{size} B");
    }
    let mut scaled = size as f64 / 1024.0;
    for unit in ["KiB", "MiB", "GiB"] {
        if scaled < 1023.95 {
            return if scaled < 10.0 {
                format!("{scaled:.2} {unit}")
            } else {
                format!("{scaled:.1} {unit}")
            };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.2} TiB")
}

/// How long something took: `4.2 ms`, `0.42 s`, `12.3 s`, `3:07 min`, `1:02:03 h`.
pub fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if !time.is_zero() && seconds < 0.0995 {
        return format!("{:.1} ms", seconds * 1000.0);
    }
    if seconds < 9.995 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02} h")
    } else {
        format!("{minutes}:{seconds:02} min")
    }
}

/// A length of time as it is written in a pipeline: `250ms`, `10s`, `1m30s`, `24h`, `7d`.
pub fn duration_ms(milliseconds: i64) -> String {
    let sign = if milliseconds < 0 { "-" } else { "" };
    let mut rest = milliseconds.unsigned_abs();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = sign.to_owned();
    for (unit, length) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        // A day and a bit is better read in hours.
        let wanted = unit != "d" || rest.is_multiple_of(length);
        if wanted && rest >= length {
            text += &format!("{}{unit}", rest / length);
            rest %= length;
        }
    }
    text
}

/// A time in ms since 1970 as `2001-03-04 05:06:07` UTC, with milliseconds where there are any.
pub fn timestamp(time: Millis) -> String {
    let (days, in_day) = (time.div_euclid(DAY_MS), time.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    let seconds = in_day / 1000;
    let text = format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    match in_day % 1000 {
        0 => text,
        rest => format!("{text}.{rest:03}"),
    }
}

/// A watermark: a time, `none yet` or `end of input`. The millisecond below a full second, which a watermark
/// usually is, is left out.
pub fn watermark(watermark: Option<Millis>) -> String {
    match watermark {
        None | Some(WATERMARK_MIN) => "none yet".to_owned(),
        Some(WATERMARK_MAX) => "end of input".to_owned(),
        Some(time) => timestamp(time.div_euclid(1000) * 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (number, expect) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(count(number), expect);
        }
        for (number, expect) in [
            (0.0, "0"),
            (999.4, "999"),
            (999.9, "1.00 k"),
            (12_345.0, "12.3 k"),
            (9.99e8, "999 M"),
        ] {
            assert_eq!(short(number), expect, "{number}");
        }
        for (size, expect) in [
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (65_536, "64.0 KiB"),
            (1 << 30, "1.00 GiB"),
        ] {
            assert_eq!(bytes(size), expect);
        }
    }

    #[test]
    fn lengths_of_time() {
        for (ms, expect) in [
            (0, "0.00 s"),
            (4, "4.0 ms"),
            (420, "0.42 s"),
            (12_300, "12.3 s"),
            (187_000, "3:07 min"),
            (3_723_000, "1:02:03 h"),
        ] {
            assert_eq!(elapsed(Duration::from_millis(ms)), expect);
        }
        let table = [
            (0, "0s"),
            (250, "250ms"),
            (90_000, "1m30s"),
            (86_400_000, "1d"),
            (108_000_000, "30h"),
            (-1500, "-1s500ms"),
        ];
        for (ms, expect) in table {
            assert_eq!(duration_ms(ms), expect);
        }
    }

    #[test]
    fn times() {
        let table = [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59.999"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (978_307_200_000, "2001-01-01 00:00:00"),
            (4_107_542_399_000, "2100-02-28 23:59:59"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ];
        for (time, expect) in table {
            assert_eq!(timestamp(time), expect);
        }
        assert_eq!(watermark(None), "none yet");
        assert_eq!(watermark(Some(Millis::MAX)), "end of input");
        assert_eq!(watermark(Some(978_307_199_999)), "2000-12-31 23:59:59");
    }
}
