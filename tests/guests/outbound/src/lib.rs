//! A test guest: what leaves the sandbox, or tries to. Nothing to copy from; see `tasks-wasm/`.

mod given;
mod http;
mod tcp;
