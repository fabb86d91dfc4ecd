//! Sum of a numeric column: exact for integers and decimals, f64 for floats.

use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

/// A running sum; nulls count as nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sum {
    integer: i128,
    /// Digits after the point, for decimals.
    scale: i8,
    float: f64,
    is_float: bool,
}

impl Sum {
    /// Whether columns of this type can be summed.
    pub(crate) fn is_possible(data_type: &DataType) -> bool {
        data_type.is_integer()
            || matches!(
                data_type,
                DataType::Float32 | DataType::Float64 | DataType::Decimal128(_, _)
            )
    }

    /// Adds what another subtask summed.
    pub(crate) fn add(&mut self, other: &Sum) {
        self.integer = self.integer.wrapping_add(other.integer);
        self.float += other.float;
        self.is_float |= other.is_float;
        self.scale = self.scale.max(other.scale);
    }

    /// Adds a column of a type that [`Sum::is_possible`].
    pub(crate) fn add_column(&mut self, column: &ArrayRef) {
        match column.data_type() {
            DataType::Int64 => self.add_int64(column),
            DataType::Int8 => self.add_integers::<Int8Type>(column),
            DataType::Int16 => self.add_integers::<Int16Type>(column),
            DataType::Int32 => self.add_integers::<Int32Type>(column),
            DataType::UInt8 => self.add_integers::<UInt8Type>(column),
            DataType::UInt16 => self.add_integers::<UInt16Type>(column),
            DataType::UInt32 => self.add_integers::<UInt32Type>(column),
            DataType::UInt64 => self.add_integers::<UInt64Type>(column),
            DataType::Decimal128(_, scale) => {
                self.scale = *scale;
                self.add_integers::<Decimal128Type>(column);
            }
            DataType::Float32 => self.add_floats::<Float32Type>(column),
            DataType::Float64 => self.add_floats::<Float64Type>(column),
            other => unreachable!("{other} is refused when the sink is made"),
        }
    }

    /// Low and high halves are summed apart, in 64 bits, so that the loop stays in vector registers.
    fn add_int64(&mut self, column: &ArrayRef) {
        let array = column.as_primitive::<Int64Type>();
        if array.null_count() > 0 {
            return self.add_integers::<Int64Type>(column);
        }
        for values in array.values().chunks(1 << 16) {
            let (mut low, mut high) = (0u64, 0i64);
            for value in values {
                low += *value as u64 & 0xffff_ffff;
                high += value >> 32;
            }
            self.integer = self.integer.wrapping_add((i128::from(high) << 32) + i128::from(low));
        }
    }

    fn add_integers<T: ArrowPrimitiveType<Native: Into<i128>>>(&mut self, column: &ArrayRef) {
        let values = column.as_primitive::<T>().iter().flatten();
        self.integer = values.fold(self.integer, |sum, value| sum.wrapping_add(value.into()));
    }

    fn add_floats<T: ArrowPrimitiveType<Native: Into<f64>>>(&mut self, column: &ArrayRef) {
        self.is_float = true;
        self.float += column.as_primitive::<T>().iter().flatten().map(Into::into).sum::<f64>();
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_float {
            return write!(f, "{}", self.float);
        }
        let Some(scale) = usize::try_from(self.scale).ok().filter(|scale| *scale > 0) else {
            return write!(
                f,
                "{}{}",
                self.integer,
                "0".repeat(usize::from(self.scale.unsigned_abs()))
            );
        };
        let digits = format!("{:0>width$}", self.integer.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if self.integer < 0 { "-" } else { "" };
        write!(f, "{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Decimal128Array, Float32Array, Int64Array, UInt64Array};

    use super::*;

    fn sum(column: ArrayRef) -> String {
        let mut sum = Sum::default();
        sum.add_column(&column);
        sum.to_string()
    }

    #[test]
    fn sums_are_exact() {
        assert_eq!(
            sum(Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX, -1]))),
            "18446744073709551613"
        );
        assert_eq!(
            sum(Arc::new(Int64Array::from(vec![i64::MIN, i64::MIN, 5]))),
            "-18446744073709551611"
        );
        assert_eq!(sum(Arc::new(Int64Array::from(vec![Some(4), None, Some(-9)]))), "-5");
        assert_eq!(
            sum(Arc::new(UInt64Array::from(vec![u64::MAX, 1]))),
            "18446744073709551616"
        );
        assert_eq!(sum(Arc::new(Float32Array::from(vec![0.5, 0.25]))), "0.75");
        let decimals = Decimal128Array::from(vec![-5, -120])
            .with_precision_and_scale(10, 2)
            .unwrap();
        assert_eq!(sum(Arc::new(decimals)), "-1.25");
    }
}
