//! Columns as a Parquet file has them, turned into the types that the pipeline declared.
//!
//! Only what loses nothing is done: wider integers and floats, other layouts of the same values (large,
//! view, dictionary), finer time units, members of structs by name. Coarser time units are done where every
//! value allows it; a row whose value does not is bad, as is one with a null that the declaration forbids.
//! Results are plain arrays: no offsets, views or dictionaries.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, StructArray, UInt32Array, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, TimeUnit};

use crate::format::{type_name, zones};

/// Why rows cannot be converted, by row.
pub(crate) type BadRows = BTreeMap<usize, String>;

/// Whether columns of type `from` can be converted to `to`.
pub(crate) fn is_possible(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        _ if from == to => true,
        (Dictionary(_, values), _) => is_possible(values, to),
        (Utf8 | LargeUtf8 | Utf8View, Utf8) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) => true,
        (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) => true,
        (UInt8, UInt16 | UInt32 | UInt64 | Int16 | Int32 | Int64) => true,
        (UInt16, UInt32 | UInt64 | Int32 | Int64) | (UInt32, UInt64 | Int64) => true,
        (Int8 | Int16 | UInt8 | UInt16, Float32 | Float64) | (Int32 | UInt32, Float64) => true,
        (Float16, Float32 | Float64) | (Float32, Float64) => true,
        (Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s), Decimal128(to_p, to_s)) => {
            to_s >= s && i16::from(*to_p) - i16::from(*to_s) >= i16::from(*p) - i16::from(*s)
        }
        (Date64, Date32) => false,
        (Time32(_), Time64(TimeUnit::Microsecond)) => true,
        (Timestamp(_, from_zone), Timestamp(_, to_zone)) => {
            from_zone == to_zone || (is_utc(from_zone) && is_utc(to_zone))
        }
        (List(item) | LargeList(item) | FixedSizeList(item, _), List(to_item)) => {
            is_possible(item.data_type(), to_item.data_type())
        }
        (Struct(members), Struct(to_members)) => to_members.iter().all(|to| match members.find(to.name()) {
            Some((_, from)) => is_possible(from.data_type(), to.data_type()),
            None => to.is_nullable(),
        }),
        (Map(entries, _), Map(to_entries, _)) => match (entries.data_type(), to_entries.data_type()) {
            (Struct(from), Struct(to)) => {
                from.len() == 2
                    && to.len() == 2
                    && from
                        .iter()
                        .zip(to)
                        .all(|(f, t)| is_possible(f.data_type(), t.data_type()))
            }
            _ => false,
        },
        _ => false,
    }
}

/// No zone, by our rule, is UTC: times are ms since 1970-01-01 UTC.
fn is_utc(zone: &Option<Arc<str>>) -> bool {
    zone.as_deref().is_none_or(zones::is_utc)
}

/// The column in the declared type; values that do not go into it are null, and their rows noted.
pub(crate) fn column(array: &ArrayRef, to: &Field, bad: &mut BadRows) -> Result<ArrayRef, ArrowError> {
    let name = to.name();
    if let Some(per) = coarser(array.data_type(), to.data_type()) {
        let ticks = cast(array, &DataType::Int64)?;
        let ticks = ticks.as_primitive::<Int64Type>();
        for row in (0..ticks.len()).filter(|row| ticks.is_valid(*row) && ticks.value(*row) % per != 0) {
            let wanted = type_name(to.data_type());
            bad.entry(row)
                .or_insert_with(|| format!("column `{name}`: the time is finer than {wanted}"));
        }
    }
    let converted = value(array, to.data_type())?;
    if converted.null_count() > array.logical_null_count() {
        for row in (0..array.len()).filter(|row| converted.is_null(*row) && array.is_valid(*row)) {
            let wanted = type_name(to.data_type());
            bad.entry(row)
                .or_insert_with(|| format!("column `{name}`: the value does not fit in {wanted}"));
        }
    }
    if !to.is_nullable() && converted.null_count() > 0 {
        for row in (0..array.len()).filter(|row| converted.is_null(*row)) {
            bad.entry(row)
                .or_insert_with(|| format!("column `{name}` is null, but {} is required", type_name(to.data_type())));
        }
    }
    Ok(plain(converted))
}

/// Ticks of `from` in one of `to`, if `to` is a coarser time.
fn coarser(from: &DataType, to: &DataType) -> Option<i64> {
    let per_second = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 1i64,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    match (from, to) {
        (DataType::Timestamp(from, _), DataType::Timestamp(to, _)) if per_second(from) > per_second(to) => {
            Some(per_second(from) / per_second(to))
        }
        _ => None,
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(
        array.as_ref(),
        to,
        &CastOptions {
            safe: true,
            ..CastOptions::default()
        },
    )
}

/// Converts values, members and items. Nulls that a nested type forbids are an error.
fn value(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match (array.data_type(), to) {
        (from, _) if from == to => Ok(array.clone()),
        (DataType::Struct(_), DataType::Struct(members)) => {
            let from = array.as_struct();
            let columns = members.iter().map(|member| match from.column_by_name(member.name()) {
                Some(column) => value(column, member.data_type()),
                None => Ok(new_null_array(member.data_type(), from.len())),
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            let nulls = from.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(
                members.clone(),
                columns,
                nulls,
                from.len(),
            )?))
        }
        (DataType::LargeList(item) | DataType::FixedSizeList(item, _), DataType::List(_)) => {
            value(&cast(array, &DataType::List(item.clone()))?, to)
        }
        (DataType::List(_), DataType::List(item)) => {
            let from = array.as_list::<i32>();
            let items = value(from.values(), item.data_type())?;
            let list = ListArray::try_new(item.clone(), from.offsets().clone(), items, from.nulls().cloned())?;
            Ok(Arc::new(list))
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let from = array.as_map();
            let DataType::Struct(members) = entries.data_type() else {
                return Err(ArrowError::SchemaError("a map's entries are no struct".into()));
            };
            let columns = [from.keys(), from.values()].into_iter().zip(members);
            let columns = columns.map(|(column, member)| value(column, member.data_type()));
            let items = StructArray::try_new(members.clone(), columns.collect::<Result<Vec<_>, _>>()?, None)?;
            let offsets = from.offsets().clone();
            Ok(Arc::new(MapArray::try_new(
                entries.clone(),
                offsets,
                items,
                from.nulls().cloned(),
                *sorted,
            )?))
        }
        (_, _) => cast(array, to),
    }
}

/// The same values without offsets into larger buffers.
pub(crate) fn plain(array: ArrayRef) -> ArrayRef {
    if is_plain(array.as_ref()) {
        return array;
    }
    let all = UInt32Array::from_iter_values(0..array.len() as u32);
    arrow_select::take::take(array.as_ref(), &all, None).expect("every index is in range")
}

fn is_plain(array: &dyn Array) -> bool {
    let whole = array.offset() == 0 && array.nulls().is_none_or(|nulls| nulls.offset() == 0);
    whole
        && match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().value_offsets()[0] == 0,
            DataType::Binary => array.as_binary::<i32>().value_offsets()[0] == 0,
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                list.value_offsets()[0] == 0 && is_plain(list.values().as_ref())
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                map.value_offsets()[0] == 0 && is_plain(map.entries())
            }
            DataType::Struct(_) => array
                .as_struct()
                .columns()
                .iter()
                .all(|column| is_plain(column.as_ref())),
            _ => true,
        }
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        DictionaryArray, Int32Array, Int64Array, StringArray, StringViewArray, TimestampMicrosecondArray,
        TimestampMillisecondArray, types::Int8Type,
    };

    use super::*;

    fn convert(array: impl Array + 'static, to: DataType, nullable: bool) -> (ArrayRef, BadRows) {
        let mut bad = BadRows::new();
        assert!(is_possible(array.data_type(), &to));
        let array: ArrayRef = Arc::new(array);
        let converted = column(&array, &Field::new("x", to.clone(), nullable), &mut bad).unwrap();
        assert_eq!(converted.data_type(), &to);
        (converted, bad)
    }

    #[test]
    fn layouts_and_widths() {
        let (wide, bad) = convert(Int32Array::from(vec![Some(1), None]), DataType::Int64, true);
        assert_eq!(
            (wide.as_primitive::<Int64Type>(), bad.len()),
            (&Int64Array::from(vec![Some(1), None]), 0)
        );
        let words = StringArray::from(vec!["a", "b", "a"]);
        let view = StringViewArray::from(vec!["a", "b", "a"]);
        assert_eq!(convert(view, DataType::Utf8, false).0.as_string::<i32>(), &words);
        let dictionary: DictionaryArray<Int8Type> = vec!["a", "b", "a"].into_iter().collect();
        assert_eq!(convert(dictionary, DataType::Utf8, false).0.as_string::<i32>(), &words);
        for (from, to) in [
            (DataType::Int64, DataType::Int32),
            (DataType::Utf8, DataType::Int64),
            (DataType::Int64, DataType::Float64),
            (DataType::UInt64, DataType::Int64),
            (DataType::Decimal128(10, 2), DataType::Decimal128(10, 3)),
            (
                DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into())),
                DataType::Timestamp(TimeUnit::Second, None),
            ),
        ] {
            assert!(!is_possible(&from, &to), "{from} {to}");
        }
    }

    #[test]
    fn coarser_times_must_be_exact() {
        let micros =
            TimestampMicrosecondArray::from(vec![Some(5_000), Some(-1), None, Some(-3_000)]).with_timezone("UTC");
        let (millis, bad) = convert(micros, DataType::Timestamp(TimeUnit::Millisecond, None), true);
        assert_eq!(bad.keys().copied().collect::<Vec<_>>(), [1]);
        let expected = TimestampMillisecondArray::from(vec![Some(5), Some(0), None, Some(-3)]);
        assert_eq!(millis.as_ref(), &expected as &dyn Array);
        let far = TimestampMillisecondArray::from(vec![Some(i64::MAX), Some(1)]);
        let (_, bad) = convert(far, DataType::Timestamp(TimeUnit::Nanosecond, None), false);
        assert!(bad[&0].contains("does not fit"), "{bad:?}");
    }

    #[test]
    fn forbidden_nulls_are_bad_rows_and_slices_are_made_whole() {
        let (_, bad) = convert(Int64Array::from(vec![Some(1), None]), DataType::Int64, false);
        assert_eq!(bad[&1], "column `x` is null, but int64 is required");
        let slice = StringArray::from(vec!["aa", "b", "c"]).slice(1, 2);
        let (whole, _) = convert(slice, DataType::Utf8, false);
        assert_eq!(
            (whole.as_string::<i32>().value_offsets(), whole.len()),
            (&[0, 1, 2][..], 2)
        );
    }
}
