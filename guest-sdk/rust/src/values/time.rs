//! Times: counts since 1970-01-01 or midnight in types of their own, so that units do not mix.
//!
//! The types without a prefix are points on the time line (zone UTC); those with `Local` are what a clock on
//! the wall shows, without a zone. [`Timestamp`], in ms like all times of a stream, is the one to choose.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use crate::block::Buffers;
use crate::schema::{DataType, TimeUnit};
use crate::value::Value;
use crate::values::NumberBuilder;

/// Implements `Value` for a number in a type of its own.
macro_rules! value {
    ($type:ident, $number:ty, $data_type:expr) => {
        impl Value for $type {
            type Of<'a> = $type;
            type Column<'a> = &'a [$number];
            type Builder = NumberBuilder<$number>;

            fn data_type() -> DataType {
                $data_type
            }

            #[inline]
            fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Self::Column<'a> {
                buffers.slice(rows)
            }

            #[inline(always)]
            fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
                $type(column[index])
            }

            #[inline(always)]
            fn push(builder: &mut Self::Builder, value: $type) {
                builder.push(value.0);
            }

            #[inline]
            fn push_default(builder: &mut Self::Builder) {
                builder.push(0);
            }
        }
    };
}

macro_rules! timestamp {
    (
        $(#[$doc:meta])* $type:ident, $unit:ident, $per_second:literal, $digits:literal, $zone:expr, $suffix:literal,
        $from:ident, $to:ident, $from_duration:ident
    ) => {
        $(#[$doc])*
        ///
        /// ```
        #[doc = concat!("use millrace::values::", stringify!($type), ";")]
        #[doc = concat!("assert_eq!(", stringify!($type), "::", stringify!($from), "(7).", stringify!($to), "(), 7);")]
        /// ```
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(i64);

        impl $type {
            /// The time that far from 1970-01-01.
            ///
            /// ```
            #[doc = concat!("let start = millrace::values::", stringify!($type), "::", stringify!($from), "(0);")]
            /// assert!(start.to_string().starts_with("1970-01-01T00:00:00"));
            /// ```
            #[inline(always)]
            pub const fn $from(count: i64) -> Self {
                $type(count)
            }

            /// How far it is from 1970-01-01.
            ///
            /// ```
            #[doc = concat!("let time = millrace::values::", stringify!($type), "::", stringify!($from), "(-3);")]
            #[doc = concat!("assert_eq!(time.", stringify!($to), "(), -3);")]
            /// ```
            #[inline(always)]
            pub const fn $to(self) -> i64 {
                self.0
            }
        }

        /// Later by that much, in whole units; at the end of time it stays there.
        impl Add<Duration> for $type {
            type Output = Self;

            fn add(self, duration: Duration) -> Self {
                $type(self.0.saturating_add(i64::try_from(duration.$from_duration()).unwrap_or(i64::MAX)))
            }
        }

        /// Earlier by that much, in whole units; at the start of time it stays there.
        impl Sub<Duration> for $type {
            type Output = Self;

            fn sub(self, duration: Duration) -> Self {
                $type(self.0.saturating_sub(i64::try_from(duration.$from_duration()).unwrap_or(i64::MAX)))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let (seconds, fraction) = (self.0.div_euclid($per_second), self.0.rem_euclid($per_second));
                show_date(formatter, seconds.div_euclid(86_400))?;
                formatter.write_str("T")?;
                show_time(formatter, seconds.rem_euclid(86_400), fraction, $digits)?;
                formatter.write_str($suffix)
            }
        }

        value!($type, i64, DataType::Timestamp { unit: TimeUnit::$unit, zone: $zone });
    };
}

macro_rules! timestamps {
    ($(
        $utc:ident, $local:ident, $unit:ident, $per_second:literal, $digits:literal, $name:literal,
        $from:ident, $to:ident, $from_duration:ident;
    )*) => {$(
        timestamp! {
            #[doc = concat!("A point on the time line, in ", $name, " since 1970-01-01 UTC.")]
            $utc, $unit, $per_second, $digits, Some("UTC".to_owned()), "Z", $from, $to, $from_duration
        }
        timestamp! {
            #[doc = concat!("Date and time of day without a zone, in ", $name, " since 1970-01-01.")]
            $local, $unit, $per_second, $digits, None, "", $from, $to, $from_duration
        }
    )*};
}
timestamps! {
    TimestampSeconds, LocalTimestampSeconds, Second, 1, 0, "seconds", from_seconds, seconds, as_secs;
    Timestamp, LocalTimestamp, Millisecond, 1_000, 3, "milliseconds", from_millis, millis, as_millis;
    TimestampMicros, LocalTimestampMicros, Microsecond, 1_000_000, 6, "microseconds", from_micros, micros, as_micros;
    TimestampNanos, LocalTimestampNanos, Nanosecond, 1_000_000_000, 9, "nanoseconds", from_nanos, nanos, as_nanos;
}

/// A day of the calendar.
///
/// ```
/// use millrace::values::Date;
/// assert_eq!(Date::from_days(0).to_string(), "1970-01-01");
/// ```
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i32);

impl Date {
    /// The day that many days after 1970-01-01.
    ///
    /// ```
    /// assert_eq!(millrace::values::Date::from_days(59).to_string(), "1970-03-01");
    /// ```
    #[inline(always)]
    pub const fn from_days(days: i32) -> Self {
        Date(days)
    }

    /// The days since 1970-01-01.
    ///
    /// ```
    /// assert_eq!(millrace::values::Date::from_days(59).days(), 59);
    /// ```
    #[inline(always)]
    pub const fn days(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Date {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_date(formatter, i64::from(self.0))
    }
}

value!(Date, i32, DataType::Date32);

/// A time of day, in microseconds.
///
/// ```
/// use millrace::values::Time;
/// assert_eq!(Time::from_micros(3_661_000_000).to_string(), "01:01:01.000000");
/// ```
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// The time that many microseconds after midnight.
    ///
    /// ```
    /// assert_eq!(millrace::values::Time::from_micros(1).to_string(), "00:00:00.000001");
    /// ```
    #[inline(always)]
    pub const fn from_micros(micros: i64) -> Self {
        Time(micros)
    }

    /// The microseconds since midnight.
    ///
    /// ```
    /// assert_eq!(millrace::values::Time::from_micros(1).micros(), 1);
    /// ```
    #[inline(always)]
    pub const fn micros(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_time(formatter, self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000), 6)
    }
}

value!(Time, i64, DataType::Time64);

/// Writes `2026-03-01` of a day since 1970-01-01.
fn show_date(formatter: &mut fmt::Formatter<'_>, days: i64) -> fmt::Result {
    let (year, month, day) = calendar(days);
    if (0..=9999).contains(&year) {
        write!(formatter, "{year:04}-{month:02}-{day:02}")
    } else {
        write!(formatter, "{year:+05}-{month:02}-{day:02}")
    }
}

/// Writes `13:05:00.250`.
fn show_time(formatter: &mut fmt::Formatter<'_>, seconds: i64, fraction: i64, digits: usize) -> fmt::Result {
    write!(
        formatter,
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )?;
    if digits > 0 {
        write!(formatter, ".{fraction:0digits$}")
    } else {
        Ok(())
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is their last, in eras of 400 years.
fn calendar(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        let check = |days, expect: &str| assert_eq!(Date::from_days(days).to_string(), expect);
        check(0, "1970-01-01");
        check(-1, "1969-12-31");
        check(11_016, "2000-02-29");
        check(11_017, "2000-03-01");
        check(20_513, "2026-03-01");
        check(-719_528, "0000-01-01");
        check(2_932_896, "9999-12-31");
        check(2_932_897, "+10000-01-01");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let length = |year: i64, month| match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let (mut year, mut month, mut day) = calendar(-800_000);
        for days in -799_999..800_000 {
            if day < length(year, month) {
                day += 1;
            } else {
                (year, month, day) = if month < 12 {
                    (year, month + 1, 1)
                } else {
                    (year + 1, 1, 1)
                };
            }
            assert_eq!(calendar(days), (year, month, day));
        }
    }

    #[test]
    fn points_in_time() {
        assert_eq!(
            Timestamp::from_millis(1_772_370_300_250).to_string(),
            "2026-03-01T13:05:00.250Z"
        );
        assert_eq!(Timestamp::from_millis(-1).to_string(), "1969-12-31T23:59:59.999Z");
        assert_eq!(
            LocalTimestampSeconds::from_seconds(61).to_string(),
            "1970-01-01T00:01:01"
        );
        assert_eq!(
            TimestampNanos::from_nanos(i64::MAX).to_string(),
            "2262-04-11T23:47:16.854775807Z"
        );
        assert_eq!(
            Timestamp::from_millis(5) + Duration::from_secs(1),
            Timestamp::from_millis(1005)
        );
        assert_eq!(
            Timestamp::from_millis(i64::MIN) - Duration::MAX,
            Timestamp::from_millis(i64::MIN)
        );
    }
}
