//! Types as text: what messages, manifests and metadata call them.

use arrow_schema::{DataType, Field, TimeUnit};

/// Types that are a word.
const PLAIN: &[(&str, DataType)] = &[
    ("boolean", DataType::Boolean),
    ("int8", DataType::Int8),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("uint8", DataType::UInt8),
    ("uint16", DataType::UInt16),
    ("uint32", DataType::UInt32),
    ("uint64", DataType::UInt64),
    ("float32", DataType::Float32),
    ("float64", DataType::Float64),
    ("utf8", DataType::Utf8),
    ("binary", DataType::Binary),
    ("date32", DataType::Date32),
    ("time64[us]", DataType::Time64(TimeUnit::Microsecond)),
];

const UNITS: &[(&str, TimeUnit)] = &[
    ("s", TimeUnit::Second),
    ("ms", TimeUnit::Millisecond),
    ("us", TimeUnit::Microsecond),
    ("ns", TimeUnit::Nanosecond),
];

/// Name of a type that has no others in it; `None`: it has, or no stream has it.
pub fn type_name(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Timestamp(unit, zone) => {
            let (unit, _) = UNITS.iter().find(|(_, known)| known == unit)?;
            match zone {
                None => format!("timestamp[{unit}]"),
                Some(zone) => format!("timestamp[{unit}, {zone}]"),
            }
        }
        DataType::Decimal128(precision, scale) => format!("decimal128({precision}, {scale})"),
        DataType::FixedSizeBinary(bytes) => format!("fixed-size-binary({bytes})"),
        plain => PLAIN.iter().find(|(_, known)| known == plain)?.0.to_owned(),
    })
}

/// The type of a name that [`type_name`] gave.
pub fn parse_type(text: &str) -> Option<DataType> {
    if let Some((_, plain)) = PLAIN.iter().find(|(name, _)| *name == text) {
        return Some(plain.clone());
    }
    let inside = |prefix: &str, suffix: char| text.strip_prefix(prefix)?.strip_suffix(suffix);
    if let Some(inside) = inside("timestamp[", ']') {
        let (unit, zone) = match inside.split_once(", ") {
            Some((unit, zone)) => (unit, Some(zone.into())),
            None => (inside, None),
        };
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        return Some(DataType::Timestamp(*unit, zone));
    }
    if let Some(inside) = inside("decimal128(", ')') {
        let (precision, scale) = inside.split_once(", ")?;
        let (precision, scale): (u8, i8) = (precision.parse().ok()?, scale.parse().ok()?);
        let sound = (1..=38).contains(&precision) && scale.unsigned_abs() <= 38;
        return sound.then_some(DataType::Decimal128(precision, scale));
    }
    let bytes: i32 = inside("fixed-size-binary(", ')')?.parse().ok()?;
    (bytes > 0).then_some(DataType::FixedSizeBinary(bytes))
}

/// A type in one line, for people: `{id: int64, tags: list<utf8>?}`.
pub fn field_text(data_type: &DataType) -> String {
    let named = |field: &Field| format!("{}: {}", field.name(), with_null(field));
    match data_type {
        DataType::List(item) => format!("list<{}>", with_null(item)),
        DataType::Struct(members) => {
            let members: Vec<String> = members.iter().map(|member| named(member)).collect();
            format!("{{{}}}", members.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(members) => {
                let members: Vec<String> = members.iter().map(|member| with_null(member)).collect();
                format!("map<{}>", members.join(", "))
            }
            other => format!("map<{}>", field_text(other)),
        },
        flat => type_name(flat).unwrap_or_else(|| flat.to_string()),
    }
}

fn with_null(field: &Field) -> String {
    let mark = if field.is_nullable() { "?" } else { "" };
    format!("{}{mark}", field_text(field.data_type()))
}
