//! Which types become which: the table of conversions between types that have no others in them.

use arrow_schema::{DataType, TimeUnit};

/// What a value is for: conversions of keys must keep keys apart, and those of an operator's key their group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A value.
    Value,
    /// The key of a map: what was different stays different.
    MapKey,
    /// Part of an operator's key: its canonical encoding stays the same, and with it its key group.
    OperatorKey,
}

/// How far a conversion goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Widening {
    /// Every value has its like.
    Every,
    /// Values out of the range of the new type have none: whether there are any is found out from the values.
    InRange,
}

/// Whether values of one type become values of another, without a change of what they mean.
///
/// | from | to | |
/// | --- | --- | --- |
/// | an integer | an integer that has all its values | in keys too |
/// | an integer up to 16 bits | `float32` | |
/// | an integer up to 32 bits, `float32` | `float64` | |
/// | an integer | `decimal128` with as many digits before the point | |
/// | `decimal128` | `decimal128` with no fewer digits on either side of the point | in keys with the same scale |
/// | `date32` | `timestamp` without zone: midnight | values in range |
/// | `timestamp` | the same zone and a finer unit | values in range |
/// | `utf8` | `binary` | in keys too |
/// | `fixed-size-binary` | `binary` | |
///
/// ```
/// use arrow_schema::DataType::{Int32, Int64};
/// use millrace_core::schema::{Role, Widening, widening};
/// assert_eq!(widening(&Int32, &Int64, Role::OperatorKey), Some(Widening::Every));
/// assert_eq!(widening(&Int64, &Int32, Role::Value), None);
/// ```
pub fn widening(from: &DataType, to: &DataType, role: Role) -> Option<Widening> {
    use DataType as T;
    let every = |fits: bool| fits.then_some(Widening::Every);
    let key = role == Role::OperatorKey;
    if let (Some(from), Some(to)) = (integer(from), integer(to)) {
        return every(to.holds(from));
    }
    if let (T::Decimal128(digits, scale), T::Decimal128(new_digits, new_scale)) = (from, to) {
        let before = i16::from(*digits) - i16::from(*scale);
        let new_before = i16::from(*new_digits) - i16::from(*new_scale);
        return every(new_before >= before && new_scale >= scale && (!key || new_scale == scale));
    }
    if *from == T::Utf8 && *to == T::Binary {
        return Some(Widening::Every);
    }
    if key {
        return None;
    }
    match (from, to) {
        (T::Float32, T::Float64) | (T::FixedSizeBinary(_), T::Binary) => Some(Widening::Every),
        (T::Date32, T::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, None)) => Some(Widening::Every),
        (T::Date32, T::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, None)) => Some(Widening::InRange),
        (T::Timestamp(unit, zone), T::Timestamp(finer, same)) => {
            (zone == same && per_second(*finer) > per_second(*unit)).then_some(Widening::InRange)
        }
        (_, T::Float32) => every(integer(from)?.bits <= 16),
        (_, T::Float64) => every(integer(from)?.bits <= 32),
        (_, T::Decimal128(digits, scale)) => {
            let before = i16::from(*digits) - i16::from(*scale);
            every(*scale >= 0 && before >= integer(from)?.digits())
        }
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Integer {
    bits: u8,
    signed: bool,
}

fn integer(data_type: &DataType) -> Option<Integer> {
    let (bits, signed) = match data_type {
        DataType::Int8 => (8, true),
        DataType::Int16 => (16, true),
        DataType::Int32 => (32, true),
        DataType::Int64 => (64, true),
        DataType::UInt8 => (8, false),
        DataType::UInt16 => (16, false),
        DataType::UInt32 => (32, false),
        DataType::UInt64 => (64, false),
        _ => return None,
    };
    Some(Integer { bits, signed })
}

impl Integer {
    fn holds(self, other: Integer) -> bool {
        self.bits > other.bits && (self.signed || !other.signed)
    }

    /// Decimal digits of its greatest value.
    fn digits(self) -> i16 {
        match (self.bits, self.signed) {
            (8, _) => 3,
            (16, _) => 5,
            (32, _) => 10,
            (_, true) => 19,
            (_, false) => 20,
        }
    }
}

fn per_second(unit: TimeUnit) -> u64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}
