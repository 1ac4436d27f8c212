//! Attack: times that no clock has: a countdown of a billion years, an eta before the first year, an expiry of NaN.

use petiole::Signature;
use serde_json::{Value, json};

#[petiole::task]
fn attack() -> Vec<String> {
    let tried: Vec<(&str, Value)> = vec![
        ("countdown", json!(1e300)),
        ("countdown", json!(-1e300)),
        ("countdown", json!(u64::MAX)),
        ("eta", json!("-9999-01-01T00:00:00")),
        ("eta", json!("9999-12-31T23:59:59.999999999999")),
        ("expires", json!(f64::MAX)),
        ("priority", json!(-1)),
        ("priority", json!(1000)),
        ("task_id", json!(["a", "list"])),
        ("link", json!("not a signature")),
        ("queue", json!("q".repeat(1000))),
    ];
    let outcomes = tried.into_iter().map(|(name, value)| {
        let sent = petiole::send(Signature::new("hostile.nowhere.attack").option(name, value));
        format!("{name}: {}", if sent.is_ok() { "sent" } else { "refused" })
    });
    outcomes.collect()
}
