//! The worker's interfaces, bound by `wit/task.wit`. A component imports only what its tasks call.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::log::Level;
use crate::{Request, Signature};

mod bindings {
    #![allow(missing_docs, unreachable_pub, unsafe_code, unused_qualifications)]
    wit_bindgen::generate!({ path: "../wit", world: "task" });
}

use bindings::petiole::task::{canvas, context, log, progress};

pub(crate) fn request_of_task() -> Request {
    let request = context::get_request();
    Request {
        id: request.id,
        task: request.task,
        retries: request.retries,
        root_id: request.root_id,
        parent_id: request.parent_id,
        group_id: request.group_id,
        group_index: request.group_index,
        headers: request
            .headers
            .into_iter()
            .map(|(name, value)| (name, header(value)))
            .collect(),
        deadline: time(request.deadline_ms),
        soft_deadline: request.soft_deadline_ms.map(time),
        idempotency_key: request.idempotency_key,
    }
}

pub(crate) fn soft_limit_reached() -> bool {
    context::soft_limit_reached()
}

fn header(json: String) -> Value {
    serde_json::from_str(&json).unwrap_or(Value::String(json))
}

fn time(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(unix_ms))
        .unwrap_or(UNIX_EPOCH)
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => log::Level::Trace,
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::log(level, message);
}

pub(crate) fn update_state(state: &str, meta: &str) -> Result<(), String> {
    progress::update_state(state, meta)
}

pub(crate) fn send(signature: Signature) -> Result<String, String> {
    canvas::send(&canvas::Signature {
        task: signature.task,
        args: Value::Array(signature.args).to_string(),
        kwargs: Value::Object(signature.kwargs).to_string(),
        options: Value::Object(signature.options).to_string(),
        immutable: signature.immutable,
    })
}
