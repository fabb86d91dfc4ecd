//! Guest to host: bytes into Arrow arrays, after checking them.

use std::fmt;
use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, MapArray, PrimitiveArray,
    RecordBatch, RecordBatchOptions, StringArray, StructArray,
};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Fields, SchemaRef, TimeUnit};
use millrace_core::block::{Block, Millis};

use super::{ALIGNMENT, Wire, next_start};

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Column, with its parents: `items.item.price`; `block` for the block as a whole.
    pub column: String,
    /// What is wrong, as a sentence part: "offsets are not ascending at row 3".
    pub problem: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.column == BLOCK {
            return write!(f, "malformed block: {}", self.problem);
        }
        write!(f, "malformed block: column `{}`: {}", self.column, self.problem)
    }
}

const BLOCK: &str = "block";

/// Reads a block of `schema`, then `$time` if `with_time`, then key columns of `key_schema`.
pub fn decode(
    wire: Wire,
    schema: &SchemaRef,
    with_time: bool,
    key_schema: Option<&SchemaRef>,
    bytes_max: usize,
) -> Result<Block, Malformed> {
    let mut reader = Reader::new(wire, bytes_max)?;
    let rows = reader.rows;
    let columns = reader.columns(schema.fields(), rows)?;
    let times = if with_time {
        Some(reader.values::<Millis>(rows, "$time")?)
    } else {
        None
    };
    let keys = match key_schema {
        Some(key_schema) => Some(Arc::from(reader.columns(key_schema.fields(), rows)?)),
        None => None,
    };
    reader.finish()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| malformed(BLOCK, error.to_string()))?;
    Ok(Block { rows, times, keys })
}

/// Reads columns without system columns.
pub fn decode_columns(wire: Wire, fields: &Fields, bytes_max: usize) -> Result<Vec<ArrayRef>, Malformed> {
    let mut reader = Reader::new(wire, bytes_max)?;
    let rows = reader.rows;
    let columns = reader.columns(fields, rows)?;
    reader.finish()?;
    Ok(columns)
}

fn malformed(column: &str, problem: impl Into<String>) -> Malformed {
    Malformed {
        column: column.to_owned(),
        problem: problem.into(),
    }
}

struct Reader {
    data: Buffer,
    ends: Vec<u32>,
    next: usize,
    rows: usize,
}

impl Reader {
    fn new(wire: Wire, bytes_max: usize) -> Result<Self, Malformed> {
        let bytes = wire.data.len();
        if bytes > bytes_max {
            return Err(malformed(
                BLOCK,
                format!("{bytes} bytes are over the limit of {bytes_max}"),
            ));
        }
        let mut start = 0;
        for (index, end) in wire.ends.iter().enumerate() {
            let end = *end as usize;
            // An empty last buffer may end before its aligned start; it then ends where its predecessor ends.
            let empty = index > 0 && end == wire.ends[index - 1] as usize;
            if (end < start && !empty) || end > bytes {
                return Err(malformed(
                    BLOCK,
                    format!("buffer {index} ends at {end}, outside {start}..{bytes}"),
                ));
            }
            start = next_start(end);
        }
        Ok(Reader {
            data: aligned(wire.data),
            ends: wire.ends,
            next: 0,
            rows: wire.rows as usize,
        })
    }

    fn finish(&self) -> Result<(), Malformed> {
        let (end, bytes) = (self.ends.last().copied().unwrap_or_default() as usize, self.data.len());
        if self.next == self.ends.len() && end != bytes {
            return Err(malformed(
                BLOCK,
                format!("its buffers end at {end}, its data at {bytes}"),
            ));
        }
        if self.next == self.ends.len() {
            return Ok(());
        }
        Err(malformed(
            BLOCK,
            format!("it has {} buffers, but its schema has {}", self.ends.len(), self.next),
        ))
    }

    /// The next buffer, as a view of the one allocation.
    fn buffer(&mut self, column: &str) -> Result<Buffer, Malformed> {
        let Some(&end) = self.ends.get(self.next) else {
            return Err(malformed(
                column,
                format!("the block ends after {} buffers", self.ends.len()),
            ));
        };
        let start = if self.next == 0 {
            0
        } else {
            next_start(self.ends[self.next - 1] as usize)
        };
        self.next += 1;
        let end = end as usize;
        Ok(if end <= start {
            Buffer::default()
        } else {
            self.data.slice_with_length(start, end - start)
        })
    }

    fn values<T: ArrowNativeType>(&mut self, rows: usize, column: &str) -> Result<ScalarBuffer<T>, Malformed> {
        let buffer = self.buffer(column)?;
        let expected = rows * size_of::<T>();
        if buffer.len() != expected {
            return Err(malformed(
                column,
                format!("{rows} values take {expected} bytes, not {}", buffer.len()),
            ));
        }
        if expected == 0 {
            return Ok(ScalarBuffer::from(Vec::new()));
        }
        Ok(ScalarBuffer::new(buffer, 0, rows))
    }

    fn bitmap(&mut self, rows: usize, column: &str) -> Result<BooleanBuffer, Malformed> {
        let buffer = self.buffer(column)?;
        let expected = rows.div_ceil(8);
        if buffer.len() != expected {
            return Err(malformed(
                column,
                format!("a bitmap of {rows} takes {expected} bytes, not {}", buffer.len()),
            ));
        }
        Ok(BooleanBuffer::new(buffer, 0, rows))
    }

    fn validity(&mut self, field: &Field, rows: usize, column: &str) -> Result<Option<NullBuffer>, Malformed> {
        if !field.is_nullable() {
            return Ok(None);
        }
        let empty = match self.ends.get(self.next) {
            Some(&end) => {
                let start = if self.next == 0 {
                    0
                } else {
                    next_start(self.ends[self.next - 1] as usize)
                };
                end as usize <= start
            }
            None => false,
        };
        if empty {
            self.next += 1;
            return Ok(None);
        }
        Ok(Some(NullBuffer::new(self.bitmap(rows, column)?)))
    }

    fn columns(&mut self, fields: &Fields, rows: usize) -> Result<Vec<ArrayRef>, Malformed> {
        fields
            .iter()
            .map(|field| self.column(field, rows, field.name()))
            .collect()
    }

    fn column(&mut self, field: &Field, rows: usize, path: &str) -> Result<ArrayRef, Malformed> {
        let nulls = self.validity(field, rows, path)?;
        Ok(match field.data_type() {
            DataType::Boolean => Arc::new(BooleanArray::new(self.bitmap(rows, path)?, nulls)),
            DataType::Int8 => self.primitive::<Int8Type>(field, rows, nulls, path)?,
            DataType::Int16 => self.primitive::<Int16Type>(field, rows, nulls, path)?,
            DataType::Int32 => self.primitive::<Int32Type>(field, rows, nulls, path)?,
            DataType::Int64 => self.primitive::<Int64Type>(field, rows, nulls, path)?,
            DataType::UInt8 => self.primitive::<UInt8Type>(field, rows, nulls, path)?,
            DataType::UInt16 => self.primitive::<UInt16Type>(field, rows, nulls, path)?,
            DataType::UInt32 => self.primitive::<UInt32Type>(field, rows, nulls, path)?,
            DataType::UInt64 => self.primitive::<UInt64Type>(field, rows, nulls, path)?,
            DataType::Float32 => self.primitive::<Float32Type>(field, rows, nulls, path)?,
            DataType::Float64 => self.primitive::<Float64Type>(field, rows, nulls, path)?,
            DataType::Date32 => self.primitive::<Date32Type>(field, rows, nulls, path)?,
            DataType::Time64(_) => self.primitive::<Time64MicrosecondType>(field, rows, nulls, path)?,
            DataType::Decimal128(_, _) => self.primitive::<Decimal128Type>(field, rows, nulls, path)?,
            DataType::Timestamp(unit, _) => match unit {
                TimeUnit::Second => self.primitive::<TimestampSecondType>(field, rows, nulls, path)?,
                TimeUnit::Millisecond => self.primitive::<TimestampMillisecondType>(field, rows, nulls, path)?,
                TimeUnit::Microsecond => self.primitive::<TimestampMicrosecondType>(field, rows, nulls, path)?,
                TimeUnit::Nanosecond => self.primitive::<TimestampNanosecondType>(field, rows, nulls, path)?,
            },
            DataType::FixedSizeBinary(width) => self.fixed_size_binary(*width, rows, nulls, path)?,
            DataType::Utf8 => {
                let (offsets, data) = self.bytes(rows, path)?;
                let array = StringArray::try_new(offsets, data, nulls)
                    .map_err(|error| malformed(path, format!("it is not UTF-8: {error}")))?;
                Arc::new(array)
            }
            DataType::Binary => {
                let (offsets, data) = self.bytes(rows, path)?;
                Arc::new(
                    BinaryArray::try_new(offsets, data, nulls).map_err(|error| malformed(path, error.to_string()))?,
                )
            }
            DataType::List(item) => {
                let offsets = self.offsets(rows, path)?;
                let values = self.column(item, last(&offsets), &format!("{path}.{}", item.name()))?;
                let array = ListArray::try_new(item.clone(), offsets, values, nulls);
                Arc::new(array.map_err(|error| malformed(path, error.to_string()))?)
            }
            DataType::Struct(fields) => Arc::new(self.structure(fields, rows, nulls, path)?),
            DataType::Map(entries, sorted) => {
                let offsets = self.offsets(rows, path)?;
                let DataType::Struct(members) = entries.data_type() else {
                    return Err(malformed(path, "the entries of a map are a struct"));
                };
                let values = self.structure(members, last(&offsets), None, path)?;
                let array = MapArray::try_new(entries.clone(), offsets, values, nulls, *sorted);
                Arc::new(array.map_err(|error| malformed(path, error.to_string()))?)
            }
            other => return Err(malformed(path, format!("type {other} does not cross"))),
        })
    }

    fn primitive<T: ArrowPrimitiveType>(
        &mut self,
        field: &Field,
        rows: usize,
        nulls: Option<NullBuffer>,
        path: &str,
    ) -> Result<ArrayRef, Malformed> {
        let values = self.values::<T::Native>(rows, path)?;
        Ok(Arc::new(
            PrimitiveArray::<T>::new(values, nulls).with_data_type(field.data_type().clone()),
        ))
    }

    fn fixed_size_binary(
        &mut self,
        width: i32,
        rows: usize,
        nulls: Option<NullBuffer>,
        path: &str,
    ) -> Result<ArrayRef, Malformed> {
        let buffer = self.buffer(path)?;
        let expected = rows * width as usize;
        if buffer.len() != expected {
            return Err(malformed(
                path,
                format!("{rows} values take {expected} bytes, not {}", buffer.len()),
            ));
        }
        let array = FixedSizeBinaryArray::try_new(width, buffer, nulls);
        Ok(Arc::new(array.map_err(|error| malformed(path, error.to_string()))?))
    }

    fn structure(
        &mut self,
        fields: &Fields,
        rows: usize,
        nulls: Option<NullBuffer>,
        path: &str,
    ) -> Result<StructArray, Malformed> {
        let mut children = Vec::with_capacity(fields.len());
        for field in fields {
            children.push(self.column(field, rows, &format!("{path}.{}", field.name()))?);
        }
        if fields.is_empty() {
            return Ok(StructArray::new_empty_fields(rows, nulls));
        }
        StructArray::try_new(fields.clone(), children, nulls).map_err(|error| malformed(path, error.to_string()))
    }

    fn bytes(&mut self, rows: usize, path: &str) -> Result<(OffsetBuffer<i32>, Buffer), Malformed> {
        let offsets = self.offsets(rows, path)?;
        let data = self.buffer(path)?;
        if data.len() != last(&offsets) {
            let problem = format!("offsets end at {}, but there are {} bytes", last(&offsets), data.len());
            return Err(malformed(path, problem));
        }
        Ok((offsets, data))
    }

    fn offsets(&mut self, rows: usize, path: &str) -> Result<OffsetBuffer<i32>, Malformed> {
        let buffer = self.buffer(path)?;
        if rows == 0 && buffer.is_empty() {
            return Ok(OffsetBuffer::new_empty());
        }
        let expected = (rows + 1) * 4;
        if buffer.len() != expected {
            return Err(malformed(
                path,
                format!("{rows} rows have {expected} bytes of offsets, not {}", buffer.len()),
            ));
        }
        let offsets = ScalarBuffer::<i32>::new(buffer, 0, rows + 1);
        check_offsets(&offsets, path)?;
        // SAFETY: `check_offsets` has just proved what `OffsetBuffer::new` would check again: there is at
        // least one offset, the first is 0, and they ascend.
        Ok(unsafe { OffsetBuffer::new_unchecked(offsets) })
    }
}

/// First 0, then never less than the one before (so none is negative).
fn check_offsets(offsets: &[i32], path: &str) -> Result<(), Malformed> {
    if offsets[0] != 0 {
        return Err(malformed(path, format!("the first offset is {}, not 0", offsets[0])));
    }
    // Without an early exit the loop is one vector pass.
    let ascending = offsets
        .windows(2)
        .fold(true, |ascending, pair| ascending & (pair[0] <= pair[1]));
    if ascending {
        return Ok(());
    }
    let row = offsets
        .windows(2)
        .position(|pair| pair[0] > pair[1])
        .unwrap_or_default();
    Err(malformed(path, format!("offsets are not ascending at row {row}")))
}

fn last(offsets: &OffsetBuffer<i32>) -> usize {
    offsets[offsets.len() - 1] as usize
}

/// The lifted bytes without a copy; allocators align well enough for any value, but do not promise it.
fn aligned(data: Vec<u8>) -> Buffer {
    if data.as_ptr().addr().is_multiple_of(ALIGNMENT) {
        return Buffer::from_vec(data);
    }
    let mut copy = MutableBuffer::with_capacity(data.len());
    copy.extend_from_slice(&data);
    copy.into()
}
