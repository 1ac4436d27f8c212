//! Runs components: reflects their exports into tasks with schemas, maps JSON to WIT values both
//! ways, and calls an export in a fresh sandbox with limits. The one crate that names wasmtime.
//!
//! [`Runtime::load`] makes a [`Module`] of a component; each of its [`Task`]s has a schema, checks
//! arguments ([`Task::bind`]) and is called ([`Task::call`]). What a guest does is a
//! [`Run::outcome`]; arguments that do not fit are an [`ArgumentError`], a refusal; only what the host
//! could not do is a [`HostFault`].
//!
//! JSON for WIT values (both spellings of every name are read, snake_case is written):
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

mod call;
mod code;
mod granted;
mod limits;
mod linker;
mod loaded;
mod log;
mod module;
mod outcome;
mod run;
mod runtime;
mod sandbox;
mod schema;
mod task;
mod wasi;

pub use code::cache::Cache;
pub use code::cache::error::CacheError;
pub use code::compile::{
    COMPILE_COMMAND, CompileError, CompileLimits, Compiler, MAX_COMPONENT_SIZE, compile_command,
};
pub use code::engine::{PoolSize, RuntimeError};
pub use code::imports::{Interfaces, RefusedImport};
pub use granted::{Folder, Granted, KeyValueSpace};
pub use limits::budget::room::{Room, Taken};
pub use limits::budget::{Budget, BudgetUse, PLANS_MADE};
pub use limits::off_the_executor::{is_long, off_the_executor};
pub use log::escape::escaped;
pub use module::{Module, Task};
pub use run::{HostFault, Run, RunMemory, Usage};
pub use runtime::{Binary, LoadError, Runtime};
pub use schema::bind::{ArgumentError, Arguments};
pub use schema::reflect::RefusedExport;
pub use schema::task_schema::{Param, TaskSchema};
pub use task::context::Context;
pub use task::progress::Progress;
pub use wasi::net::network::{Network, Resolver};
