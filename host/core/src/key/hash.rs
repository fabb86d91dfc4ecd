//! XXH3-64 over the key encoding, a block at a time.
//!
//! One integer-like or one string column without nulls is hashed without encoding anything; every other key
//! goes through a [`RowEncoder`].

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use xxhash_rust::xxh3::xxh3_64;

use super::encode::{RowEncoder, integer_values};
use crate::error::Result;

/// The hash of an encoded key.
#[inline]
pub fn hash_bytes(encoded: &[u8]) -> u64 {
    xxh3_64(encoded)
}

/// The hash of a key of one integer-like column: XXH3-64 of its 8 bytes.
///
/// This is XXH3's case for 4 to 8 bytes with the length known, so that it inlines to two multiplications.
///
/// ```
/// # use millrace_core::key::{hash_bytes, hash_integer};
/// assert_eq!(hash_integer(-7), hash_bytes(&(-7i64).to_le_bytes()));
/// ```
#[inline]
pub fn hash_integer(value: i64) -> u64 {
    /// Bytes 8 to 15 and 16 to 23 of XXH3's secret, xored.
    const FLIP: u64 = 0x1cad_21f7_2c81_017c ^ 0xdb97_9083_e96d_d4de;
    const PRIME: u64 = 0x9FB2_1C65_1E98_DF25;
    let mut hash = (value as u64).rotate_left(32) ^ FLIP;
    hash ^= hash.rotate_left(49) ^ hash.rotate_left(24);
    hash = hash.wrapping_mul(PRIME);
    hash ^= (hash >> 35) + 8;
    hash = hash.wrapping_mul(PRIME);
    hash ^ (hash >> 28)
}

/// The hash of every row of some key columns, in place of what `hashes` held.
///
/// The columns have passed [`super::check_key_schema`]; other types are an internal error.
///
/// ```
/// # use std::sync::Arc;
/// # use arrow_array::{ArrayRef, StringArray};
/// # use millrace_core::key::{hash_bytes, hash_rows};
/// let column: ArrayRef = Arc::new(StringArray::from(vec!["a", "bc"]));
/// let mut hashes = Vec::new();
/// hash_rows(&[column], &mut hashes).unwrap();
/// assert_eq!(hashes, [hash_bytes(b"a"), hash_bytes(b"bc")]);
/// ```
pub fn hash_rows(columns: &[ArrayRef], hashes: &mut Vec<u64>) -> Result<()> {
    hashes.clear();
    if let [column] = columns
        && column.null_count() == 0
    {
        if let Some(values) = integer_values(column) {
            hashes.extend(values.iter().map(|&value| hash_integer(value)));
            return Ok(());
        }
        if *column.data_type() == DataType::Utf8 {
            let strings = column.as_string::<i32>();
            let (bytes, ends) = (strings.value_data(), strings.value_offsets());
            let spans = ends.windows(2).map(|span| &bytes[span[0] as usize..span[1] as usize]);
            hashes.extend(spans.map(xxh3_64));
            return Ok(());
        }
    }
    let encoder = RowEncoder::new(columns)?;
    let mut encoded = Vec::new();
    let rows = columns.first().map_or(0, |column| column.len());
    hashes.extend((0..rows).map(|row| {
        encoded.clear();
        encoder.append_for_hash(row, &mut encoded);
        xxh3_64(&encoded)
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::*;
    use arrow_buffer::NullBuffer;
    use arrow_schema::{Field, Fields};

    use super::super::KeyGroup;
    use super::*;

    fn check(columns: &[ArrayRef], encoding: &str, hash: u64, group: u32) {
        let mut encoded = Vec::new();
        RowEncoder::new(columns).unwrap().append_for_hash(0, &mut encoded);
        let hex = encoded.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut hashes = Vec::new();
        hash_rows(columns, &mut hashes).unwrap();
        let got = (
            hex.as_str(),
            format!("{:016x}", hashes[0]),
            KeyGroup::of_hash(hashes[0], 128).0,
        );
        assert_eq!(got, (encoding, format!("{hash:016x}"), group));
    }

    fn tagged_struct() -> ArrayRef {
        let fields = Fields::from(vec![
            Field::new("tag", DataType::Int8, false),
            Field::new("name", DataType::Utf8, true),
        ]);
        let members: Vec<ArrayRef> = vec![
            array(Int8Array::from(vec![2])),
            array(StringArray::from(vec![None::<&str>])),
        ];
        array(StructArray::new(fields, members, None::<NullBuffer>))
    }

    fn array(array: impl Array + 'static) -> ArrayRef {
        Arc::new(array)
    }

    #[test]
    fn vectors() {
        check(
            &[array(Int64Array::from(vec![0]))],
            "0000000000000000",
            0xc77b_3abb_6f87_acd9,
            99,
        );
        check(
            &[array(Int32Array::from(vec![1]))],
            "0100000000000000",
            0x2fbc_5935_64db_792e,
            23,
        );
        check(
            &[array(Int64Array::from(vec![-1]))],
            "ffffffffffffffff",
            0x5111_c7e4_7d78_4413,
            40,
        );
        check(
            &[array(UInt8Array::from(vec![255]))],
            "ff00000000000000",
            0x0d00_568a_2225_a3e5,
            6,
        );
        check(
            &[array(Int64Array::from(vec![None::<i64>]))],
            "00",
            0xc44b_dff4_074e_ecdb,
            98,
        );
        check(
            &[array(BooleanArray::from(vec![true]))],
            "01",
            0xe12e_f9d2_eb86_ceeb,
            112,
        );
        check(&[array(StringArray::from(vec![""]))], "", 0x2d06_8005_38d3_94c2, 22);
        check(
            &[array(StringArray::from(vec!["millrace"]))],
            "6d696c6c72616365",
            0x0f79_8300_cb96_eca5,
            7,
        );
        check(
            &[array(Decimal128Array::from(vec![-1]))],
            "ffffffffffffffffffffffffffffffff",
            0x722a_202f_07a4_b313,
            57,
        );
        check(
            &[array(Int64Array::from(vec![7])), array(StringArray::from(vec!["a"]))],
            "010700000000000000010100000061",
            0x76f9_118d_50e2_ef9b,
            59,
        );
        check(
            &[
                array(Int64Array::from(vec![None::<i64>])),
                array(StringArray::from(vec!["a"])),
            ],
            "00010100000061",
            0x67ce_226a_ebb9_8d87,
            51,
        );
        check(&[tagged_struct()], "0101020000000000000000", 0xe2de_2717_5419_5529, 113);
    }

    /// The same key in a wider or a nullable column.
    #[test]
    fn widening_keeps_the_hash() {
        let of = |column: ArrayRef| {
            let mut hashes = Vec::new();
            hash_rows(&[column], &mut hashes).unwrap();
            hashes[0]
        };
        let expect = of(array(Int64Array::from(vec![-5])));
        assert_eq!(of(array(Int8Array::from(vec![-5]))), expect);
        assert_eq!(of(array(Int16Array::from(vec![-5]))), expect);
        assert_eq!(of(array(Int32Array::from(vec![Some(-5), None]))), expect);
        assert_eq!(of(array(Date32Array::from(vec![-5]))), expect);
        assert_eq!(of(array(TimestampMillisecondArray::from(vec![-5]))), expect);
        let expect = of(array(UInt64Array::from(vec![200])));
        assert_eq!(of(array(UInt8Array::from(vec![200]))), expect);
        assert_eq!(of(array(Int64Array::from(vec![Some(200), None]))), expect);
        let expect = of(array(StringArray::from(vec!["key"])));
        assert_eq!(of(array(StringArray::from(vec![Some("key"), None]))), expect);
        assert_eq!(of(array(BinaryArray::from(vec![b"key".as_slice()]))), expect);
    }

    #[test]
    fn integers_hash_as_their_bytes() {
        for value in [0, 1, -1, 42, i64::MIN, i64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(hash_integer(value), xxh3_64(&value.to_le_bytes()));
        }
    }

    #[test]
    fn sliced_columns_hash_as_their_rows() {
        let strings = array(StringArray::from(vec!["a", "b", "", "long string"])).slice(1, 3);
        let mut hashes = Vec::new();
        hash_rows(&[strings], &mut hashes).unwrap();
        assert_eq!(hashes, [xxh3_64(b"b"), xxh3_64(b""), xxh3_64(b"long string")]);
    }
}
