//! `petiole:task/context`: the request, as its guest sees it.

use std::time::Duration;

use petiole_permits::Limits;
use serde_json::{Map, Value};
use wasmtime::component::HasData;

use crate::limits::meter::Meter;
use crate::task::bindings::petiole::task::context;

/// The request as the guest sees it (`petiole:task/context`).
#[derive(Debug, Clone)]
pub struct Context {
    /// The task's id.
    pub id: String,
    /// The task's full name.
    pub task: String,
    /// 0 the first time.
    pub retries: u32,
    /// The first task of the workflow.
    pub root_id: String,
    /// The task that sent this one.
    pub parent_id: Option<String>,
    /// The group it belongs to.
    pub group_id: Option<String>,
    /// Its place in that group.
    pub group_index: Option<u32>,
    /// The producer's own headers.
    pub headers: Map<String, Value>,
}

/// The data of a host function of `petiole:task/context`.
pub(crate) struct ContextView<'a> {
    pub(crate) request: &'a Context,
    pub(crate) limits: &'a Limits,
    /// Since the Unix epoch.
    pub(crate) started: Duration,
    pub(crate) meter: &'a Meter,
}

pub(crate) struct HasContext;

impl HasData for HasContext {
    type Data<'a> = ContextView<'a>;
}

impl ContextView<'_> {
    /// Milliseconds since the Unix epoch.
    fn after(&self, duration: Duration) -> u64 {
        u64::try_from(self.started.saturating_add(duration).as_millis()).unwrap_or(u64::MAX)
    }
}

impl context::Host for ContextView<'_> {
    fn get_request(&mut self) -> wasmtime::Result<context::Request> {
        let Context {
            id,
            task,
            retries,
            root_id,
            parent_id,
            group_id,
            group_index,
            headers,
        } = self.request;
        Ok(context::Request {
            id: id.clone(),
            task: task.clone(),
            retries: *retries,
            root_id: root_id.clone(),
            parent_id: parent_id.clone(),
            group_id: group_id.clone(),
            group_index: *group_index,
            headers: headers
                .iter()
                .map(|(name, value)| (name.clone(), value.to_string()))
                .collect(),
            deadline_ms: self.after(self.limits.time),
            soft_deadline_ms: self.limits.soft_time.map(|soft| self.after(soft)),
            idempotency_key: format!("{id}:{retries}"),
        })
    }

    fn soft_limit_reached(&mut self) -> wasmtime::Result<bool> {
        Ok(self.meter.soft_limit_reached())
    }
}
