//! The macros of the Rust SDK: `#[derive(Record)]`, `#[derive(Parameters)]` and `#[pipeline]`.
//!
//! They are re-exported by the crate `millrace`, whose paths the generated code names; use them from there.
//! Every refusal points at the piece of source that it is about. How a record becomes columns is in
//! the module `record`.

#![forbid(unsafe_code)]

mod duration;
mod parameters;
mod pipeline;
mod record;

use proc_macro::TokenStream;

/// Makes a struct or an enum fit in columns.
///
/// On a struct with named fields it implements `Value` and `Record` and adds the constant `FIELDS`, which
/// holds a `FieldRef` for each field. The struct may have one lifetime parameter: that of the block, from
/// which text and bytes are then borrowed.
///
/// An enum becomes a struct of `tag` (the variant's position) and one nullable member per variant that has
/// fields, named like the variant in `snake_case`.
///
/// `#[record(rename = "...")]` on a field or variant gives the column another name; `#[record(skip)]` on a
/// field leaves it out, and reading fills it with its default.
///
/// Two more say how state that an earlier version of the type has left becomes this one: `#[record(alias = "...")]` on
/// a field or variant names what it was called, and `#[record(default)]` (zero, false, empty, the first variant) or
/// `#[record(default = 5)]` (a number, a text, `true`, `false`) gives a field a value that it did not have, or that was
/// null. A new field that is an `Option` needs none: it is `None`.
///
/// ```
/// use millrace::Record;
///
/// #[derive(Record)]
/// struct Visit<'a> {
///     url: &'a str,
///     #[record(rename = "type")]
///     kind: Kind,
///     seconds: Option<f64>,
/// }
///
/// #[derive(Record)]
/// enum Kind { View, Click { x: i32, y: i32 }, Search(String) }
///
/// let names: Vec<String> = Visit::fields().into_iter().map(|field| field.name).collect();
/// assert_eq!(names, ["url", "type", "seconds"]);
/// assert_eq!(Visit::FIELDS.kind.index(), 1);
/// ```
///
/// A type that is no column is refused where it stands:
///
/// ```compile_fail,E0277
/// #[derive(millrace::Record)]
/// struct Visit { headers: std::collections::HashMap<String, String> }
/// ```
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    record::derive(input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Declares a pipeline's parameters: one per field, its doc comment as the help.
///
/// A field without `#[parameter(default = "...")]` must be given by the user, unless its type is an
/// `Option`. Types: `String`, `i64`, `u64`, `f64`, `bool`, `Duration` and options of them. Defaults are
/// checked when the pipeline is compiled.
///
/// ```
/// use std::time::Duration;
/// use millrace::Parameters;
///
/// #[derive(Parameters)]
/// struct Params {
///     /// Files to read.
///     input: String,
///     /// Length of the window.
///     #[parameter(default = "10s")]
///     window: Duration,
/// }
///
/// assert_eq!(Params::declare()[0].doc, "Files to read.");
/// ```
#[proc_macro_derive(Parameters, attributes(parameter))]
pub fn derive_parameters(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    parameters::derive(input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a function the pipeline of this component.
///
/// ```ignore
/// #[millrace::pipeline]
/// fn word_count(flow: &Flow, params: Params) -> Result<()> { .. }
/// ```
///
/// The second argument may be left out. There is one pipeline in a component.
#[proc_macro_attribute]
pub fn pipeline(arguments: TokenStream, item: TokenStream) -> TokenStream {
    pipeline::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
