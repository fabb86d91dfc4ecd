//! Event times out of a column of the user's.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Date32Type;
use arrow_buffer::ScalarBuffer;
use arrow_schema::{DataType, TimeUnit};

use crate::block::Millis;
use crate::error::{Error, Result};
use crate::key::integer_values;

/// Ms in a day.
const DAY_MS: Millis = 86_400_000;

/// Event times of a column, in ms: an int64 is taken as ms, a timestamp or date is converted (finer units
/// are rounded down). `name` is the column's, for messages. A null is an error: a row without event time
/// belongs to no window and must be filtered out, or the time computed, before.
pub fn event_times(name: &str, column: &dyn Array) -> Result<ScalarBuffer<Millis>> {
    if let Some(nulls) = column.nulls()
        && let Some(row) = (0..column.len()).find(|&row| nulls.is_null(row))
    {
        return Err(Error::pipeline(
            "ET0001",
            format!("event-time field `{name}` is null in row {row} of the block"),
        ));
    }
    as_millis(name, column)
}

/// The latest of the times in a column that may hold nulls, which say nothing.
pub fn latest_time(name: &str, column: &dyn Array) -> Result<Option<Millis>> {
    let times = as_millis(name, column)?;
    let valid = times.iter().enumerate().filter(|(row, _)| column.is_valid(*row));
    Ok(valid.map(|(_, time)| *time).max())
}

fn as_millis(name: &str, column: &dyn Array) -> Result<ScalarBuffer<Millis>> {
    let values = || integer_values(column).ok_or_else(|| Error::internal("a timestamp without integer values"));
    Ok(match column.data_type() {
        DataType::Int64 | DataType::Timestamp(TimeUnit::Millisecond, _) => values()?,
        DataType::Timestamp(TimeUnit::Second, _) => values()?.iter().map(|&s| s.saturating_mul(1000)).collect(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => values()?.iter().map(|us| us.div_euclid(1000)).collect(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => values()?.iter().map(|ns| ns.div_euclid(1_000_000)).collect(),
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().values();
            days.iter().map(|&day| Millis::from(day) * DAY_MS).collect()
        }
        other => {
            return Err(Error::user(
                "ET0002",
                format!(
                    "field `{name}` of type {other} cannot be event time: use a timestamp, a date or an int64 in ms"
                ),
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use arrow_array::*;

    use super::*;

    fn check(column: impl Array, expect: &[Millis]) {
        assert_eq!(event_times("at", &column).unwrap().as_ref(), expect);
    }

    #[test]
    fn units_become_milliseconds() {
        check(Int64Array::from(vec![5, -5]), &[5, -5]);
        check(TimestampSecondArray::from(vec![2, i64::MAX]), &[2000, i64::MAX]);
        check(TimestampMillisecondArray::from(vec![7]).with_timezone("UTC"), &[7]);
        check(TimestampMicrosecondArray::from(vec![1999, -1]), &[1, -1]);
        check(TimestampNanosecondArray::from(vec![1_999_999, -1]), &[1, -1]);
        check(Date32Array::from(vec![1, -1]), &[DAY_MS, -DAY_MS]);
    }

    #[test]
    fn the_latest_time_is_of_rows_that_say_one() {
        let latest = |times: Vec<Option<i64>>| latest_time("at", &Int64Array::from(times)).unwrap();
        assert_eq!(latest(vec![Some(3), None, Some(9), None, Some(4)]), Some(9));
        assert_eq!((latest(vec![None]), latest(vec![])), (None, None));
        assert!(latest_time("at", &StringArray::from(vec!["x"])).is_err());
    }

    #[test]
    fn nulls_and_other_types_are_refused_by_name() {
        let error = event_times("at", &Int64Array::from(vec![Some(1), None])).unwrap_err();
        assert_eq!(error.code(), "ET0001");
        assert!(error.to_string().contains("`at`") && error.to_string().contains("row 1"));
        assert_eq!(
            event_times("at", &StringArray::from(vec!["x"])).unwrap_err().code(),
            "ET0002"
        );
    }
}
