//! `#[derive(Record)]` on an enum: a struct of the tag and one nullable member per variant with fields.
//!
//! The tag is the variant's position. A variant with one unnamed field is a member of that field's type; any
//! other has a struct of its fields, named like them or by position. Reading goes by the tag alone.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::{DataEnum, Error, Fields, Result, Variant};

use super::group::{Group, builder_methods};
use super::{Target, ValueParts, attributes, implement};

/// Most variants that a tag of one byte tells apart.
const VARIANTS_MAX: usize = 128;

/// A variant that has fields.
struct Payload {
    /// Name of the member's column.
    column: String,
    /// Its name in generated structs.
    slot: Ident,
    group: Group,
    shape: Shape,
}

enum Shape {
    /// The one field itself.
    Single,
    /// A struct of the fields.
    Members { columns: Ident, builder: Ident },
}

struct Case {
    /// `Kind::Click`.
    path: TokenStream,
    tag: i8,
    /// `click`.
    name: String,
    aliases: Vec<String>,
    payload: Option<Payload>,
}

/// Generates everything for an enum.
pub(crate) fn expand(target: &Target, data: &DataEnum) -> Result<TokenStream> {
    let cases = read(target, data)?;
    let payloads: Vec<(&Case, &Payload)> = cases
        .iter()
        .filter_map(|case| Some((case, case.payload.as_ref()?)))
        .collect();
    let (columns, builder) = (target.hidden("Columns"), target.hidden("Builder"));
    let groups = payloads.iter().map(|(_, payload)| match &payload.shape {
        Shape::Single => TokenStream::new(),
        Shape::Members { columns, builder } => {
            let (columns, builder) = (payload.group.columns(columns), payload.group.builder(builder));
            quote!(#columns #builder)
        }
    });
    let structs = structs(&columns, &builder, &payloads);
    let parts = ValueParts {
        get: get(target, &cases),
        push: push(&cases),
        push_default: push_default(&cases),
        fields: fields(&cases, &payloads),
        columns,
        builder,
    };
    let implementations = implement(target, &parts);
    Ok(quote! {
        #( #groups )*
        #structs
        #implementations
    })
}

fn read(target: &Target, data: &DataEnum) -> Result<Vec<Case>> {
    if data.variants.is_empty() {
        return Err(Error::new_spanned(&target.name, "a record has at least one variant"));
    }
    if let Some(variant) = data.variants.iter().nth(VARIANTS_MAX) {
        return Err(Error::new_spanned(
            variant,
            format!("a record has at most {VARIANTS_MAX} variants"),
        ));
    }
    let mut columns = vec![("tag".to_owned(), Span::call_site())];
    let mut names = Vec::new();
    let mut cases = Vec::new();
    for (tag, variant) in data.variants.iter().enumerate() {
        let (enumeration, ident) = (&target.name, &variant.ident);
        let options = attributes::read(&variant.attrs)?;
        let default = (snake_case(&ident.unraw().to_string()), ident.span());
        let name = options.rename.clone().unwrap_or(default);
        cases.push(Case {
            path: quote!(#enumeration::#ident),
            tag: tag as i8,
            name: name.0.clone(),
            aliases: options.aliases.clone(),
            payload: payload(target, variant, &options, &name, &mut columns)?,
        });
        names.push(name);
    }
    attributes::refuse_duplicates(&columns)?;
    attributes::refuse_duplicates(&names)?;
    Ok(cases)
}

fn payload(
    target: &Target,
    variant: &Variant,
    options: &attributes::Options,
    (name, span): &(String, Span),
    columns: &mut Vec<(String, Span)>,
) -> Result<Option<Payload>> {
    if let Some((_, span)) = options.default {
        return Err(Error::new(
            span,
            "a variant has no default: a field of the enum's type has",
        ));
    }
    if let Some(span) = options.skip {
        return Err(Error::new(
            span,
            "a variant cannot be skipped: every value of the enum must have a tag",
        ));
    }
    let shape = match &variant.fields {
        Fields::Unit => return Ok(None),
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Shape::Single,
        Fields::Unnamed(_) | Fields::Named(_) => Shape::Members {
            columns: target.hidden(&format!("{}Columns", variant.ident.unraw())),
            builder: target.hidden(&format!("{}Builder", variant.ident.unraw())),
        },
    };
    columns.push((name.clone(), *span));
    Ok(Some(Payload {
        column: name.clone(),
        slot: Ident::new(&format!("member_{}", columns.len() - 2), Span::mixed_site()),
        group: Group::read(target, &variant.fields)?,
        shape,
    }))
}

/// `PageView` as `page_view`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (index, character) in name.char_indices() {
        if character.is_uppercase() {
            if index > 0 && !snake.ends_with('_') {
                snake.push('_');
            }
            snake.extend(character.to_lowercase());
        } else {
            snake.push(character);
        }
    }
    snake
}

impl Payload {
    /// `<Option<T> as Value>` of a single field.
    fn optional(&self) -> TokenStream {
        let static_type = &self.group.members[0].static_type;
        quote!(<::core::option::Option<#static_type> as ::millrace::value::Value>)
    }

    fn column_type(&self) -> TokenStream {
        match &self.shape {
            Shape::Single => {
                let value = self.optional();
                quote!(#value::Column<'block>)
            }
            Shape::Members { columns, .. } => quote!(::millrace::values::NullableColumn<'block, #columns<'block>>),
        }
    }

    fn builder_type(&self) -> TokenStream {
        match &self.shape {
            Shape::Single => {
                let value = self.optional();
                quote!(#value::Builder)
            }
            Shape::Members { builder, .. } => quote!(::millrace::values::NullableBuilder<#builder>),
        }
    }

    fn take(&self) -> TokenStream {
        match &self.shape {
            Shape::Single => {
                let value = self.optional();
                quote!(#value::column(buffers, rows))
            }
            Shape::Members { columns, .. } => quote!(::millrace::values::NullableColumn {
                validity: buffers.validity(rows),
                values: #columns::take(buffers, rows),
            }),
        }
    }

    fn field(&self) -> TokenStream {
        let name = &self.column;
        match &self.shape {
            Shape::Single => {
                let value = self.optional();
                quote!(#value::field(#name))
            }
            Shape::Members { .. } => {
                let fields = self.group.fields();
                quote!(::millrace::schema::Field::new(
                    #name,
                    ::millrace::schema::DataType::Struct(#fields),
                    true,
                ))
            }
        }
    }

    /// The value of row `index`.
    fn get(&self, path: &TokenStream) -> TokenStream {
        let slot = &self.slot;
        match &self.shape {
            Shape::Single => {
                let value = &self.group.members[0].value;
                quote!(#path(#value::get(&column.#slot.values, index)))
            }
            Shape::Members { .. } => self.group.get(path, &quote!(column.#slot.values)),
        }
    }

    /// Appends the variables of the group's pattern.
    fn push(&self) -> TokenStream {
        let slot = &self.slot;
        let values = match &self.shape {
            Shape::Single => {
                let (value, variable) = (&self.group.members[0].value, &self.group.members[0].slot);
                quote!(#value::push(&mut builder.#slot.values, #variable);)
            }
            Shape::Members { .. } => self.group.push(&quote!(builder.#slot.values)),
        };
        quote!(builder.#slot.validity.push(true); #values)
    }

    /// Appends a placeholder, valid or null.
    fn push_default(&self, valid: bool) -> TokenStream {
        let slot = &self.slot;
        let values = match &self.shape {
            Shape::Single => {
                let value = &self.group.members[0].value;
                quote!(#value::push_default(&mut builder.#slot.values);)
            }
            Shape::Members { .. } => self.group.push_default(&quote!(builder.#slot.values)),
        };
        quote!(builder.#slot.validity.push(#valid); #values)
    }
}

/// The hidden structs of columns and builders: the tag, then the members.
fn structs(columns: &Ident, builder: &Ident, payloads: &[(&Case, &Payload)]) -> TokenStream {
    let slots: Vec<&Ident> = payloads.iter().map(|(_, payload)| &payload.slot).collect();
    let column_types = payloads.iter().map(|(_, payload)| payload.column_type());
    let builder_types = payloads.iter().map(|(_, payload)| payload.builder_type());
    let takes = payloads.iter().map(|(_, payload)| payload.take());
    let tag = Ident::new("tag", Span::mixed_site());
    let methods = builder_methods(builder, &[&[&tag], slots.as_slice()].concat(), &tag);
    quote! {
        pub struct #columns<'block> { #tag: &'block [i8], #( #slots: #column_types, )* }

        impl<'block> #columns<'block> {
            #[inline]
            fn take(buffers: &mut ::millrace::block::Buffers<'block>, rows: usize) -> Self {
                #columns { #tag: buffers.slice(rows), #( #slots: #takes, )* }
            }
        }

        pub struct #builder { #tag: <i8 as ::millrace::value::Value>::Builder, #( #slots: #builder_types, )* }

        impl ::core::default::Default for #builder {
            fn default() -> Self {
                #builder {
                    #tag: ::core::default::Default::default(),
                    #( #slots: ::core::default::Default::default(), )*
                }
            }
        }

        #methods
    }
}

fn get(target: &Target, cases: &[Case]) -> TokenStream {
    let name = target.name.to_string();
    let arms = cases.iter().map(|Case { path, tag, payload, .. }| {
        let value = payload
            .as_ref()
            .map_or_else(|| quote!(#path), |payload| payload.get(path));
        quote!(#tag => #value)
    });
    quote! {
        match column.tag[index] {
            #( #arms, )*
            tag => ::millrace::values::unknown_tag(#name, tag),
        }
    }
}

/// The tag by a first look at the value, placeholders for the other variants, then the variant's own.
fn push(cases: &[Case]) -> TokenStream {
    let (paths, tags): (Vec<_>, Vec<_>) = cases.iter().map(|case| (&case.path, case.tag)).unzip();
    let nulls = cases.iter().filter_map(|Case { tag, payload, .. }| {
        let null = payload.as_ref()?.push_default(false);
        Some(quote!(if tag != #tag { #null }))
    });
    let arms = cases.iter().map(|Case { path, payload, .. }| match payload {
        Some(payload) => {
            let (pattern, push) = (payload.group.pattern(path), payload.push());
            quote!(#pattern => { #push })
        }
        None => quote!(#path => {}),
    });
    quote! {
        let tag: i8 = match &value { #( #paths { .. } => #tags, )* };
        builder.tag.push(tag);
        #( #nulls )*
        match value { #( #arms )* }
    }
}

fn push_default(cases: &[Case]) -> TokenStream {
    let members = cases
        .iter()
        .filter_map(|case| Some(case.payload.as_ref()?.push_default(case.tag == 0)));
    quote! {
        builder.tag.push(0);
        #( #members )*
    }
}

fn fields(cases: &[Case], payloads: &[(&Case, &Payload)]) -> TokenStream {
    let fields = payloads.iter().map(|(_, payload)| payload.field());
    let variants = cases.iter().map(|Case { name, aliases, .. }| {
        quote!(::millrace::schema::Variant {
            name: ::std::string::String::from(#name),
            aliases: ::std::vec![#( ::std::string::String::from(#aliases) ),*],
        })
    });
    quote! {{
        let hints = ::millrace::schema::Hints {
            variants: ::std::vec![#( #variants ),*],
            ..::core::default::Default::default()
        };
        ::std::vec![<i8 as ::millrace::value::Value>::field("tag").with_hints(hints), #( #fields ),*]
    }}
}
