//! WASI 0.2 as far as a task is granted it, metered.

pub(crate) mod cli;
pub(crate) mod files;
pub(crate) mod keyvalue;
pub(crate) mod net;
pub(crate) mod random;

/// The version of the interfaces that `wasmtime_wasi` links. Functions of another one would take no other's place:
/// a test of `linker.rs` holds it against them.
const VERSION: &str = "0.2.12";

/// The name of an interface in the linker: `wasi:http/types` with its version.
pub(crate) fn versioned(interface: &str) -> String {
    format!("{interface}@{VERSION}")
}
