//! Host to guest: Arrow columns into one buffer.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_data::ArrayData;
use arrow_schema::{DataType, Fields};
use millrace_core::block::{Block, Millis};

use super::{Wire, next_start};

/// Writes a block: its columns, then `$time` if asked for. `wire` is cleared and reused.
pub fn encode(block: &Block, with_time: bool, wire: &mut Wire) {
    let schema = block.rows.schema_ref();
    let times = if with_time {
        Some(
            block
                .times
                .as_deref()
                .expect("the planner asks for time only where blocks carry it"),
        )
    } else {
        None
    };
    encode_columns(block.rows.columns(), schema.fields(), block.row_count(), times, wire);
}

/// Writes columns of `fields`, then `$time`.
pub fn encode_columns(columns: &[ArrayRef], fields: &Fields, rows: usize, times: Option<&[Millis]>, wire: &mut Wire) {
    wire.rows = u32::try_from(rows).expect("blocks have some thousand rows");
    wire.data.clear();
    wire.ends.clear();
    let mut writer = Writer { wire };
    for (column, field) in columns.iter().zip(fields) {
        writer.column(column.as_ref(), field.is_nullable());
    }
    if let Some(times) = times {
        writer.buffer(bytes_of(times));
    }
}

/// The bytes of numbers in memory order; the host is little-endian (checked at compile time below).
fn bytes_of(values: &[i64]) -> &[u8] {
    // SAFETY: i64 has no padding and any byte is a valid u8; the length is the same memory in bytes.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), std::mem::size_of_val(values)) }
}

const _: () = assert!(
    cfg!(target_endian = "little"),
    "blocks are little-endian; a big-endian host must swap"
);

struct Writer<'a> {
    wire: &'a mut Wire,
}

impl Writer<'_> {
    fn buffer(&mut self, bytes: &[u8]) {
        let start = next_start(self.wire.data.len());
        self.wire.data.resize(start, 0);
        self.wire.data.extend_from_slice(bytes);
        self.end();
    }

    fn end(&mut self) {
        let end = u32::try_from(self.wire.data.len()).expect("blocks are far smaller than 4 GiB");
        self.wire.ends.push(end);
    }

    fn bitmap(&mut self, bits: &BooleanBuffer) {
        if bits.offset().is_multiple_of(8) {
            let start = bits.offset() / 8;
            self.buffer(&bits.values()[start..start + bits.len().div_ceil(8)]);
        } else {
            self.buffer(bits.sliced().as_slice());
        }
    }

    fn validity(&mut self, nulls: Option<&NullBuffer>, nullable: bool) {
        if !nullable {
            return;
        }
        match nulls {
            Some(nulls) if nulls.null_count() > 0 => self.bitmap(nulls.inner()),
            _ => self.buffer(&[]),
        }
    }

    fn column(&mut self, array: &dyn Array, nullable: bool) {
        self.validity(array.nulls(), nullable);
        match array.data_type() {
            DataType::Boolean => self.bitmap(array.as_boolean().values()),
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                self.offsets_and(array.value_offsets(), array.value_data());
            }
            DataType::Binary => {
                let array = array.as_binary::<i32>();
                self.offsets_and(array.value_offsets(), array.value_data());
            }
            DataType::List(field) => {
                let array = array.as_list::<i32>();
                let offsets = array.value_offsets();
                self.offsets(offsets);
                let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
                self.column(array.values().slice(first, last - first).as_ref(), field.is_nullable());
            }
            DataType::Map(_, _) => {
                let array = array.as_map();
                let offsets = array.value_offsets();
                self.offsets(offsets);
                let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
                let entries = array.entries().slice(first, last - first);
                self.column(&entries, false);
            }
            DataType::Struct(fields) => {
                let array = array.as_struct();
                for (child, field) in array.columns().iter().zip(fields) {
                    self.column(child.as_ref(), field.is_nullable());
                }
            }
            _ => self.fixed_width(&array.to_data()),
        }
    }

    fn fixed_width(&mut self, data: &ArrayData) {
        let width = match data.data_type() {
            DataType::FixedSizeBinary(width) => *width as usize,
            other => other
                .primitive_width()
                .expect("the planner admits only the types of the contract"),
        };
        let start = data.offset() * width;
        self.buffer(&data.buffers()[0].as_slice()[start..start + data.len() * width]);
    }

    fn offsets_and(&mut self, offsets: &[i32], data: &[u8]) {
        self.offsets(offsets);
        let (first, last) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
        self.buffer(&data[first..last]);
    }

    /// Offsets, moved so that the first is 0.
    fn offsets(&mut self, offsets: &[i32]) {
        let first = offsets[0];
        let start = next_start(self.wire.data.len());
        self.wire.data.resize(start, 0);
        self.wire.data.reserve(offsets.len() * 4);
        for offset in offsets {
            self.wire.data.extend_from_slice(&(offset - first).to_le_bytes());
        }
        self.end();
    }
}
