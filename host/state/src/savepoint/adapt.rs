//! Columns of tables that others wrote, in the types that a state has.
//!
//! Others say less: everything may be null, numbers are as wide as a query made them, text comes in several encodings.
//! So the values decide: a number must fit, and a null be allowed.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::NullBuffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field};
use millrace_core::schema::{Role, field_text, widening};

/// Values in the type of a field. `live`: which of them count.
pub(super) fn adapt(values: &ArrayRef, field: &Field, live: Option<&NullBuffer>) -> Result<ArrayRef, String> {
    let counts = |row| live.is_none_or(|live: &NullBuffer| live.is_valid(row));
    if !field.is_nullable() && (0..values.len()).any(|row| counts(row) && values.is_null(row)) {
        return Err("a value is null, and must not be".to_owned());
    }
    let failed = |error: ArrowError| error.to_string();
    let live = NullBuffer::union(live, values.nulls());
    match (values.data_type(), field.data_type()) {
        (from, to) if from == to && !from.is_nested() => Ok(values.clone()),
        (DataType::Struct(_), DataType::Struct(members)) => {
            let stored = values.as_struct();
            let columns = members.iter().map(|member| {
                let name = member.name();
                let column = stored
                    .column_by_name(name)
                    .ok_or_else(|| format!("there is no `{name}` in it"))?;
                adapt(column, member, live.as_ref()).map_err(|why| format!("`{name}`: {why}"))
            });
            let columns = columns.collect::<Result<_, _>>()?;
            let nulls = stored.nulls().cloned();
            Ok(Arc::new(
                StructArray::try_new(members.clone(), columns, nulls).map_err(failed)?,
            ))
        }
        (DataType::List(_), DataType::List(item)) => {
            let lists = values.as_list::<i32>();
            let items = adapt(lists.values(), item, None)?;
            let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
            Ok(Arc::new(
                ListArray::try_new(item.clone(), offsets, items, nulls).map_err(failed)?,
            ))
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let maps = values.as_map();
            let DataType::Struct(members) = entries.data_type() else {
                return Err("its entries are not pairs".to_owned());
            };
            // By position: every writer has its own names for the two.
            let columns = maps.entries().columns().iter().zip(members);
            let columns = columns.map(|(column, member)| adapt(column, member, None));
            let columns = columns.collect::<Result<_, _>>()?;
            let pairs = StructArray::try_new(members.clone(), columns, None).map_err(failed)?;
            let (offsets, nulls) = (maps.offsets().clone(), maps.nulls().cloned());
            let maps = MapArray::try_new(entries.clone(), offsets, pairs, nulls, *sorted).map_err(failed)?;
            Ok(Arc::new(maps))
        }
        (from, to) => {
            let plain = match from {
                DataType::LargeUtf8 | DataType::Utf8View => &DataType::Utf8,
                DataType::LargeBinary | DataType::BinaryView => &DataType::Binary,
                DataType::Dictionary(_, value) => value.as_ref(),
                other => other,
            };
            let fits =
                plain == to || (plain.is_integer() && to.is_integer()) || widening(plain, to, Role::Value).is_some();
            if !fits {
                return Err(format!("{} is no {}", field_text(from), field_text(to)));
            }
            let strict = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            cast_with_options(values, to, &strict).map_err(failed)
        }
    }
}
