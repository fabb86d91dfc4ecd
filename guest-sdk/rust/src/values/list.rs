//! Lists and maps: offsets, then the items of all rows as columns of their own.
//!
//! Reading a row makes a `Vec` or a `BTreeMap`; its items may borrow from the block. A map is a list of
//! entries, written in the order of its keys.

use std::collections::BTreeMap;

use crate::block::{BlockWriter, Buffers, Offsets};
use crate::schema::{DataType, Field};
use crate::value::{Builder, Value};
use crate::values::bytes::offset;

/// A column of lists or maps.
///
/// ```
/// use millrace::Value;
/// let block = millrace::block::Block::new(0, vec![], vec![0, 0]);
/// let column = <Vec<i64>>::column(&mut block.buffers(), 0);
/// assert_eq!(column.items.len(), 0);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ListColumn<'a, C> {
    /// Where each row's items lie.
    pub offsets: Offsets<'a>,
    /// The items of all rows.
    pub items: C,
}

/// Collects a column of lists or maps.
///
/// ```
/// use millrace::value::{Builder, Value};
/// let mut builder = <Vec<i64> as Value>::Builder::default();
/// <Vec<i64> as Value>::push(&mut builder, vec![1, 2]);
/// assert_eq!(builder.rows(), 1);
/// ```
#[derive(Debug, Default)]
pub struct ListBuilder<B> {
    /// Where each row ends in `items`.
    ends: Vec<i32>,
    items: B,
}

impl<B: Builder> ListBuilder<B> {
    /// Ends the row that the items since the last one belong to.
    fn end_row(&mut self) {
        self.ends.push(offset(self.items.rows()));
    }
}

impl<B: Builder> Builder for ListBuilder<B> {
    fn rows(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self) -> usize {
        size_of_val(self.ends.as_slice()) + self.items.bytes()
    }

    fn reserve(&mut self, rows: usize) {
        self.ends.reserve(rows);
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.items.truncate(self.ends.last().map_or(0, |&end| end as usize));
    }

    fn finish(&mut self, writer: &mut BlockWriter) {
        writer.offsets(&self.ends);
        self.items.finish(writer);
        self.ends.clear();
    }
}

impl<V: Value> Value for Vec<V> {
    type Of<'a> = Vec<V::Of<'a>>;
    type Column<'a> = ListColumn<'a, V::Column<'a>>;
    type Builder = ListBuilder<V::Builder>;

    fn data_type() -> DataType {
        DataType::List(Box::new(V::field("item")))
    }

    #[inline]
    fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Self::Column<'a> {
        let offsets = buffers.offsets(rows);
        ListColumn {
            offsets,
            items: V::column(buffers, offsets.last()),
        }
    }

    #[inline]
    fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
        column
            .offsets
            .range(index)
            .map(|item| V::get(&column.items, item))
            .collect()
    }

    #[inline]
    fn push(builder: &mut Self::Builder, value: Self::Of<'_>) {
        for item in value {
            V::push(&mut builder.items, item);
        }
        builder.end_row();
    }

    #[inline]
    fn push_default(builder: &mut Self::Builder) {
        builder.end_row();
    }
}

impl<K: Value, V: Value> Value for BTreeMap<K, V>
where
    for<'a> K::Of<'a>: Ord,
{
    type Of<'a> = BTreeMap<K::Of<'a>, V::Of<'a>>;
    type Column<'a> = ListColumn<'a, <(K, V) as Value>::Column<'a>>;
    type Builder = ListBuilder<<(K, V) as Value>::Builder>;

    fn data_type() -> DataType {
        const { assert!(!K::NULLABLE, "the keys of a map are not null") };
        let members = vec![K::field("key"), V::field("value")];
        DataType::Map(Box::new(Field::new("entries", DataType::Struct(members), false)))
    }

    #[inline]
    fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Self::Column<'a> {
        let offsets = buffers.offsets(rows);
        ListColumn {
            offsets,
            items: <(K, V)>::column(buffers, offsets.last()),
        }
    }

    #[inline]
    fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
        column
            .offsets
            .range(index)
            .map(|entry| <(K, V)>::get(&column.items, entry))
            .collect()
    }

    #[inline]
    fn push(builder: &mut Self::Builder, value: Self::Of<'_>) {
        for entry in value {
            <(K, V)>::push(&mut builder.items, entry);
        }
        builder.end_row();
    }

    #[inline]
    fn push_default(builder: &mut Self::Builder) {
        builder.end_row();
    }
}
