//! The `#[petiole::task]` attribute and the `Type` derive. Documented where they are re-exported: in
//! `petiole`.

mod derive;
mod name;
mod signature;
mod task;

use proc_macro::TokenStream;

/// Makes a function a task.
#[proc_macro_attribute]
pub fn task(options: TokenStream, function: TokenStream) -> TokenStream {
    task::expand(options.into(), function.into()).into()
}

/// Gives a struct or enum a WIT type.
#[proc_macro_derive(Type, attributes(petiole))]
pub fn derive_type(item: TokenStream) -> TokenStream {
    let expanded = syn::parse(item).and_then(|item| derive::expand(&item));
    expanded
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
