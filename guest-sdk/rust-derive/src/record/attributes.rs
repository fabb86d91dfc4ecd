//! `#[record(...)]`: what a field or variant may say.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, Lit, LitStr, Result, Token, UnOp};

/// What `#[record(...)]` says.
#[derive(Default)]
pub(crate) struct Options {
    /// `rename = "..."`.
    pub(crate) rename: Option<(String, Span)>,
    /// `skip`.
    pub(crate) skip: Option<Span>,
    /// `alias = "..."`, any number.
    pub(crate) aliases: Vec<String>,
    /// `default`, or `default = ...` with its value as text.
    pub(crate) default: Option<(Option<String>, Span)>,
}

impl Options {
    /// The hints of a field, as an expression; none if it says nothing.
    pub(crate) fn hints(&self) -> Option<TokenStream> {
        if self.aliases.is_empty() && self.default.is_none() {
            return None;
        }
        let aliases = &self.aliases;
        let missing = match &self.default {
            None => quote!(Undeclared),
            Some((None, _)) => quote!(Zero),
            Some((Some(text), _)) => quote!(Text(::std::string::String::from(#text))),
        };
        Some(quote!(::millrace::schema::Hints {
            aliases: ::std::vec![#( ::std::string::String::from(#aliases) ),*],
            missing: ::millrace::schema::Missing::#missing,
            variants: ::std::vec::Vec::new(),
        }))
    }
}

/// The value after `default =` as text.
fn default_text(value: &Expr) -> Option<String> {
    let literal = |value: &Expr| match value {
        Expr::Lit(literal) => Some(literal.lit.clone()),
        _ => None,
    };
    match value {
        Expr::Unary(negated) if matches!(negated.op, UnOp::Neg(_)) => match literal(&negated.expr)? {
            Lit::Int(number) => Some(format!("-{}", number.base10_digits())),
            Lit::Float(number) => Some(format!("-{}", number.base10_digits())),
            _ => None,
        },
        value => match literal(value)? {
            Lit::Int(number) => Some(number.base10_digits().to_owned()),
            Lit::Float(number) => Some(number.base10_digits().to_owned()),
            Lit::Bool(value) => Some(value.value.to_string()),
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
    }
}

/// Reads the options of a field or variant.
pub(crate) fn read(attributes: &[Attribute]) -> Result<Options> {
    let mut options = Options::default();
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("record"))
    {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") {
                let name: LitStr = meta.value()?.parse()?;
                if name.value().is_empty() || name.value().starts_with('$') {
                    return Err(Error::new(
                        name.span(),
                        "a column's name is not empty and does not start with `$`",
                    ));
                }
                options.rename = Some((name.value(), name.span()));
                Ok(())
            } else if meta.path.is_ident("skip") {
                options.skip = Some(meta.path.span());
                Ok(())
            } else if meta.path.is_ident("alias") {
                let name: LitStr = meta.value()?.parse()?;
                options.aliases.push(name.value());
                Ok(())
            } else if meta.path.is_ident("default") {
                let mut text = None;
                if meta.input.peek(Token![=]) {
                    let value: Expr = meta.value()?.parse()?;
                    let refused = || {
                        let message = "a default is a number, `true` or `false`, or a text; `default` alone is zero";
                        Error::new(value.span(), message)
                    };
                    text = Some(default_text(&value).ok_or_else(refused)?);
                }
                options.default = Some((text, meta.path.span()));
                Ok(())
            } else {
                let message = "unknown option: a field has `rename = \"...\"`, `alias = \"...\"`, `default` and `skip`, a \
                               variant `rename` and `alias`";
                Err(meta.error(message))
            }
        })?;
    }
    Ok(options)
}

/// A record itself has no options.
pub(crate) fn refuse_on_container(attributes: &[Attribute]) -> Result<()> {
    match attributes.iter().find(|attribute| attribute.path().is_ident("record")) {
        Some(attribute) => Err(Error::new_spanned(
            attribute,
            "`#[record(...)]` belongs on a field or a variant",
        )),
        None => Ok(()),
    }
}

/// Names of siblings differ.
pub(crate) fn refuse_duplicates(names: &[(String, Span)]) -> Result<()> {
    for (index, (name, span)) in names.iter().enumerate() {
        if names[..index].iter().any(|(other, _)| other == name) {
            return Err(Error::new(
                *span,
                format!(
                    "there is already a column `{name}`: give one of them another with `#[record(rename = \"...\")]`"
                ),
            ));
        }
    }
    Ok(())
}
