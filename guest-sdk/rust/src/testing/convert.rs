//! State of an earlier version of a pipeline in the schema of a later one: by names, as the host does.

use super::datum::{Column, Datum, show_types};
use crate::bindings::types::{DataType, Missing};

/// A value of an earlier version; an error says what cannot be converted.
pub(crate) fn convert(old: &Column, new: &Column, value: &Datum) -> Result<Datum, String> {
    let name = &new.field.name;
    if *value == Datum::Null {
        return match (new.field.nullable, &new.field.when_missing) {
            (true, _) => Ok(Datum::Null),
            (false, missing) => when_missing(new, missing),
        };
    }
    match (&old.field.data_type, &new.field.data_type) {
        (DataType::StructOf, DataType::StructOf) => {
            let members = convert_row(&old.children, &new.children, value.items())?;
            Ok(Datum::Struct(members))
        }
        (DataType::ListOf, DataType::ListOf) | (DataType::MapOf, DataType::MapOf) => {
            let items = value.items().iter();
            let items = items.map(|item| convert(&old.children[0], &new.children[0], item));
            Ok(Datum::List(items.collect::<Result<_, _>>()?))
        }
        (DataType::Float32, DataType::Float64) => {
            let number = f32::from_bits(value.integer() as u32);
            Ok(Datum::Float(f64::from(number).to_bits()))
        }
        (DataType::Int8 | DataType::Int16 | DataType::Int32, DataType::Float64) => {
            Ok(Datum::Float((value.integer() as f64).to_bits()))
        }
        (from, to) if is_widened(from, to) => Ok(value.clone()),
        (from, to) => Err(format!("`{name}` is {from:?} and becomes {to:?}")),
    }
}

/// Members of a struct, or columns of a row, by their names.
pub(crate) fn convert_row(old: &[Column], new: &[Column], values: &[Datum]) -> Result<Vec<Datum>, String> {
    let known = |column: &Column, child: &Column| column.field.name == child.field.name;
    let mut converted = Vec::new();
    for child in new {
        let renamed = |column: &Column| child.field.aliases.contains(&column.field.name);
        let found = old.iter().position(|column| known(column, child));
        let found = found.or_else(|| old.iter().position(renamed));
        converted.push(match found {
            Some(index) if !child.field.variants.is_empty() => tag(&old[index], child, &values[index])?,
            Some(index) => convert(&old[index], child, &values[index])?,
            None if child.field.nullable => Datum::Null,
            None => when_missing(child, &child.field.when_missing)?,
        });
    }
    Ok(converted)
}

/// The tag of an enum's variant, which goes by its name.
fn tag(old: &Column, new: &Column, value: &Datum) -> Result<Datum, String> {
    let Some(variant) = old.field.variants.get(value.integer() as usize) else {
        return Err(format!("there is no variant {}", value.integer()));
    };
    let is_it = |known: &crate::bindings::types::VariantName| {
        known.name == variant.name || known.aliases.contains(&variant.name)
    };
    let found = new.field.variants.iter().position(is_it);
    let found = found.ok_or_else(|| format!("the variant `{}` is gone", variant.name))?;
    Ok(Datum::Integer(found as i128))
}

fn when_missing(column: &Column, missing: &Missing) -> Result<Datum, String> {
    let name = &column.field.name;
    match missing {
        Missing::Undeclared => Err(format!("`{name}` is new, and has no default")),
        Missing::Zero => Ok(column.zero()),
        Missing::Text(text) => match &column.field.data_type {
            DataType::Utf8 | DataType::Binary => Ok(Datum::Bytes(text.clone().into_bytes())),
            DataType::Boolean => Ok(Datum::Boolean(text == "true")),
            DataType::Float64 => {
                let number: f64 = text.parse().map_err(|error| format!("`{name}`: {error}"))?;
                Ok(Datum::Float(number.to_bits()))
            }
            _ => {
                let number = text.parse().map_err(|error| format!("`{name}`: {error}"))?;
                Ok(Datum::Integer(number))
            }
        },
    }
}

fn is_widened(from: &DataType, to: &DataType) -> bool {
    match (width(from), width(to)) {
        (Some((from, signed)), Some((to, becomes_signed))) => {
            (signed == becomes_signed && from <= to) || (!signed && becomes_signed && from < to)
        }
        _ => is_same_type(from, to) || matches!((from, to), (DataType::Utf8, DataType::Binary)),
    }
}

/// Bytes of an integer, and whether it has a sign.
fn width(data_type: &DataType) -> Option<(u8, bool)> {
    match data_type {
        DataType::Int8 => Some((1, true)),
        DataType::Int16 => Some((2, true)),
        DataType::Int32 => Some((4, true)),
        DataType::Int64 => Some((8, true)),
        DataType::Uint8 => Some((1, false)),
        DataType::Uint16 => Some((2, false)),
        DataType::Uint32 => Some((4, false)),
        DataType::Uint64 => Some((8, false)),
        _ => None,
    }
}

pub(crate) fn is_integer(column: &Column) -> bool {
    !column.field.nullable && width(&column.field.data_type).is_some()
}

/// Whether the types are the same, but for those of children.
fn is_same_type(left: &DataType, right: &DataType) -> bool {
    match (left, right) {
        (DataType::Timestamp(left), DataType::Timestamp(right)) => left.unit == right.unit && left.zone == right.zone,
        (DataType::Decimal128(left), DataType::Decimal128(right)) => {
            left.precision == right.precision && left.scale == right.scale
        }
        (DataType::FixedSizeBinary(left), DataType::FixedSizeBinary(right)) => left == right,
        _ => std::mem::discriminant(left) == std::mem::discriminant(right),
    }
}

/// Whether two schemas are the same: names, if they count, order, types and nullability.
pub(crate) fn is_same(left: &[Column], right: &[Column], names: bool) -> bool {
    let same = |(left, right): (&Column, &Column)| {
        let (a, b) = (&left.field, &right.field);
        (!names || a.name == b.name)
            && a.nullable == b.nullable
            && is_same_type(&a.data_type, &b.data_type)
            && is_same(&left.children, &right.children, names)
    };
    left.len() == right.len() && left.iter().zip(right).all(same)
}

/// Refuses columns that are not those of a type.
pub(crate) fn check(what: &str, columns: &[Column], own: &[Column]) {
    let (is, named) = (show_types(columns), show_types(own));
    assert!(is_same(columns, own, true), "{what} is {is}, and not {named}");
}
