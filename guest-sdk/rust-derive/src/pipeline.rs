//! `#[millrace::pipeline]`: the function itself and the component's exports that call it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, PatType, Result, Type};

const SHAPE: &str =
    "a pipeline is `fn name(flow: &Flow) -> Result<()>` or `fn name(flow: &Flow, params: Params) -> Result<()>`";

/// Expands the attribute.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(
            arguments,
            "`#[millrace::pipeline]` takes no arguments",
        ));
    }
    let function: ItemFn = syn::parse2(item).map_err(|error| Error::new(error.span(), SHAPE))?;
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        return Err(Error::new(
            token.span,
            "a pipeline only describes the dataflow: it is not async",
        ));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, "a pipeline has no generics"));
    }
    let mut arguments = signature.inputs.iter();
    if arguments.next().is_none() {
        return Err(Error::new_spanned(signature, format!("the flow is missing: {SHAPE}")));
    }
    let params = match arguments.next() {
        Some(FnArg::Typed(PatType { ty, .. })) if matches!(**ty, Type::Reference(_)) => {
            return Err(Error::new_spanned(ty, "the parameters are taken by value"));
        }
        Some(FnArg::Typed(PatType { ty, .. })) => quote!(#ty),
        Some(argument @ FnArg::Receiver(_)) => return Err(Error::new_spanned(argument, SHAPE)),
        None => quote!(()),
    };
    if let Some(argument) = arguments.next() {
        return Err(Error::new_spanned(argument, format!("one argument too many: {SHAPE}")));
    }
    let name = &signature.ident;
    let export = quote_spanned!(function.sig.span()=> ::millrace::export_pipeline!(#name, #params););
    Ok(quote! {
        #function
        #export
    })
}

#[cfg(test)]
mod tests {
    use proc_macro2::TokenStream;
    use quote::quote;

    use super::{SHAPE, expand};

    #[test]
    fn the_function_stays_and_is_exported() {
        let check = |function: TokenStream, params: TokenStream| {
            let expanded = expand(TokenStream::new(), function.clone())
                .expect("it is a pipeline")
                .to_string();
            let expected = quote!(#function ::millrace::export_pipeline!(count, #params);).to_string();
            assert_eq!(expanded, expected);
        };
        check(
            quote!(
                fn count(flow: &Flow) -> Result<()> {
                    Ok(())
                }
            ),
            quote!(()),
        );
        check(
            quote!(
                pub fn count(flow: &Flow, params: my::Params) -> Result<()> {
                    Ok(())
                }
            ),
            quote!(my::Params),
        );
    }

    #[test]
    fn other_shapes_are_refused() {
        let check = |function: TokenStream, expect: &str| {
            let error = expand(TokenStream::new(), function).expect_err("it is no pipeline");
            assert_eq!(error.to_string(), expect);
        };
        check(
            quote!(
                struct Count;
            ),
            SHAPE,
        );
        check(
            quote!(
                async fn count(flow: &Flow) {}
            ),
            "a pipeline only describes the dataflow: it is not async",
        );
        check(
            quote!(
                fn count<T>(flow: &Flow) {}
            ),
            "a pipeline has no generics",
        );
        check(
            quote!(
                fn count() {}
            ),
            &format!("the flow is missing: {SHAPE}"),
        );
        check(
            quote!(
                fn count(flow: &Flow, params: &Params) {}
            ),
            "the parameters are taken by value",
        );
        check(
            quote!(
                fn count(flow: &Flow, a: A, b: B) {}
            ),
            &format!("one argument too many: {SHAPE}"),
        );
        let error = expand(
            quote!(name = 1),
            quote!(
                fn count(flow: &Flow) {}
            ),
        )
        .expect_err("it has arguments");
        assert_eq!(error.to_string(), "`#[millrace::pipeline]` takes no arguments");
    }
}
