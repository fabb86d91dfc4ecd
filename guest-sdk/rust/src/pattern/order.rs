//! What rows of equal time are ordered by: values as bytes that compare as the values do, whoever compares them.

use std::cmp::Reverse;

use crate::values::{
    Bytes, Date, Decimal, LocalTimestamp, LocalTimestampMicros, LocalTimestampNanos, LocalTimestampSeconds, Time,
    Timestamp, TimestampMicros, TimestampNanos, TimestampSeconds,
};

/// A value that rows of equal time can be ordered by: see
/// [`PatternStream::order_equal_times_by`](super::PatternStream::order_equal_times_by).
///
/// Numbers, times, text, bytes, booleans; options, of which none is the least; tuples, whose first members count first; and any of
/// these in [`Reverse`]. Of floating-point numbers the order is that of [`f64::total_cmp`].
///
/// ```
/// use std::cmp::Reverse;
/// use millrace::pattern::SortKey;
///
/// fn bytes(key: impl SortKey) -> Vec<u8> {
///     let mut bytes = Vec::new();
///     key.write(&mut bytes);
///     bytes
/// }
/// assert!(bytes((1i64, "b")) < bytes((1i64, "bc")));
/// assert!(bytes(Reverse(-1i64)) > bytes(Reverse(1i64)));
/// ```
pub trait SortKey {
    /// Appends bytes that compare with those of other values as the values do. Those of none begin with all of another's.
    fn write(&self, bytes: &mut Vec<u8>);
}

macro_rules! unsigned {
    ($($type:ty),*) => {$(
        impl SortKey for $type {
            fn write(&self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_be_bytes());
            }
        }
    )*};
}
unsigned!(u8, u16, u32, u64, u128);

macro_rules! signed {
    ($($type:ty),*) => {$(
        impl SortKey for $type {
            fn write(&self, bytes: &mut Vec<u8>) {
                // What is below zero comes before what is not.
                bytes.extend((self ^ <$type>::MIN).to_be_bytes());
            }
        }
    )*};
}
signed!(i8, i16, i32, i64, i128);

macro_rules! floating {
    ($($type:ty, $bits:ty);*) => {$(
        impl SortKey for $type {
            fn write(&self, bytes: &mut Vec<u8>) {
                let bits = self.to_bits();
                let sign = 1 << (<$bits>::BITS - 1);
                let ordered = if bits & sign == 0 { bits | sign } else { !bits };
                ordered.write(bytes);
            }
        }
    )*};
}
floating!(f32, u32; f64, u64);

impl SortKey for bool {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(*self));
    }
}

/// Bytes of any number: each zero is followed by a 255, and behind the last come two zeros.
fn write_bytes(value: &[u8], bytes: &mut Vec<u8>) {
    for &byte in value {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(u8::MAX);
        }
    }
    bytes.extend([0, 0]);
}

impl SortKey for str {
    fn write(&self, bytes: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), bytes);
    }
}

impl SortKey for String {
    fn write(&self, bytes: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), bytes);
    }
}

impl SortKey for [u8] {
    fn write(&self, bytes: &mut Vec<u8>) {
        write_bytes(self, bytes);
    }
}

impl SortKey for Bytes {
    fn write(&self, bytes: &mut Vec<u8>) {
        write_bytes(self, bytes);
    }
}

impl<const N: usize> SortKey for [u8; N] {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self);
    }
}

impl<const P: u8, const S: i8> SortKey for Decimal<P, S> {
    fn write(&self, bytes: &mut Vec<u8>) {
        self.units().write(bytes);
    }
}

macro_rules! times {
    ($($type:ty, $count:ident;)*) => {$(
        impl SortKey for $type {
            fn write(&self, bytes: &mut Vec<u8>) {
                self.$count().write(bytes);
            }
        }
    )*};
}
times! {
    TimestampSeconds, seconds;
    LocalTimestampSeconds, seconds;
    Timestamp, millis;
    LocalTimestamp, millis;
    TimestampMicros, micros;
    LocalTimestampMicros, micros;
    TimestampNanos, nanos;
    LocalTimestampNanos, nanos;
    Date, days;
    Time, micros;
}

impl<T: SortKey> SortKey for Option<T> {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.write(bytes);
        }
    }
}

impl<T: SortKey> SortKey for Reverse<T> {
    fn write(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        self.0.write(bytes);
        bytes[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

impl<T: SortKey + ?Sized> SortKey for &T {
    fn write(&self, bytes: &mut Vec<u8>) {
        (**self).write(bytes);
    }
}

macro_rules! tuples {
    ($(($($member:ident $index:tt),*);)*) => {$(
        impl<$($member: SortKey),*> SortKey for ($($member,)*) {
            fn write(&self, bytes: &mut Vec<u8>) {
                $(self.$index.write(bytes);)*
            }
        }
    )*};
}
tuples! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: &(impl SortKey + ?Sized)) -> Vec<u8> {
        let mut bytes = Vec::new();
        key.write(&mut bytes);
        bytes
    }

    /// Values in ascending order have bytes in ascending order, none of which begin with another's, alone and turned round.
    fn check<T: SortKey + Clone + std::fmt::Debug>(ascending: &[T]) {
        for (low, high) in ascending.iter().zip(&ascending[1..]) {
            let (lower, higher) = (bytes(low), bytes(high));
            assert!(lower < higher, "{low:?} {high:?}");
            assert!(!higher.starts_with(&lower), "{low:?} {high:?}");
            assert!(bytes(&Reverse(low.clone())) > bytes(&Reverse(high.clone())));
            assert!(bytes(&(low.clone(), 9)) < bytes(&(high.clone(), 1)));
            assert!(bytes(&Some(low.clone())) < bytes(&Some(high.clone())));
            assert!(bytes(&None::<T>) < bytes(&Some(low.clone())));
        }
    }

    #[test]
    fn bytes_compare_as_values_do() {
        check(&[i64::MIN, -256, -1, 0, 1, 255, 256, i64::MAX]);
        check(&[i8::MIN, -1, 0, 1, i8::MAX]);
        check(&[0, 1, 255, 256, u64::MAX]);
        check(&[f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1e-300, 1.0, f64::INFINITY, f64::NAN]);
        check(&["", "\0", "\0\0", "\0a", "a", "a\0", "a\0b", "ab", "b", "\u{ff}"]);
        check(
            &[
                vec![],
                vec![0u8],
                vec![0, 0],
                vec![0, 1],
                vec![1],
                vec![255],
                vec![255, 0],
            ]
            .map(Bytes::from),
        );
        check(&[false, true]);
        check(&[(1, "a"), (1, "b"), (2, "")]);
        check(&[-7, 0, 7].map(Timestamp::from_millis));
        check(&[-7, 0, 7].map(Decimal::<9, 2>::from_units));
    }
}
