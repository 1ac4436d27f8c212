//! Inputs of a plan: the worker's policy, the source of the message, the run.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{Lineage, Outcome, Request, RetrySettings, Routes, Signature};

/// Destination of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultMode {
    /// To a result backend: a plan has a [`TaskMeta`](crate::TaskMeta).
    Stored,
    /// As a message to the request's `reply_to` (`rpc://`).
    Reply,
    /// Nowhere.
    Disabled,
}

/// The worker's part in a plan.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The worker's node name.
    pub hostname: String,
    /// Composer of messages: `pid@host`.
    pub origin: String,
    /// Routes of the tasks it sends.
    pub routes: Routes,
    /// Destination of results.
    pub results: ResultMode,
    /// Celery's `result_extended`.
    pub result_extended: bool,
    /// The queue in which refused messages are kept.
    pub quarantine: String,
    /// Bytes of memory that the messages which follow one task may take. A group of many tasks that all take a large
    /// result, or that have many small headers, would not fit the worker's otherwise.
    pub sent_limit: usize,
}

/// Exchange, routing key and queue that a delivery came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The exchange it was published to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// The queue it was consumed from.
    pub queue: String,
}

/// A request's run: its outcome, the tasks it sent and the resources it used.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The outcome of the task.
    pub outcome: Outcome,
    /// The signatures that the guest sent.
    pub sent: Vec<Signature>,
    /// Allowance for what may still come of the task, to be divided among those that it sent.
    pub lineage: Lineage,
    /// Settings for a retry that gives none of its own.
    pub retry: RetrySettings,
    /// Resources it used: `result_extended` has them under `usage`.
    pub usage: Map<String, Value>,
}

/// The request and the circumstances that a plan is made in.
pub(super) struct Context<'a> {
    pub(super) request: &'a Request,
    pub(super) source: &'a Source,
    pub(super) policy: &'a Policy,
    pub(super) now: Timestamp,
    /// Once it has run.
    pub(super) usage: Option<&'a Map<String, Value>>,
}
