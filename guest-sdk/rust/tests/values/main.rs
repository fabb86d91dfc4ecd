//! Tests of the column codec, as programs and other languages see it.

mod parameters;
mod records;
mod roundtrip;
mod vectors;
mod vectors_json;

use millrace::Value;
use millrace::block::{Block, BlockWriter};
use millrace::value::Builder;

/// Values as the rows of a block.
fn write<V: Value>(values: Vec<V::Of<'_>>) -> Block {
    let rows = values.len();
    let mut builder = V::Builder::default();
    builder.reserve(rows);
    for value in values {
        V::push(&mut builder, value);
    }
    assert_eq!(builder.rows(), rows);
    finish(&mut builder)
}

/// The block of what a builder holds.
fn finish(builder: &mut impl Builder) -> Block {
    let mut writer = BlockWriter::default();
    let rows = builder.rows();
    builder.finish(&mut writer);
    assert_eq!(
        (builder.rows(), builder.bytes()),
        (0, 0),
        "a builder starts again from nothing"
    );
    writer.finish(rows)
}

/// The rows of a block.
fn read<V: Value>(block: &Block) -> Vec<V::Of<'_>> {
    let mut buffers = block.buffers();
    let column = V::column(&mut buffers, block.rows());
    assert!(buffers.is_empty(), "buffers are left over");
    (0..block.rows()).map(|row| V::get(&column, row)).collect()
}
