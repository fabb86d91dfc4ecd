//! Values of a fixed number of bytes that are no machine numbers: byte arrays and decimals.

use std::fmt;
use std::ops::{Add, Neg, Sub};

use crate::block::{BlockWriter, Buffers};
use crate::schema::DataType;
use crate::value::{Builder, Value};

/// Collects a column of `N` bytes a row.
///
/// ```
/// use millrace::value::Builder;
/// let mut builder = millrace::values::FixedBuilder::<4>::default();
/// builder.push([1, 2, 3, 4]);
/// assert_eq!(builder.bytes(), 4);
/// ```
#[derive(Debug, Default)]
pub struct FixedBuilder<const N: usize> {
    values: Vec<[u8; N]>,
}

impl<const N: usize> FixedBuilder<N> {
    /// Appends a row.
    ///
    /// ```
    /// millrace::values::FixedBuilder::default().push([1, 2]);
    /// ```
    #[inline(always)]
    pub fn push(&mut self, value: [u8; N]) {
        self.values.push(value);
    }
}

impl<const N: usize> Builder for FixedBuilder<N> {
    fn rows(&self) -> usize {
        self.values.len()
    }

    fn bytes(&self) -> usize {
        size_of_val(self.values.as_slice())
    }

    fn reserve(&mut self, rows: usize) {
        self.values.reserve(rows);
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }

    fn finish(&mut self, writer: &mut BlockWriter) {
        writer.bytes(self.values.as_flattened());
        self.values.clear();
    }
}

impl<const N: usize> Value for [u8; N] {
    type Of<'a> = [u8; N];
    type Column<'a> = &'a [[u8; N]];
    type Builder = FixedBuilder<N>;

    fn data_type() -> DataType {
        const { assert!(N > 0 && N <= i32::MAX as usize, "a byte array has 1 to 2^31 - 1 bytes") };
        DataType::FixedSizeBinary(N as u32)
    }

    #[inline]
    fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Self::Column<'a> {
        buffers.arrays(rows)
    }

    #[inline(always)]
    fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
        column[index]
    }

    #[inline(always)]
    fn push(builder: &mut Self::Builder, value: [u8; N]) {
        builder.push(value);
    }

    #[inline]
    fn push_default(builder: &mut Self::Builder) {
        builder.push([0; N]);
    }
}

/// A decimal number of up to `P` digits, `S` of them after the point.
///
/// ```
/// use millrace::values::Decimal;
/// let price = Decimal::<10, 2>::from_units(1250);
/// assert_eq!((price + price).to_string(), "25.00");
/// ```
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal<const P: u8, const S: i8> {
    units: i128,
}

impl<const P: u8, const S: i8> Decimal<P, S> {
    /// 10^P: units are nearer to zero.
    const LIMIT: i128 = {
        assert!(P >= 1 && P <= 38, "a decimal has 1 to 38 digits");
        assert!(
            S.unsigned_abs() <= P,
            "a decimal's scale is at most its number of digits"
        );
        10i128.pow(P as u32)
    };

    /// A number in units of 10^-S; `None` if it has more than `P` digits.
    ///
    /// ```
    /// use millrace::values::Decimal;
    /// assert!(Decimal::<3, 2>::checked_from_units(1000).is_none());
    /// ```
    pub const fn checked_from_units(units: i128) -> Option<Self> {
        if units < Self::LIMIT && units > -Self::LIMIT {
            Some(Decimal { units })
        } else {
            None
        }
    }

    /// A number in units of 10^-S.
    ///
    /// # Panics
    /// If it has more than `P` digits.
    ///
    /// ```
    /// use millrace::values::Decimal;
    /// assert_eq!(Decimal::<5, 2>::from_units(-5).to_string(), "-0.05");
    /// ```
    pub const fn from_units(units: i128) -> Self {
        match Self::checked_from_units(units) {
            Some(decimal) => decimal,
            None => panic!("a decimal has more digits than its type"),
        }
    }

    /// The number in units of 10^-S.
    ///
    /// ```
    /// use millrace::values::Decimal;
    /// assert_eq!(Decimal::<5, 2>::from_units(7).units(), 7);
    /// ```
    #[inline(always)]
    pub const fn units(self) -> i128 {
        self.units
    }
}

/// Panics if the sum has more than `P` digits.
impl<const P: u8, const S: i8> Add for Decimal<P, S> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        // Two numbers of at most 38 digits do not overflow an i128.
        Self::from_units(self.units + other.units)
    }
}

/// Panics if the difference has more than `P` digits.
impl<const P: u8, const S: i8> Sub for Decimal<P, S> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self::from_units(self.units - other.units)
    }
}

impl<const P: u8, const S: i8> Neg for Decimal<P, S> {
    type Output = Self;

    fn neg(self) -> Self {
        Decimal { units: -self.units }
    }
}

impl<const P: u8, const S: i8> fmt::Display for Decimal<P, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.units.unsigned_abs();
        let text = if S > 0 {
            let one = 10u128.pow(u32::from(S.unsigned_abs()));
            format!(
                "{}.{:0width$}",
                digits / one,
                digits % one,
                width = S.unsigned_abs() as usize
            )
        } else if digits == 0 {
            "0".to_owned()
        } else {
            format!("{digits}{}", "0".repeat(S.unsigned_abs() as usize))
        };
        formatter.pad_integral(self.units >= 0, "", &text)
    }
}

impl<const P: u8, const S: i8> Value for Decimal<P, S> {
    type Of<'a> = Self;
    type Column<'a> = &'a [[u8; 16]];
    type Builder = FixedBuilder<16>;

    fn data_type() -> DataType {
        let _ = Self::LIMIT;
        DataType::Decimal128 { precision: P, scale: S }
    }

    #[inline]
    fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Self::Column<'a> {
        buffers.arrays(rows)
    }

    #[inline(always)]
    fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
        Decimal {
            units: i128::from_le_bytes(column[index]),
        }
    }

    #[inline(always)]
    fn push(builder: &mut Self::Builder, value: Self) {
        builder.push(value.units.to_le_bytes());
    }

    #[inline]
    fn push_default(builder: &mut Self::Builder) {
        builder.push([0; 16]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_shown_with_their_scale() {
        assert_eq!(Decimal::<38, 0>::from_units(-42).to_string(), "-42");
        assert_eq!(Decimal::<5, -2>::from_units(12).to_string(), "1200");
        assert_eq!(Decimal::<5, -2>::from_units(0).to_string(), "0");
        assert_eq!(Decimal::<5, 5>::from_units(-1).to_string(), "-0.00001");
        assert_eq!(format!("{:>8}", Decimal::<5, 2>::from_units(1234)), "   12.34");
    }

    #[test]
    fn digits_are_limited() {
        assert!(Decimal::<2, 0>::checked_from_units(99).is_some());
        assert!(Decimal::<2, 0>::checked_from_units(-100).is_none());
        assert!(Decimal::<38, 0>::checked_from_units(i128::MIN).is_none());
    }
}
