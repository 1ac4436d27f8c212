//! Loading of components.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::code::cache::Cache;
use crate::code::cache::entry::Entry;
use crate::code::cache::error::CacheError;
use crate::code::compile::{CompileError, Compiler};
use crate::code::engine::{PoolSize, RuntimeError, pooled};
use crate::code::imports::{Interfaces, RefusedImport};
use crate::code::{engine, imports};
use crate::limits::budget::Budget;
use crate::limits::descriptors::Descriptors;
use crate::limits::off_the_executor::{is_long, off_the_executor};
use crate::linker::linker;
use crate::loaded::{Function, Loaded};
use crate::module::{Module, Task};
use crate::sandbox::{Sandbox, Shared};
use crate::schema::docs;
use crate::schema::reflect::{RefusedExport, exports};
use crate::schema::task_schema::TaskSchema;
use crate::schema::wit_type::{holds_list, is_unbounded};
use crate::wasi::files::folders::Folders;
use crate::wasi::net::network::{ModuleNetwork, Network};

/// Loads components and runs their tasks. A clone is the same runtime.
#[derive(Clone)]
pub struct Runtime {
    engine: Engine,
    linker: Arc<Linker<Sandbox>>,
    network: Arc<Network>,
    /// Connections that each task may have at once.
    connections: usize,
    folders: Arc<Folders>,
    budget: Budget,
}

/// A component as it is in a file, and the SHA-256 by which the cache knows it.
#[derive(Debug, Clone, Copy)]
pub struct Binary<'a> {
    /// In the component model's binary format.
    pub wasm: &'a [u8],
    /// Its own: code is taken from the cache by it.
    pub sha256: [u8; 32],
}

/// A component can't be loaded. The text is for the one who uploads it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The cache of compiled code fails: no fault of the component.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Its compiled code can't be mapped: no fault of the component.
    #[error("the compiled code can't be mapped: {reason}")]
    Code {
        /// wasmtime's words, and the system's.
        reason: String,
    },
    /// It imports what it is not granted.
    #[error("the component imports what is not granted to it:{}", list(imports))]
    Imports {
        /// All of them, with what each would take.
        imports: Vec<RefusedImport>,
    },
    /// It does not fit this worker: an import of another shape, or more memory than any task may have.
    #[error("the component can't run here: {reason}")]
    Incompatible {
        /// wasmtime's words.
        reason: String,
    },
    /// It exports nothing that can be called.
    #[error(
        "the component has no task: it must export at least one function that can be called{}",
        list(refused)
    )]
    NoTasks {
        /// The functions it exports, and why they are no tasks.
        refused: Vec<RefusedExport>,
    },
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().fold(String::new(), |mut text, item| {
        // writing to a string does not fail
        let _ = write!(text, "\n  {item}");
        text
    })
}

impl Runtime {
    /// Sets the sandboxes up, and starts the thread that lets them take turns; it ends with the
    /// runtime's last clone.
    ///
    /// # Errors
    /// When the machine can't hold that many.
    pub fn new(size: PoolSize) -> Result<Self, RuntimeError> {
        let engine = pooled(size)?;
        let linker = linker(&engine).map_err(|error| RuntimeError::Engine {
            slots: size.slots,
            reason: format!("{error:#}"),
        })?;
        let descriptors = Descriptors::of_process(size.slots);
        Ok(Self {
            engine,
            linker: Arc::new(linker),
            network: Arc::new(Network::system()),
            connections: descriptors.connections,
            folders: Arc::new(Folders::new(descriptors.open_files)),
            budget: Budget::new(size.budget, size.slots, size.readers),
        })
    }

    /// The budget that the memory of all its tasks stays within.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The same sandboxes, for modules that reach another network.
    #[must_use]
    pub fn with_network(mut self, network: Network) -> Self {
        self.network = Arc::new(network);
        self
    }

    /// Loads a component as the module `name`. Its compiled code comes from `cache`; what is
    /// not there is compiled by `compiler` first, which takes seconds for large components. `interfaces`:
    /// what its tasks are granted, together.
    ///
    /// # Errors
    /// When it is not a component, does not compile, imports what is not granted, or has no task.
    pub async fn load(
        &self,
        name: &str,
        binary: Binary<'_>,
        cache: &Cache,
        compiler: &Compiler,
        interfaces: Interfaces,
    ) -> Result<Module, LoadError> {
        let Binary { wasm, sha256 } = binary;
        let entry = Entry::of(cache, &sha256);
        let code = match entry.verified().await? {
            Some(code) => code,
            None => {
                let turn = compiler.turn(wasm).await?;
                let new = entry.begin().await?;
                turn.compile(new.code()).await?;
                new.finish().await?
            }
        };
        off_the_executor(is_long(wasm.len()), || {
            self.module(name, wasm, &code, interfaces)
        })
    }

    fn module(
        &self,
        name: &str,
        wasm: &[u8],
        code: &Path,
        interfaces: Interfaces,
    ) -> Result<Module, LoadError> {
        let incompatible = |error: wasmtime::Error| {
            let reason = format!("{error:#}");
            match engine::is_of_system(&error) {
                true => LoadError::Code { reason },
                false => LoadError::Incompatible { reason },
            }
        };
        let component = deserialize(&self.engine, code).map_err(incompatible)?;
        let imports = imports::refused(&component, interfaces);
        if !imports.is_empty() {
            return Err(LoadError::Imports { imports });
        }
        let exports = exports(&component);
        if let Some((functions, most)) = exports.too_many() {
            let reason = format!("it exports {functions} functions: the limit is {most}");
            return Err(LoadError::Incompatible { reason });
        }
        if exports.tasks.is_empty() {
            return Err(LoadError::NoTasks {
                refused: exports.refused,
            });
        }
        let instance_pre = self
            .linker
            .instantiate_pre(&component)
            .map_err(incompatible)?;
        let loaded = Arc::new(Loaded {
            instance_pre,
            shared: Shared {
                budget: self.budget.clone(),
                network: ModuleNetwork::new(
                    Arc::clone(&self.network),
                    self.connections,
                    interfaces.http,
                ),
                folders: Arc::clone(&self.folders),
            },
        });
        let mut docs = docs::docs(wasm);
        let tasks = exports.tasks.into_iter().map(|(function, export)| {
            let docs = docs.remove(&function).unwrap_or_default();
            let schema = TaskSchema::new(name, &function, &export.ty, docs);
            let lists = export.ty.types().any(holds_list);
            let result = export.ty.result.as_ref();
            let function = Function {
                export: export.index,
                long: lists.into(),
                lists,
                unbounded: result.is_some_and(|ty| ty.holds(is_unbounded)),
                ty: export.ty,
                schema,
            };
            Task::new(&loaded, function)
        });
        Ok(Module::new(name, tasks.collect(), exports.refused))
    }
}

/// Maps compiled code that [`Entry::verified`] or
/// [`NewEntry::finish`](crate::code::cache::entry::NewEntry::finish) gave the path of.
#[expect(unsafe_code, reason = "the only way to load compiled code")]
fn deserialize(engine: &Engine, code: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file must be what `Engine::precompile_component` wrote, and not change while it is
    // mapped. `code` comes from the cache alone: either our own compiler, a child of this process, has just
    // written it, or its MAC was checked, which only such an output has. Nobody else can replace the file before
    // it is mapped: its folder is open to this user only, and the cache never writes to an entry it has made.
    unsafe { Component::deserialize_file(engine, code) }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;

    /// The resource that this process lacks to map code.
    const SHORT_OF: &str = "PETIOLE_TEST_SHORT_OF";

    /// Runs in a process of its own, since a process' limits are for all of its threads.
    #[test]
    fn a_machine_short_of_something_is_not_the_components_fault() {
        let Ok(short_of) = std::env::var(SHORT_OF) else {
            for short_of in ["memory", "descriptors"] {
                let this =
                    "runtime::tests::a_machine_short_of_something_is_not_the_components_fault";
                let child = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", this, "--nocapture"])
                    .env(SHORT_OF, short_of)
                    .output()
                    .unwrap();
                let output = String::from_utf8_lossy(&child.stdout);
                let passed = child.status.success() && output.contains("1 passed");
                assert!(passed, "{short_of}: {child:?}");
            }
            return;
        };
        let wasm = wat::parse_str(
            r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
                (func (export "f") (canon lift (core func $i "f"))))"#,
        );
        let wasm = wasm.unwrap();
        let size = PoolSize {
            slots: 1,
            max_memory: 1 << 20,
            budget: 1 << 20,
            readers: 1,
        };
        let runtime = Runtime::new(size).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let code = dir.path().join("code");
        let compiled = engine::compiling().unwrap().precompile_component(&wasm);
        std::fs::write(&code, compiled.unwrap()).unwrap();
        let load = || runtime.module("a", &wasm, &code, Interfaces::default());
        assert_eq!(load().unwrap().tasks().count(), 1);

        let (resource, enough) = match short_of.as_str() {
            "memory" => (Resource::As, 0),
            _ => (Resource::Nofile, 3),
        };
        let before = getrlimit(resource);
        let current = Some(enough);
        setrlimit(resource, Rlimit { current, ..before }).unwrap();
        let error = load().unwrap_err();
        setrlimit(resource, before).unwrap();
        assert!(matches!(error, LoadError::Code { .. }), "{error}");
        assert_eq!(load().unwrap().tasks().count(), 1, "it passes");
    }
}
