//! `Option`: a nullable column. Its validity comes before the buffers of the value.
//!
//! A column has one null, so that an `Option` in an `Option` does not compile:
//!
//! ```compile_fail,E0080
//! use millrace::Value;
//! <Option<Option<i64>>>::data_type();
//! ```

use crate::block::{BlockWriter, Buffers, Validity};
use crate::schema::DataType;
use crate::value::{Builder, Value};
use crate::values::BooleanBuilder;

/// A column that may hold nulls.
///
/// ```
/// use millrace::value::Value;
/// let column: <Option<i64> as Value>::Column<'_>;
/// # let block = millrace::block::Block::new(1, vec![0; 8], vec![0, 8]);
/// # column = <Option<i64>>::column(&mut block.buffers(), 1);
/// assert!(column.validity.is_valid(0));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct NullableColumn<'a, C> {
    /// Which rows hold a value.
    pub validity: Validity<'a>,
    /// The values; anything where there is none.
    pub values: C,
}

/// Collects a column that may hold nulls.
///
/// ```
/// use millrace::value::{Builder, Value};
/// let mut builder = <Option<i64> as Value>::Builder::default();
/// <Option<i64>>::push(&mut builder, None);
/// assert_eq!(builder.rows(), 1);
/// ```
#[derive(Debug, Default)]
pub struct NullableBuilder<B> {
    /// Which rows hold a value.
    pub validity: BooleanBuilder,
    /// The values, with a placeholder where there is none.
    pub values: B,
}

impl<B: Builder> Builder for NullableBuilder<B> {
    fn rows(&self) -> usize {
        self.validity.rows()
    }

    fn bytes(&self) -> usize {
        self.validity.bytes() + self.values.bytes()
    }

    fn reserve(&mut self, rows: usize) {
        self.validity.reserve(rows);
        self.values.reserve(rows);
    }

    fn truncate(&mut self, rows: usize) {
        self.validity.truncate(rows);
        self.values.truncate(rows);
    }

    fn finish(&mut self, writer: &mut BlockWriter) {
        self.validity.finish_validity(writer);
        self.values.finish(writer);
    }
}

impl<V: Value> Value for Option<V> {
    type Of<'a> = Option<V::Of<'a>>;
    type Column<'a> = NullableColumn<'a, V::Column<'a>>;
    type Builder = NullableBuilder<V::Builder>;
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        const {
            assert!(
                !V::NULLABLE,
                "an Option in an Option has no column: a column has one null"
            )
        };
        V::data_type()
    }

    #[inline]
    fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Self::Column<'a> {
        NullableColumn {
            validity: buffers.validity(rows),
            values: V::column(buffers, rows),
        }
    }

    #[inline(always)]
    fn get<'a>(column: &Self::Column<'a>, index: usize) -> Option<V::Of<'a>> {
        column.validity.is_valid(index).then(|| V::get(&column.values, index))
    }

    #[inline(always)]
    fn push(builder: &mut Self::Builder, value: Option<V::Of<'_>>) {
        builder.validity.push(value.is_some());
        match value {
            Some(value) => V::push(&mut builder.values, value),
            None => V::push_default(&mut builder.values),
        }
    }

    #[inline]
    fn push_default(builder: &mut Self::Builder) {
        builder.validity.push(false);
        V::push_default(&mut builder.values);
    }
}
