//! Days as people write them.

/// Year, month and day of a number of days since 1970-01-01 (proleptic Gregorian).
///
/// ```
/// # use millrace_core::time::civil;
/// assert_eq!(civil(0), (1970, 1, 1));
/// assert_eq!(civil(11_016), (2000, 2, 29));
/// assert_eq!(civil(-719_528), (0, 1, 1));
/// ```
pub fn civil(days: i64) -> (i64, i64, i64) {
    // Years begin in March, so that the leap day is the last; an era is 400 of them.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}
