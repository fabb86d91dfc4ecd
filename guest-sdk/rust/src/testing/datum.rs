//! Values whose types are known at run time alone, and the blocks that they come in.
//!
//! The test host needs to look at rows as the real one does: at keys, event times, entries of large states. It takes
//! blocks apart by their schema into [`Datum`]s, row by row, and packs them again. Nothing here is fast.

use crate::bindings::types::{self, DataType};
use crate::block::{Block, BlockWriter, Buffers, Plain};

/// A value of any type that crosses. Their order is that of the entries of large states.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Datum {
    Null,
    Boolean(bool),
    /// Integers, dates, times, timestamps and decimals.
    Integer(i128),
    /// The bits of a number.
    Float(u64),
    /// Text and bytes.
    Bytes(Vec<u8>),
    /// A list, or the entries of a map.
    List(Vec<Datum>),
    Struct(Vec<Datum>),
}

/// Columns by which rows, or anything else, are known.
pub(crate) type Key = Vec<Datum>;

/// A node of a schema with its children.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) field: types::Field,
    pub(crate) children: Vec<Column>,
}

/// Columns of a stream, key or state, from a schema as the contract writes it.
pub(crate) fn columns(schema: &[types::Field]) -> Vec<Column> {
    fn take<'f>(fields: &mut impl Iterator<Item = &'f types::Field>) -> Option<Column> {
        let field = fields.next()?.clone();
        let children = (0..field.children).filter_map(|_| take(fields)).collect();
        Some(Column { field, children })
    }
    let mut fields = schema.iter();
    std::iter::from_fn(|| take(&mut fields)).collect()
}

/// A column that `$time` is.
pub(crate) fn time_column() -> Column {
    let field = types::Field {
        name: "$time".to_owned(),
        data_type: DataType::Int64,
        nullable: false,
        children: 0,
        aliases: Vec::new(),
        when_missing: types::Missing::Undeclared,
        variants: Vec::new(),
    };
    let children = Vec::new();
    Column { field, children }
}

/// The rows of a block, each with a value for each column.
pub(crate) fn read_rows(columns: &[Column], block: &Block) -> Vec<Vec<Datum>> {
    let mut buffers = block.buffers();
    let mut rows = vec![Vec::with_capacity(columns.len()); block.rows()];
    for column in columns {
        for (row, value) in rows.iter_mut().zip(column.read(&mut buffers, block.rows())) {
            row.push(value);
        }
    }
    assert!(buffers.is_empty(), "the block has more columns than it should");
    rows
}

/// A block of rows, each with a value for each column.
pub(crate) fn write_rows<'r>(columns: &[Column], rows: impl IntoIterator<Item = &'r [Datum]>) -> Block {
    let rows: Vec<&[Datum]> = rows.into_iter().collect();
    let mut writer = BlockWriter::default();
    for (index, column) in columns.iter().enumerate() {
        let values: Vec<&Datum> = rows.iter().map(|row| &row[index]).collect();
        column.write(&values, &mut writer);
    }
    writer.finish(rows.len())
}

impl Column {
    /// What stands for a value that has no meaning.
    fn placeholder(&self) -> Datum {
        if self.field.nullable {
            return Datum::Null;
        }
        self.zero()
    }

    /// Zero, false, empty, the first variant.
    pub(crate) fn zero(&self) -> Datum {
        match &self.field.data_type {
            DataType::Boolean => Datum::Boolean(false),
            DataType::Float32 | DataType::Float64 => Datum::Float(0),
            DataType::Utf8 | DataType::Binary => Datum::Bytes(Vec::new()),
            DataType::FixedSizeBinary(bytes) => Datum::Bytes(vec![0; *bytes as usize]),
            DataType::ListOf | DataType::MapOf => Datum::List(Vec::new()),
            DataType::StructOf => Datum::Struct(self.zeros_of_members()),
            _ => Datum::Integer(0),
        }
    }

    /// Of an enum the member of the first variant has a value.
    fn zeros_of_members(&self) -> Vec<Datum> {
        let first = self.variants().and_then(|variants| variants.first());
        let zero = |child: &Column| match first {
            Some(first) if child.field.name == first.name => child.zero(),
            _ => child.placeholder(),
        };
        self.children.iter().map(zero).collect()
    }

    /// The variants, if it is an enum.
    pub(crate) fn variants(&self) -> Option<&[types::VariantName]> {
        let tag = self.children.first()?;
        (!tag.field.variants.is_empty()).then_some(tag.field.variants.as_slice())
    }

    pub(crate) fn read(&self, buffers: &mut Buffers<'_>, rows: usize) -> Vec<Datum> {
        let validity = self.field.nullable.then(|| buffers.validity(rows));
        let mut values = self.read_values(buffers, rows);
        if let Some(validity) = validity {
            for (row, value) in values.iter_mut().enumerate() {
                if !validity.is_valid(row) {
                    *value = Datum::Null;
                }
            }
        }
        values
    }

    fn read_values(&self, buffers: &mut Buffers<'_>, rows: usize) -> Vec<Datum> {
        match &self.field.data_type {
            DataType::Boolean => {
                let bits = buffers.bits(rows);
                (0..rows).map(|row| Datum::Boolean(bits.get(row))).collect()
            }
            DataType::Int8 => integers::<i8>(buffers, rows),
            DataType::Int16 => integers::<i16>(buffers, rows),
            DataType::Int32 | DataType::Date32 => integers::<i32>(buffers, rows),
            DataType::Int64 | DataType::Time64 | DataType::Timestamp(_) => integers::<i64>(buffers, rows),
            DataType::Uint8 => integers::<u8>(buffers, rows),
            DataType::Uint16 => integers::<u16>(buffers, rows),
            DataType::Uint32 => integers::<u32>(buffers, rows),
            DataType::Uint64 => integers::<u64>(buffers, rows),
            DataType::Float32 => {
                let values = buffers.slice::<f32>(rows).iter();
                values.map(|value| Datum::Float(u64::from(value.to_bits()))).collect()
            }
            DataType::Float64 => {
                let values = buffers.slice::<f64>(rows).iter();
                values.map(|value| Datum::Float(value.to_bits())).collect()
            }
            DataType::Decimal128(_) => {
                let values = buffers.arrays::<16>(rows).iter();
                values
                    .map(|bytes| Datum::Integer(i128::from_le_bytes(*bytes)))
                    .collect()
            }
            DataType::FixedSizeBinary(width) => {
                let values = buffers.bytes().chunks_exact(*width as usize);
                values.map(|bytes| Datum::Bytes(bytes.to_vec())).collect()
            }
            DataType::Utf8 | DataType::Binary => {
                let (offsets, bytes) = (buffers.offsets(rows), buffers.bytes());
                (0..rows)
                    .map(|row| Datum::Bytes(bytes[offsets.range(row)].to_vec()))
                    .collect()
            }
            DataType::ListOf | DataType::MapOf => {
                let offsets = buffers.offsets(rows);
                let items = self.children[0].read(buffers, offsets.last());
                (0..rows)
                    .map(|row| Datum::List(items[offsets.range(row)].to_vec()))
                    .collect()
            }
            DataType::StructOf => {
                let mut values = vec![Vec::with_capacity(self.children.len()); rows];
                for child in &self.children {
                    for (value, member) in values.iter_mut().zip(child.read(buffers, rows)) {
                        value.push(member);
                    }
                }
                values.into_iter().map(Datum::Struct).collect()
            }
        }
    }

    pub(crate) fn write(&self, values: &[&Datum], writer: &mut BlockWriter) {
        if self.field.nullable {
            let valid: Vec<u8> = values.iter().map(|value| u8::from(**value != Datum::Null)).collect();
            if valid.contains(&0) {
                writer.bits(&valid);
            } else {
                writer.bytes(&[]);
            }
        }
        let zero = self.zero();
        let present = |value: &&'_ Datum| **value != Datum::Null;
        let values: Vec<&Datum> = values
            .iter()
            .map(|value| if present(value) { *value } else { &zero })
            .collect();
        self.write_values(&values, writer);
    }

    fn write_values(&self, values: &[&Datum], writer: &mut BlockWriter) {
        match &self.field.data_type {
            DataType::Boolean => {
                let bits: Vec<u8> = values.iter().map(|value| u8::from(value.boolean())).collect();
                writer.bits(&bits);
            }
            DataType::Int8 | DataType::Uint8 => writer.slice(&truncated(values, |value| value as u8)),
            DataType::Int16 | DataType::Uint16 => writer.slice(&truncated(values, |value| value as u16)),
            DataType::Int32 | DataType::Uint32 | DataType::Date32 => {
                writer.slice(&truncated(values, |value| value as u32));
            }
            DataType::Int64 | DataType::Uint64 | DataType::Time64 | DataType::Timestamp(_) => {
                writer.slice(&truncated(values, |value| value as u64));
            }
            DataType::Float32 => writer.slice(&truncated(values, |value| value as u32)),
            DataType::Float64 => writer.slice(&truncated(values, |value| value as u64)),
            DataType::Decimal128(_) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.integer().to_le_bytes()).collect();
                writer.bytes(&bytes);
            }
            DataType::FixedSizeBinary(_) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes()).copied().collect();
                writer.bytes(&bytes);
            }
            DataType::Utf8 | DataType::Binary => {
                writer.offsets(&ends(values.iter().map(|value| value.bytes().len())));
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.bytes()).copied().collect();
                writer.bytes(&bytes);
            }
            DataType::ListOf | DataType::MapOf => {
                writer.offsets(&ends(values.iter().map(|value| value.items().len())));
                let items: Vec<&Datum> = values.iter().flat_map(|value| value.items()).collect();
                self.children[0].write(&items, writer);
            }
            DataType::StructOf => {
                for (index, child) in self.children.iter().enumerate() {
                    let members: Vec<&Datum> = values.iter().map(|value| &value.items()[index]).collect();
                    child.write(&members, writer);
                }
            }
        }
    }
}

fn integers<T: Plain + Into<i128>>(buffers: &mut Buffers<'_>, rows: usize) -> Vec<Datum> {
    let values = buffers.slice::<T>(rows).iter();
    values.map(|value| Datum::Integer((*value).into())).collect()
}

fn truncated<T>(values: &[&Datum], cut: impl Fn(i128) -> T) -> Vec<T> {
    values.iter().map(|value| cut(value.integer())).collect()
}

fn ends(lengths: impl Iterator<Item = usize>) -> Vec<i32> {
    let mut end = 0;
    let sum = |length: usize| {
        end += length as i32;
        end
    };
    lengths.map(sum).collect()
}

impl Datum {
    fn boolean(&self) -> bool {
        matches!(self, Datum::Boolean(true))
    }

    /// A number, or the bits of one.
    pub(crate) fn integer(&self) -> i128 {
        match self {
            Datum::Integer(value) => *value,
            Datum::Float(bits) => i128::from(*bits),
            other => panic!("{other:?} is no number"),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Datum::Bytes(bytes) => bytes,
            other => panic!("{other:?} is no text and no bytes"),
        }
    }

    /// Items of a list, entries of a map, members of a struct.
    pub(crate) fn items(&self) -> &[Datum] {
        match self {
            Datum::List(items) | Datum::Struct(items) => items,
            other => panic!("{other:?} has no items"),
        }
    }

    /// Spreads keys over subtasks: some hash, not the host's.
    pub(crate) fn hash(&self, hash: &mut u64) {
        let mut mix = |value: u64| *hash = (*hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        match self {
            Datum::Null => mix(1),
            Datum::Boolean(value) => mix(u64::from(*value) + 2),
            Datum::Integer(value) => mix(*value as u64),
            Datum::Float(bits) => mix(*bits),
            Datum::Bytes(bytes) => bytes.iter().for_each(|byte| mix(u64::from(*byte))),
            Datum::List(items) | Datum::Struct(items) => items.iter().for_each(|item| item.hash(hash)),
        }
    }
}

/// Names and types, for people.
pub(crate) fn show_types(columns: &[Column]) -> String {
    let show = |column: &Column| {
        let field = &column.field;
        let (name, optional) = (&field.name, if field.nullable { "?" } else { "" });
        match column.children.is_empty() {
            true => {
                let data_type = format!("{:?}", field.data_type);
                format!("{name}: {}{optional}", data_type.replace("DataType::", ""))
            }
            false => format!("{name}{optional}: {}", show_types(&column.children)),
        }
    };
    let fields: Vec<String> = columns.iter().map(show).collect();
    format!("{{ {} }}", fields.join(", "))
}

/// A row as people read it.
pub(crate) fn show(columns: &[Column], row: &[Datum]) -> String {
    let field = |(column, value): (&Column, &Datum)| format!("{}: {}", column.field.name, column.show(value));
    let fields: Vec<String> = columns.iter().zip(row).map(field).collect();
    format!("{{ {} }}", fields.join(", "))
}

impl Column {
    pub(crate) fn show(&self, value: &Datum) -> String {
        match (value, &self.field.data_type) {
            (Datum::Null, _) => "null".to_owned(),
            (Datum::Boolean(value), _) => value.to_string(),
            (Datum::Integer(value), _) => value.to_string(),
            (Datum::Float(bits), DataType::Float32) => f32::from_bits(*bits as u32).to_string(),
            (Datum::Float(bits), _) => f64::from_bits(*bits).to_string(),
            (Datum::Bytes(bytes), DataType::Utf8) => format!("{:?}", String::from_utf8_lossy(bytes)),
            (Datum::Bytes(bytes), _) => format!("{bytes:?}"),
            (Datum::List(items), _) => {
                let items: Vec<String> = items.iter().map(|item| self.children[0].show(item)).collect();
                format!("[{}]", items.join(", "))
            }
            (Datum::Struct(members), _) => show(&self.children, members),
        }
    }
}
