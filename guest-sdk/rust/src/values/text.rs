//! Text: offsets, then the bytes of all rows. `&str` is read in place, `String` is copied out.
//!
//! The host has checked the UTF-8 of every block that it sends, so that reading a row costs no check;
//! blocks from elsewhere (tests, native programs) are checked when their column is taken.
#![allow(
    unsafe_code,
    reason = "text that is known to be UTF-8 is not checked again for every row"
)]

use crate::block::{BlockWriter, Buffers, Offsets};
use crate::schema::DataType;
use crate::value::{Builder, Value};

/// A column of text.
///
/// ```
/// use millrace::value::Value;
/// use millrace::values::TextColumn;
/// let block = millrace::block::Block::new(0, vec![], vec![0, 0]);
/// let column: TextColumn<'_> = String::column(&mut block.buffers(), 0);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TextColumn<'a> {
    offsets: Offsets<'a>,
    /// Between any two neighbouring offsets this is UTF-8: checked by the host or by `take`.
    data: &'a [u8],
}

impl<'a> TextColumn<'a> {
    fn take(buffers: &mut Buffers<'a>, rows: usize) -> Self {
        let column = TextColumn {
            offsets: buffers.offsets(rows),
            data: buffers.bytes(),
        };
        if !buffers.is_checked() {
            for index in 0..rows {
                let bytes = &column.data[column.offsets.range(index)];
                assert!(
                    std::str::from_utf8(bytes).is_ok(),
                    "row {index} of a text column is not UTF-8"
                );
            }
        }
        column
    }

    /// Text of row `index`.
    ///
    /// ```
    /// use millrace::value::Value;
    /// let block = millrace::block::Block::new(1, [&[0, 0, 0, 0, 2, 0, 0, 0][..], &[0; 8], b"ok"].concat(), vec![8, 18]);
    /// assert_eq!(String::column(&mut block.buffers(), 1).text(0), "ok");
    /// ```
    #[inline(always)]
    pub fn text(&self, index: usize) -> &'a str {
        let bytes = &self.data[self.offsets.range(index)];
        // SAFETY: `take` is the only maker of a column: either the host has checked the block, whose text
        // columns are UTF-8 in every row, or `take` has checked each row itself.
        unsafe { std::str::from_utf8_unchecked(bytes) }
    }
}

/// Collects a column of text or bytes.
///
/// ```
/// use millrace::value::{Builder, Value};
/// let mut builder = millrace::values::BytesBuilder::default();
/// <&str>::push(&mut builder, "ok");
/// assert_eq!(builder.bytes(), 6);
/// ```
#[derive(Debug, Default)]
pub struct BytesBuilder {
    /// Where each row ends in `data`.
    ends: Vec<i32>,
    data: Vec<u8>,
}

impl BytesBuilder {
    /// Appends a row.
    ///
    /// ```
    /// millrace::values::BytesBuilder::default().push(b"ok");
    /// ```
    #[inline(always)]
    pub fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.ends.push(offset(self.data.len()));
    }
}

impl Builder for BytesBuilder {
    fn rows(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self) -> usize {
        size_of_val(self.ends.as_slice()) + self.data.len()
    }

    fn reserve(&mut self, rows: usize) {
        self.ends.reserve(rows);
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.data.truncate(self.ends.last().map_or(0, |&end| end as usize));
    }

    fn finish(&mut self, writer: &mut BlockWriter) {
        writer.offsets(&self.ends);
        writer.bytes(&self.data);
        self.ends.clear();
        self.data.clear();
    }
}

/// A length as an offset.
#[inline(always)]
pub(crate) fn offset(length: usize) -> i32 {
    assert!(length <= i32::MAX as usize, "a column of a block holds less than 2 GiB");
    length as i32
}

impl Value for &'static str {
    type Of<'a> = &'a str;
    type Column<'a> = TextColumn<'a>;
    type Builder = BytesBuilder;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    #[inline]
    fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> TextColumn<'a> {
        TextColumn::take(buffers, rows)
    }

    #[inline(always)]
    fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
        column.text(index)
    }

    #[inline(always)]
    fn push(builder: &mut BytesBuilder, value: &str) {
        builder.push(value.as_bytes());
    }

    #[inline]
    fn push_default(builder: &mut BytesBuilder) {
        builder.push(&[]);
    }
}

impl Value for String {
    type Of<'a> = String;
    type Column<'a> = TextColumn<'a>;
    type Builder = BytesBuilder;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    #[inline]
    fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> TextColumn<'a> {
        TextColumn::take(buffers, rows)
    }

    #[inline(always)]
    fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
        column.text(index).to_owned()
    }

    #[inline(always)]
    fn push(builder: &mut BytesBuilder, value: String) {
        builder.push(value.as_bytes());
    }

    #[inline]
    fn push_default(builder: &mut BytesBuilder) {
        builder.push(&[]);
    }
}
