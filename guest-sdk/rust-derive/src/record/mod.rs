//! `#[derive(Record)]`.
//!
//! A struct is a [`group::Group`] of members: a hidden struct of columns, a hidden struct of builders, and
//! straight-line code that goes over them. An enum is a tag and one such group (or one value) per variant
//! with fields. Everything generated lies in a `const` block, so that its names meet nobody else's.
//!
//! `Value` is implemented for the form with `'static` (`Line<'static>`); its `Of<'block>` is the form with
//! the block's lifetime. The derive therefore writes every field's type twice, with either lifetime.

mod attributes;
mod enumeration;
mod group;
mod structure;

use proc_macro2::{Group as TokenGroup, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Data, DeriveInput, Error, GenericParam, Lifetime, Result, Visibility};

/// Derives `Value` and `Record`.
pub(crate) fn derive(input: DeriveInput) -> Result<TokenStream> {
    let target = Target::new(&input)?;
    attributes::refuse_on_container(&input.attrs)?;
    let body = match &input.data {
        Data::Struct(data) => structure::expand(&target, data)?,
        Data::Enum(data) => enumeration::expand(&target, data)?,
        Data::Union(data) => {
            return Err(Error::new(
                data.union_token.span,
                "a union has no columns: a record is a struct or an enum",
            ));
        }
    };
    Ok(quote! {
        #[doc(hidden)]
        #[allow(dead_code, missing_docs, non_camel_case_types, private_interfaces, unreachable_pub, clippy::all)]
        const _: () = {
            #body
        };
    })
}

/// The type that is derived for.
pub(crate) struct Target {
    name: Ident,
    vis: Visibility,
    /// `'a` of `Line<'a>`.
    lifetime: Option<Lifetime>,
}

impl Target {
    fn new(input: &DeriveInput) -> Result<Self> {
        let mut lifetime = None;
        for parameter in &input.generics.params {
            match parameter {
                GenericParam::Lifetime(parameter) if lifetime.is_none() && parameter.bounds.is_empty() => {
                    lifetime = Some(parameter.lifetime.clone());
                }
                GenericParam::Lifetime(parameter) => {
                    return Err(Error::new_spanned(
                        parameter,
                        "a record has at most one lifetime, that of the block, without bounds",
                    ));
                }
                GenericParam::Type(_) | GenericParam::Const(_) => {
                    return Err(Error::new_spanned(
                        parameter,
                        "a record has no type parameters: its columns must be known where it is declared",
                    ));
                }
            }
        }
        if let Some(clause) = &input.generics.where_clause {
            return Err(Error::new_spanned(clause, "a record has no where clause"));
        }
        Ok(Target {
            name: input.ident.clone(),
            vis: input.vis.clone(),
            lifetime,
        })
    }

    /// `Line<'static>`.
    fn static_form(&self) -> TokenStream {
        self.form("'static")
    }

    /// `Line<'block>`.
    fn block_form(&self) -> TokenStream {
        self.form("'block")
    }

    fn form(&self, lifetime: &str) -> TokenStream {
        let name = &self.name;
        let lifetime = Lifetime::new(lifetime, Span::mixed_site());
        match self.lifetime {
            Some(_) => quote!(#name<#lifetime>),
            None => quote!(#name),
        }
    }

    /// The type with this record's lifetime replaced by `'static`.
    fn static_type(&self, ty: &syn::Type) -> TokenStream {
        match &self.lifetime {
            Some(lifetime) => with_static(ty.to_token_stream(), lifetime),
            None => ty.to_token_stream(),
        }
    }

    /// Name of a generated type.
    fn hidden(&self, suffix: &str) -> Ident {
        let name = syn::ext::IdentExt::unraw(&self.name);
        Ident::new(&format!("__{name}{suffix}"), Span::mixed_site())
    }
}

/// Replaces a lifetime wherever it stands.
fn with_static(tokens: TokenStream, lifetime: &Lifetime) -> TokenStream {
    let mut after_quote = false;
    let replace = |token| match token {
        TokenTree::Ident(ident) if std::mem::take(&mut after_quote) && ident == lifetime.ident => {
            TokenTree::Ident(Ident::new("static", ident.span()))
        }
        TokenTree::Group(group) => {
            after_quote = false;
            let mut replaced = TokenGroup::new(group.delimiter(), with_static(group.stream(), lifetime));
            replaced.set_span(group.span());
            TokenTree::Group(replaced)
        }
        token => {
            after_quote = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '\'');
            token
        }
    };
    tokens.into_iter().map(replace).collect()
}

/// What a type must say to be a `Value`, in the order of the trait.
pub(crate) struct ValueParts {
    columns: Ident,
    builder: Ident,
    get: TokenStream,
    push: TokenStream,
    push_default: TokenStream,
    fields: TokenStream,
}

/// Implements `Value` and `Record`.
fn implement(target: &Target, parts: &ValueParts) -> TokenStream {
    let (static_form, block_form) = (target.static_form(), target.block_form());
    let ValueParts {
        columns,
        builder,
        get,
        push,
        push_default,
        fields,
    } = parts;
    quote! {
        #[automatically_derived]
        impl ::millrace::value::Value for #static_form {
            type Of<'block> = #block_form;
            type Column<'block> = #columns<'block>;
            type Builder = #builder;

            fn data_type() -> ::millrace::schema::DataType {
                ::millrace::schema::DataType::Struct(<Self as ::millrace::value::Record>::fields())
            }

            #[inline]
            fn column<'block>(buffers: &mut ::millrace::block::Buffers<'block>, rows: usize) -> Self::Column<'block> {
                #columns::take(buffers, rows)
            }

            #[inline(always)]
            fn get<'block>(column: &Self::Column<'block>, index: usize) -> Self::Of<'block> {
                #get
            }

            #[inline(always)]
            fn push(builder: &mut Self::Builder, value: Self::Of<'_>) {
                #push
            }

            fn push_default(builder: &mut Self::Builder) {
                #push_default
            }
        }

        #[automatically_derived]
        impl ::millrace::value::Record for #static_form {
            fn fields() -> ::std::vec::Vec<::millrace::schema::Field> {
                #fields
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::derive;

    fn check(source: &str, expect: &str) {
        let input = syn::parse_str(source).expect("the source is Rust");
        let error = derive(input).map(|_| ()).expect_err(source);
        assert_eq!(error.to_string(), expect, "{source}");
    }

    #[test]
    fn shapes_without_columns_are_refused() {
        check(
            "union R { a: i64 }",
            "a union has no columns: a record is a struct or an enum",
        );
        check("struct R;", "a record has at least one field");
        check("struct R {}", "no field is left that would be a column");
        check(
            "struct R(i64);",
            "a record's fields have names: they are those of the columns",
        );
        check("enum R {}", "a record has at least one variant");
        check("enum R { A {} }", "no field is left that would be a column");
        let variants: String = (0..129).map(|i| format!("V{i}, ")).collect();
        check(&format!("enum R {{ {variants} }}"), "a record has at most 128 variants");
    }

    #[test]
    fn generics_are_refused() {
        let types = "a record has no type parameters: its columns must be known where it is declared";
        check("struct R<T> { a: T }", types);
        check("struct R<const N: usize> { a: [u8; N] }", types);
        let lifetimes = "a record has at most one lifetime, that of the block, without bounds";
        check("struct R<'a, 'b> { a: &'a str, b: &'b str }", lifetimes);
        check("struct R<'a: 'static> { a: &'a str }", lifetimes);
        check(
            "struct R<'a> where 'a: 'static { a: &'a str }",
            "a record has no where clause",
        );
    }

    #[test]
    fn references_come_from_the_block() {
        let expect = "text and bytes are borrowed from the block: give the record a lifetime \
                      (`struct Row<'a> { text: &'a str }`) or own them (`String`, `Bytes`)";
        check("struct R { a: &'static str }", expect);
        check("struct R { a: &str }", expect);
        check("enum R<'a> { A(&'a str), B(&'static [u8]) }", expect);
    }

    #[test]
    fn names_and_options_are_checked() {
        let twice = |name| {
            format!("there is already a column `{name}`: give one of them another with `#[record(rename = \"...\")]`")
        };
        check("struct R { a: i64, #[record(rename = \"a\")] b: i64 }", &twice("a"));
        check("enum R { Tag(i64) }", &twice("tag"));
        check("enum R { PageView(i64), Page_View(i64) }", &twice("page_view"));
        let name = "a column's name is not empty and does not start with `$`";
        check("struct R { #[record(rename = \"\")] a: i64 }", name);
        check("struct R { #[record(rename = \"$time\")] a: i64 }", name);
        let unknown = "unknown option: a field has `rename = \"...\"`, `alias = \"...\"`, `default` and `skip`, a variant \
                       `rename` and `alias`";
        check("struct R { #[record(nullable)] a: i64 }", unknown);
        let default = "a default is a number, `true` or `false`, or a text; `default` alone is zero";
        check("struct R { #[record(default = f())] a: i64 }", default);
        check(
            "enum R { #[record(default)] A }",
            "a variant has no default: a field of the enum's type has",
        );
        check(
            "#[record(rename = \"x\")] struct R { a: i64 }",
            "`#[record(...)]` belongs on a field or a variant",
        );
        check(
            "struct R { #[record(skip)] a: i64 }",
            "no field is left that would be a column",
        );
        let skipped = "a field that is skipped has no column to rename";
        check("struct R { #[record(skip, rename = \"b\")] a: i64, c: i64 }", skipped);
        check(
            "enum R { #[record(skip)] A }",
            "a variant cannot be skipped: every value of the enum must have a tag",
        );
        check("struct R { #[record(skip, alias = \"b\")] a: i64, c: i64 }", skipped);
        check("enum R { A, #[record(rename = \"a\")] B }", &twice("a"));
    }
}
