//! `petiole:task/progress`: states that a task gives itself.

use petiole_celery::State;
use serde_json::Value;
use tokio::sync::watch;
use wasmtime::component::HasData;

use crate::limits::budget::held::Held;
use crate::limits::off_the_executor::{is_long, off_the_executor};
use crate::schema::json_texts;
use crate::task::bindings::petiole::task::progress;
use crate::task::json_argument::{parsed, within};

/// The length of a state's name, in bytes.
const MAX_STATE_NAME: usize = 64;
/// The size of what a state tells, in bytes: it is read and stored again and again, and a value takes up to
/// 150 times its JSON text here.
const MAX_STATE_META: usize = 256 * 1024;

/// A state that a task has set for itself (`petiole:task/progress`).
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Always [`State::Custom`] or [`State::Started`].
    pub state: State,
    /// As `AsyncResult.info` returns it.
    pub meta: Value,
}

/// The way to whoever stores states.
pub(crate) struct ProgressState {
    sender: watch::Sender<Option<Progress>>,
    /// Held for the last state, in bytes.
    memory: usize,
}

impl ProgressState {
    pub(crate) fn new(sender: watch::Sender<Option<Progress>>) -> Self {
        Self { sender, memory: 0 }
    }
}

/// The data of a host function of `petiole:task/progress`.
pub(crate) struct ProgressView<'a> {
    pub(crate) state: &'a mut ProgressState,
    pub(crate) held: &'a mut Held,
    /// The size of a result, in bytes.
    pub(crate) result: usize,
}

pub(crate) struct HasProgress;

impl HasData for HasProgress {
    type Data<'a> = ProgressView<'a>;
}

impl progress::Host for ProgressView<'_> {
    async fn update_state(
        &mut self,
        state: String,
        meta: String,
    ) -> wasmtime::Result<Result<(), String>> {
        let limit = self.result.min(MAX_STATE_META);
        if meta.len() <= limit {
            // the last one may still be on its way to the store
            let more = (2 * json_texts::memory(&meta)).saturating_sub(self.state.memory);
            self.held.grow_beyond(more).await?;
            self.state.memory = self.state.memory.saturating_add(more);
        }
        let progress = off_the_executor(is_long(meta.len()), || read(state, &meta, limit));
        Ok(progress.map(|progress| {
            self.state.sender.send_replace(Some(progress));
        }))
    }
}

/// `limit`: the size of `meta`, in bytes.
fn read(state: String, meta: &str, limit: usize) -> Result<Progress, String> {
    within("meta", meta.len(), limit)?;
    let meta = parsed("meta", meta)?;
    Ok(Progress {
        state: custom_state(state)?,
        meta,
    })
}

/// A state that a task may give itself.
fn custom_state(name: String) -> Result<State, String> {
    let is_name = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
    match name.as_str() {
        "STARTED" => Ok(State::Started),
        "PENDING" | "RECEIVED" | "RETRY" | "SUCCESS" | "FAILURE" | "REVOKED" | "REJECTED"
        | "IGNORED" => Err(format!("state {name} is set by the worker")),
        _ if name.is_empty() || name.len() > MAX_STATE_NAME || !name.bytes().all(is_name) => Err(
            format!("a state is 1 to {MAX_STATE_NAME} characters of A-Z, 0-9, _ and -"),
        ),
        _ => Ok(State::Custom(name)),
    }
}
