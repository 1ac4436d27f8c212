//! The task messages that a task causes.

use serde_json::{Map, Value, json};

use super::Context;
use crate::canvas::{self, Unfolded};
use crate::wire::{self, Unsendable};
use crate::{
    ChildKind, Exception, Origin, Publication, Refusal, Signature, SignatureError, child_id,
    compose,
};

/// How much one task may send. A group of many tasks that all take a large result would not fit the
/// worker's memory otherwise.
const MAX_SENT_BYTES: usize = 256 << 20;

/// Which of a task's groups an id is for.
const CALLBACKS: usize = 0;
const ERRBACKS: usize = 1;

/// Messages to send, with what the sender's result lists of them.
#[derive(Default)]
pub(super) struct Sending {
    pub(super) publications: Vec<Publication>,
    pub(super) children: Vec<Value>,
    bytes: usize,
}

/// Why a message that a task causes is not sent.
pub(super) enum NotSent {
    /// What follows the task can't be carried out: its message is at fault.
    Refused(Refusal),
    /// The task is at fault, which made a message that the wire can't carry.
    Unsendable(Exception),
}

impl<E: Into<Refusal>> From<E> for NotSent {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// What the guest sent, the callbacks, then the next task of the chain: the order in which Celery
/// lists children.
pub(super) fn after_success(
    at: &Context<'_>,
    result: &Value,
    sent: &[Signature],
) -> Result<Sending, NotSent> {
    let request = at.request;
    let args = std::slice::from_ref(result);
    let mut sending = Sending::default();
    for (index, signature) in sent.iter().enumerate() {
        let id = id_of(at, signature, ChildKind::Sent, index);
        canvas::unfold(signature, &id, &[])
            .map_err(Fault::Refused)
            .and_then(|unfolded| sending.add(at, &[], unfolded))
            .map_err(|fault| NotSent::Unsendable(fault.own()))?;
    }
    let with_result = |reason: &Unsendable| reason.result_exception("a message to what follows");
    for callback in group_up(at, &request.embed.callbacks) {
        let id = callback.task_id().unwrap_or_default().to_owned();
        sending
            .add(at, args, canvas::unfold(&callback, &id, &[])?)
            .map_err(|fault| fault.of(with_result))?;
    }
    if let Some((next, rest)) = request.embed.chain.split_last() {
        let id = id_of(at, next, ChildKind::Chain, 0);
        sending
            .add(at, args, canvas::unfold(next, &id, rest)?)
            .map_err(|fault| fault.of(with_result))?;
    }
    Ok(sending)
}

/// The errbacks of a failed task, which Celery sends as a group even where there is only one. Those
/// that can't be sent come back as refusals.
pub(super) fn after_failure(at: &Context<'_>) -> (Sending, Option<Refusal>) {
    let mut refusal = None;
    let mut errbacks = Vec::new();
    for errback in named(at, &at.request.embed.errbacks, ChildKind::Errback) {
        match canvas::check(&errback) {
            Ok(()) => errbacks.push(errback),
            Err(reason) => refusal = refusal.or(Some(reason)),
        }
    }
    let mut sending = Sending::default();
    if !errbacks.is_empty() {
        let group = group_of(at, &errbacks, ERRBACKS);
        let args = [Value::String(at.request.id.clone())];
        let id = group.task_id().unwrap_or_default().to_owned();
        let added = canvas::unfold(&group, &id, &[])
            .and_then(|unfolded| sending.add(at, &args, unfolded).map_err(Fault::refusal));
        refusal = refusal.or(added.err());
    }
    (sending, refusal)
}

/// Why a message is not added.
enum Fault {
    Refused(Refusal),
    Unsendable(Unsendable),
}

impl From<SignatureError> for Fault {
    fn from(error: SignatureError) -> Self {
        Self::Refused(error.into())
    }
}

impl Fault {
    fn of(self, exception: impl FnOnce(&Unsendable) -> Exception) -> NotSent {
        match self {
            Self::Refused(refusal) => NotSent::Refused(refusal),
            Self::Unsendable(reason) => NotSent::Unsendable(exception(&reason)),
        }
    }

    /// The failure of a task that made the message itself.
    fn own(&self) -> Exception {
        match self {
            Self::Refused(refusal) => refusal.exception(),
            Self::Unsendable(reason) => reason.exception(),
        }
    }

    fn refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Unsendable(reason) => Refusal::Malformed {
                reason: reason.to_string(),
            },
        }
    }
}

impl Sending {
    fn add(&mut self, at: &Context<'_>, args: &[Value], unfolded: Unfolded) -> Result<(), Fault> {
        let request = at.request;
        let from = Origin {
            parent_id: Some(&request.id),
            root_id: Some(&request.root_id),
            origin: &at.policy.origin,
        };
        for mut call in unfolded.calls {
            if call.takes_args {
                call.signature.prepend(args);
            }
            let publication = compose::draft(
                &call.signature,
                &call.id,
                &call.chain,
                from,
                &at.policy.routes,
                at.now,
            )?;
            wire::check(&publication).map_err(Fault::Unsendable)?;
            self.bytes = self.bytes.saturating_add(publication.message.body.len());
            if self.bytes > MAX_SENT_BYTES {
                let reason = format!(
                    "the messages that {:?} sends are larger than {MAX_SENT_BYTES} bytes",
                    request.task
                );
                return Err(Fault::Refused(Refusal::Malformed { reason }));
            }
            self.publications.push(publication);
        }
        self.children.extend(unfolded.child);
        Ok(())
    }
}

/// The id that a signature fixes, or the same one each time.
fn id_of(at: &Context<'_>, signature: &Signature, kind: ChildKind, index: usize) -> String {
    let request = at.request;
    signature.task_id().map_or_else(
        || child_id(&request.id, request.retries, kind, index),
        str::to_owned,
    )
}

/// Signatures that all fix their ids.
fn named(at: &Context<'_>, signatures: &[Signature], kind: ChildKind) -> Vec<Signature> {
    let name = |(index, signature): (usize, &Signature)| {
        let mut signature = signature.clone();
        signature
            .options
            .insert("task_id".into(), id_of(at, &signature, kind, index).into());
        signature
    };
    signatures.iter().enumerate().map(name).collect()
}

/// Several callbacks go out as one group, apart from those that are groups themselves.
fn group_up(at: &Context<'_>, callbacks: &[Signature]) -> Vec<Signature> {
    let callbacks = named(at, callbacks, ChildKind::Callback);
    if callbacks.len() < 2 {
        return callbacks;
    }
    let (mut groups, others): (Vec<_>, Vec<_>) = callbacks
        .into_iter()
        .partition(|callback| callback.subtask_type.as_deref() == Some("group"));
    if !others.is_empty() {
        groups.push(group_of(at, &others, CALLBACKS));
    }
    groups
}

fn group_of(at: &Context<'_>, tasks: &[Signature], which: usize) -> Signature {
    let tasks: Vec<Value> = tasks.iter().map(Signature::to_json).collect();
    let id = child_id(&at.request.id, at.request.retries, ChildKind::Group, which);
    Signature {
        task: "celery.group".into(),
        kwargs: Map::from_iter([("tasks".to_owned(), tasks.into())]),
        options: Map::from_iter([("task_id".to_owned(), json!(id))]),
        subtask_type: Some("group".into()),
        ..Signature::default()
    }
}
