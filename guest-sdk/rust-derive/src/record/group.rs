//! A group of members side by side: the fields of a struct or of a variant, and the code over them.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, Fields, Result, Type};

use super::{Target, attributes};

/// A member that is a column.
pub(crate) struct Member {
    /// Name of the column.
    pub(crate) column: String,
    /// How the source names it: a name or a position.
    pub(crate) accessor: syn::Member,
    pub(crate) vis: syn::Visibility,
    /// Its name in generated structs, and as a variable.
    pub(crate) slot: Ident,
    /// `<&'static str as Value>`.
    pub(crate) value: TokenStream,
    /// `&'static str`.
    pub(crate) static_type: TokenStream,
    /// What it says of earlier versions.
    hints: Option<TokenStream>,
}

/// The members of a struct or variant.
pub(crate) struct Group {
    pub(crate) members: Vec<Member>,
    /// Fields that are left out.
    skipped: Vec<syn::Member>,
}

impl Group {
    /// Reads the fields.
    pub(crate) fn read(target: &Target, fields: &Fields) -> Result<Self> {
        let mut group = Group {
            members: Vec::new(),
            skipped: Vec::new(),
        };
        let mut names = Vec::new();
        for (accessor, field) in fields.members().zip(fields) {
            let options = attributes::read(&field.attrs)?;
            if let Some(span) = options.skip {
                if options.rename.is_some() || options.hints().is_some() {
                    return Err(Error::new(span, "a field that is skipped has no column to rename"));
                }
                group.skipped.push(accessor);
                continue;
            }
            refuse_static_reference(target, &field.ty)?;
            let name = match &accessor {
                syn::Member::Named(name) => (name.unraw().to_string(), name.span()),
                syn::Member::Unnamed(index) => (index.index.to_string(), field.span()),
            };
            let hints = options.hints();
            let (column, span) = options.rename.unwrap_or(name);
            names.push((column.clone(), span));
            let static_type = target.static_type(&field.ty);
            group.members.push(Member {
                column,
                accessor,
                vis: field.vis.clone(),
                slot: Ident::new(&format!("field_{}", group.members.len()), Span::mixed_site()),
                value: quote_spanned!(field.ty.span()=> <#static_type as ::millrace::value::Value>),
                static_type,
                hints,
            });
        }
        attributes::refuse_duplicates(&names)?;
        if group.members.is_empty() {
            return Err(Error::new(fields.span(), "no field is left that would be a column"));
        }
        Ok(group)
    }

    /// The hidden struct of columns.
    pub(crate) fn columns(&self, name: &Ident) -> TokenStream {
        let (slots, values) = self.slots();
        quote! {
            pub struct #name<'block> { #( #slots: #values::Column<'block>, )* }

            impl<'block> #name<'block> {
                #[inline]
                fn take(buffers: &mut ::millrace::block::Buffers<'block>, rows: usize) -> Self {
                    #name { #( #slots: #values::column(buffers, rows), )* }
                }
            }
        }
    }

    /// The hidden struct of builders.
    pub(crate) fn builder(&self, name: &Ident) -> TokenStream {
        let (slots, values) = self.slots();
        let builders: Vec<_> = values.iter().map(|value| quote!(#value::Builder)).collect();
        let first = slots[0];
        let methods = builder_methods(name, &slots, first);
        quote! {
            pub struct #name { #( #slots: #builders, )* }

            impl ::core::default::Default for #name {
                fn default() -> Self {
                    #name { #( #slots: ::core::default::Default::default(), )* }
                }
            }

            #methods
        }
    }

    /// The value of row `index`, made from columns: `path { .. }`.
    pub(crate) fn get(&self, path: &TokenStream, columns: &TokenStream) -> TokenStream {
        let members = self.members.iter().map(
            |Member {
                 accessor, value, slot, ..
             }| { quote!(#accessor: #value::get(&#columns.#slot, index)) },
        );
        let skipped = &self.skipped;
        quote!(#path { #( #members, )* #( #skipped: ::core::default::Default::default(), )* })
    }

    /// The pattern that takes a value apart into variables: `path { .. }`.
    pub(crate) fn pattern(&self, path: &TokenStream) -> TokenStream {
        let members = self
            .members
            .iter()
            .map(|Member { accessor, slot, .. }| quote!(#accessor: #slot));
        let skipped = &self.skipped;
        quote!(#path { #( #members, )* #( #skipped: _, )* })
    }

    /// Appends the variables of [`Group::pattern`].
    pub(crate) fn push(&self, builder: &TokenStream) -> TokenStream {
        let (slots, values) = self.slots();
        quote!(#( #values::push(&mut #builder.#slots, #slots); )*)
    }

    /// Appends placeholders.
    pub(crate) fn push_default(&self, builder: &TokenStream) -> TokenStream {
        let (slots, values) = self.slots();
        quote!(#( #values::push_default(&mut #builder.#slots); )*)
    }

    /// The schema's fields.
    pub(crate) fn fields(&self) -> TokenStream {
        let fields = self.members.iter().map(|member| {
            let (value, name) = (&member.value, &member.column);
            let hints = member.hints.iter();
            quote!(#value::field(#name) #( .with_hints(#hints) )*)
        });
        quote!(::std::vec![#( #fields ),*])
    }

    fn slots(&self) -> (Vec<&Ident>, Vec<&TokenStream>) {
        self.members.iter().map(|member| (&member.slot, &member.value)).unzip()
    }
}

/// `Builder` of a struct whose fields are builders.
pub(crate) fn builder_methods(name: &Ident, slots: &[&Ident], first: &Ident) -> TokenStream {
    quote! {
        impl ::millrace::value::Builder for #name {
            #[inline]
            fn rows(&self) -> usize {
                ::millrace::value::Builder::rows(&self.#first)
            }

            #[inline]
            fn bytes(&self) -> usize {
                0 #( + ::millrace::value::Builder::bytes(&self.#slots) )*
            }

            fn reserve(&mut self, rows: usize) {
                #( ::millrace::value::Builder::reserve(&mut self.#slots, rows); )*
            }

            fn truncate(&mut self, rows: usize) {
                #( ::millrace::value::Builder::truncate(&mut self.#slots, rows); )*
            }

            fn finish(&mut self, writer: &mut ::millrace::block::BlockWriter) {
                #( ::millrace::value::Builder::finish(&mut self.#slots, writer); )*
            }
        }
    }
}

/// `&'static str` in a record would promise what a block cannot keep; the compiler's own message for it is
/// about lifetimes in generated code.
fn refuse_static_reference(target: &Target, ty: &Type) -> Result<()> {
    let Type::Reference(reference) = ty else { return Ok(()) };
    let ours = target.lifetime.as_ref().map(|lifetime| &lifetime.ident);
    match &reference.lifetime {
        Some(lifetime) if Some(&lifetime.ident) == ours => Ok(()),
        Some(_) | None => Err(Error::new(
            ty.span(),
            "text and bytes are borrowed from the block: give the record a lifetime (`struct Row<'a> { text: &'a str }`) \
             or own them (`String`, `Bytes`)",
        )),
    }
}
