//! Runs components: reflects their exports into typed task signatures, maps JSON to WIT values both
//! ways, and calls an export in a fresh sandbox with limits. The one crate that names wasmtime.
//!
//! [`Runtime::load`] makes a [`Module`] of a component; each of its [`Task`]s has a signature, checks
//! arguments ([`Task::bind`]) and is called ([`Task::call`]). What a guest does is a
//! [`Run::outcome`]; arguments that do not fit are an [`ArgumentError`], a refusal; only what the host
//! could not do is a [`HostFault`].
//!
//! How JSON stands for WIT values (both spellings of every name are read, snake_case is written):
//!
//! | WIT | JSON |
//! | --- | --- |
//! | `bool`, integers | the same; out of range is an error; `s64` and `u64` also as decimal strings |
//! | `f32`, `f64` | numbers; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | `char`, `string` | strings; kombu's `datetime`, `date`, `time`, `decimal` and `uuid` for `string` |
//! | `list<u8>` | base64 (RFC 4648 section 4); also read: arrays, kombu's `bytes` and `base64` |
//! | `list<T>`, `tuple<..>` | arrays |
//! | `option<T>` | `null` or the value; `{"some": ..}` where `T` is an option itself |
//! | records | objects; a missing field is none |
//! | enums, flags | strings, arrays of strings |
//! | variants | `"name"`, or `{"name": payload}` |
//! | `result<T, E>` inside of a value | `{"ok": ..}`, `{"err": ..}` |
//! | `json` of `petiole:task/types` | the value that its text stands for; `option<json>` has no `some(null)` |

mod backtrace;
mod bind;
mod bindings;
mod budget;
mod cache;
mod call;
mod canonical;
mod compile;
mod docs;
mod egress;
mod engine;
mod file_streams;
mod files;
mod filesystem;
mod from_json;
mod granted;
mod host;
mod http;
mod imports;
#[cfg(test)]
mod json_properties;
#[cfg(test)]
mod json_tables;
mod json_texts;
mod keyvalue;
mod last_words;
mod limiter;
mod limits;
mod meter;
mod metered;
mod mismatch;
mod module;
mod outcome;
mod random;
mod redact;
mod reflect;
mod request_body;
mod signature;
mod sockets;
mod task_error;
mod task_log;
mod temp;
mod to_json;
mod unpaused;
mod wasi;
mod wit_type;

pub use bind::{ArgumentError, Arguments};
pub use budget::{Budget, BudgetUse, PLANS_MADE, Room, Taken};
pub use cache::{Cache, CacheError};
pub use call::{Context, HostFault, Progress, Run, RunMemory, Usage};
pub use compile::{
    COMPILE_COMMAND, CompileError, CompileLimits, Compiler, MAX_COMPONENT_SIZE, compile_command,
};
pub use egress::{Network, Resolver};
pub use engine::{PoolSize, RuntimeError};
pub use granted::{Folder, Granted, KeyValueSpace};
pub use imports::{Interfaces, RefusedImport};
pub use module::{LoadError, Module, Runtime, Task};
pub use reflect::RefusedExport;
pub use signature::{Param, TaskSignature};
pub use unpaused::{is_long, unpaused};
