//! The expansion of `#[derive(petiole::Type)]`: a struct is a record, an enum without payloads an enum,
//! any other enum a variant.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Data, DataEnum, DeriveInput, Error, Fields, FieldsNamed, Ident, LitStr, Result, Type, Variant,
};

use crate::name::{self, kebab};
use crate::signature::check_type;

pub(crate) fn expand(item: &DeriveInput) -> Result<TokenStream> {
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &item.generics,
            "a WIT type can't be generic: write one struct for each use",
        ));
    }
    let name = type_name(item)?;
    match &item.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if !fields.named.is_empty() => record(&item.ident, &name, fields),
            Fields::Named(_) | Fields::Unit => Err(Error::new_spanned(
                item,
                "a WIT record has at least one field; for nothing at all, take `()`",
            )),
            Fields::Unnamed(fields) => Err(Error::new_spanned(
                fields,
                "the fields of a WIT record have names: write `struct Name { field: Type }`",
            )),
        },
        Data::Enum(data) if data.variants.is_empty() => {
            Err(Error::new_spanned(item, "a WIT enum has at least one case"))
        }
        Data::Enum(data)
            if data
                .variants
                .iter()
                .all(|case| matches!(case.fields, Fields::Unit)) =>
        {
            enumeration(&item.ident, &name, data)
        }
        Data::Enum(data) => variant(&item.ident, &name, data),
        Data::Union(data) => Err(Error::new_spanned(
            data.union_token,
            "a union has no WIT type: write an enum",
        )),
    }
}

/// `#[petiole(name = "...")]`, or the type's own name.
fn type_name(item: &DeriveInput) -> Result<String> {
    let mut given = None;
    for attr in item
        .attrs
        .iter()
        .filter(|attr| attr.path().is_ident("petiole"))
    {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("the one option is `name = \"...\"`"));
            }
            let name: LitStr = meta.value()?.parse()?;
            match name::problem(&name.value()) {
                Some(problem) => Err(Error::new(name.span(), problem)),
                None => {
                    given = Some(name.value());
                    Ok(())
                }
            }
        })?;
    }
    given.map_or_else(|| kebab(&item.ident), Ok)
}

fn record(ident: &Ident, name: &str, fields: &FieldsNamed) -> Result<TokenStream> {
    let fields: Vec<_> = fields
        .named
        .iter()
        .filter_map(|field| Some((field.ident.as_ref()?, &field.ty)))
        .collect();
    let names = fields
        .iter()
        .map(|(ident, _)| kebab(ident))
        .collect::<Result<Vec<_>>>()?;
    for (_, ty) in &fields {
        check_field(ident, ty)?;
    }
    let idents: Vec<_> = fields.iter().map(|(ident, _)| ident).collect();
    let kinds = fields
        .iter()
        .map(|(_, ty)| quote_spanned!(ty.span()=> <#ty as ::petiole::Type>::KIND));
    let flat = fields.iter().rev().fold(quote!(::petiole::abi::Nil), |rest, (_, ty)| {
        quote!(<<#ty as ::petiole::Type>::Flat as ::petiole::abi::Flat>::Append<#rest>)
    });
    Ok(quote! {
        impl ::petiole::Type for #ident {
            const KIND: &'static ::petiole::abi::Kind = &::petiole::abi::Kind::Record(#name, &[#((#names, #kinds)),*]);
            type Flat = #flat;

            fn load(at: ::petiole::abi::Place) -> Self {
                let mut fields = ::petiole::abi::Fields::of(at);
                Self { #(#idents: fields.load()),* }
            }

            fn store(self, at: ::petiole::abi::Place) {
                let mut fields = ::petiole::abi::Fields::of(at);
                #(fields.store(self.#idents);)*
            }
        }
    })
}

fn enumeration(ident: &Ident, name: &str, data: &DataEnum) -> Result<TokenStream> {
    let cases: Vec<_> = data.variants.iter().map(|case| &case.ident).collect();
    let names = cases
        .iter()
        .map(|case| kebab(case))
        .collect::<Result<Vec<_>>>()?;
    let indices: Vec<_> = (0..cases.len()).collect();
    Ok(quote! {
        impl ::petiole::Type for #ident {
            const KIND: &'static ::petiole::abi::Kind = &::petiole::abi::Kind::Enum(#name, &[#(#names),*]);
            type Flat = ::petiole::abi::Cons<u32, ::petiole::abi::Nil>;

            fn load(at: ::petiole::abi::Place) -> Self {
                match at.read_case(Self::KIND).0 {
                    #(#indices => Self::#cases,)*
                    _ => ::petiole::abi::invalid("a case that the enum does not have"),
                }
            }

            fn store(self, at: ::petiole::abi::Place) {
                at.write_case(Self::KIND, match self { #(Self::#cases => #indices),* });
            }
        }
    })
}

fn variant(ident: &Ident, name: &str, data: &DataEnum) -> Result<TokenStream> {
    let (mut kinds, mut loads, mut stores) = (Vec::new(), Vec::new(), Vec::new());
    let mut flat = quote!(::petiole::abi::Nil);
    for (index, case) in data.variants.iter().enumerate() {
        let (case_ident, case_name) = (&case.ident, kebab(&case.ident)?);
        match payload(ident, case)? {
            None => {
                kinds.push(quote!((#case_name, ::core::option::Option::None)));
                loads.push(quote!(#index => Self::#case_ident));
                stores.push(quote!(Self::#case_ident => { at.write_case(Self::KIND, #index); }));
            }
            Some(ty) => {
                let value = format_ident!("value");
                let kind = quote_spanned!(ty.span()=> <#ty as ::petiole::Type>::KIND);
                kinds.push(quote!((#case_name, ::core::option::Option::Some(#kind))));
                loads.push(quote!(#index => Self::#case_ident(::petiole::Type::load(payload))));
                stores.push(quote! {
                    Self::#case_ident(#value) => ::petiole::Type::store(#value, at.write_case(Self::KIND, #index))
                });
                flat =
                    quote!(<<#ty as ::petiole::Type>::Flat as ::petiole::abi::Flat>::Join<#flat>);
            }
        }
    }
    Ok(quote! {
        impl ::petiole::Type for #ident {
            const KIND: &'static ::petiole::abi::Kind = &::petiole::abi::Kind::Variant(#name, &[#(#kinds),*]);
            type Flat = ::petiole::abi::Cons<u32, #flat>;

            fn load(at: ::petiole::abi::Place) -> Self {
                let (case, payload) = at.read_case(Self::KIND);
                match case {
                    #(#loads,)*
                    _ => ::petiole::abi::invalid("a case that the variant does not have"),
                }
            }

            fn store(self, at: ::petiole::abi::Place) {
                match self { #(#stores,)* }
            }
        }
    })
}

fn payload<'a>(owner: &Ident, case: &'a Variant) -> Result<Option<&'a Type>> {
    match &case.fields {
        Fields::Unit => Ok(None),
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
            let ty = fields.unnamed.first().map(|field| &field.ty);
            ty.map(|ty| check_field(owner, ty)).transpose()?;
            Ok(ty)
        }
        fields => Err(Error::new_spanned(
            fields,
            "a case of a WIT variant holds one value: name a struct with these fields and #[derive(petiole::Type)]",
        )),
    }
}

fn check_field(owner: &Ident, ty: &Type) -> Result<()> {
    use syn::visit::{Visit, visit_path};
    struct Mentions<'a>(&'a Ident, bool);
    impl<'ast> Visit<'ast> for Mentions<'_> {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            self.1 |= path.is_ident(self.0) || path.is_ident("Self");
            visit_path(self, path);
        }
    }
    check_type(ty)?;
    let mut mentions = Mentions(owner, false);
    mentions.visit_type(ty);
    if mentions.1 {
        return Err(Error::new_spanned(
            ty,
            "a WIT type can't contain itself: take petiole::Json for nested data",
        ));
    }
    Ok(())
}
