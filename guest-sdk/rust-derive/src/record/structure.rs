//! `#[derive(Record)]` on a struct, and its `FIELDS`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DataStruct, Error, Fields, Result, Visibility};

use super::group::{Group, Member};
use super::{Target, ValueParts, implement};

/// Generates everything for a struct.
pub(crate) fn expand(target: &Target, data: &DataStruct) -> Result<TokenStream> {
    match &data.fields {
        Fields::Named(_) => {}
        Fields::Unnamed(fields) => {
            return Err(Error::new_spanned(
                fields,
                "a record's fields have names: they are those of the columns",
            ));
        }
        Fields::Unit => {
            return Err(Error::new_spanned(&target.name, "a record has at least one field"));
        }
    }
    let group = Group::read(target, &data.fields)?;
    let name = &target.name;
    let path = quote!(#name);
    let (columns, builder) = (target.hidden("Columns"), target.hidden("Builder"));
    let (column_struct, builder_struct) = (group.columns(&columns), group.builder(&builder));
    let (pattern, push) = (group.pattern(&path), group.push(&quote!(builder)));
    let parts = ValueParts {
        get: group.get(&path, &quote!(column)),
        push: quote! {
            let #pattern = value;
            #push
        },
        push_default: group.push_default(&quote!(builder)),
        fields: group.fields(),
        columns,
        builder,
    };
    let implementations = implement(target, &parts);
    let fields = fields(target, &group);
    Ok(quote! {
        #column_struct
        #builder_struct
        #implementations
        #fields
    })
}

/// The constant `FIELDS`, and where each field lies in a row.
fn fields(target: &Target, group: &Group) -> TokenStream {
    let (static_form, vis) = (target.static_form(), &target.vis);
    let name = target.hidden("Fields");
    let (mut types, mut values, mut accessors) = (Vec::new(), Vec::new(), Vec::new());
    for (index, member) in group.members.iter().enumerate() {
        let Member {
            column,
            accessor,
            static_type,
            value,
            vis,
            ..
        } = member;
        let syn::Member::Named(field) = accessor else {
            unreachable!("fields of a struct record have names")
        };
        let doc = format!("Column `{column}`.");
        let index = index as u32;
        let field_accessor = target.hidden(&format!("Field{index}"));
        // The field's type may be as private as the field, or as the record.
        let accessor_vis = match (vis, &target.vis) {
            (Visibility::Public(_), record) => record,
            (field, _) => field,
        };
        types.push(quote! {
            #[doc = #doc]
            #vis #field: ::millrace::value::FieldRef<#static_form, #static_type, #field_accessor>
        });
        values.push(quote!(#field: ::millrace::value::FieldRef::new()));
        accessors.push(quote! {
            #[doc(hidden)]
            #accessor_vis struct #field_accessor;

            impl ::millrace::value::FieldAt for #field_accessor {
                type Row = #static_form;
                type Field = #static_type;
                const NAME: &'static str = #column;
                const INDEX: u32 = #index;

                #[inline(always)]
                fn in_row<'r, 'block>(
                    row: &'r <#static_form as ::millrace::value::Value>::Of<'block>,
                ) -> &'r #value::Of<'block> {
                    &row.#field
                }

                #[inline(always)]
                fn in_row_mut<'r, 'block>(
                    row: &'r mut <#static_form as ::millrace::value::Value>::Of<'block>,
                ) -> &'r mut #value::Of<'block> {
                    &mut row.#field
                }
            }
        });
    }
    quote! {
        pub struct #name { #( #types, )* }

        #( #accessors )*

        impl #static_form {
            /// The columns of this record.
            #vis const FIELDS: #name = #name { #( #values, )* };
        }
    }
}
