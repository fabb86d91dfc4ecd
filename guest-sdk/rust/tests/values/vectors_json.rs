//! How `wit/CONFORMANCE.md` writes values and schemas as JSON, for the types of the vectors.

use std::collections::BTreeMap;

use millrace::Owned;
use millrace::schema::{DataType, FlatField, TimeUnit};
use millrace::values::{
    Bytes, Date, Decimal, LocalTimestamp, LocalTimestampMicros, LocalTimestampNanos, LocalTimestampSeconds, Time,
    Timestamp, TimestampMicros, TimestampNanos, TimestampSeconds,
};
use serde_json::{Value as Json, json};

/// A value that is written as JSON.
pub(crate) trait AsJson: Owned {
    fn from_json(json: &Json) -> Self;
    fn to_json(&self) -> Json;
}

macro_rules! as_json {
    ($($type:ty: |$json:ident| $from:expr, |$value:ident| $to:expr;)*) => {$(
        impl AsJson for $type {
            fn from_json($json: &Json) -> Self {
                $from
            }
            fn to_json(&self) -> Json {
                let $value = self;
                $to
            }
        }
    )*};
}

fn integer<T: TryFrom<i64>>(json: &Json) -> T {
    T::try_from(json.as_i64().expect("an integer"))
        .ok()
        .expect("an integer in range")
}

fn long<T: std::str::FromStr>(json: &Json) -> T {
    json.as_str()
        .expect("a long integer is text")
        .parse()
        .ok()
        .expect("a long integer in range")
}

fn float(json: &Json) -> f64 {
    match json.as_str() {
        Some(name) => name.parse().expect("NaN, Infinity, -Infinity or -0"),
        None => json.as_f64().expect("a float"),
    }
}

fn float_json(value: f64) -> Json {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else if value == 0.0 && value.is_sign_negative() {
        json!("-0")
    } else {
        json!(value)
    }
}

fn text(json: &Json) -> &str {
    json.as_str().expect("text")
}

fn items(json: &Json) -> &[Json] {
    json.as_array().expect("an array")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.is_ascii() && text.len().is_multiple_of(2));
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex"))
        .collect()
}

as_json! {
    bool: |json| json.as_bool().expect("a boolean"), |value| json!(value);
    i8: |json| integer(json), |value| json!(value);
    i16: |json| integer(json), |value| json!(value);
    i32: |json| integer(json), |value| json!(value);
    i64: |json| long(json), |value| json!(value.to_string());
    u8: |json| integer(json), |value| json!(value);
    u16: |json| integer(json), |value| json!(value);
    u32: |json| integer(json), |value| json!(value);
    u64: |json| long(json), |value| json!(value.to_string());
    f32: |json| float(json) as f32, |value| float_json(f64::from(*value));
    f64: |json| float(json), |value| float_json(*value);
    String: |json| text(json).to_owned(), |value| json!(value);
    Bytes: |json| Bytes(unhex(text(json))), |value| json!(hex(value));
    Date: |json| Date::from_days(integer(json)), |value| json!(value.days());
    Time: |json| Time::from_micros(long(json)), |value| json!(value.micros().to_string());
    TimestampSeconds: |json| Self::from_seconds(long(json)), |value| json!(value.seconds().to_string());
    Timestamp: |json| Self::from_millis(long(json)), |value| json!(value.millis().to_string());
    TimestampMicros: |json| Self::from_micros(long(json)), |value| json!(value.micros().to_string());
    TimestampNanos: |json| Self::from_nanos(long(json)), |value| json!(value.nanos().to_string());
    LocalTimestampSeconds: |json| Self::from_seconds(long(json)), |value| json!(value.seconds().to_string());
    LocalTimestamp: |json| Self::from_millis(long(json)), |value| json!(value.millis().to_string());
    LocalTimestampMicros: |json| Self::from_micros(long(json)), |value| json!(value.micros().to_string());
    LocalTimestampNanos: |json| Self::from_nanos(long(json)), |value| json!(value.nanos().to_string());
}

impl<const N: usize> AsJson for [u8; N] {
    fn from_json(json: &Json) -> Self {
        unhex(text(json)).try_into().expect("the bytes of the type")
    }
    fn to_json(&self) -> Json {
        json!(hex(self))
    }
}

impl<const P: u8, const S: i8> AsJson for Decimal<P, S> {
    fn from_json(json: &Json) -> Self {
        Decimal::from_units(long(json))
    }
    fn to_json(&self) -> Json {
        json!(self.units().to_string())
    }
}

impl<T: AsJson> AsJson for Option<T> {
    fn from_json(json: &Json) -> Self {
        (!json.is_null()).then(|| T::from_json(json))
    }
    fn to_json(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::to_json)
    }
}

impl<T: AsJson> AsJson for Vec<T> {
    fn from_json(json: &Json) -> Self {
        items(json).iter().map(T::from_json).collect()
    }
    fn to_json(&self) -> Json {
        self.iter().map(T::to_json).collect()
    }
}

impl<K: AsJson + Ord, V: AsJson> AsJson for BTreeMap<K, V> {
    fn from_json(json: &Json) -> Self {
        items(json)
            .iter()
            .map(|entry| (K::from_json(&entry[0]), V::from_json(&entry[1])))
            .collect()
    }
    fn to_json(&self) -> Json {
        self.iter()
            .map(|(key, value)| json!([key.to_json(), value.to_json()]))
            .collect()
    }
}

impl<A: AsJson, B: AsJson> AsJson for (A, B) {
    fn from_json(json: &Json) -> Self {
        (A::from_json(&json["0"]), B::from_json(&json["1"]))
    }
    fn to_json(&self) -> Json {
        json!({ "0": self.0.to_json(), "1": self.1.to_json() })
    }
}

/// A record whose JSON has its fields' names.
macro_rules! json_record {
    ($($record:ident { $($field:ident),* })*) => {$(
        impl crate::vectors_json::AsJson for $record {
            fn from_json(json: &serde_json::Value) -> Self {
                $record { $($field: crate::vectors_json::AsJson::from_json(&json[stringify!($field)])),* }
            }
            fn to_json(&self) -> serde_json::Value {
                serde_json::json!({ $(stringify!($field): self.$field.to_json()),* })
            }
        }
    )*};
}
pub(crate) use json_record;

/// A node of a schema as the vectors write it.
pub(crate) fn field_json(field: &FlatField<'_>) -> Json {
    json!({
        "name": field.name,
        "type": type_json(field.data_type),
        "nullable": field.nullable,
        "children": field.children,
    })
}

fn type_json(data_type: &DataType) -> Json {
    match data_type {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 => json!("int8"),
        DataType::Int16 => json!("int16"),
        DataType::Int32 => json!("int32"),
        DataType::Int64 => json!("int64"),
        DataType::UInt8 => json!("uint8"),
        DataType::UInt16 => json!("uint16"),
        DataType::UInt32 => json!("uint32"),
        DataType::UInt64 => json!("uint64"),
        DataType::Float32 => json!("float32"),
        DataType::Float64 => json!("float64"),
        DataType::Decimal128 { precision, scale } => {
            json!({ "decimal128": { "precision": precision, "scale": scale } })
        }
        DataType::Utf8 => json!("utf8"),
        DataType::Binary => json!("binary"),
        DataType::FixedSizeBinary(bytes) => json!({ "fixed-size-binary": bytes }),
        DataType::Date32 => json!("date32"),
        DataType::Time64 => json!("time64"),
        DataType::Timestamp { unit, zone } => {
            let unit = match unit {
                TimeUnit::Second => "second",
                TimeUnit::Millisecond => "millisecond",
                TimeUnit::Microsecond => "microsecond",
                TimeUnit::Nanosecond => "nanosecond",
            };
            json!({ "timestamp": { "unit": unit, "zone": zone } })
        }
        DataType::List(_) => json!("list-of"),
        DataType::Struct(_) => json!("struct-of"),
        DataType::Map(_) => json!("map-of"),
    }
}
