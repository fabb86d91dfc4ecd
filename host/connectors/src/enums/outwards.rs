//! Numbers to names.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::Int8Type;
use arrow_array::{Array, ArrayRef, Int8Array, ListArray, MapArray, StringArray, StructArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType, FieldRef};

use super::form::Form;

/// The values as the outside has them.
pub(super) fn named(array: &ArrayRef, form: &Form) -> Result<ArrayRef, ArrowError> {
    match (form, array.data_type()) {
        (Form::Text(names), _) => {
            let values = array.as_struct();
            Ok(Arc::new(texts(
                values.column(0).as_primitive::<Int8Type>(),
                names,
                values.nulls(),
            )))
        }
        (Form::Sum { names, members, .. }, DataType::Struct(fields)) => {
            let values = array.as_struct();
            let tags = texts(values.column(0).as_primitive::<Int8Type>(), names, values.nulls());
            let mut columns: Vec<ArrayRef> = vec![Arc::new(tags)];
            for (form, column) in members.iter().zip(&values.columns()[1..]) {
                columns.push(named(column, form)?);
            }
            structure(form, fields, columns, values)
        }
        (Form::Struct(members), DataType::Struct(fields)) => {
            let values = array.as_struct();
            let columns = members.iter().zip(values.columns());
            let columns = columns.map(|(form, column)| named(column, form));
            structure(form, fields, columns.collect::<Result<_, _>>()?, values)
        }
        (Form::List(item_form), DataType::List(item)) => {
            let values = array.as_list::<i32>();
            let items = named(values.values(), item_form)?;
            let (offsets, nulls) = (values.offsets().clone(), values.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(
                item_form.outside(item),
                offsets,
                items,
                nulls,
            )?))
        }
        (Form::Map(forms), DataType::Map(entries, sorted)) => {
            let values = array.as_map();
            let form = Form::Struct(forms.to_vec());
            let items: ArrayRef = Arc::new(values.entries().clone());
            let items = named(&items, &form)?.as_struct().clone();
            let (offsets, nulls) = (values.offsets().clone(), values.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(
                form.outside(entries),
                offsets,
                items,
                nulls,
                *sorted,
            )?))
        }
        (_, _) => Ok(array.clone()),
    }
}

fn structure(
    form: &Form,
    fields: &arrow_schema::Fields,
    columns: Vec<ArrayRef>,
    values: &StructArray,
) -> Result<ArrayRef, ArrowError> {
    let field: FieldRef = Arc::new(arrow_schema::Field::new("", DataType::Struct(fields.clone()), true));
    let DataType::Struct(fields) = form.outside(&field).data_type().clone() else {
        return Err(ArrowError::SchemaError("a struct is a struct outside too".into()));
    };
    let nulls = values.nulls().cloned();
    Ok(Arc::new(StructArray::try_new_with_length(
        fields,
        columns,
        nulls,
        values.len(),
    )?))
}

fn texts(tags: &Int8Array, names: &[String], nulls: Option<&NullBuffer>) -> StringArray {
    let mut texts = StringBuilder::with_capacity(tags.len(), tags.len() * 8);
    for (row, tag) in tags.values().iter().enumerate() {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            texts.append_null();
        } else {
            match usize::try_from(*tag).ok().and_then(|tag| names.get(tag)) {
                Some(name) => texts.append_value(name),
                None => texts.append_value(tag.to_string()),
            }
        }
    }
    texts.finish()
}
