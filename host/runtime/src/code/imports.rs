//! Imports that a component is granted.

use std::fmt::{self, Display, Formatter};

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

/// The interfaces that are linked only for modules that are granted what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// `wasi:http`, for outbound requests.
    pub http: bool,
    /// `wasi:keyvalue`.
    pub keyvalue: bool,
}

/// An import that is not linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedImport {
    /// The interface with its version.
    pub name: String,
    /// The capability that it takes, as manifests spell it; none where no worker has such an interface.
    pub capability: Option<&'static str>,
}

impl Interfaces {
    /// The interfaces that either has.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            http: self.http || other.http,
            keyvalue: self.keyvalue || other.keyvalue,
        }
    }
}

impl Display for RefusedImport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.capability {
            Some(capability) => write!(
                f,
                "{name}: needs `{capability}`, asked for in the manifest's [capabilities] and allowed by the \
                 worker's [grants]"
            ),
            None => write!(f, "{name}: no capability grants it"),
        }
    }
}

/// Packages that the linker always has: package, versions that count as the same (a change of the last number
/// keeps an interface compatible), interfaces.
const ALWAYS: &[Package] = &[
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

/// The package that it has for `http`.
const HTTP: Package = ("wasi:http", "0.2.", &["outgoing-handler", "types"]);

/// The package that it has for `keyvalue`.
const KEYVALUE: Package = (
    "wasi:keyvalue",
    "0.2.0-draft2",
    &["store", "atomics", "batch"],
);

type Package = (&'static str, &'static str, &'static [&'static str]);

/// The imports that are not granted, all of them.
pub(crate) fn refused(component: &Component, granted: Interfaces) -> Vec<RefusedImport> {
    let engine = component.engine();
    let ty = component.component_type();
    let imports = ty.imports(engine).filter(|(_, item)| match &item.ty {
        // types need nothing of the host
        ComponentItem::Type(_) => false,
        ComponentItem::ComponentInstance(instance) => {
            let mut exports = instance.exports(engine);
            exports.any(|(_, item)| !matches!(item.ty, ComponentItem::Type(_)))
        }
        _ => true,
    });
    imports
        .filter_map(|(name, _)| refusal(name, granted))
        .collect()
}

fn refusal(name: &str, granted: Interfaces) -> Option<RefusedImport> {
    let capability = if ALWAYS.iter().any(|package| has(package, name)) {
        return None;
    } else if has(&HTTP, name) {
        (!granted.http).then_some(Some("http"))?
    } else if has(&KEYVALUE, name) {
        (!granted.keyvalue).then_some(Some("keyvalue"))?
    } else {
        None
    };
    Some(RefusedImport {
        name: name.to_owned(),
        capability,
    })
}

fn has((package, versions, interfaces): &Package, name: &str) -> bool {
    name.split_once('@')
        .and_then(|(interface, version)| Some((interface.split_once('/')?, version)))
        .is_some_and(|((own, interface), version)| {
            own == *package && version.starts_with(versions) && interfaces.contains(&interface)
        })
}
