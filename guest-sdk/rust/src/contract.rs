//! Schemas as the contract writes them.

use crate::bindings::types;
use crate::schema::{DataType, Field, Missing, TimeUnit, Variant, flatten};

/// A schema as the contract writes it.
pub(crate) fn to_contract(fields: &[Field]) -> Vec<types::Field> {
    let node = |field: crate::schema::FlatField<'_>| types::Field {
        name: field.name.to_owned(),
        data_type: type_to_contract(field.data_type),
        nullable: field.nullable,
        children: field.children,
        aliases: field.hints.aliases.clone(),
        when_missing: match &field.hints.missing {
            Missing::Undeclared => types::Missing::Undeclared,
            Missing::Zero => types::Missing::Zero,
            Missing::Text(text) => types::Missing::Text(text.clone()),
        },
        variants: field.hints.variants.iter().map(variant).collect(),
    };
    flatten(fields).into_iter().map(node).collect()
}

fn variant(variant: &Variant) -> types::VariantName {
    types::VariantName {
        name: variant.name.clone(),
        aliases: variant.aliases.clone(),
    }
}

fn type_to_contract(data_type: &DataType) -> types::DataType {
    match data_type {
        DataType::Boolean => types::DataType::Boolean,
        DataType::Int8 => types::DataType::Int8,
        DataType::Int16 => types::DataType::Int16,
        DataType::Int32 => types::DataType::Int32,
        DataType::Int64 => types::DataType::Int64,
        DataType::UInt8 => types::DataType::Uint8,
        DataType::UInt16 => types::DataType::Uint16,
        DataType::UInt32 => types::DataType::Uint32,
        DataType::UInt64 => types::DataType::Uint64,
        DataType::Float32 => types::DataType::Float32,
        DataType::Float64 => types::DataType::Float64,
        DataType::Decimal128 { precision, scale } => types::DataType::Decimal128(types::DecimalType {
            precision: *precision,
            scale: *scale,
        }),
        DataType::Utf8 => types::DataType::Utf8,
        DataType::Binary => types::DataType::Binary,
        DataType::FixedSizeBinary(bytes) => types::DataType::FixedSizeBinary(*bytes),
        DataType::Date32 => types::DataType::Date32,
        DataType::Time64 => types::DataType::Time64,
        DataType::Timestamp { unit, zone } => types::DataType::Timestamp(types::TimestampType {
            unit: match unit {
                TimeUnit::Second => types::TimeUnit::Second,
                TimeUnit::Millisecond => types::TimeUnit::Millisecond,
                TimeUnit::Microsecond => types::TimeUnit::Microsecond,
                TimeUnit::Nanosecond => types::TimeUnit::Nanosecond,
            },
            zone: zone.clone(),
        }),
        DataType::List(_) => types::DataType::ListOf,
        DataType::Struct(_) => types::DataType::StructOf,
        DataType::Map(_) => types::DataType::MapOf,
    }
}
