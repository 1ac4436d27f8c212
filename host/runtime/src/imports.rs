//! Which imports a component is granted.

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

/// What the linker has: package, versions that count as the same (a change of the last number keeps
/// an interface compatible), interfaces.
const GRANTED: &[(&str, &str, &[&str])] = &[
    (
        "petiole:task",
        "0.1.",
        &["types", "context", "log", "progress", "canvas"],
    ),
    ("wasi:io", "0.2.", &["error", "poll", "streams"]),
    ("wasi:clocks", "0.2.", &["monotonic-clock", "wall-clock"]),
    (
        "wasi:random",
        "0.2.",
        &["insecure", "insecure-seed", "random"],
    ),
    ("wasi:filesystem", "0.2.", &["preopens", "types"]),
    (
        "wasi:sockets",
        "0.2.",
        &[
            "instance-network",
            "ip-name-lookup",
            "network",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
    ),
    (
        "wasi:cli",
        "0.2.",
        &[
            "environment",
            "exit",
            "stderr",
            "stdin",
            "stdout",
            "terminal-input",
            "terminal-output",
            "terminal-stderr",
            "terminal-stdin",
            "terminal-stdout",
        ],
    ),
];

/// The imports that are not granted, all of them.
pub(crate) fn refused(component: &Component) -> Vec<String> {
    let engine = component.engine();
    let ty = component.component_type();
    let imports = ty.imports(engine).filter(|(name, item)| match &item.ty {
        // types need nothing of the host
        ComponentItem::Type(_) => false,
        ComponentItem::ComponentInstance(instance) => {
            let mut exports = instance.exports(engine);
            exports.any(|(_, item)| !matches!(item.ty, ComponentItem::Type(_))) && !is_granted(name)
        }
        _ => true,
    });
    imports.map(|(name, _)| name.to_owned()).collect()
}

fn is_granted(name: &str) -> bool {
    let Some((interface, version)) = name.split_once('@') else {
        return false;
    };
    let Some((package, interface)) = interface.split_once('/') else {
        return false;
    };
    GRANTED.iter().any(|(granted, versions, interfaces)| {
        *granted == package && version.starts_with(versions) && interfaces.contains(&interface)
    })
}
