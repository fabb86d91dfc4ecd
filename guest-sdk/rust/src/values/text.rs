//! Text: offsets, then the bytes of all rows. `&str` is read in place, `String` is copied out, and
//! `Cow<str>` suits a function that changes some rows and passes on the others.
//!
//! The host has checked the UTF-8 of every block that it sends, so that reading a row costs no check;
//! blocks from elsewhere (tests, native programs) are checked when their column is taken.
#![allow(
    unsafe_code,
    reason = "text that is known to be UTF-8 is not checked again for every row"
)]

use std::borrow::Cow;

use crate::block::Buffers;
use crate::schema::DataType;
use crate::value::Value;
use crate::values::{BytesBuilder, BytesColumn};

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
    /// Every row is UTF-8: checked by the host or by `take`.
    bytes: BytesColumn<'a>,
}

impl<'a> TextColumn<'a> {
    fn take(buffers: &mut Buffers<'a>, rows: usize) -> Self {
        let bytes = BytesColumn::take(buffers, rows);
        if !buffers.is_checked() {
            for index in 0..rows {
                let text = std::str::from_utf8(bytes.bytes(index));
                assert!(text.is_ok(), "row {index} of a text column is not UTF-8");
            }
        }
        TextColumn { bytes }
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
        // SAFETY: `take` is the only maker of a column: either the host has checked the block, whose text
        // columns are UTF-8 in every row, or `take` has checked each row itself.
        unsafe { std::str::from_utf8_unchecked(self.bytes.bytes(index)) }
    }
}

macro_rules! text {
    ($type:ty, $of:ty, $get:expr) => {
        impl Value for $type {
            type Of<'a> = $of;
            type Column<'a> = TextColumn<'a>;
            type Builder = BytesBuilder;

            fn data_type() -> DataType {
                DataType::Utf8
            }

            #[inline]
            fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Self::Column<'a> {
                TextColumn::take(buffers, rows)
            }

            #[inline(always)]
            fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
                $get(column.text(index))
            }

            #[inline(always)]
            fn push(builder: &mut BytesBuilder, value: Self::Of<'_>) {
                builder.push(value.as_bytes());
            }

            #[inline]
            fn push_default(builder: &mut BytesBuilder) {
                builder.push(&[]);
            }
        }
    };
}
text!(&'static str, &'a str, std::convert::identity);
text!(String, String, str::to_owned);
text!(Cow<'static, str>, Cow<'a, str>, Cow::Borrowed);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Block;

    #[test]
    #[should_panic(expected = "row 0 of a text column is not UTF-8")]
    fn text_from_elsewhere_is_checked() {
        let mut data = vec![0, 0, 0, 0, 1, 0, 0, 0];
        data.resize(16, 0);
        data.push(0xff);
        String::column(&mut Block::new(1, data, vec![8, 17]).buffers(), 1);
    }

    #[test]
    #[should_panic(expected = "row 0 of a text column is not UTF-8")]
    fn text_is_checked_row_by_row() {
        // Together the rows are a `é`, each alone is half of it.
        let mut data = vec![0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
        data.resize(16, 0);
        data.extend("é".as_bytes());
        String::column(&mut Block::new(2, data, vec![12, 18]).buffers(), 2);
    }
}
