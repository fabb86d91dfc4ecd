//! What can be kept for a slot, and how it becomes a column.

use std::collections::BTreeMap;

use crate::block::{Block, BlockWriter};
use crate::schema::Field;
use crate::value::{Builder, Owned, Value};

/// What is kept for a slot. A slot that nothing was put in keeps what `create` makes.
pub trait Kept: Sized + 'static {
    /// As it is stored: the type of the state's column.
    type Stored: Owned;

    /// For a slot that holds nothing.
    fn create() -> Self;

    /// To be stored; none if there is nothing.
    fn to_stored(&self) -> Option<Self::Stored>;

    /// As it was stored.
    fn from_stored(stored: Option<Self::Stored>) -> Self;

    /// Estimate of the bytes that it has outside of itself.
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl<V: Owned + Clone> Kept for Option<V> {
    type Stored = V;

    fn create() -> Self {
        None
    }

    fn to_stored(&self) -> Option<V> {
        self.clone()
    }

    fn from_stored(stored: Option<V>) -> Self {
        stored
    }
}

impl<V: Owned + Clone> Kept for Vec<V>
where
    Vec<V>: Owned,
{
    type Stored = Vec<V>;

    fn create() -> Self {
        Vec::new()
    }

    fn to_stored(&self) -> Option<Vec<V>> {
        (!self.is_empty()).then(|| self.clone())
    }

    fn from_stored(stored: Option<Vec<V>>) -> Self {
        stored.unwrap_or_default()
    }

    fn heap_bytes(&self) -> usize {
        self.len() * size_of::<V>()
    }
}

impl<K: Owned + Clone + Ord, V: Owned + Clone> Kept for BTreeMap<K, V>
where
    BTreeMap<K, V>: Owned,
{
    type Stored = BTreeMap<K, V>;

    fn create() -> Self {
        BTreeMap::new()
    }

    fn to_stored(&self) -> Option<BTreeMap<K, V>> {
        (!self.is_empty()).then(|| self.clone())
    }

    fn from_stored(stored: Option<BTreeMap<K, V>>) -> Self {
        stored.unwrap_or_default()
    }

    fn heap_bytes(&self) -> usize {
        self.len() * (size_of::<K>() + size_of::<V>())
    }
}

/// Schema of a state.
pub(crate) fn state_fields<V: Value>() -> Vec<Field> {
    vec![Field::new("value", V::data_type(), true)]
}

/// Writes one value per slot, null where a slot holds nothing.
pub(crate) fn write_values<V: Owned>(values: impl ExactSizeIterator<Item = Option<V>>) -> Block {
    let rows = values.len();
    let mut builder = <Option<V> as Value>::Builder::default();
    builder.reserve(rows);
    for value in values {
        <Option<V> as Value>::push(&mut builder, value);
    }
    let mut writer = BlockWriter::with_capacity(builder.bytes() + 64);
    builder.finish(&mut writer);
    writer.finish(rows)
}

/// Reads one value per slot.
pub(crate) fn read_values<V: Owned>(block: &Block) -> impl Iterator<Item = Option<V>> {
    let column = <Option<V> as Value>::column(&mut block.buffers(), block.rows());
    (0..block.rows()).map(move |row| <Option<V> as Value>::get(&column, row))
}
