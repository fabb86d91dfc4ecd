//! `#[derive(Record)]` on a struct, and its `FIELDS`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::{DataStruct, Error, Fields, Result};

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

/// The constant `FIELDS`.
fn fields(target: &Target, group: &Group) -> TokenStream {
    let (static_form, block_form, vis) = (target.static_form(), target.block_form(), &target.vis);
    let name = target.hidden("Fields");
    let (mut types, mut values) = (Vec::new(), Vec::new());
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
        types.push(quote! {
            #[doc = #doc]
            #vis #field: ::millrace::value::FieldRef<#static_form, #static_type>
        });
        let (get, get_mut) = (
            format_ident!("get_{}", field.unraw()),
            format_ident!("get_mut_{}", field.unraw()),
        );
        let index = index as u32;
        values.push(quote! {
            #field: {
                fn #get<'r, 'block>(
                    row: &'r #block_form,
                    _: ::core::marker::PhantomData<&'block ()>,
                ) -> &'r #value::Of<'block> {
                    &row.#field
                }
                fn #get_mut<'r, 'block>(
                    row: &'r mut #block_form,
                    _: ::core::marker::PhantomData<&'block ()>,
                ) -> &'r mut #value::Of<'block> {
                    &mut row.#field
                }
                ::millrace::value::FieldRef::<#static_form, #static_type>::new(#column, #index, #get, #get_mut)
            }
        });
    }
    quote! {
        pub struct #name { #( #types, )* }

        impl #static_form {
            /// The columns of this record.
            #vis const FIELDS: #name = #name { #( #values, )* };
        }
    }
}
