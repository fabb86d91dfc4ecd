//! Bytes of any number: offsets, then the bytes of all rows. Text is built the same way.

use std::ops::{Deref, DerefMut};

use crate::block::{BlockWriter, Buffers, Offsets};
use crate::schema::DataType;
use crate::value::{Builder, Value};

/// Owned bytes. A `Vec<u8>` would be a list of numbers.
///
/// ```
/// use millrace::values::Bytes;
/// let bytes = Bytes::from(vec![1, 2]);
/// assert_eq!(bytes.len(), 2);
/// ```
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes(bytes.to_owned())
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.0
    }
}

impl Deref for Bytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A column of bytes.
///
/// ```
/// use millrace::Value;
/// use millrace::values::{Bytes, BytesColumn};
/// let block = millrace::block::Block::new(0, vec![], vec![0, 0]);
/// let column: BytesColumn<'_> = Bytes::column(&mut block.buffers(), 0);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BytesColumn<'a> {
    offsets: Offsets<'a>,
    data: &'a [u8],
}

impl<'a> BytesColumn<'a> {
    pub(crate) fn take(buffers: &mut Buffers<'a>, rows: usize) -> Self {
        BytesColumn {
            offsets: buffers.offsets(rows),
            data: buffers.bytes(),
        }
    }

    /// Bytes of row `index`.
    ///
    /// ```
    /// use millrace::Value;
    /// use millrace::value::Builder;
    /// let mut builder = <&[u8] as Value>::Builder::default();
    /// builder.push(b"ok");
    /// let mut writer = millrace::block::BlockWriter::default();
    /// builder.finish(&mut writer);
    /// assert_eq!(<&[u8]>::column(&mut writer.finish(1).buffers(), 1).bytes(0), b"ok");
    /// ```
    #[inline(always)]
    pub fn bytes(&self, index: usize) -> &'a [u8] {
        &self.data[self.offsets.range(index)]
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
    assert!(
        length <= i32::MAX as usize,
        "a column of a block holds less than 2^31 bytes or items"
    );
    length as i32
}

macro_rules! bytes {
    ($type:ty, $of:ty, $get:expr) => {
        impl Value for $type {
            type Of<'a> = $of;
            type Column<'a> = BytesColumn<'a>;
            type Builder = BytesBuilder;

            fn data_type() -> DataType {
                DataType::Binary
            }

            #[inline]
            fn column<'a>(buffers: &mut Buffers<'a>, rows: usize) -> Self::Column<'a> {
                BytesColumn::take(buffers, rows)
            }

            #[inline(always)]
            fn get<'a>(column: &Self::Column<'a>, index: usize) -> Self::Of<'a> {
                $get(column.bytes(index))
            }

            #[inline(always)]
            fn push(builder: &mut BytesBuilder, value: Self::Of<'_>) {
                builder.push(value.as_ref());
            }

            #[inline]
            fn push_default(builder: &mut BytesBuilder) {
                builder.push(&[]);
            }
        }
    };
}
bytes!(&'static [u8], &'a [u8], std::convert::identity);
bytes!(Bytes, Bytes, Bytes::from);
