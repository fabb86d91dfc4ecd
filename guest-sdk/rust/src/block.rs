//! Blocks: rows as columns, in one run of bytes.
//!
//! A block has a row count, the bytes of all buffers and where each buffer ends; buffers start at multiples
//! of 16. `wit/CONFORMANCE.md` says which buffers a type has. [`Buffers`] takes them one after the other and
//! hands them out as slices, after one check of length and alignment each; [`BlockWriter`] packs them.
//!
//! A block that does not fit its schema is a defect of the host or of a hand-written [`crate::value::Value`]:
//! reading it panics with what was expected.
//!
//! Unsafe code here is the reading of bytes as numbers and back; which types allow it says the sealed trait
//! [`Plain`].
#![allow(
    unsafe_code,
    reason = "bytes are read as numbers in place; every block says why that is sound"
)]

use std::mem::{align_of, size_of};

const _: () = assert!(
    cfg!(target_endian = "little"),
    "blocks are little-endian and are read in place"
);

/// Where buffers start: a multiple of this.
const ALIGNMENT: usize = 16;

/// Alignment of the bytes in memory that reading needs; all slices handed out have at most this one.
const BASE_ALIGNMENT: usize = 8;

mod sealed {
    /// # Safety
    /// Any bytes are a value, values have no padding, and the alignment is at most that of a block's base.
    pub unsafe trait Sealed {}
}

/// Numbers that lie in a buffer as they lie in memory.
///
/// ```
/// fn is_plain<T: millrace::block::Plain>() {}
/// is_plain::<i64>();
/// ```
pub trait Plain: Copy + Default + sealed::Sealed + 'static {}

macro_rules! plain {
    ($($type:ty),*) => {$(
        // SAFETY: a primitive number: any bytes are a value, no padding, alignment at most 8.
        unsafe impl sealed::Sealed for $type {}
        impl Plain for $type {}
        const _: () = assert!(align_of::<$type>() <= BASE_ALIGNMENT);
    )*};
}
plain!(i8, i16, i32, i64, u8, u16, u32, u64, f32, f64);

/// Rows of a stream as the contract's block.
///
/// ```
/// use millrace::block::{Block, BlockWriter};
///
/// let mut writer = BlockWriter::default();
/// writer.slice(&[1i64, 2, 3]);
/// let block: Block = writer.finish(3);
/// assert_eq!(block.buffers().slice::<i64>(3), [1, 2, 3]);
/// ```
#[derive(Debug, Clone)]
pub struct Block {
    rows: usize,
    /// The bytes, from `start` on, which lies at a multiple of [`BASE_ALIGNMENT`].
    data: Vec<u8>,
    start: usize,
    ends: Vec<u32>,
    /// Whether the bytes are from the host, which has checked the text in them.
    checked: bool,
}

impl Block {
    /// A block from anywhere: its text is checked when it is read.
    ///
    /// ```
    /// use millrace::block::Block;
    /// let block = Block::new(2, vec![7, 0, 0, 0, 8, 0, 0, 0], vec![8]);
    /// assert_eq!(block.buffers().slice::<i32>(2), [7, 8]);
    /// ```
    pub fn new(rows: u32, data: Vec<u8>, ends: Vec<u32>) -> Self {
        let (data, start) = aligned(data);
        Block {
            rows: rows as usize,
            data,
            start,
            ends,
            checked: false,
        }
    }

    /// A block from the host, which has checked that its text columns are UTF-8. Only for the calls of the
    /// contract: what is read from it relies on that check.
    #[allow(
        dead_code,
        reason = "called by the glue to the contract only, which native tests leave out"
    )]
    pub(crate) fn from_host(rows: u32, data: Vec<u8>, ends: Vec<u32>) -> Self {
        Block {
            checked: true,
            ..Block::new(rows, data, ends)
        }
    }

    /// Number of rows.
    ///
    /// ```
    /// assert_eq!(millrace::block::BlockWriter::default().finish(0).rows(), 0);
    /// ```
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A cursor at the first buffer.
    ///
    /// ```
    /// assert!(millrace::block::BlockWriter::default().finish(0).buffers().is_empty());
    /// ```
    pub fn buffers(&self) -> Buffers<'_> {
        Buffers {
            data: &self.data[self.start..],
            ends: &self.ends,
            position: 0,
            checked: self.checked,
        }
    }

    /// Row count, bytes and ends, to be handed to the host.
    ///
    /// ```
    /// let block = millrace::block::Block::new(1, vec![5], vec![1]);
    /// assert_eq!(block.into_parts(), (1, vec![5], vec![1]));
    /// ```
    pub fn into_parts(mut self) -> (u32, Vec<u8>, Vec<u32>) {
        self.data.drain(..self.start);
        (self.rows as u32, self.data, self.ends)
    }
}

/// The same bytes, from the returned position on, at a multiple of the base alignment. Copies only where an
/// allocator gave less.
fn aligned(data: Vec<u8>) -> (Vec<u8>, usize) {
    if (data.as_ptr() as usize).is_multiple_of(BASE_ALIGNMENT) {
        return (data, 0);
    }
    let mut copy = Vec::with_capacity(data.len() + BASE_ALIGNMENT);
    let start = (copy.as_ptr() as usize).next_multiple_of(BASE_ALIGNMENT) - copy.as_ptr() as usize;
    copy.resize(start, 0);
    copy.extend_from_slice(&data);
    (copy, start)
}

/// The buffers of a block, taken one after the other.
///
/// ```
/// use millrace::block::{Buffers, BlockWriter};
/// let mut writer = BlockWriter::default();
/// writer.bytes(b"abc");
/// writer.slice(&[1.5f64]);
/// let block = writer.finish(1);
/// let mut buffers: Buffers<'_> = block.buffers();
/// assert_eq!(buffers.bytes(), b"abc");
/// assert_eq!(buffers.slice::<f64>(1), [1.5]);
/// ```
#[derive(Debug, Clone)]
pub struct Buffers<'a> {
    data: &'a [u8],
    ends: &'a [u32],
    /// Where the previous buffer ended.
    position: usize,
    checked: bool,
}

impl<'a> Buffers<'a> {
    /// Whether all buffers are taken.
    ///
    /// ```
    /// let block = millrace::block::Block::new(1, vec![5], vec![1]);
    /// let mut buffers = block.buffers();
    /// buffers.bytes();
    /// assert!(buffers.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether the host has checked the text in these buffers.
    pub(crate) fn is_checked(&self) -> bool {
        self.checked
    }

    /// The next buffer as it is.
    ///
    /// ```
    /// let block = millrace::block::Block::new(1, vec![5], vec![1]);
    /// assert_eq!(block.buffers().bytes(), [5]);
    /// ```
    pub fn bytes(&mut self) -> &'a [u8] {
        let Some((&end, rest)) = self.ends.split_first() else {
            panic!("the block has fewer buffers than the columns of its schema need");
        };
        let start = self.position.next_multiple_of(ALIGNMENT);
        let end = end as usize;
        let Some(buffer) = self.data.get(start.min(end)..end) else {
            panic!(
                "a buffer of the block ends at {end}, past its {} bytes",
                self.data.len()
            );
        };
        self.ends = rest;
        self.position = end;
        buffer
    }

    /// The next buffer as that many numbers.
    ///
    /// ```
    /// let block = millrace::block::Block::new(1, vec![5, 1], vec![2]);
    /// assert_eq!(block.buffers().slice::<u16>(1), [261]);
    /// ```
    pub fn slice<T: Plain>(&mut self, rows: usize) -> &'a [T] {
        let bytes = self.bytes();
        let width = size_of::<T>();
        if bytes.len() != rows * width {
            panic!(
                "a buffer of {} bytes does not hold {rows} values of {width} bytes",
                bytes.len()
            );
        }
        cast(bytes)
    }

    /// The next buffer as that many arrays of `N` bytes.
    ///
    /// ```
    /// let block = millrace::block::Block::new(2, vec![1, 2, 3, 4], vec![4]);
    /// assert_eq!(block.buffers().arrays(2), [[1, 2], [3, 4]]);
    /// ```
    pub fn arrays<const N: usize>(&mut self, rows: usize) -> &'a [[u8; N]] {
        let bytes = self.bytes();
        let (arrays, rest) = bytes.as_chunks();
        if arrays.len() != rows || !rest.is_empty() {
            panic!(
                "a buffer of {} bytes does not hold {rows} values of {N} bytes",
                bytes.len()
            );
        }
        arrays
    }

    /// The next buffer as a bitmap of that many bits.
    ///
    /// ```
    /// let block = millrace::block::Block::new(2, vec![0b10], vec![1]);
    /// let bits = block.buffers().bits(2);
    /// assert!(!bits.get(0) && bits.get(1));
    /// ```
    pub fn bits(&mut self, rows: usize) -> Bits<'a> {
        let bytes = self.bytes();
        if bytes.len() != rows.div_ceil(8) {
            panic!("a buffer of {} bytes is not a bitmap of {rows} rows", bytes.len());
        }
        Bits { bytes }
    }

    /// The next buffer as the validity of that many rows; empty means that all are valid.
    ///
    /// ```
    /// let block = millrace::block::Block::new(2, vec![], vec![0]);
    /// assert!(block.buffers().validity(2).is_valid(1));
    /// ```
    pub fn validity(&mut self, rows: usize) -> Validity<'a> {
        let bytes = self.bytes();
        if !bytes.is_empty() && bytes.len() != rows.div_ceil(8) {
            panic!(
                "a buffer of {} bytes is not a validity bitmap of {rows} rows",
                bytes.len()
            );
        }
        Validity { bytes }
    }

    /// The next buffer as offsets of that many rows.
    ///
    /// ```
    /// let block = millrace::block::Block::new(1, vec![0, 0, 0, 0, 3, 0, 0, 0], vec![8]);
    /// assert_eq!(block.buffers().offsets(1).range(0), 0..3);
    /// ```
    pub fn offsets(&mut self, rows: usize) -> Offsets<'a> {
        let bytes = self.bytes();
        if rows == 0 && bytes.is_empty() {
            return Offsets { offsets: &[0] };
        }
        if bytes.len() != (rows + 1) * size_of::<i32>() {
            panic!(
                "a buffer of {} bytes does not hold the offsets of {rows} rows",
                bytes.len()
            );
        }
        Offsets { offsets: cast(bytes) }
    }
}

/// Reads bytes as numbers in place.
fn cast<T: Plain>(bytes: &[u8]) -> &[T] {
    // SAFETY: `Plain` is sealed to numbers for which any bytes are a value and that align to at most 8.
    let (before, values, after) = unsafe { bytes.align_to::<T>() };
    assert!(
        before.is_empty() && after.is_empty(),
        "a buffer is not aligned: buffers start at multiples of 16"
    );
    values
}

/// A bitmap of a block, lowest bit first.
///
/// ```
/// let block = millrace::block::Block::new(2, vec![0b10], vec![1]);
/// assert!(block.buffers().bits(2).get(1));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Bits<'a> {
    bytes: &'a [u8],
}

impl Bits<'_> {
    /// Bit of row `index`.
    ///
    /// ```
    /// let block = millrace::block::Block::new(2, vec![0b10], vec![1]);
    /// assert!(!block.buffers().bits(2).get(0));
    /// ```
    #[inline(always)]
    pub fn get(&self, index: usize) -> bool {
        self.bytes[index >> 3] >> (index & 7) & 1 != 0
    }
}

/// Which rows of a nullable column hold a value.
///
/// ```
/// let block = millrace::block::Block::new(2, vec![0b10], vec![1]);
/// assert!(!block.buffers().validity(2).is_valid(0));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Validity<'a> {
    /// Empty: every row does.
    bytes: &'a [u8],
}

impl Validity<'_> {
    /// Whether row `index` holds a value.
    ///
    /// ```
    /// let block = millrace::block::Block::new(2, vec![0b10], vec![1]);
    /// assert!(block.buffers().validity(2).is_valid(1));
    /// ```
    #[inline(always)]
    pub fn is_valid(&self, index: usize) -> bool {
        self.bytes.is_empty() || self.bytes[index >> 3] >> (index & 7) & 1 != 0
    }
}

/// Where the values of each row lie in what follows: text, bytes, items of a list.
///
/// ```
/// let block = millrace::block::Block::new(1, vec![0, 0, 0, 0, 3, 0, 0, 0], vec![8]);
/// assert_eq!(block.buffers().offsets(1).last(), 3);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Offsets<'a> {
    /// One more than there are rows; the first is 0.
    offsets: &'a [i32],
}

impl Offsets<'_> {
    /// What belongs to row `index`.
    ///
    /// ```
    /// let block = millrace::block::Block::new(1, vec![0, 0, 0, 0, 3, 0, 0, 0], vec![8]);
    /// assert_eq!(block.buffers().offsets(1).range(0), 0..3);
    /// ```
    #[inline(always)]
    pub fn range(&self, index: usize) -> std::ops::Range<usize> {
        let end = self.offsets[index + 1];
        let start = self.offsets[index];
        start as usize..end as usize
    }

    /// How much there is of what follows, over all rows.
    ///
    /// ```
    /// let block = millrace::block::Block::new(0, vec![], vec![0]);
    /// assert_eq!(block.buffers().offsets(0).last(), 0);
    /// ```
    pub fn last(&self) -> usize {
        self.offsets.last().map_or(0, |&last| last as usize)
    }
}

/// Packs buffers into a block.
///
/// ```
/// let mut writer = millrace::block::BlockWriter::with_capacity(64);
/// writer.bytes(b"abc");
/// writer.slice(&[1u32, 2]);
/// let (rows, data, ends) = writer.finish(2).into_parts();
/// assert_eq!((rows, data.len(), ends), (2, 24, vec![3, 24]));
/// ```
#[derive(Debug, Default)]
pub struct BlockWriter {
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl BlockWriter {
    /// A writer with room for that many bytes.
    ///
    /// ```
    /// millrace::block::BlockWriter::with_capacity(1 << 16);
    /// ```
    pub fn with_capacity(bytes: usize) -> Self {
        BlockWriter {
            data: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(16),
        }
    }

    /// Writes a buffer of bytes.
    ///
    /// ```
    /// millrace::block::BlockWriter::default().bytes(b"abc");
    /// ```
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.align();
        self.data.extend_from_slice(bytes);
        self.end();
    }

    /// Writes a buffer of numbers.
    ///
    /// ```
    /// millrace::block::BlockWriter::default().slice(&[1i64, 2]);
    /// ```
    pub fn slice<T: Plain>(&mut self, values: &[T]) {
        self.bytes(bytes_of(values));
    }

    /// Writes a buffer of offsets: 0, then where each row ends.
    ///
    /// ```
    /// let mut writer = millrace::block::BlockWriter::default();
    /// writer.offsets(&[3, 5]);
    /// assert_eq!(writer.finish(2).buffers().offsets(2).range(1), 3..5);
    /// ```
    pub fn offsets(&mut self, ends: &[i32]) {
        self.align();
        self.data.extend_from_slice(&0i32.to_le_bytes());
        self.data.extend_from_slice(bytes_of(ends));
        self.end();
    }

    /// Writes a buffer of bits, one per given byte, each of which is 0 or 1.
    ///
    /// ```
    /// let mut writer = millrace::block::BlockWriter::default();
    /// writer.bits(&[1, 0, 1]);
    /// assert_eq!(writer.finish(3).into_parts().1, [0b101]);
    /// ```
    pub fn bits(&mut self, bits: &[u8]) {
        self.align();
        let (chunks, rest) = bits.as_chunks::<8>();
        self.data.extend(chunks.iter().map(|chunk| pack(*chunk)));
        if !rest.is_empty() {
            let mut chunk = [0; 8];
            chunk[..rest.len()].copy_from_slice(rest);
            self.data.push(pack(chunk));
        }
        self.end();
    }

    /// The block of that many rows.
    ///
    /// ```
    /// assert_eq!(millrace::block::BlockWriter::default().finish(0).rows(), 0);
    /// ```
    pub fn finish(self, rows: usize) -> Block {
        let rows = u32::try_from(rows).expect("a block has fewer than 2^32 rows");
        Block::new(rows, self.data, self.ends)
    }

    fn align(&mut self) {
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
    }

    fn end(&mut self) {
        self.ends
            .push(u32::try_from(self.data.len()).expect("a block has fewer than 2^32 bytes"));
    }
}

/// Eight bytes of 0 or 1 as the bits of one, the first as the lowest.
fn pack(bits: [u8; 8]) -> u8 {
    // Byte i, at bit 8 i, is wanted at bit 56 + i: the factor has the bits 56 - 7 i.
    (u64::from_le_bytes(bits).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// Numbers as the bytes that they are.
fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: `Plain` is sealed to numbers without padding, so all their bytes are initialised; bytes
    // align to 1 and live as long as the values.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misaligned_bytes_are_copied() {
        let mut wide = vec![0u8; 64];
        wide.extend(0..64);
        for start in 0..8 {
            let data: Vec<u8> = wide.clone();
            let (data, offset) = aligned(data.into_iter().skip(start).collect());
            assert!((data[offset..].as_ptr() as usize).is_multiple_of(BASE_ALIGNMENT));
            assert_eq!(data[offset..], wide[start..]);
        }
    }

    #[test]
    fn bits_are_packed_lowest_first() {
        for value in 0..=255u8 {
            let bits = std::array::from_fn(|bit| value >> bit & 1);
            assert_eq!(pack(bits), value);
        }
    }

    #[test]
    #[should_panic(expected = "fewer buffers")]
    fn a_missing_buffer_is_named() {
        Block::new(0, vec![], vec![]).buffers().bytes();
    }

    #[test]
    #[should_panic(expected = "does not hold 2 values of 8 bytes")]
    fn a_short_buffer_is_named() {
        Block::new(2, vec![0; 8], vec![8]).buffers().slice::<i64>(2);
    }

    #[test]
    #[should_panic(expected = "past its 8 bytes")]
    fn an_end_past_the_bytes_is_named() {
        Block::new(2, vec![0; 8], vec![16]).buffers().bytes();
    }
}
