//! Which types may be in a key.
//!
//! Floats have values that are unequal to themselves and two zeros; the entries of a map have no order.
//! Everything else that crosses to a guest may be in a key, nested as it likes.

use arrow_schema::{DataType, Field, Schema, TimeUnit};

use crate::error::{Error, Result};

/// Refuses a key schema that is empty or holds a float or a map at any depth, and names the field.
///
/// ```
/// # use arrow_schema::{DataType, Field, Schema};
/// let schema = Schema::new(vec![Field::new("price", DataType::Float64, false)]);
/// let error = millrace_core::key::check_key_schema(&schema).unwrap_err();
/// assert!(error.to_string().contains("`price`"));
/// ```
pub fn check_key_schema(schema: &Schema) -> Result<()> {
    if schema.fields().is_empty() {
        return Err(Error::user("KY0001", "a key needs at least one field"));
    }
    schema.fields().iter().try_for_each(|field| check_field(field, ""))
}

fn check_field(field: &Field, parent: &str) -> Result<()> {
    let path = match parent {
        "" => field.name().clone(),
        parent => format!("{parent}.{}", field.name()),
    };
    let refused = |what: &str| {
        Err(Error::user(
            "KY0002",
            format!("field `{path}` cannot be part of a key: {what}"),
        ))
    };
    match field.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            refused("floats are not reliably equal; use an integer or a decimal")
        }
        DataType::Map(..) => refused("maps have no order to compare; use a list of structs, sorted"),
        DataType::Struct(members) => members.iter().try_for_each(|member| check_field(member, &path)),
        DataType::List(item) => check_field(item, &path),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Decimal128(..)
        | DataType::Utf8
        | DataType::Binary
        | DataType::FixedSizeBinary(_)
        | DataType::Date32
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(..) => Ok(()),
        other => refused(&format!("a stream has no type {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: Field, expect: Option<&str>) {
        let result = check_key_schema(&Schema::new(vec![Field::new("id", DataType::Int64, false), field]));
        match expect {
            None => assert!(result.is_ok(), "{result:?}"),
            Some(part) => {
                let message = result.unwrap_err().to_string();
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn floats_and_maps_are_refused_by_name() {
        let float = Field::new("x", DataType::Float32, true);
        check(Field::new("name", DataType::Utf8, true), None);
        check(float.clone(), Some("`x`"));
        let pair = Field::new("pair", DataType::Struct(vec![float.clone()].into()), true);
        check(pair.clone(), Some("`pair.x`"));
        check(
            Field::new("list", DataType::List(pair.into()), true),
            Some("`list.pair.x`"),
        );
        let entries = DataType::Struct(
            vec![
                Field::new("key", DataType::Utf8, false),
                Field::new("value", DataType::Int8, true),
            ]
            .into(),
        );
        let map = DataType::Map(Field::new("entries", entries, false).into(), false);
        check(Field::new("m", map, true), Some("`m`"));
        check(Field::new("big", DataType::LargeUtf8, true), Some("LargeUtf8"));
    }

    #[test]
    fn an_empty_key_is_refused() {
        assert_eq!(check_key_schema(&Schema::empty()).unwrap_err().code(), "KY0001");
    }
}
