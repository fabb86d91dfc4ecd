//! `#[derive(Parameters)]`: a declaration per field, and a parser of what the user gave.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Expr, ExprLit, Field, Fields, Ident, Lit, LitStr, Meta, Result, Type};

use crate::duration::parse_ms;

/// Derives `Parameters`.
pub(crate) fn derive(input: DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "parameters have no generics"));
    }
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "parameters are a struct with named fields",
        ));
    };
    let fields = match &data.fields {
        Fields::Named(fields) => &fields.named,
        Fields::Unnamed(_) | Fields::Unit => {
            return Err(Error::new_spanned(
                &input.ident,
                "parameters are a struct with named fields",
            ));
        }
    };
    let parameters: Vec<Parameter> = fields.iter().map(Parameter::read).collect::<Result<_>>()?;
    let name = &input.ident;
    let declarations = parameters.iter().map(Parameter::declaration);
    let (idents, values): (Vec<_>, Vec<_>) = parameters
        .iter()
        .map(|parameter| (&parameter.ident, parameter.value()))
        .unzip();
    Ok(quote! {
        #[automatically_derived]
        impl ::millrace::parameters::Parameters for #name {
            fn declare() -> ::std::vec::Vec<::millrace::parameters::ParameterDecl> {
                ::std::vec![#( #declarations ),*]
            }

            fn parse(
                values: &[(::std::string::String, ::std::string::String)],
            ) -> ::core::result::Result<Self, ::std::string::String> {
                ::core::result::Result::Ok(#name { #( #idents: #values, )* })
            }
        }
    })
}

struct Parameter {
    ident: Ident,
    /// Name on the command line.
    name: String,
    ty: Type,
    default: Option<LitStr>,
    doc: String,
}

impl Parameter {
    fn read(field: &Field) -> Result<Self> {
        let ident = field.ident.clone().expect("the fields have names: that was matched");
        let mut default = None;
        for attribute in field
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("parameter"))
        {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("default") {
                    default = Some(meta.value()?.parse::<LitStr>()?);
                    Ok(())
                } else {
                    Err(meta.error("unknown option: a parameter has `default = \"...\"`"))
                }
            })?;
        }
        if let Some(default) = &default {
            check_default(&field.ty, default)?;
        }
        let name = ident.unraw().to_string();
        Ok(Parameter {
            ident,
            name,
            ty: field.ty.clone(),
            default,
            doc: doc(&field.attrs),
        })
    }

    fn declaration(&self) -> TokenStream {
        let Parameter { name, ty, doc, .. } = self;
        let default = match &self.default {
            Some(default) => quote!(::core::option::Option::Some(#default)),
            None => quote!(::core::option::Option::None),
        };
        quote_spanned!(ty.span()=> ::millrace::parameters::ParameterDecl::of::<#ty>(#name, #default, #doc))
    }

    fn value(&self) -> TokenStream {
        let Parameter { name, ty, .. } = self;
        quote_spanned!(ty.span()=> ::millrace::parameters::value::<#ty>(values, #name)?)
    }
}

/// The doc comment as one line.
fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text), ..
            }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Checks a default against the types that are known by their names; others are checked when the pipeline
/// says what its parameters are.
fn check_default(ty: &Type, default: &LitStr) -> Result<()> {
    let text = default.value();
    let refused = |what: &str| {
        Err(Error::new(
            default.span(),
            format!("the default `{text}` is not {what}"),
        ))
    };
    match last_segment(ty).as_deref() {
        Some("i64") if text.parse::<i64>().is_err() => refused("a whole number (i64)"),
        // What crosses is an i64.
        Some("u64") if !text.parse::<i64>().is_ok_and(|value| value >= 0) => {
            refused("a whole number from 0 to 9223372036854775807")
        }
        Some("f64") if text.parse::<f64>().is_err() => refused("a number"),
        Some("bool") if text.parse::<bool>().is_err() => refused("`true` or `false`"),
        Some("Duration") if parse_ms(&text).is_none() => refused("a length of time such as `250ms`, `10s`, `5m`, `2h`"),
        Some("Option") => Err(Error::new(
            default.span(),
            "a parameter with a default is always there: its type is not an Option",
        )),
        _ => Ok(()),
    }
}

fn last_segment(ty: &Type) -> Option<String> {
    let Type::Path(path) = ty else { return None };
    path.path.segments.last().map(|segment| segment.ident.to_string())
}

#[cfg(test)]
mod tests {
    use super::derive;

    fn refused(source: &str) -> String {
        let input = syn::parse_str(source).expect("the source is Rust");
        derive(input).expect_err("the parameters are wrong").to_string()
    }

    #[test]
    fn defaults_are_checked() {
        let check = |ty: &str, default: &str, expect: &str| {
            let source = format!("struct P {{ #[parameter(default = \"{default}\")] p: {ty} }}");
            assert_eq!(refused(&source), expect);
        };
        check("i64", "1.5", "the default `1.5` is not a whole number (i64)");
        check(
            "u64",
            "-1",
            "the default `-1` is not a whole number from 0 to 9223372036854775807",
        );
        check("f64", "", "the default `` is not a number");
        check("bool", "yes", "the default `yes` is not `true` or `false`");
        let length = "the default `10` is not a length of time such as `250ms`, `10s`, `5m`, `2h`";
        check("Duration", "10", length);
        check("std::time::Duration", "10", length);
        check(
            "Option<i64>",
            "3",
            "a parameter with a default is always there: its type is not an Option",
        );
    }

    #[test]
    fn other_shapes_are_refused() {
        assert_eq!(refused("enum P { A }"), "parameters are a struct with named fields");
        assert_eq!(refused("struct P(i64);"), "parameters are a struct with named fields");
        assert_eq!(refused("struct P<'a> { p: &'a str }"), "parameters have no generics");
        let unknown = "unknown option: a parameter has `default = \"...\"`";
        assert_eq!(refused("struct P { #[parameter(value = \"1\")] p: i64 }"), unknown);
    }
}
