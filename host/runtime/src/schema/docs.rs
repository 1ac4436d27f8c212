//! Task documentation that a guest carries in its custom section `petiole:docs`.

use std::collections::HashMap;

use serde::Deserialize;
use wasmparser::{Parser, Payload};

/// The section's name.
const SECTION: &str = "petiole:docs";

/// The bytes of documentation that a component may carry.
const MAX_DOCS: usize = 1024 * 1024;

/// One line of the section: a JSON object.
#[derive(Deserialize)]
struct Fragment {
    task: String,
    docs: String,
}

/// Docs by the function's name in snake_case. Nothing else depends on them, so what can't be read is
/// left out.
pub(crate) fn docs(wasm: &[u8]) -> HashMap<String, String> {
    let mut left = MAX_DOCS;
    let mut docs = HashMap::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(payload) = payload else { break };
        let Payload::CustomSection(section) = payload else {
            continue;
        };
        if section.name() != SECTION || section.data().len() > left {
            continue;
        }
        left -= section.data().len();
        for line in section.data().split(|byte| *byte == b'\n') {
            if let Ok(Fragment { task, docs: text }) = serde_json::from_slice(line) {
                docs.insert(task.replace('-', "_"), text);
            }
        }
    }
    docs
}
