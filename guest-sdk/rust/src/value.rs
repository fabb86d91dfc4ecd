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
        Field {
            name: name.to_owned(),
            data_type: Self::data_type(),
            nullable: Self::NULLABLE,
        }
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

/// A field of a record: which column it is, and where it lies in a row. `#[derive(Record)]` makes one for
/// each field, as `Event::FIELDS.value`.
///
/// ```
/// use millrace::Record;
/// use millrace::value::FieldRef;
///
/// #[derive(Record)]
/// struct Event { key: u64, value: i64 }
///
/// let field: FieldRef<Event, i64> = Event::FIELDS.value;
/// assert_eq!((field.name(), field.index()), ("value", 1));
/// let mut event = Event { key: 1, value: 2 };
/// *field.get_mut(&mut event) += 1;
/// assert_eq!(*field.get(&event), 3);
/// ```
pub struct FieldRef<R: Value, F: Value> {
    name: &'static str,
    index: u32,
    get: FieldGet<R, F>,
    get_mut: FieldGetMut<R, F>,
}

/// The marker says which lifetime the row has: a projection alone does not tell.
type Lifetime<'a> = PhantomData<&'a ()>;
type FieldGet<R, F> = for<'r, 'a> fn(&'r <R as Value>::Of<'a>, Lifetime<'a>) -> &'r <F as Value>::Of<'a>;
type FieldGetMut<R, F> = for<'r, 'a> fn(&'r mut <R as Value>::Of<'a>, Lifetime<'a>) -> &'r mut <F as Value>::Of<'a>;

impl<R: Value, F: Value> FieldRef<R, F> {
    /// For derived code.
    #[doc(hidden)]
    pub const fn new(name: &'static str, index: u32, get: FieldGet<R, F>, get_mut: FieldGetMut<R, F>) -> Self {
        FieldRef {
            name,
            index,
            get,
            get_mut,
        }
    }

    /// Name of the column.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Position of the column among the record's.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The field in a row.
    #[inline(always)]
    pub fn get<'r, 'a>(&self, row: &'r R::Of<'a>) -> &'r F::Of<'a> {
        (self.get)(row, PhantomData)
    }

    /// The field in a row, to be changed.
    #[inline(always)]
    pub fn get_mut<'r, 'a>(&self, row: &'r mut R::Of<'a>) -> &'r mut F::Of<'a> {
        (self.get_mut)(row, PhantomData)
    }
}

impl<R: Value, F: Value> Clone for FieldRef<R, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Value, F: Value> Copy for FieldRef<R, F> {}
