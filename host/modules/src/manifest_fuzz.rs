//! Manifests that no author would write.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use allocation_counter::measure;

use crate::Manifest;

/// Memory and time that one text of some kilobytes may take.
const MEMORY: u64 = 2 << 20;
const TIME: Duration = Duration::from_secs(5);

/// Manifests that are taken are kept as they are: the catalog holds them as JSON, and people see them as TOML.
#[test]
fn any_text_is_a_manifest_or_is_refused() {
    bolero::check!()
        .with_iterations(5_000)
        .for_each(|bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let start = Instant::now();
            let memory = measure(|| assert_taken_or_refused(&text)).bytes_max;
            assert!(memory <= MEMORY, "{memory} bytes at once");
            let time = start.elapsed();
            assert!(time <= TIME, "{time:?}");
        });
}

fn assert_taken_or_refused(text: &str) {
    let manifest = match Manifest::from_toml(text) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    for function in manifest.tasks.keys().map(String::as_str).chain(["other"]) {
        let _ = manifest.settings(function);
    }
    let json = serde_json::to_string(&manifest).unwrap();
    let read: Manifest = serde_json::from_str(&json).unwrap();
    assert_eq!(read, manifest, "{json}");
    let toml = toml::to_string(&manifest).unwrap();
    assert_eq!(Manifest::from_toml(&toml).unwrap(), manifest, "{toml}");
}
