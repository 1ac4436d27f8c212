//! Components and manifests from a user: checked here, so that a mistake is reported before anything is sent.

use std::path::Path;

use anyhow::{Context, anyhow};
use petiole_runtime::MAX_COMPONENT_SIZE;

use crate::exit::{Failure, Result};

/// The first eight bytes of a component and of a core module: magic, version, layer
/// (component-model `Binary.md`, "Component Definitions").
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
const CORE_MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";

/// Reads a file that has to be a component.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path)
        .with_context(|| format!("can't read {}", path.display()))
        .map_err(Failure::usage)?;
    if size.len() > u64::try_from(MAX_COMPONENT_SIZE).unwrap_or(u64::MAX) {
        return Err(Failure::usage(anyhow!(
            "{} has {} bytes, more than the {MAX_COMPONENT_SIZE} that a component may have",
            path.display(),
            size.len()
        )));
    }
    let bytes = std::fs::read(path)
        .with_context(|| format!("can't read {}", path.display()))
        .map_err(Failure::usage)?;
    check(&bytes).map_err(|reason| Failure::usage(anyhow!("{} {reason}", path.display())))?;
    Ok(bytes)
}

fn check(bytes: &[u8]) -> std::result::Result<(), &'static str> {
    match bytes.first_chunk::<8>() {
        Some(&COMPONENT) => Ok(()),
        Some(&CORE_MODULE) => Err(
            "is a core WebAssembly module, not a component: make one of it with `wasm-tools component new FILE -o OUT` \
             (with `--adapt wasi_snapshot_preview1=ADAPTER.wasm` where it uses WASI), or build for the target wasm32-wasip2",
        ),
        Some([0, b'a', b's', b'm', ..]) => Err(
            "is WebAssembly in a binary version that petiole does not know: build it again with current tools",
        ),
        _ => Err(
            "is not a WebAssembly component: build one, for example with `cargo build --target wasm32-wasip2`",
        ),
    }
}

/// Reads a manifest, where one is named.
pub(super) fn manifest(path: Option<&Path>) -> Result<Option<String>> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .with_context(|| format!("can't read the manifest {}", path.display()))
            .map_err(Failure::usage)
    };
    path.map(read).transpose()
}

/// The module that a file becomes where none is named: `my-app.wasm` is `my_app.tasks`.
pub(super) fn module_name(path: &Path) -> Result<String> {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default()
        .replace('-', "_");
    let name = format!("{stem}.tasks");
    match name.parse::<petiole_modules::ModuleName>() {
        Ok(name) => Ok(name.to_string()),
        Err(error) => Err(Failure::usage(anyhow::Error::from(error).context(format!(
            "can't make a module name of the file name {}",
            path.display()
        )))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_told_apart() {
        assert_eq!(check(b"\0asm\x0d\0\x01\0rest"), Ok(()));
        assert!(
            check(b"\0asm\x01\0\0\0")
                .is_err_and(|reason| reason.contains("wasm-tools component new"))
        );
        assert!(check(b"\0asm\x02\0\0\0").is_err_and(|reason| reason.contains("binary version")));
        for bytes in [&b""[..], b"\0asm", b"(component)", b"#!/bin/sh"] {
            assert!(
                check(bytes).is_err_and(|reason| reason.contains("not a WebAssembly component")),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn module_names() {
        assert_eq!(
            module_name(Path::new("build/my-app.wasm")).unwrap(),
            "my_app.tasks"
        );
        assert!(module_name(Path::new("a b.wasm")).is_err());
    }
}
