//! Booleans: a bitmap, lowest bit first. The builder keeps a byte per row and packs at the end, which
//! spares every push a read of the last byte.

use crate::block::{Bits, BlockWriter, Buffers};
use crate::schema::DataType;
use crate::value::{Builder, Value};

/// Collects a column of booleans.
///
/// ```
/// use millrace::value::Builder;
/// let mut builder = millrace::values::BooleanBuilder::default();
/// builder.push(true);
/// assert_eq!(builder.rows(), 1);
/// ```
#[derive(Debug, Default)]
pub struct BooleanBuilder {
    values: Vec<u8>,
}

impl BooleanBuilder {
    /// Appends a boolean.
    ///
    /// ```
    /// millrace::values::BooleanBuilder::default().push(true);
    /// ```
    #[inline(always)]
    pub fn push(&mut self, value: bool) {
        self.values.push(u8::from(value));
    }

    /// Writes a validity buffer: nothing if all rows are valid.
    pub(crate) fn finish_validity(&mut self, writer: &mut BlockWriter) {
        if self.values.contains(&0) {
            writer.bits(&self.values);
        } else {
            writer.bytes(&[]);
        }
        self.values.clear();
    }
}

impl Builder for BooleanBuilder {
    fn rows(&self) -> usize {
        self.values.len()
    }

    fn bytes(&self) -> usize {
        self.values.len().div_ceil(8)
    }

    fn reserve(&mut self, rows: usize) {
        self.values.reserve(rows);
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }

    fn finish(&mut self, writer: &mut BlockWriter) {
        writer.bits(&self.values);
        self.values.clear();
    }
}

impl Value for bool {
    type Of<'a> = bool;
    type Column<'a> = Bits<'a>;
    type Builder = BooleanBuilder;

    fn data_type() -> DataType {
        DataType::Boolean
    }

    #[inline]
    fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Bits<'a> {
        buffers.bits(rows)
    }

    #[inline(always)]
    fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
        column.get(index)
    }

    #[inline(always)]
    fn push(builder: &mut BooleanBuilder, value: bool) {
        builder.push(value);
    }

    #[inline]
    fn push_default(builder: &mut BooleanBuilder) {
        builder.push(false);
    }
}
