//! `#[record(...)]`: what a field or variant may say.

use proc_macro2::Span;
use syn::{Attribute, Error, LitStr, Result};

/// What `#[record(...)]` says.
#[derive(Default)]
pub(crate) struct Options {
    /// `rename = "..."`.
    pub(crate) rename: Option<(String, Span)>,
    /// `skip`.
    pub(crate) skip: Option<Span>,
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
                options.skip = Some(syn::spanned::Spanned::span(&meta.path));
                Ok(())
            } else {
                Err(meta.error("unknown option: a field has `rename = \"...\"` and `skip`, a variant `rename`"))
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
