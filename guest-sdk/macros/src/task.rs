//! The expansion of `#[petiole::task]`: the function as it is, its types checked on every target, and on
//! wasm32 the exported core function with the sections that describe it.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, ItemFn, Lit, Meta, Result, ReturnType};

use crate::name;
use crate::signature::{Param, params};

pub(crate) fn expand(options: TokenStream, function: TokenStream) -> TokenStream {
    match syn::parse2::<ItemFn>(function.clone()) {
        Err(error) => {
            let error =
                Error::new(error.span(), "#[petiole::task] goes on a function").to_compile_error();
            quote!(#error #function)
        }
        // The function stays, so that its callers don't fail as well.
        Ok(parsed) => match refuse_options(&options).and_then(|()| export(&parsed)) {
            Ok(export) => quote!(#parsed #export),
            Err(error) => {
                let error = error.to_compile_error();
                quote!(#error #parsed)
            }
        },
    }
}

fn refuse_options(options: &TokenStream) -> Result<()> {
    if options.is_empty() {
        return Ok(());
    }
    Err(Error::new_spanned(
        options,
        "#[petiole::task] has no options: a manifest renames tasks and sets their limits",
    ))
}

fn export(function: &ItemFn) -> Result<TokenStream> {
    let task = name::task(&function.sig.ident)?;
    let params = params(function)?;
    let ident = &function.sig.ident;
    let tys: Vec<_> = params.iter().map(|param| param.ty).collect();
    let names = params.iter().map(|param| &param.name);
    let args: Vec<_> = (0..params.len())
        .map(|index| format_ident!("arg{index}"))
        .collect();
    let kinds = tys
        .iter()
        .map(|ty| quote_spanned!(ty.span()=> <#ty as ::petiole::Type>::KIND));
    let (result, result_kind) = match &function.sig.output {
        ReturnType::Default => (quote!(()), quote!(::core::option::Option::None)),
        ReturnType::Type(_, ty) => (
            quote!(#ty),
            quote_spanned!(ty.span()=> <#ty as ::petiole::abi::Payload>::PAYLOAD),
        ),
    };
    // A tuple of none is `()`, of one is `(T,)`.
    let types = quote!((#(#tys,)*));
    let pattern = quote!((#(#args,)*));
    let type_section = format!("component-type:petiole:{task}");
    let docs = docs_line(function, &task, &params);
    let docs_len = docs.len();
    let docs = Literal::byte_string(docs.as_bytes());
    let core_function = core_function(
        &task,
        &types,
        &result,
        &quote!(|#pattern: #types| #ident(#(#args),*)),
    );

    Ok(quote! {
        const _: () = {
            const TASK: ::petiole::abi::Task = ::petiole::abi::Task {
                name: #task,
                params: &[#((#names, #kinds)),*],
                result: #result_kind,
            };
            const SECTION: &::petiole::abi::Bytes = &::petiole::abi::encode(&TASK);

            #[cfg(target_arch = "wasm32")]
            #[allow(unsafe_code)]
            #[unsafe(link_section = #type_section)]
            static TYPE: [u8; SECTION.len()] = ::petiole::abi::bytes(SECTION);

            #[cfg(target_arch = "wasm32")]
            #[allow(unsafe_code)]
            #[unsafe(link_section = "petiole:docs")]
            static DOCS: [u8; #docs_len] = *#docs;

            // Natively nothing calls a private task: it is no dead code all the same.
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(#(#tys),*) -> #result = #ident;

            #core_function
        };
    })
}

/// The core function that the component exports. Parameters past the last one have the type `()`, which
/// WebAssembly's C ABI leaves out, so that one list of parameters does for any signature.
fn core_function(
    task: &str,
    params: &TokenStream,
    result: &TokenStream,
    call: &TokenStream,
) -> TokenStream {
    let lists: Vec<_> = (0..=16)
        .map(|index| format_ident!("PetioleList{index}"))
        .collect();
    let (before, after) = (lists.iter().take(16), lists.iter().skip(1));
    let heads: Vec<_> = lists.iter().take(16).collect();
    let values: Vec<_> = (0..16).map(|index| format_ident!("value{index}")).collect();
    quote! {
        #[cfg(target_arch = "wasm32")]
        type PetioleList0 = ::petiole::abi::Params<<#params as ::petiole::abi::Payload>::FlatPayload>;
        #(
            #[cfg(target_arch = "wasm32")]
            type #after = ::petiole::abi::Tail<#before>;
        )*

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, improper_ctypes_definitions, clippy::too_many_arguments)]
        #[unsafe(export_name = #task)]
        extern "C" fn petiole_export(#(#values: ::petiole::abi::Head<#heads>),*) -> ::petiole::abi::Returned<#result> {
            ::petiole::abi::call::<#params, #result>([#(::petiole::abi::Core::bits(#values)),*], #call)
        }
    }
}

/// The documentation that the host shows beside a task's types: a line of JSON in the section `petiole:docs`.
fn docs_line(function: &ItemFn, task: &str, params: &[Param<'_>]) -> String {
    let lines = function.attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(line),
                ..
            }) => Some(line.value()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<_> = lines
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).to_owned())
        .collect();
    let params: Vec<_> = params.iter().map(|param| &param.name).collect();
    let line =
        serde_json::json!({ "task": task, "docs": lines.join("\n").trim(), "params": params });
    format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::docs_line;
    use syn::parse_quote;

    #[test]
    fn the_docs_are_one_line() {
        let function = parse_quote! {
            /// Adds.
            ///
            ///     indented "code"
            fn add(x: i64) {}
        };
        let line = docs_line(&function, "add", &[]);
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let docs = "Adds.\n\n    indented \"code\"";
        assert_eq!(
            parsed,
            serde_json::json!({ "task": "add", "docs": docs, "params": [] })
        );
    }
}
