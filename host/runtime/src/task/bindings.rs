//! Generated from `wit/`; no code of our own.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::restriction
)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "petiole:task/task",
    imports: {
        "petiole:task/canvas.send": async | trappable,
        "petiole:task/progress.update-state": async | trappable,
        default: trappable,
    },
});
