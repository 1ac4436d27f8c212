//! Generated from `wit/deps/keyvalue`; no code of our own.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction
)]

wasmtime::component::bindgen!({
    path: "../../wit/deps/keyvalue",
    world: "wasi:keyvalue/imports",
    imports: { default: async | trappable },
    with: {
        "wasi:keyvalue/store.bucket": crate::wasi::keyvalue::resources::Bucket,
        "wasi:keyvalue/atomics.cas": crate::wasi::keyvalue::resources::Cas,
    },
});
