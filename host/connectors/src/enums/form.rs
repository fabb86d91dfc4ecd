//! Where the enums are in a type.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef};
use millrace_core::schema::Hints;

/// What an enum in blocks has its variant's number in.
const TAG: &str = "tag";

/// How values of a type differ between blocks and the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Not at all: there is no enum in them.
    Same,
    /// An enum whose variants have no fields: a text, the variant's name.
    Text(Arc<[String]>),
    /// Another enum: `tag` is a text.
    Sum {
        /// Variants by tag.
        names: Arc<[String]>,
        /// By tag: the member with the variant's fields, counted without `tag`.
        fields: Vec<Option<usize>>,
        /// Of the members behind the tag.
        members: Vec<Form>,
    },
    /// Of each member.
    Struct(Vec<Form>),
    /// Of the item.
    List(Box<Form>),
    /// Of key and value.
    Map(Box<[Form; 2]>),
}

impl Form {
    /// The form of a field's values.
    pub(super) fn of(field: &Field, hints: Option<&Hints>) -> Form {
        let child = |index: usize| hints.and_then(|hints| hints.children.get(index));
        match field.data_type() {
            DataType::Struct(members) => {
                let names = child(0).map_or(&[][..], |tag| &tag.variants);
                let names: Vec<String> = names.iter().map(|variant| variant.name.clone()).collect();
                let forms: Vec<Form> = (0..)
                    .zip(members)
                    .map(|(index, member)| Form::of(member, child(index)))
                    .collect();
                let is_sum = !names.is_empty()
                    && members
                        .first()
                        .is_some_and(|tag| tag.name() == TAG && *tag.data_type() == DataType::Int8);
                if is_sum {
                    Form::sum(names, members, forms)
                } else if forms.iter().all(|form| *form == Form::Same) {
                    Form::Same
                } else {
                    Form::Struct(forms)
                }
            }
            DataType::List(item) => match Form::of(item, child(0)) {
                Form::Same => Form::Same,
                form => Form::List(Box::new(form)),
            },
            DataType::Map(entries, _) => match Form::of(entries, child(0)) {
                Form::Struct(forms) => match <[Form; 2]>::try_from(forms) {
                    Ok(forms) => Form::Map(Box::new(forms)),
                    Err(_) => Form::Same,
                },
                _ => Form::Same,
            },
            _ => Form::Same,
        }
    }

    fn sum(names: Vec<String>, members: &[FieldRef], mut forms: Vec<Form>) -> Form {
        if members.len() == 1 {
            return Form::Text(names.into());
        }
        forms.remove(0);
        let member = |name: &String| members[1..].iter().position(|member| member.name() == name);
        Form::Sum {
            fields: names.iter().map(member).collect(),
            names: names.into(),
            members: forms,
        }
    }

    /// The field as the outside has it.
    pub(super) fn outside(&self, field: &FieldRef) -> FieldRef {
        match self {
            Form::Same => field.clone(),
            form => Arc::new(Field::clone(field).with_data_type(form.outside_type(field.data_type()))),
        }
    }

    fn outside_type(&self, data_type: &DataType) -> DataType {
        match (self, data_type) {
            (Form::Text(_), _) => DataType::Utf8,
            (Form::Sum { members: forms, .. }, DataType::Struct(members)) => {
                let tag = Arc::new(Field::new(TAG, DataType::Utf8, true));
                let others = forms.iter().zip(&members[1..]);
                let others = others.map(|(form, member)| form.outside(member));
                DataType::Struct(std::iter::once(tag).chain(others).collect())
            }
            (Form::Struct(forms), DataType::Struct(members)) => {
                let members = forms.iter().zip(members);
                DataType::Struct(members.map(|(form, member)| form.outside(member)).collect())
            }
            (Form::List(form), DataType::List(item)) => DataType::List(form.outside(item)),
            (Form::Map(forms), DataType::Map(entries, sorted)) => {
                let outside = Form::Struct(forms.to_vec()).outside(entries);
                DataType::Map(outside, *sorted)
            }
            (_, other) => other.clone(),
        }
    }
}
