//! Types and values written shortly.

use wasmtime::component::Val;

use crate::schema::wit_type::{Case, Field, Name, WitType};

pub(crate) fn option(ty: WitType) -> WitType {
    WitType::Option(Box::new(ty))
}

pub(crate) fn list(ty: WitType) -> WitType {
    WitType::List(Box::new(ty))
}

pub(crate) fn record(fields: &[(&str, WitType)]) -> WitType {
    WitType::record(
        fields
            .iter()
            .map(|(name, ty)| Field {
                name: Name::new(name),
                ty: ty.clone(),
            })
            .collect(),
    )
}

pub(crate) fn variant(cases: &[(&str, Option<WitType>)]) -> WitType {
    WitType::Variant(
        cases
            .iter()
            .map(|(name, ty)| Case {
                name: Name::new(name),
                ty: ty.clone(),
            })
            .collect(),
    )
}

pub(crate) fn enumeration(cases: &[&str]) -> WitType {
    WitType::Enum(names(cases).into_iter().collect())
}

pub(crate) fn names(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| Name::new(name)).collect()
}

pub(crate) fn json_text(text: String) -> Val {
    Val::Record(vec![("petiole-json".to_owned(), Val::String(text))])
}
