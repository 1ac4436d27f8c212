//! The task messages that a task causes.

use serde_json::Value;

use super::circumstances::Context;
use crate::canvas::{Budget, Send, Unfolded, too_large};
use crate::headers::sent_again;
use crate::part::Part;
use crate::wire::Unsendable;
use crate::{ChildKind, Exception, Origin, Publication, Refusal, Signature, child_id, compose};

/// The one of a task's groups that an id is for.
const CALLBACKS: usize = 0;
const ERRBACKS: usize = 1;

/// Messages to send, with what the sender's result lists of them.
#[derive(Default)]
pub(super) struct Sending {
    pub(super) publications: Vec<Publication>,
    pub(super) children: Vec<Value>,
    bytes: usize,
}

/// Reason why a message that a task causes is not sent.
pub(super) enum NotSent {
    /// The message is at fault: what follows its task can't be carried out.
    Refused(Refusal),
    /// The task is at fault, which made a message that the wire can't carry.
    Unsendable(Exception),
}

/// The tasks that the guest sent, the callbacks, then the next task of the chain: the order in which Celery lists
/// children.
pub(super) fn after_success(
    at: &Context<'_>,
    result: &Value,
    sent: &[Signature],
) -> Result<Sending, NotSent> {
    let request = at.request;
    let args = std::slice::from_ref(result);
    let mut sending = Sending::default();
    for (index, signature) in sent.iter().enumerate() {
        let part = named(at, signature, ChildKind::Sent, index);
        let added = sending.add(at, &[], |send| budget(at).unfold(&part, Vec::new(), send));
        added.map_err(|fault| NotSent::Unsendable(fault.own()))?;
    }
    let with_result = |reason: &Unsendable| reason.result_exception("a message to what follows");
    sending
        .add_callbacks(at, args)
        .map_err(|fault| fault.of(with_result))?;
    if let Some((next, rest)) = request.embed.chain.split_last() {
        let next = named(at, next, ChildKind::Chain, 0);
        let rest = rest.iter().map(|step| Part::of(step.view())).collect();
        sending
            .add(at, args, |send| budget(at).unfold(&next, rest, send))
            .map_err(|fault| fault.of(with_result))?;
    }
    Ok(sending)
}

/// The errbacks of a failed task, which Celery sends as a group even where there is only one. Those
/// that can't be sent come back as refusals.
pub(super) fn after_failure(at: &Context<'_>) -> (Sending, Option<Refusal>) {
    let mut refusal = None;
    let mut errbacks = Vec::new();
    let mut allowed = budget(at);
    for errback in named_each(at, &at.request.embed.errbacks, ChildKind::Errback) {
        match allowed.check(&errback) {
            Ok(()) => errbacks.push(errback),
            Err(reason) => refusal = refusal.or(Some(reason)),
        }
    }
    let mut sending = Sending::default();
    if !errbacks.is_empty() {
        let args = [Value::String(at.request.id.clone())];
        let id = group_id(at, ERRBACKS);
        let added = sending.add(at, &args, |send| {
            budget(at).unfold_group(errbacks, id, send)
        });
        refusal = refusal.or(added.err().map(Fault::refusal));
    }
    (sending, refusal)
}

/// Reason why a message is not added.
enum Fault {
    Refused(Refusal),
    Unsendable(Unsendable),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<compose::Fault> for Fault {
    fn from(fault: compose::Fault) -> Self {
        match fault {
            compose::Fault::Signature(error) => Self::Refused(error.into()),
            compose::Fault::Unsendable(reason) => Self::Unsendable(reason),
        }
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
    /// Adds the messages that `unfold` produces, each before the next one is made.
    fn add(
        &mut self,
        at: &Context<'_>,
        args: &[Value],
        unfold: impl FnOnce(&mut Send<'_, Fault>) -> Result<Unfolded, Fault>,
    ) -> Result<(), Fault> {
        let unfolded = unfold(&mut |task, rest| self.add_message(at, args, task, rest))?;
        self.children.extend(unfolded.child);
        Ok(())
    }

    fn add_message(
        &mut self,
        at: &Context<'_>,
        args: &[Value],
        task: &Part<'_>,
        rest: &[Part<'_>],
    ) -> Result<(), Fault> {
        let request = at.request;
        let from = Origin {
            parent_id: Some(&request.id),
            root_id: Some(&request.root_id),
            origin: &at.policy.origin,
            sent_again: sent_again(&request.message.headers),
        };
        let publication = compose::draft(task, args, rest, from, &at.policy.routes, at.now)?;
        self.bytes = self.bytes.saturating_add(publication.message.memory());
        if self.bytes > at.policy.sent_limit {
            return Err(too_large(at.policy.sent_limit).into());
        }
        self.publications.push(publication);
        Ok(())
    }

    /// Several callbacks go out as one group, apart from those that are groups themselves.
    fn add_callbacks(&mut self, at: &Context<'_>, args: &[Value]) -> Result<(), Fault> {
        let mut budget = budget(at);
        let callbacks = named_each(at, &at.request.embed.callbacks, ChildKind::Callback);
        let apart = at.request.embed.callbacks.len() < 2;
        let (groups, others): (Vec<_>, Vec<_>) =
            callbacks.partition(|callback| apart || callback.signature.is_group());
        for group in groups {
            self.add(at, args, |send| budget.unfold(&group, Vec::new(), send))?;
        }
        if others.is_empty() {
            return Ok(());
        }
        let id = group_id(at, CALLBACKS);
        self.add(at, args, |send| budget.unfold_group(others, id, send))
    }
}

/// Limits on what may follow a task.
fn budget(at: &Context<'_>) -> Budget {
    Budget::new(at.policy.sent_limit)
}

/// A signature with the id that it fixes, or the same one each time.
fn named<'a>(
    at: &Context<'_>,
    signature: &'a Signature,
    kind: ChildKind,
    index: usize,
) -> Part<'a> {
    let request = at.request;
    Part::of(signature.view()).named(|| child_id(&request.id, request.retries, kind, index))
}

fn named_each<'a>(
    at: &'a Context<'_>,
    signatures: &'a [Signature],
    kind: ChildKind,
) -> impl Iterator<Item = Part<'a>> {
    let signatures = signatures.iter().enumerate();
    signatures.map(move |(index, signature)| named(at, signature, kind, index))
}

fn group_id(at: &Context<'_>, which: usize) -> String {
    child_id(&at.request.id, at.request.retries, ChildKind::Group, which)
}
