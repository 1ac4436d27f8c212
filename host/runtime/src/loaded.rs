//! A component in memory, and its functions.

use std::sync::atomic::AtomicBool;

use wasmtime::Engine;
use wasmtime::component::{ComponentExportIndex, InstancePre};

use crate::sandbox::{Sandbox, Shared};
use crate::schema::function_type::FunctionType;
use crate::schema::task_schema::TaskSchema;

/// A component, ready to be instantiated.
pub(crate) struct Loaded {
    pub(crate) instance_pre: InstancePre<Sandbox>,
    pub(crate) shared: Shared,
}

/// An exported function, found once at load.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) export: ComponentExportIndex,
    pub(crate) ty: FunctionType,
    /// Parameters or result hold lists.
    pub(crate) lists: bool,
    /// A call may be long at work without a pause: it has lists, or a call of it has had
    /// much memory. Each call says so for the next.
    pub(crate) long: AtomicBool,
    /// Its type leaves it open how large its result is.
    pub(crate) unbounded: bool,
    pub(crate) schema: TaskSchema,
}

impl Loaded {
    pub(crate) fn engine(&self) -> &Engine {
        self.instance_pre.engine()
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").finish_non_exhaustive()
    }
}
