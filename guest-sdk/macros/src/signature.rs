//! The check of a task's signature: an error stands at what can't be taken, and says what to write
//! instead.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Error, FnArg, Ident, ItemFn, Pat, Result, ReturnType, Type};

use crate::name::kebab;

/// WIT functions can take more, but tuples end here.
const MAX_PARAMS: usize = 16;

pub(crate) struct Param<'a> {
    pub(crate) name: String,
    pub(crate) ident: &'a Ident,
    pub(crate) ty: &'a Type,
}

/// The parameters of a task, checked with the rest of its signature.
pub(crate) fn params(function: &ItemFn) -> Result<Vec<Param<'_>>> {
    let mut errors = Errors::default();
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        errors.add(token, "a task is a plain function: it may block, since it has its sandbox to itself; remove `async`");
    }
    if let Some(token) = &signature.unsafety {
        errors.add(
            token,
            "a task can't be unsafe: the host calls it with any arguments of its types",
        );
    }
    if let Some(token) = &signature.abi {
        errors.add(token, "a task has Rust's own ABI: remove `extern`");
    }
    if !signature.generics.params.is_empty() {
        errors.add(
            &signature.generics,
            "a task can't be generic: its types are its schema, so each must be known",
        );
    }
    if let ReturnType::Type(_, ty) = &signature.output {
        errors.visit_type(ty);
    }
    if signature.inputs.len() > MAX_PARAMS {
        errors.add(&signature.inputs, "a task takes at most 16 parameters: put some into a struct with #[derive(petiole::Type)]");
    }
    let mut params: Vec<Param<'_>> = Vec::new();
    for input in &signature.inputs {
        match param(input) {
            Ok(param) => {
                errors.visit_type(param.ty);
                if params.iter().any(|other| other.name == param.name) {
                    errors.add(
                        param.ident,
                        "two parameters have the same name in kebab-case",
                    );
                }
                params.push(param);
            }
            Err(error) => errors.push(error),
        }
    }
    match errors.0 {
        Some(error) => Err(error),
        None => Ok(params),
    }
}

fn param(input: &FnArg) -> Result<Param<'_>> {
    match input {
        FnArg::Receiver(receiver) => Err(Error::new_spanned(
            receiver,
            "a task is a free function: it can't have `self`",
        )),
        FnArg::Typed(param) => match param.pat.as_ref() {
            Pat::Ident(pat) => Ok(Param {
                name: kebab(&pat.ident)?,
                ident: &pat.ident,
                ty: &param.ty,
            }),
            pat => Err(Error::new_spanned(
                pat,
                "a task's parameter needs a plain name: callers pass it by that name",
            )),
        },
    }
}

/// All that is wrong, shown at once.
#[derive(Default)]
pub(crate) struct Errors(pub(crate) Option<Error>);

impl Errors {
    fn add(&mut self, tokens: impl quote::ToTokens, message: &str) {
        self.push(Error::new_spanned(tokens, message));
    }

    fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }
}

/// Finds types that no WIT type can stand for. Those that only the compiler can tell fail by the trait
/// `petiole::Type`.
impl<'ast> Visit<'ast> for Errors {
    fn visit_type(&mut self, ty: &'ast Type) {
        match ty {
            Type::Reference(reference) => self.add(ty, &borrowed(&reference.elem)),
            Type::ImplTrait(_) => self.add(
                ty,
                "`impl Trait` has no name to put into the schema: name the type",
            ),
            Type::TraitObject(_) => self.add(
                ty,
                "a trait object can't be passed: name a type, or take petiole::Json",
            ),
            Type::Ptr(_) | Type::BareFn(_) => self.add(ty, "pointers can't leave the sandbox"),
            Type::Array(_) => self.add(ty, "WIT lists have no fixed length: take a `Vec`"),
            Type::Path(path) if path.qself.is_none() => {
                match path.path.get_ident().map(Ident::to_string).as_deref() {
                    Some("usize") => self.add(
                        ty,
                        "`usize` has another size outside the sandbox: take `u64` or `u32`",
                    ),
                    Some("isize") => self.add(
                        ty,
                        "`isize` has another size outside the sandbox: take `i64` or `i32`",
                    ),
                    Some("u128" | "i128") => {
                        self.add(ty, "WIT's integers have at most 64 bits: take a `String`")
                    }
                    Some("str") => self.add(ty, "take a `String`"),
                    _ => visit::visit_type(self, ty),
                }
            }
            _ => visit::visit_type(self, ty),
        }
    }
}

fn borrowed(elem: &Type) -> String {
    let owned = match elem {
        Type::Path(path) if path.path.is_ident("str") => "`String`".to_owned(),
        Type::Slice(slice) => {
            let source = slice.elem.span().source_text();
            source.map_or_else(
                || "a `Vec`".to_owned(),
                |element| format!("`Vec<{element}>`"),
            )
        }
        _ => "the value itself".to_owned(),
    };
    format!(
        "a task owns its arguments and gives its result away: take {owned} instead of a reference"
    )
}

/// The first type in `ty` that no WIT type can stand for.
pub(crate) fn check_type(ty: &Type) -> Result<()> {
    let mut errors = Errors::default();
    errors.visit_type(ty);
    errors.0.map_or(Ok(()), Err)
}
