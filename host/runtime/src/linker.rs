//! Everything that any task may import.

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use crate::log::task_log::TaskLog;
use crate::sandbox::Sandbox;
use crate::task::bindings::petiole::task::{canvas, context, log, progress};
use crate::task::canvas::HasCanvas;
use crate::task::context::HasContext;
use crate::task::progress::HasProgress;
use crate::wasi::files::descriptors::HasFiles;
use crate::wasi::keyvalue::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::wasi::keyvalue::interfaces::HasKeyValue;
use crate::wasi::net::{http, sockets};
use crate::wasi::random::HasRandom;

pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    let all = &mut linker;
    wasmtime_wasi::p2::add_to_linker_async(all)?;
    // these take the place of what `wasmtime_wasi` has linked
    all.allow_shadowing(true);
    random::add_to_linker::<_, HasRandom>(all, Sandbox::random)?;
    insecure::add_to_linker::<_, HasRandom>(all, Sandbox::random)?;
    insecure_seed::add_to_linker::<_, HasRandom>(all, Sandbox::random)?;
    types::add_to_linker::<_, HasFiles>(all, Sandbox::files)?;
    preopens::add_to_linker::<_, HasFiles>(all, Sandbox::files)?;
    sockets::add_to_linker(all, Sandbox::sockets)?;
    http::add_to_linker(all, Sandbox::meter)?;
    all.allow_shadowing(false);
    store::add_to_linker::<_, HasKeyValue>(all, Sandbox::keyvalue)?;
    atomics::add_to_linker::<_, HasKeyValue>(all, Sandbox::keyvalue)?;
    batch::add_to_linker::<_, HasKeyValue>(all, Sandbox::keyvalue)?;
    context::add_to_linker::<_, HasContext>(all, Sandbox::context)?;
    log::add_to_linker::<_, HasSelf<TaskLog>>(all, Sandbox::log)?;
    progress::add_to_linker::<_, HasProgress>(all, Sandbox::progress)?;
    canvas::add_to_linker::<_, HasCanvas>(all, Sandbox::canvas)?;
    Ok(linker)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use wasmtime::component::Component;

    use super::linker;
    use crate::code::engine::compiling;
    use crate::wasi::versioned;

    /// Of another version, ours would stand beside what they are to take the place of, alone in their interface.
    #[test]
    fn functions_that_take_others_place_are_of_their_version() {
        let engine = compiling().unwrap();
        let linker = linker(&engine).unwrap();
        for (interface, resource, function, result) in [
            ("wasi:sockets/tcp", "tcp-socket", "is-listening", "bool"),
            (
                "wasi:http/types",
                "outgoing-request",
                "path-with-query",
                "(option string)",
            ),
        ] {
            let function_of_wasmtimes = format!(
                r#"(component (import "{}" (instance
                    (export "{resource}" (type $r (sub resource)))
                    (export "[method]{resource}.{function}"
                        (func (param "self" (borrow $r)) (result {result}))))))"#,
                versioned(interface)
            );
            let component = wat::parse_str(function_of_wasmtimes).unwrap();
            let component = Component::from_binary(&engine, &component).unwrap();
            let linked = linker.instantiate_pre(&component).map(drop);
            assert!(linked.is_ok(), "{linked:?}");
        }
    }
}
