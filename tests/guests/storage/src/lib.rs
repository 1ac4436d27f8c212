//! A test guest: folders and key-value storage, used as they should be and as they should not. Nothing to copy
//! from; see `tasks-wasm/`.

mod files;
mod keyvalue;
mod raw;
mod take;
