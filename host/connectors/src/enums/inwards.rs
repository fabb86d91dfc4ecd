//! Names to numbers, with what is wrong about them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int8Array, ListArray, MapArray, StringArray, StructArray};
use arrow_schema::{ArrowError, DataType, Fields};

use super::form::Form;
use super::{BadRows, rows_of_items};

/// The values as blocks have them, of type `to`. `rows` says of each value which row it is in; what is wrong is noted
/// in `bad` once for each row, and stands as the first variant in the result.
pub(super) fn numbered(
    array: &ArrayRef,
    to: &DataType,
    form: &Form,
    path: &str,
    rows: &[u32],
    bad: &mut BadRows,
) -> Result<ArrayRef, ArrowError> {
    match (form, to) {
        (Form::Text(names), DataType::Struct(fields)) => {
            let tags = tags(array.as_string(), names, path, rows, bad);
            let nulls = array.nulls().cloned();
            Ok(Arc::new(StructArray::try_new(
                fields.clone(),
                vec![Arc::new(tags)],
                nulls,
            )?))
        }
        (Form::Sum { .. }, DataType::Struct(fields)) => sum(array.as_struct(), fields, form, path, rows, bad),
        (Form::Struct(forms), DataType::Struct(fields)) => {
            let values = array.as_struct();
            let mut columns = Vec::with_capacity(fields.len());
            for ((form, column), field) in forms.iter().zip(values.columns()).zip(fields) {
                let path = format!("{path}.{}", field.name());
                columns.push(numbered(column, field.data_type(), form, &path, rows, bad)?);
            }
            let (nulls, length) = (values.nulls().cloned(), values.len());
            Ok(Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                nulls,
                length,
            )?))
        }
        (Form::List(form), DataType::List(item)) => {
            let values = array.as_list::<i32>();
            let owners = rows_of_items(values, values.value_offsets(), rows);
            let items = numbered(values.values(), item.data_type(), form, path, &owners, bad)?;
            let (offsets, nulls) = (values.offsets().clone(), values.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(item.clone(), offsets, items, nulls)?))
        }
        (Form::Map(forms), DataType::Map(entries, sorted)) => {
            let values = array.as_map();
            let owners = rows_of_items(values, values.value_offsets(), rows);
            let items: ArrayRef = Arc::new(values.entries().clone());
            let form = Form::Struct(forms.to_vec());
            let items = numbered(&items, entries.data_type(), &form, path, &owners, bad)?;
            let (offsets, nulls) = (values.offsets().clone(), values.nulls().cloned());
            let items = items.as_struct().clone();
            Ok(Arc::new(MapArray::try_new(
                entries.clone(),
                offsets,
                items,
                nulls,
                *sorted,
            )?))
        }
        (_, _) => Ok(array.clone()),
    }
}

fn tags(texts: &StringArray, names: &[String], path: &str, rows: &[u32], bad: &mut BadRows) -> Int8Array {
    let mut tags = Vec::with_capacity(texts.len());
    for (index, row) in rows.iter().enumerate().take(texts.len()) {
        if texts.is_null(index) {
            tags.push(0);
            continue;
        }
        tags.push(tag(texts.value(index), names).unwrap_or_else(|| {
            refuse(
                bad,
                *row,
                path,
                format!("`{}` is none of {}", texts.value(index), names.join(", ")),
            );
            0
        }));
    }
    Int8Array::from(tags)
}

fn tag(name: &str, names: &[String]) -> Option<i8> {
    let index = names.iter().position(|other| other == name)?;
    i8::try_from(index).ok()
}

fn refuse(bad: &mut BadRows, row: u32, path: &str, cause: String) {
    bad.entry(row as usize)
        .or_insert_with(|| format!("column `{path}`: {cause}"));
}

/// An enum with fields: the tag, or the one member that is there, says which it is.
fn sum(
    values: &StructArray,
    fields: &Fields,
    form: &Form,
    path: &str,
    rows: &[u32],
    bad: &mut BadRows,
) -> Result<ArrayRef, ArrowError> {
    let Form::Sum {
        names,
        fields: of,
        members,
    } = form
    else {
        return Err(ArrowError::SchemaError("only a sum type has a tag".into()));
    };
    let texts = values.column(0).as_string::<i32>();
    let mut tags = Vec::with_capacity(values.len());
    for (index, row) in rows.iter().enumerate().take(values.len()) {
        if values.is_null(index) {
            tags.push(0);
            continue;
        }
        let text = texts.is_valid(index).then(|| texts.value(index));
        let present = |member: usize| values.column(member + 1).is_valid(index);
        tags.push(variant(text, names, of, present).unwrap_or_else(|cause| {
            refuse(bad, *row, path, cause);
            0
        }));
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int8Array::from(tags))];
    for ((form, column), field) in members.iter().zip(&values.columns()[1..]).zip(&fields[1..]) {
        let path = format!("{path}.{}", field.name());
        columns.push(numbered(column, field.data_type(), form, &path, rows, bad)?);
    }
    let nulls = values.nulls().cloned();
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?))
}

/// Which variant a value is of, that names it or not and has these members.
fn variant(
    name: Option<&str>,
    names: &[String],
    fields: &[Option<usize>],
    present: impl Fn(usize) -> bool,
) -> Result<i8, String> {
    let with_fields = || (0..names.len()).filter(|tag| fields[*tag].is_some_and(&present));
    let found = match name {
        Some(name) => {
            let found = names.iter().position(|other| other == name);
            found.ok_or_else(|| format!("`tag` is `{name}`, which is none of {}", names.join(", ")))?
        }
        None => match (with_fields().next(), with_fields().nth(1)) {
            (Some(only), None) => only,
            (Some(first), Some(second)) => {
                return Err(format!(
                    "it has both `{}` and `{}`, but is one of them",
                    names[first], names[second]
                ));
            }
            (None, _) => return Err(format!("`tag` is missing: it is one of {}", names.join(", "))),
        },
    };
    if let Some(other) = with_fields().find(|tag| *tag != found) {
        return Err(format!(
            "it is `{}`, but has fields of `{}`",
            names[found], names[other]
        ));
    }
    if fields[found].is_some_and(|member| !present(member)) {
        return Err(format!(
            "it is `{0}`, but `{0}` with its fields is missing",
            names[found]
        ));
    }
    i8::try_from(found).map_err(|_| format!("variant `{}` has no number", names[found]))
}
