//! Values and records: how Rust types become columns and come back.
//!
//! A [`Value`] is anything that fits in a column: numbers, strings, options, lists, maps, structs, enums. A
//! [`Record`] is a struct whose fields are the columns of a stream. Both are implemented by
//! `#[derive(Record)]`, which writes straight-line code for each field.
//!
//! Rows may borrow: `&'a str` reads a string in place from the block. The trait is implemented on the
//! `'static` form (`Line<'static>`), and [`Value::Of`] gives the form with the block's lifetime
//! (`Line<'a>`); for owned types it is the type itself.

use std::marker::PhantomData;

use crate::block::{BlockWriter, Buffers};
use crate::schema::{DataType, Field};

/// A type that fits in a column.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not fit in a column",
    note = "numbers, bool, String, &str, Bytes, times, Option, Vec, BTreeMap, tuples and types with `#[derive(Record)]` do"
)]
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

    /// A column of this type with that name.
    ///
    /// ```
    /// use millrace::value::Value;
    /// assert!(<Option<bool>>::field("seen").nullable);
    /// ```
    fn field(name: &str) -> Field {
        Field::new(name, Self::data_type(), Self::NULLABLE)
    }

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
    fn fields() -> Vec<Field>;
    // For a record as the rows of a block, `Value::column` is preceded by no validity: its columns are
    // simply the fields' columns one after the other, exactly as for a non-nullable struct.
}

/// A value that borrows nothing: what state, keys and accumulators are made of.
pub trait Owned: for<'a> Value<Of<'a> = Self> + Sized {}
impl<T> Owned for T where T: for<'a> Value<Of<'a> = T> + Sized {}

/// Where a field lies in a row: one type for each field, made by `#[derive(Record)]`.
///
/// That it is a type lets aggregates read fields without a call through a pointer.
pub trait FieldAt: 'static {
    /// The record.
    type Row: Record;
    /// Type of the field.
    type Field: Value;
    /// Name of the column.
    const NAME: &'static str;
    /// Position of the column among the record's.
    const INDEX: u32;

    /// The field in a row.
    fn in_row<'r, 'a>(row: &'r <Self::Row as Value>::Of<'a>) -> &'r <Self::Field as Value>::Of<'a>;

    /// The field in a row, to be changed.
    fn in_row_mut<'r, 'a>(row: &'r mut <Self::Row as Value>::Of<'a>) -> &'r mut <Self::Field as Value>::Of<'a>;
}

/// A field of a record: which column it is, and where it lies in a row. `#[derive(Record)]` makes one for
/// each field, as `Event::FIELDS.value`. `A` has no name that programs could write.
///
/// ```
/// use millrace::value::{FieldAt, FieldRef};
/// use millrace::Record;
///
/// #[derive(Record)]
/// struct Event { key: u64, value: i64 }
///
/// fn increment<A: FieldAt<Row = Event, Field = i64>>(field: FieldRef<Event, i64, A>, event: &mut Event) {
///     *field.get_mut(event) += 1;
/// }
///
/// assert_eq!((Event::FIELDS.value.name(), Event::FIELDS.value.index()), ("value", 1));
/// let mut event = Event { key: 1, value: 2 };
/// increment(Event::FIELDS.value, &mut event);
/// assert_eq!(*Event::FIELDS.value.get(&event), 3);
/// ```
pub struct FieldRef<R, F, A> {
    types: PhantomData<fn(R) -> (F, A)>,
}

impl<R: Record, F: Value, A: FieldAt<Row = R, Field = F>> FieldRef<R, F, A> {
    /// For derived code.
    #[doc(hidden)]
    pub const fn new() -> Self {
        FieldRef { types: PhantomData }
    }

    /// Name of the column.
    pub const fn name(&self) -> &'static str {
        A::NAME
    }

    /// Position of the column among the record's.
    pub const fn index(&self) -> u32 {
        A::INDEX
    }

    /// The field in a row.
    #[inline(always)]
    pub fn get<'r, 'a>(&self, row: &'r R::Of<'a>) -> &'r F::Of<'a> {
        A::in_row(row)
    }

    /// The field in a row, to be changed.
    #[inline(always)]
    pub fn get_mut<'r, 'a>(&self, row: &'r mut R::Of<'a>) -> &'r mut F::Of<'a> {
        A::in_row_mut(row)
    }
}

impl<R: Record, F: Value, A: FieldAt<Row = R, Field = F>> Default for FieldRef<R, F, A> {
    fn default() -> Self {
        FieldRef::new()
    }
}

impl<R, F, A> Clone for FieldRef<R, F, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R, F, A> Copy for FieldRef<R, F, A> {}

impl<R, F, A> std::fmt::Debug for FieldRef<R, F, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::any::type_name::<A>())
    }
}
