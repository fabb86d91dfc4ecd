//! Values and records: how Rust types become columns and come back.
//!
//! A [`Value`] is anything that fits in a column: numbers, strings, options, lists, maps, structs, enums. A
//! [`Record`] is a struct whose fields are the columns of a stream. Both are implemented by
//! `#[derive(Record)]`, which writes straight-line code for each field.
//!
//! Rows may borrow: `&'a str` reads a string in place from the block. The trait is implemented on the
//! `'static` form (`Line<'static>`), and [`Value::Of`] gives the form with the block's lifetime
//! (`Line<'a>`); for owned types it is the type itself.

use crate::block::{Buffers, BlockWriter};
use crate::schema::DataType;

/// A type that fits in a column.
pub trait Value: 'static {
    /// The value as functions see it: borrowed from the block for `'a`, or `Self` for owned types.
    type Of<'a>;
    /// A column of a block, ready for random access by row.
    type Column<'a>;
    /// Collects values of a column to be put out.
    type Builder: Builder;
    /// Whether the column may hold nulls; true for `Option` alone.
    const NULLABLE: bool = false;

    /// The column's type, with its children.
    fn data_type() -> DataType;

    /// Takes this column's buffers (in the order of the block layout, validity first if nullable).
    fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Self::Column<'a>;

    /// Value of row `index`, which is less than the column's rows.
    fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a>;

    /// Appends a value.
    fn push(builder: &mut Self::Builder, value: Self::Of<'_>);

    /// Appends a placeholder under a null parent (0, empty, all children likewise).
    fn push_default(builder: &mut Self::Builder);
}

/// Collects one column.
pub trait Builder: Default {
    /// Rows so far.
    fn rows(&self) -> usize;
    /// Bytes so far, roughly; decides when a block is full.
    fn bytes(&self) -> usize;
    /// Prepares for that many more rows.
    fn reserve(&mut self, rows: usize);
    /// Drops all rows from `rows` on.
    fn truncate(&mut self, rows: usize);
    /// Writes the buffers in layout order and starts again from no rows.
    fn finish(&mut self, writer: &mut BlockWriter);
}

/// A struct whose fields are the columns of a stream. Derived.
pub trait Record: Value {
    /// Names and types of the columns, in order.
    fn fields() -> Vec<crate::schema::Field>;
    // For a record as the rows of a block, `Value::column` is preceded by no validity: its columns are
    // simply the fields' columns one after the other, exactly as for a non-nullable struct.
}

/// A value that borrows nothing: what state, keys and accumulators are made of.
pub trait Owned: for<'a> Value<Of<'a> = Self> + Sized {}
impl<T> Owned for T where T: for<'a> Value<Of<'a> = T> + Sized {}
