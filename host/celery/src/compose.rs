use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::embed::{Chain, EmbedRef};
use crate::options::Options;
use crate::part::Part;
use crate::wire::{BODY_LIMIT, Unsendable};
use crate::{Message, Properties, Publication, Routes, Signature, SignatureError};
use crate::{headers, json, python, time, wire};

/// The origin that a new task message states.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The task that sends it; none for a message from the command line.
    pub parent_id: Option<&'a str>,
    /// The workflow's first task; the new task itself where none.
    pub root_id: Option<&'a str>,
    /// Header `origin`: who composed the message, as `pid@host`.
    pub origin: &'a str,
    /// Times its sender was sent again: its tasks have the ids that they had before, and are to run as well.
    pub sent_again: u64,
}

/// Composes the task message of a signature whose id is `id`, as Celery's `apply_async` does.
/// `chain` is the rest of a chain to embed, reversed.
///
/// Two things differ from Celery. No property `expiration` is set: with it the broker would drop an
/// expired message without a word, where a worker stores REVOKED. And no `reply_to` is made up, as
/// nobody waits here for the results of the tasks that are sent.
///
/// # Errors
/// If its options can't be carried out, if it is a workflow (chain, group, chord), which takes more than one message,
/// or if the wire can't carry it.
pub fn compose(
    signature: &Signature,
    id: &str,
    chain: &[Signature],
    from: Origin<'_>,
    routes: &Routes,
    now: Timestamp,
) -> Result<Publication, SignatureError> {
    let rest: Vec<Part<'_>> = chain.iter().map(|step| Part::of(step.view())).collect();
    let part = Part::of(signature.view()).sent_as(id);
    draft(&part, &[], &rest, from, routes, now).map_err(|fault| match fault {
        Fault::Signature(error) => error,
        Fault::Unsendable(reason) => unsendable(&signature.task, &reason),
    })
}

impl Signature {
    /// Checks that the options of a plain task can be carried out, and its message sent, before anything relies
    /// on it.
    ///
    /// # Errors
    /// As [`compose`].
    pub fn check(&self) -> Result<(), SignatureError> {
        check(&Part::of(self.view())).map(drop)
    }
}

/// Reason why there is no message.
pub(crate) enum Fault {
    /// Its signature can't be carried out.
    Signature(SignatureError),
    /// The wire can't carry it.
    Unsendable(Unsendable),
}

impl From<SignatureError> for Fault {
    fn from(error: SignatureError) -> Self {
        Self::Signature(error)
    }
}

impl From<Unsendable> for Fault {
    fn from(reason: Unsendable) -> Self {
        Self::Unsendable(reason)
    }
}

/// Checks what is known of a plain task's message before it is sent, all but its body, and returns the bytes of memory
/// that this takes. Its ids may be as long as they can.
pub(crate) fn check(task: &Part<'_>) -> Result<usize, SignatureError> {
    let longest = "x".repeat(wire::SHORT_STRING_LIMIT);
    let from = Origin {
        parent_id: Some(&longest),
        root_id: Some(&longest),
        origin: &longest,
        sent_again: u64::MAX,
    };
    let id = Some(task.id()).filter(|id| !id.is_empty());
    let id = id.or(task.signature.task_id()).unwrap_or(&longest);
    // Every time is in the future, so that one with a time is checked as one that is held back.
    let now = Timestamp::MIN;
    let sent = Sent {
        task,
        id,
        args: &[],
        options: Options::read(task.signature.task, &task.options)?,
        from,
        now,
    };
    // A worker's own routes are no fault of the message.
    let sent = sent.message(&Routes::new(""), Bytes::new())?;
    wire::check(&sent).map_err(|reason| unsendable(task.signature.task, &reason))?;
    Ok(sent.message.memory())
}

fn unsendable(task: &str, reason: &Unsendable) -> SignatureError {
    let task = wire::beginning(task, wire::SHORT_STRING_LIMIT);
    SignatureError::new(format!("{task:?} can't be sent: {reason}"))
}

/// The message of a task in its place, with what its sender passes on.
pub(crate) fn draft(
    task: &Part<'_>,
    passed_on: &[Value],
    rest: &[Part<'_>],
    from: Origin<'_>,
    routes: &Routes,
    now: Timestamp,
) -> Result<Publication, Fault> {
    let signature = &task.signature;
    if let Some(workflow) = signature.subtask_type.filter(|_| signature.is_workflow()) {
        let reason = format!("a {workflow} can't be sent as one message");
        return Err(SignatureError::new(reason).into());
    }
    let options = Options::read(signature.task, &task.options)?;
    let args = task.args(passed_on);
    let embed = EmbedRef {
        callbacks: &options.link,
        errbacks: &options.link_error,
        chain: match rest {
            [] => Chain::Own(&options.chain),
            rest => Chain::Rest(rest),
        },
        chord: options.chord,
    };
    let body = json::write(&(&args, signature.kwargs, &embed), BODY_LIMIT).map_err(|error| {
        SignatureError::new(format!(
            "{:?} has arguments that are not JSON: {error}",
            signature.task
        ))
    })?;
    if body.size > BODY_LIMIT {
        let (size, limit) = (body.size, BODY_LIMIT);
        return Err(Unsendable::Body { size, limit }.into());
    }
    let sent = Sent {
        task,
        id: task.id(),
        args: &args,
        options,
        from,
        now,
    };
    let mut bytes = body.bytes;
    bytes.shrink_to_fit();
    let message = sent.message(routes, bytes.into())?;
    wire::check(&message)?;
    Ok(message)
}

/// A task as its message needs it.
struct Sent<'a> {
    task: &'a Part<'a>,
    id: &'a str,
    args: &'a [&'a Value],
    options: Options<'a>,
    from: Origin<'a>,
    now: Timestamp,
}

impl Sent<'_> {
    fn message(&self, routes: &Routes, body: Bytes) -> Result<Publication, SignatureError> {
        let options = &self.options;
        let message = Message {
            properties: Properties {
                content_type: Some("application/json".into()),
                content_encoding: Some("utf-8".into()),
                persistent: options.persistent,
                priority: options.priority,
                correlation_id: Some(self.id.to_owned()),
                reply_to: options.reply_to.map(str::to_owned),
                ..Properties::default()
            },
            headers: self.headers()?,
            body,
        };
        Ok(Publication {
            destination: options.destination(self.task.signature.task, routes),
            message,
            mandatory: true,
            not_before: options.run_at(self.now).filter(|eta| *eta > self.now),
        })
    }

    fn headers(&self) -> Result<Map<String, Value>, SignatureError> {
        let Self {
            task,
            id,
            args,
            options,
            from,
            now,
        } = self;
        let signature = &task.signature;
        let root_id = from.root_id.or(options.root_id).unwrap_or(id);
        let parent_id = from.parent_id.or(options.parent_id);
        let mut fields = Map::with_capacity(24);
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        // The language of the task, not of its sender, and all that any sender of Celery tasks says.
        set("lang", "py".into());
        set("task", signature.task.into());
        set("id", (*id).into());
        set("shadow", options.shadow.into());
        set("eta", options.run_at(*now).map(time::to_iso).into());
        set("expires", options.expire_at(*now).map(time::to_iso).into());
        set("group", options.group_id.into());
        set("group_index", options.group_index.into());
        set("retries", options.retries.into());
        let limits = json!([options.time_limit, options.soft_time_limit]);
        set("timelimit", self.header("timelimit", &limits)?);
        set("root_id", root_id.into());
        set("parent_id", parent_id.into());
        set("argsrepr", python::args_repr(args).into());
        set("kwargsrepr", python::kwargs_repr(signature.kwargs).into());
        set("origin", from.origin.into());
        // Null leaves it to the receiving worker's own setting for the task.
        set("ignore_result", options.ignore_result.into());
        set(
            "replaced_task_nesting",
            options.replaced_task_nesting.into(),
        );
        set("stamped_headers", options.stamped_headers.clone().into());
        let stamps = options.stamps.iter();
        let stamps = stamps.map(|(name, stamp)| (*name, json!(stamp))).collect();
        set("stamps", self.header("stamps", &stamps)?);
        for (held, value) in options.headers.into_iter().flatten() {
            let name = json::name(held).ok_or_else(|| self.unsendable(held))?;
            if !headers::is_celerys(&name) && !headers::is_brokers(&name) {
                set(&name, self.header(&name, value)?);
            }
        }
        if from.sent_again > 0 {
            set(headers::SENT_AGAIN, from.sent_again.into());
        }
        Ok(fields)
    }

    /// A part of the message's options as a header.
    fn header(&self, name: &str, value: &Value) -> Result<Value, SignatureError> {
        wire::from_message(value).ok_or_else(|| self.unsendable(name))
    }

    fn unsendable(&self, header: &str) -> SignatureError {
        let task = wire::beginning(self.task.signature.task, wire::SHORT_STRING_LIMIT);
        SignatureError::new(format!(
            "header {header:?} of {task:?} has a lone surrogate, which AMQP can't carry"
        ))
    }
}
