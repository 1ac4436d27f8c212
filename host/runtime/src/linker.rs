//! Everything that any task may import.

use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::sandbox::Sandbox;
use crate::task::{canvas, context, log, progress};
use crate::wasi::files::descriptors;
use crate::wasi::keyvalue::interfaces;
use crate::wasi::net::{http, sockets};
use crate::wasi::random;

pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    random::add_to_linker(&mut linker, Sandbox::random)?;
    sockets::add_to_linker(&mut linker, Sandbox::sockets)?;
    http::add_to_linker(&mut linker, Sandbox::meter)?;
    descriptors::add_to_linker(&mut linker, Sandbox::files)?;
    linker.allow_shadowing(false);
    interfaces::add_to_linker(&mut linker, Sandbox::keyvalue)?;
    context::add_to_linker(&mut linker, Sandbox::context)?;
    log::add_to_linker(&mut linker, Sandbox::log)?;
    progress::add_to_linker(&mut linker, Sandbox::progress)?;
    canvas::add_to_linker(&mut linker, Sandbox::canvas)?;
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
