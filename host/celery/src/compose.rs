use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::options::Options;
use crate::{
    Destination, Embed, Message, Properties, Publication, Routes, Signature, SignatureError,
};
use crate::{headers, python, time, wire};

/// What a new task message says of where it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The task that sends it; none for a message from the command line.
    pub parent_id: Option<&'a str>,
    /// The workflow's first task; the new task itself where none.
    pub root_id: Option<&'a str>,
    /// Header `origin`: who composed the message, as `pid@host`.
    pub origin: &'a str,
}

/// Composes the task message of a signature whose id is `id`, as Celery's `apply_async` does.
/// `chain` is the rest of a chain to embed, reversed.
///
/// Two things differ from Celery. No property `expiration` is set: with it the broker would drop an
/// expired message without a word, where a worker stores REVOKED. And no `reply_to` is made up, as
/// nobody waits here for the results of the tasks that are sent.
///
/// # Errors
/// When its options can't be carried out, when it is a workflow (chain, group, chord), which takes
/// more than one message, or when the wire can't carry it.
pub fn compose(
    signature: &Signature,
    id: &str,
    chain: &[Signature],
    from: Origin<'_>,
    routes: &Routes,
    now: Timestamp,
) -> Result<Publication, SignatureError> {
    let publication = draft(signature, id, chain, from, routes, now)?;
    wire::check(&publication).map_err(|reason| unsendable(signature, &reason))?;
    Ok(publication)
}

/// Checks what of a plain task's message is known before it is sent: all but its body. Its ids may be as
/// long as they can.
pub(crate) fn check(signature: &Signature) -> Result<(), SignatureError> {
    let longest = "x".repeat(wire::SHORT_STRING_LIMIT);
    let from = Origin {
        parent_id: Some(&longest),
        root_id: Some(&longest),
        origin: &longest,
    };
    let id = signature.task_id().unwrap_or(&longest);
    // Every time is in the future, so that one with a time is checked as one that is held back.
    let now = Timestamp::MIN;
    let options = Options::read(&signature.task, &signature.options)?;
    // A worker's own routes are no fault of the message.
    let destination = options.destination(&signature.task, &Routes::new(""));
    let publication = address(signature, id, &options, from, destination, now, Vec::new());
    wire::check(&publication).map_err(|reason| unsendable(signature, &reason))
}

fn unsendable(signature: &Signature, reason: &wire::Unsendable) -> SignatureError {
    let task = wire::beginning(&signature.task, wire::SHORT_STRING_LIMIT);
    SignatureError::new(format!("{task:?} can't be sent: {reason}"))
}

/// The message, whether the wire carries it or not.
pub(crate) fn draft(
    signature: &Signature,
    id: &str,
    chain: &[Signature],
    from: Origin<'_>,
    routes: &Routes,
    now: Timestamp,
) -> Result<Publication, SignatureError> {
    if let Some(workflow) = signature
        .subtask_type
        .as_deref()
        .filter(|_| signature.is_workflow())
    {
        return Err(SignatureError::new(format!(
            "a {workflow} can't be sent as one message"
        )));
    }
    let options = Options::read(&signature.task, &signature.options)?;
    let chain = match chain {
        [] => options.chain.clone(),
        rest => rest.iter().map(Signature::to_json).collect(),
    };
    let embed = Embed::write(
        &options.link,
        &options.link_error,
        &chain,
        options.chord.as_ref(),
    );
    let body =
        serde_json::to_vec(&(&signature.args, &signature.kwargs, &embed)).map_err(|error| {
            SignatureError::new(format!(
                "{:?} has arguments that are not JSON: {error}",
                signature.task
            ))
        })?;
    let destination = options.destination(&signature.task, routes);
    Ok(address(
        signature,
        id,
        &options,
        from,
        destination,
        now,
        body,
    ))
}

fn address(
    signature: &Signature,
    id: &str,
    options: &Options,
    from: Origin<'_>,
    destination: Destination,
    now: Timestamp,
    body: Vec<u8>,
) -> Publication {
    let message = Message {
        properties: Properties {
            content_type: Some("application/json".into()),
            content_encoding: Some("utf-8".into()),
            persistent: options.persistent,
            priority: options.priority,
            correlation_id: Some(id.to_owned()),
            reply_to: options.reply_to.clone(),
            ..Properties::default()
        },
        headers: compose_headers(signature, id, options, from, now),
        body,
    };
    Publication {
        destination,
        message,
        mandatory: true,
        not_before: options.run_at(now).filter(|eta| *eta > now),
    }
}

fn compose_headers(
    signature: &Signature,
    id: &str,
    options: &Options,
    from: Origin<'_>,
    now: Timestamp,
) -> Map<String, Value> {
    let root_id = from.root_id.or(options.root_id.as_deref()).unwrap_or(id);
    let parent_id = from.parent_id.or(options.parent_id.as_deref());
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    // The language of the task, not of its sender, and all that any sender of Celery tasks says.
    set("lang", "py".into());
    set("task", signature.task.clone().into());
    set("id", id.into());
    set("shadow", options.shadow.clone().into());
    set("eta", options.run_at(now).map(time::to_iso).into());
    set("expires", options.expire_at(now).map(time::to_iso).into());
    set("group", options.group_id.clone().into());
    set("group_index", options.group_index.into());
    set("retries", options.retries.into());
    set(
        "timelimit",
        json!([options.time_limit, options.soft_time_limit]),
    );
    set("root_id", root_id.into());
    set("parent_id", parent_id.into());
    set("argsrepr", python::args_repr(&signature.args).into());
    set("kwargsrepr", python::kwargs_repr(&signature.kwargs).into());
    set("origin", from.origin.into());
    // Null leaves it to the receiving worker's own setting for the task.
    set("ignore_result", options.ignore_result.into());
    set(
        "replaced_task_nesting",
        options.replaced_task_nesting.into(),
    );
    set("stamped_headers", options.stamped_headers.clone().into());
    set("stamps", options.stamps.clone().into());
    for (name, value) in &options.headers {
        if !headers::is_celerys(name) && !headers::is_brokers(name) {
            set(name, value.clone());
        }
    }
    fields
}
