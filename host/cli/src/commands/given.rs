//! A task's capabilities and limits, for people to read.

use petiole_api::documents::{CapabilitiesDocument, LimitsDocument};
use petiole_permits::{Capabilities, LIMITS, Refused, Size, Unit};
use serde_json::Value;

use crate::logging::escaped;

/// A line each for what is asked for, granted and refused, where there is any. The first is left out where all that
/// was asked for is granted.
pub(super) fn capabilities(document: &CapabilitiesDocument) -> Vec<String> {
    let refused = document.refused.join(", ");
    let asked = if refused.is_empty() {
        String::new()
    } else {
        items(&document.asked).join(", ")
    };
    let granted = items(&document.granted).join(", ");
    [
        ("asks for", asked),
        ("granted", granted),
        ("refused", refused),
    ]
    .into_iter()
    .filter(|(_, items)| !items.is_empty())
    .map(|(what, items)| format!("{what}: {}", escaped(&items)))
    .collect()
}

/// One line.
pub(super) fn limits(document: &LimitsDocument) -> String {
    let limits = document.0.iter().filter(|(_, limit)| !limit.is_null());
    let limits = limits.map(|(name, limit)| format!("{name} {}", amount(name, limit)));
    format!(
        "limits: {}",
        escaped(&limits.collect::<Vec<_>>().join(", "))
    )
}

/// The things refused, and the operator's remedy.
pub(super) fn refused(refused: &[Refused], module: &str) -> String {
    let refused: Vec<_> = refused.iter().map(ToString::to_string).collect();
    format!(
        "refused: {}: {}",
        escaped(&refused.join(", ")),
        hint(module)
    )
}

/// The operator's remedy for a refusal.
pub(super) fn hint(module: &str) -> String {
    format!("to allow it, the worker's petiole.toml needs it under [grants.{module:?}]")
}

/// Everything beyond the default, each as the runtime names what it refuses.
fn items(capabilities: &Capabilities) -> Vec<String> {
    let nothing = Capabilities {
        clocks: capabilities.clocks,
        random: capabilities.random,
        ..Capabilities::default()
    };
    let (_, all) = capabilities.intersect(&nothing);
    let mut items: Vec<_> = all.iter().map(ToString::to_string).collect();
    if !capabilities.clocks {
        items.push("clocks that stand still".to_owned());
    }
    if !capabilities.random {
        items.push("random numbers that follow from the task's id".to_owned());
    }
    items
}

fn amount(name: &str, limit: &Value) -> String {
    let spec = LIMITS.iter().find(|spec| spec.name == name);
    match (spec.map(|spec| spec.unit), limit.as_u64(), limit.as_f64()) {
        (Some(Unit::Size), Some(bytes), _) => Size::new(bytes).to_string(),
        (Some(Unit::Time), _, Some(seconds)) => format!("{seconds} s"),
        _ => limit.to_string(),
    }
}
