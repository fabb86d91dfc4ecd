//! Lines of a web server's log in the Common Log Format:
//! `192.0.2.1 - ada [01/Mar/2026:13:05:00 +0100] "GET /path HTTP/1.1" 200 1234`.

use millrace::prelude::*;

/// What a line says, as far as it matters here.
#[derive(Debug, PartialEq)]
pub struct LogLine<'a> {
    pub host: &'a str,
    pub time: Timestamp,
    pub path: &'a str,
    pub status: u16,
    pub bytes: i64,
}

impl<'a> LogLine<'a> {
    /// Reads a line; an error says what is wrong with it.
    pub fn parse(line: &'a str) -> Result<Self, String> {
        let (host, rest) = line.split_once(' ').ok_or("no host")?;
        let (_, rest) = rest.split_once(" [").ok_or("no time in brackets")?;
        let (time, rest) = rest.split_once("] \"").ok_or("no request in quotes")?;
        let (request, rest) = rest.split_once("\" ").ok_or("no end of the request")?;
        let path = request.split(' ').nth(1).ok_or("no path in the request")?;
        let (status, bytes) = rest.split_once(' ').ok_or("no status and size")?;
        Ok(LogLine {
            host,
            time: parse_time(time).ok_or_else(|| format!("`{time}` is not a time"))?,
            path,
            status: status.parse().map_err(|_| format!("`{status}` is not a status"))?,
            bytes: match bytes {
                "-" => 0,
                bytes => bytes.parse().map_err(|_| format!("`{bytes}` is not a size"))?,
            },
        })
    }
}

/// `01/Mar/2026:13:05:00 +0100`
fn parse_time(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (date_time, zone) = text.split_once(' ')?;
    let mut parts = date_time.split(['/', ':']);
    let day: i64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month = 1 + MONTHS.iter().position(|name| *name == month)? as i64;
    let mut number = || parts.next()?.parse::<i64>().ok();
    let (year, hour, minute, second) = (number()?, number()?, number()?, number()?);
    let is_valid = (1..=days_in(year, month)).contains(&day) && hour < 24 && minute < 60 && second < 61;
    let (sign, zone) = match zone.split_at_checked(1)? {
        ("+", zone) => (1, zone.parse::<i64>().ok()?),
        ("-", zone) => (-1, zone.parse::<i64>().ok()?),
        _ => return None,
    };
    let east_of_utc = sign * (zone / 100 * 3600 + zone % 100 * 60);
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - east_of_utc;
    is_valid.then(|| Timestamp::from_millis(seconds * 1000))
}

fn days_in(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_since_1970(next_year, next_month, 1) - days_since_1970(year, month, 1)
}

/// Years are counted from March, so that the leap day is their last, in eras of 400 years.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * month + 2) / 5 + day - 1;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = LogLine::parse("192.0.2.1 - ada [01/Mar/2026:13:05:00 +0100] \"GET /a HTTP/1.1\" 200 12");
        let expect = LogLine {
            host: "192.0.2.1",
            time: Timestamp::from_millis(1_772_366_700_000),
            path: "/a",
            status: 200,
            bytes: 12,
        };
        assert_eq!(line, Ok(expect));
    }

    #[test]
    fn times() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(
                parse_time(text).map(|time| time.to_string()).as_deref(),
                expect,
                "{text}"
            );
        };
        check("29/Feb/2024:23:59:59 -0530", Some("2024-03-01T05:29:59.000Z"));
        check("01/Jan/1970:00:00:00 +0000", Some("1970-01-01T00:00:00.000Z"));
        check("31/Dec/1999:23:00:00 -0100", Some("2000-01-01T00:00:00.000Z"));
        check("29/Feb/2026:00:00:00 +0000", None);
        check("00/Mar/2026:00:00:00 +0000", None);
        check("01/Mar/2026:24:00:00 +0000", None);
        check("01/Mai/2026:00:00:00 +0000", None);
        check("01/Mar/2026:00:00:00", None);
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let check = |line: &str, expect: &str| assert_eq!(LogLine::parse(line), Err(expect.to_owned()));
        check("", "no host");
        check("\\x16\\x03\\x01 garbage", "no time in brackets");
        check("h - - [x] \"GET / HTTP/1.1\" 200 1", "`x` is not a time");
        check("h - - [01/Mar/2026:00:00:00 +0000] \"GET /\"", "no end of the request");
        check(
            "h - - [01/Mar/2026:00:00:00 +0000] \"GET\" 200 1",
            "no path in the request",
        );
        check(
            "h - - [01/Mar/2026:00:00:00 +0000] \"GET / HTTP/1.1\" ok 1",
            "`ok` is not a status",
        );
    }
}
