//! Arrays by a [`Conversion`].
//!
//! Under a null, and between the items of lists, arrays hold anything. What is not live there is converted like the
//! rest where that cannot fail, and never refused.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int8Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int8Array, ListArray, MapArray, Scalar, StructArray, new_null_array};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, OffsetBuffer};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field};
use arrow_select::zip::zip;
use millrace_core::schema::{Conversion, Declared, Member, TagTo};

use super::constant::{constant, one};

/// A value that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    /// Path of its field.
    pub(super) field: String,
    /// What is the matter.
    pub(super) why: String,
}

impl Unfit {
    fn new(why: impl ToString) -> Self {
        Unfit {
            field: String::new(),
            why: why.to_string(),
        }
    }

    fn within(mut self, name: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => name.to_owned(),
            inner => format!("{name}.{inner}"),
        };
        self
    }
}

impl From<ArrowError> for Unfit {
    fn from(error: ArrowError) -> Self {
        Unfit::new(error)
    }
}

/// Values in the type of `new`. `live`: which of them count; all if `None`.
pub(super) fn convert(
    values: &ArrayRef,
    how: &Conversion,
    new: &Declared,
    live: Option<&NullBuffer>,
) -> Result<ArrayRef, Unfit> {
    let live = NullBuffer::union(live, values.nulls());
    match how {
        Conversion::Same => Ok(values.clone()),
        Conversion::Cast | Conversion::CheckedCast => cast(values, new.field.data_type(), live.as_ref()),
        Conversion::Struct(members) => {
            let stored = values.as_struct();
            let columns = convert_members(stored, members, &new.children(), live.as_ref())?;
            structure(new, columns, stored.nulls())
        }
        Conversion::Sum { tags, members } => {
            let stored = values.as_struct();
            let declared = new.children();
            let mut columns: Vec<ArrayRef> = vec![convert_tags(stored, tags, live.as_ref())?];
            columns.extend(convert_members(stored, members, &declared[1..], live.as_ref())?);
            structure(new, columns, stored.nulls())
        }
        Conversion::List(item) => {
            let lists = values.as_list::<i32>();
            let declared = &new.children()[0];
            let items = lists.values();
            let live = live_items(lists.offsets(), live.as_ref(), items.len());
            let items = convert_member(std::slice::from_ref(items), items.len(), item, declared, Some(&live))?;
            let nulls = lists.nulls().cloned();
            let lists = ListArray::try_new(declared.field.clone(), lists.offsets().clone(), items, nulls)?;
            Ok(Arc::new(lists))
        }
        Conversion::Map(key, value) => {
            let maps = values.as_map();
            let entries = &new.children()[0];
            let rows = maps.entries().len();
            let live = live_items(maps.offsets(), live.as_ref(), rows);
            let pairs = maps.entries().columns();
            let mut columns = Vec::new();
            for (member, declared) in [key, value].into_iter().zip(entries.children()) {
                let column = convert_member(pairs, rows, member, &declared, Some(&live));
                columns.push(column.map_err(|unfit| unfit.within(declared.field.name()))?);
            }
            let pairs = StructArray::try_new(members_of(&entries.field), columns, None)?;
            let (offsets, nulls) = (maps.offsets().clone(), maps.nulls().cloned());
            let maps = MapArray::try_new(entries.field.clone(), offsets, pairs, nulls, false)?;
            Ok(Arc::new(maps))
        }
    }
}

fn cast(values: &ArrayRef, to: &DataType, live: Option<&NullBuffer>) -> Result<ArrayRef, Unfit> {
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    match cast_with_options(values, to, &strict) {
        Ok(converted) => Ok(converted),
        // What does not fit may be something that does not count.
        Err(error) => {
            let converted = cast_with_options(values, to, &CastOptions::default())?;
            let counts = |row| live.is_none_or(|live| live.is_valid(row));
            match (0..values.len()).any(|row| counts(row) && values.is_valid(row) && converted.is_null(row)) {
                true => Err(Unfit::new(format!("a value does not fit its new type: {error}"))),
                false => Ok(converted),
            }
        }
    }
}

fn convert_members(
    stored: &StructArray,
    members: &[Member],
    declared: &[Declared],
    live: Option<&NullBuffer>,
) -> Result<Vec<ArrayRef>, Unfit> {
    let members = members.iter().zip(declared);
    let columns = members.map(|(member, declared)| {
        let column = convert_member(stored.columns(), stored.len(), member, declared, live);
        column.map_err(|unfit| unfit.within(declared.field.name()))
    });
    columns.collect()
}

fn convert_member(
    stored: &[ArrayRef],
    rows: usize,
    member: &Member,
    declared: &Declared,
    live: Option<&NullBuffer>,
) -> Result<ArrayRef, Unfit> {
    match member {
        Member::Null => Ok(new_null_array(declared.field.data_type(), rows)),
        Member::Default(missing) => constant(declared, missing, rows).map_err(Unfit::new),
        Member::From {
            index,
            conversion,
            nulls,
        } => {
            let values = convert(&stored[*index], conversion, declared, live)?;
            match (nulls, values.nulls()) {
                (Some(missing), Some(present)) => {
                    let present = BooleanArray::new(present.inner().clone(), None);
                    let instead = Scalar::new(one(declared, missing).map_err(Unfit::new)?);
                    Ok(zip(&present, &values, &instead)?)
                }
                (Some(_) | None, _) => Ok(values),
            }
        }
    }
}

fn convert_tags(stored: &StructArray, tags: &[TagTo], live: Option<&NullBuffer>) -> Result<ArrayRef, Unfit> {
    let old = stored.column(0).as_primitive::<Int8Type>();
    let mut new = Vec::with_capacity(old.len());
    for (row, tag) in old.values().iter().enumerate() {
        if live.is_some_and(|live| live.is_null(row)) {
            new.push(0);
            continue;
        }
        match usize::try_from(*tag).ok().and_then(|tag| tags.get(tag)) {
            Some(TagTo::Tag(tag)) => new.push(*tag),
            Some(TagTo::Refused(why)) => return Err(Unfit::new(format!("a value cannot be converted: {why}"))),
            None => return Err(Unfit::new(format!("a value has tag {tag}, which is of no variant"))),
        }
    }
    Ok(Arc::new(Int8Array::from(new)))
}

fn structure(new: &Declared, columns: Vec<ArrayRef>, nulls: Option<&NullBuffer>) -> Result<ArrayRef, Unfit> {
    let array = StructArray::try_new(members_of(&new.field), columns, nulls.cloned())?;
    Ok(Arc::new(array))
}

fn members_of(field: &Field) -> arrow_schema::Fields {
    match field.data_type() {
        DataType::Struct(members) => members.clone(),
        _ => arrow_schema::Fields::empty(),
    }
}

/// Items of lists that count: those of lists that do.
fn live_items(offsets: &OffsetBuffer<i32>, live: Option<&NullBuffer>, items: usize) -> NullBuffer {
    let mut counts = BooleanBufferBuilder::new(items);
    counts.append_n(items, false);
    for (row, span) in offsets.windows(2).enumerate() {
        if live.is_none_or(|live| live.is_valid(row)) {
            (span[0]..span[1]).for_each(|item| counts.set_bit(item as usize, true));
        }
    }
    NullBuffer::new(counts.finish())
}
