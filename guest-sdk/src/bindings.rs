//! The worker's interfaces, as `wit/task.wit` has them. A component imports only those that its tasks call.
#![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications)]

wit_bindgen::generate!({ path: "../wit", world: "task" });

pub(crate) use petiole::task::{canvas, context, log, progress};
