//! Integers and floats: the column is a slice of the block, the builder a vector.

use crate::block::{BlockWriter, Buffers, Plain};
use crate::schema::DataType;
use crate::value::{Builder, Value};

/// Collects a column of numbers.
///
/// ```
/// use millrace::value::{Builder, Value};
/// use millrace::values::NumberBuilder;
/// let mut builder = NumberBuilder::default();
/// i64::push(&mut builder, 7);
/// assert_eq!(builder.rows(), 1);
/// ```
#[derive(Debug, Default)]
pub struct NumberBuilder<T> {
    values: Vec<T>,
}

impl<T: Plain> NumberBuilder<T> {
    /// Appends a number.
    ///
    /// ```
    /// millrace::values::NumberBuilder::default().push(1.5f64);
    /// ```
    #[inline(always)]
    pub fn push(&mut self, value: T) {
        self.values.push(value);
    }
}

impl<T: Plain> Builder for NumberBuilder<T> {
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
        writer.slice(&self.values);
        self.values.clear();
    }
}

macro_rules! number {
    ($($type:ty => $data_type:ident),*) => {$(
        impl Value for $type {
            type Of<'a> = $type;
            type Column<'a> = &'a [$type];
            type Builder = NumberBuilder<$type>;

            fn data_type() -> DataType {
                DataType::$data_type
            }

            #[inline]
            fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> &'a [$type] {
                buffers.slice(rows)
            }

            #[inline(always)]
            fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
                column[index]
            }

            #[inline(always)]
            fn push(builder: &mut Self::Builder, value: $type) {
                builder.push(value);
            }

            #[inline]
            fn push_default(builder: &mut Self::Builder) {
                builder.push(<$type>::default());
            }
        }
    )*};
}
number!(
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    u8 => UInt8, u16 => UInt16, u32 => UInt32, u64 => UInt64,
    f32 => Float32, f64 => Float64
);
