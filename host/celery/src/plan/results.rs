use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::circumstances::{Context, Policy, ResultMode};
use super::contents::{Ended, Plan, Settle};
use crate::signature::SignatureRef;
use crate::wire::Unsendable;
use crate::{
    Destination, Exception, Extended, Message, Properties, Publication, State, TaskMeta,
    Undecodable, json, wire,
};

/// The results of a plan, on their way to the backend or to whoever waits for a reply.
pub(super) struct Results<'a> {
    policy: &'a Policy,
    now: Timestamp,
    stored: Vec<TaskMeta>,
    replies: Vec<Publication>,
}

impl<'a> Results<'a> {
    pub(super) fn new(policy: &'a Policy, now: Timestamp) -> Self {
        Self {
            policy,
            now,
            stored: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// The request's own exception, or where that is too large for a reply, an exception that says so: whoever
    /// waits has to hear.
    pub(super) fn add_failure(
        &mut self,
        at: &Context<'_>,
        status: State,
        exception: &Exception,
        traceback: Option<&str>,
    ) {
        let traceback = traceback.map(str::to_owned);
        let added = self.add(
            at,
            status.clone(),
            exception.to_json(),
            traceback,
            Vec::new(),
        );
        if let Err(reason) = added {
            let small = reason.result_exception("a reply").to_json();
            let meta = self.meta(at, status, small, None, Vec::new(), false);
            // Without its arguments it is some hundred bytes; whose names are too long for AMQP can't be waited for.
            let _ = self.answer(at, meta);
        }
    }

    /// The request's own result, unless its sender wants none. Failures count too: Celery's
    /// `store_errors_even_if_ignored` is off by default.
    ///
    /// Fails, and adds nothing, where a reply can't carry it.
    pub(super) fn add(
        &mut self,
        at: &Context<'_>,
        status: State,
        result: Value,
        traceback: Option<String>,
        children: Vec<Value>,
    ) -> Result<(), Unsendable> {
        if at.request.ignore_result {
            return Ok(());
        }
        let extended = self.policy.result_extended;
        let meta = self.meta(at, status, result, traceback, children, extended);
        self.answer(at, meta)
    }

    fn meta(
        &self,
        at: &Context<'_>,
        status: State,
        result: Value,
        traceback: Option<String>,
        children: Vec<Value>,
        extended: bool,
    ) -> TaskMeta {
        let request = at.request;
        let extended = extended.then(|| Extended {
            name: request.task.clone(),
            args: request.args.clone(),
            kwargs: request.kwargs.clone(),
            worker: Some(self.policy.hostname.clone()),
            retries: request.retries,
            queue: Some(at.source.routing_key.clone()),
            stamps: stamps(&request.stamped_headers, &request.stamps),
            usage: at.usage.cloned().unwrap_or_default(),
        });
        TaskMeta {
            task_id: request.id.clone(),
            date_done: self.date_done(&status),
            status,
            result,
            traceback,
            children,
            group_id: request.group.clone(),
            parent_id: request.parent_id.clone(),
            extended,
        }
    }

    fn answer(&mut self, at: &Context<'_>, meta: TaskMeta) -> Result<(), Unsendable> {
        let properties = &at.request.message.properties;
        self.send(
            meta,
            properties.reply_to.as_deref(),
            properties.correlation_id.as_deref(),
        )
    }

    /// The failure of a task that comes later in the chain of the one that failed.
    pub(super) fn add_step(
        &mut self,
        step: &SignatureRef<'_>,
        exception: &Exception,
        traceback: Option<&str>,
    ) {
        let Some(id) = step.task_id() else { return };
        let option = |name| {
            step.options
                .get(name)
                .and_then(json::plain_text)
                .map(str::to_owned)
        };
        let extended = self.policy.result_extended.then(|| Extended {
            name: step.task.to_owned(),
            args: step.args.to_vec(),
            kwargs: own_kwargs(step),
            worker: None,
            retries: 0,
            queue: None,
            stamps: Map::new(),
            usage: Map::new(),
        });
        let now = self.now;
        let meta = |exception: &Exception, traceback: Option<&str>, extended| TaskMeta {
            task_id: id.to_owned(),
            status: State::Failure,
            result: exception.to_json(),
            traceback: traceback.map(str::to_owned),
            children: Vec::new(),
            date_done: Some(now),
            group_id: option("group_id"),
            parent_id: option("parent_id"),
            extended,
        };
        let reply_to = option("reply_to");
        let whole = meta(exception, traceback, extended);
        if let Err(reason) = self.send(whole, reply_to.as_deref(), None) {
            let small = meta(&reason.result_exception("a reply"), None, None);
            // The step's own `reply_to` was checked before the task ran.
            let _ = self.send(small, reply_to.as_deref(), None);
        }
    }

    /// The failure of a message that could not be read as a whole, from the headers that could.
    pub(super) fn add_undecodable(&mut self, undecodable: &Undecodable) {
        let Undecodable {
            message, refusal, ..
        } = undecodable;
        let Some(id) = &undecodable.id else { return };
        if message.ignores_result() {
            return;
        }
        let headers = wire::plain(&message.headers);
        let header = |name| headers.get(name).and_then(Value::as_str).map(str::to_owned);
        let meta = TaskMeta {
            task_id: id.clone(),
            status: State::Failure,
            result: refusal.exception().to_json(),
            traceback: None,
            children: Vec::new(),
            date_done: Some(self.now),
            group_id: header("group"),
            parent_id: header("parent_id"),
            extended: None,
        };
        let properties = &message.properties;
        // A refusal fits a reply.
        let _ = self.send(
            meta,
            properties.reply_to.as_deref(),
            properties.correlation_id.as_deref(),
        );
    }

    pub(super) fn into_plan(self, mut publications: Vec<Publication>, ended: Ended) -> Plan {
        let (results, replies) = self.into_parts();
        // Replies go last: whoever reads one may rely on the task's other messages.
        publications.extend(replies);
        Plan {
            results,
            publications,
            settle: Settle::Ack,
            ended,
        }
    }

    /// Results to store, and replies to send.
    pub(super) fn into_parts(self) -> (Vec<TaskMeta>, Vec<Publication>) {
        (self.stored, self.replies)
    }

    fn date_done(&self, status: &State) -> Option<Timestamp> {
        match status {
            State::Success | State::Failure | State::Revoked => Some(self.now),
            State::Started | State::Retry | State::Rejected | State::Ignored | State::Custom(_) => {
                None
            }
        }
    }

    fn send(
        &mut self,
        meta: TaskMeta,
        reply_to: Option<&str>,
        correlation_id: Option<&str>,
    ) -> Result<(), Unsendable> {
        match self.policy.results {
            ResultMode::Stored => self.stored.push(meta),
            ResultMode::Disabled => {}
            ResultMode::Reply => {
                if let Some(queue) = reply_to.filter(|queue| !queue.is_empty()) {
                    let reply = reply(&meta, queue, correlation_id);
                    wire::check(&reply)?;
                    self.replies.push(reply);
                }
            }
        }
        Ok(())
    }
}

/// A result as `rpc://` carries it. Not mandatory: its reader may have gone, with the queue.
fn reply(meta: &TaskMeta, queue: &str, correlation_id: Option<&str>) -> Publication {
    let correlation_id = correlation_id
        .filter(|id| !id.is_empty())
        .unwrap_or(&meta.task_id);
    let properties = Properties {
        content_type: Some("application/json".into()),
        content_encoding: Some("utf-8".into()),
        persistent: false,
        correlation_id: Some(correlation_id.to_owned()),
        ..Properties::default()
    };
    Publication {
        destination: Destination::queue(queue),
        message: Message {
            properties,
            headers: Map::new(),
            body: meta.to_text().into(),
        },
        mandatory: false,
        not_before: None,
    }
}

/// The arguments of a step. A chord's body is a step of its own, and has its own result.
fn own_kwargs(step: &SignatureRef<'_>) -> Map<String, Value> {
    let kwargs = step.kwargs.iter();
    kwargs
        .filter(|(name, _)| step.subtask_type != Some("chord") || *name != "body")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Only stamps that `stamped_headers` names count.
fn stamps(names: &[String], stamps: &Map<String, Value>) -> Map<String, Value> {
    let mut seen = HashSet::new();
    names
        .iter()
        .filter(|name| seen.insert(*name))
        .filter_map(|name| {
            Some((
                json::held(name.clone()),
                wire::to_message(stamps.get(name)?.clone()),
            ))
        })
        .collect()
}
