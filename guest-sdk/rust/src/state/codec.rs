//! State values as blocks: one nullable column, null where a slot holds nothing.

use crate::block::{Block, BlockWriter};
use crate::schema::Field;
use crate::value::{Builder, Owned, Value};

/// Schema of a state.
pub(crate) fn state_fields<V: Value>() -> Vec<Field> {
    vec![Field {
        name: "value".to_owned(),
        data_type: V::data_type(),
        nullable: true,
    }]
}

/// Writes one value per slot.
pub(crate) fn write_values<V: Owned>(values: impl Iterator<Item = Option<V>>, writer: &mut BlockWriter) {
    let mut builder = <Option<V> as Value>::Builder::default();
    for value in values {
        <Option<V> as Value>::push(&mut builder, value);
    }
    builder.finish(writer);
}

/// Reads one value per slot.
pub(crate) fn read_values<V: Owned>(block: &Block) -> impl Iterator<Item = Option<V>> {
    let column = <Option<V> as Value>::column(&mut block.buffers(), block.rows());
    (0..block.rows()).map(move |row| <Option<V> as Value>::get(&column, row))
}
