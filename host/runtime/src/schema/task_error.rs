//! The shape of the variant `task-error` of `petiole:task/types`.

use std::sync::LazyLock;

use crate::schema::wit_type::{Case, Field, Name, WitType};

/// The variant's shape, as `wit/task.wit` has it.
static TASK_ERROR: LazyLock<WitType> = LazyLock::new(|| {
    let option = |ty| WitType::Option(Box::new(ty));
    let failure = record([
        ("exc-type", WitType::String),
        ("exc-message", WitType::List(Box::new(WitType::Json))),
        ("exc-module", option(WitType::String)),
    ]);
    let retry_at = variant([
        ("default", None),
        ("countdown-ms", Some(WitType::U64)),
        ("eta-ms", Some(WitType::U64)),
    ]);
    let retry = record([
        ("reason", failure.clone()),
        ("at", retry_at),
        ("max-retries", option(WitType::U32)),
    ]);
    let reject = record([("reason", WitType::String), ("requeue", WitType::Bool)]);
    variant([
        ("fail", Some(failure)),
        ("retry", Some(retry)),
        ("reject", Some(reject)),
        ("ignore", None),
    ])
});

fn record<const N: usize>(fields: [(&str, WitType); N]) -> WitType {
    WitType::Record(
        fields
            .map(|(name, ty)| Field {
                name: Name::new(name),
                ty,
            })
            .into(),
    )
}

fn variant<const N: usize>(cases: [(&str, Option<WitType>); N]) -> WitType {
    WitType::Variant(
        cases
            .map(|(name, ty)| Case {
                name: Name::new(name),
                ty,
            })
            .into_iter()
            .collect(),
    )
}

/// Known by its shape: a component may define it itself.
pub(crate) fn is_task_error(ty: &WitType) -> bool {
    *ty == *TASK_ERROR
}
