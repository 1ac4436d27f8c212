mod encoding;

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::embed::Body;
use crate::fields::Fields;
use crate::headers::{DEPTH, DESCENDANTS, MEMORY_WAITS, REQUEUES, UNREADABLE};
use crate::request::TimeLimits;
use crate::{Lineage, Message, Refusal, Request, json, time, wire};
use encoding::body;

/// The longest text in a header that is read, in bytes: what AMQP's short strings hold, and so the
/// correlation id that a task's id becomes. Log lines and keys of results have it in them.
const MAX_TEXT: usize = 255;

/// A message that is no request: why, and what could still be read of it, so that its sender hears.
#[derive(Debug, Clone, PartialEq)]
pub struct Undecodable {
    /// The reason.
    pub refusal: Refusal,
    /// Header `id`, or the correlation id.
    pub id: Option<String>,
    /// Header `task`.
    pub task: Option<String>,
    /// The message, untouched.
    pub message: Message,
}

impl Request {
    /// Reads a protocol v2 message. `limit` says how large the body may be for the task of that name (empty
    /// where the message has none), in bytes, once its encoding and compression are undone: no more than that
    /// is decompressed, and none of a larger one is parsed.
    ///
    /// # Errors
    /// [`Undecodable`] for every message that is not one; it never panics, and never decodes pickle
    /// or yaml.
    pub fn decode(
        message: Message,
        limit: impl FnOnce(&str) -> usize,
    ) -> Result<Self, Box<Undecodable>> {
        match read(&message, limit) {
            Ok(request) => Ok(Self { message, ..request }),
            Err(refusal) => Err(Box::new(Undecodable::new(message, refusal))),
        }
    }
}

impl Undecodable {
    /// A message that is not to be decoded, with what its headers say of its task.
    pub fn new(message: Message, refusal: Refusal) -> Self {
        let headers = wire::plain(&message.headers);
        let text = |name| {
            headers
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .filter(|text| text.len() <= MAX_TEXT)
        };
        let id = text("id").or_else(|| message.properties.correlation_id.clone());
        let id = id.filter(|id| !id.is_empty());
        let task = text("task");
        drop(headers);
        Self {
            refusal,
            id,
            task,
            message,
        }
    }
}

/// Largest ratio of a text's size to that of its zlib data.
const INFLATES: usize = 1032;

/// Bytes of memory that it takes to learn [how much](memory_to_decode) it takes to decode a message, at most.
pub fn memory_to_inflate(message: &Message, limit: impl FnOnce(&str) -> usize) -> usize {
    if !message.headers.contains_key("compression") {
        return 0;
    }
    let inflated = message.body.len().saturating_mul(INFLATES);
    // The text grows twice as large each time that its place is too small.
    let limit = limit(&message.task().unwrap_or_default());
    inflated.min(limit).saturating_mul(2)
}

/// Bytes of memory that a message takes while it is [decoded](Request::decode), and what that comes to, at most.
pub fn memory_to_decode(message: &Message, limit: impl FnOnce(&str) -> usize) -> usize {
    let limit = limit(&message.task().unwrap_or_default());
    match body(message, limit) {
        Ok(Cow::Borrowed(text)) => json::memory(text),
        Ok(Cow::Owned(text)) => json::memory(&text).saturating_add(text.len().saturating_mul(2)),
        // A refused body takes none.
        Err(_) => 0,
    }
}

/// Headers that distinguish a run of a task from others, beside its queue.
pub(crate) struct RunHeaders {
    pub(crate) id: String,
    pub(crate) retries: u32,
    pub(crate) requeues: u32,
    pub(crate) replaced_task_nesting: u32,
}

impl RunHeaders {
    /// None where the message is no request.
    pub(crate) fn of(message: &Message) -> Option<Self> {
        if message.headers.contains_key(UNREADABLE) {
            return None;
        }
        Headers::of(&wire::plain(&message.headers)).run().ok()
    }
}

/// Everything but the message itself.
fn read(message: &Message, limit: impl FnOnce(&str) -> usize) -> Result<Request, Refusal> {
    if let Some(reason) = message.headers.get(UNREADABLE) {
        let reason = reason.as_str().unwrap_or_default();
        return Err(Refusal::malformed(format!(
            "the message's headers can't be read: {reason}"
        )));
    }
    let headers = wire::plain(&message.headers);
    let headers = Headers::of(&headers);
    let task = headers.text("task")?;
    let body = body(message, limit(task.as_deref().unwrap_or_default()))?;
    let json = json::parse(&body)
        .map_err(|error| Refusal::malformed(format!("body is not JSON: {error}")))?;
    let Some(task) = task else {
        return Err(without_task_header(&json));
    };
    let RunHeaders {
        id,
        retries,
        requeues,
        replaced_task_nesting,
    } = headers.run()?;
    let Body {
        args,
        kwargs,
        embed,
    } = Body::from_json(json)?;
    Ok(Request {
        task,
        args,
        kwargs,
        embed,
        eta: headers.timestamp("eta")?,
        expires: headers.timestamp("expires")?,
        retries,
        time_limits: headers.time_limits()?,
        root_id: headers.text("root_id")?.unwrap_or_else(|| id.clone()),
        parent_id: headers.text("parent_id")?,
        group: headers.text("group")?,
        group_index: headers.integer("group_index")?,
        ignore_result: headers.ignore_result()?,
        requeues,
        memory_waits: headers.integer(MEMORY_WAITS)?.unwrap_or(0),
        replaced_task_nesting,
        stamped_headers: headers.stamped_headers()?,
        stamps: headers.stamps()?,
        lineage: headers.lineage()?,
        id,
        message: Message::default(),
    })
}

fn without_task_header(body: &Value) -> Refusal {
    if body.get("task").is_some() {
        Refusal::malformed(
            "task protocol 1 is not supported: set task_protocol = 2 in the app that sends it",
        )
    } else {
        Refusal::malformed("no `task` header: it was not sent by Celery's protocol 2")
    }
}

/// Reads headers by name.
struct Headers<'a>(Fields<'a>);

impl<'a> Headers<'a> {
    fn of(headers: &'a Map<String, Value>) -> Self {
        Self(Fields::of_headers(headers))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.0.read(name, "a string", Value::as_str)? {
            Some(text) if text.len() > MAX_TEXT => Err(Refusal::malformed(format!(
                "header `{name}` has {} bytes: at most {MAX_TEXT}",
                text.len()
            ))),
            text => Ok(text.filter(|text| !text.is_empty()).map(str::to_owned)),
        }
    }

    fn run(&self) -> Result<RunHeaders, Refusal> {
        let Some(id) = self.text("id")? else {
            return Err(Refusal::malformed("no `id` header"));
        };
        Ok(RunHeaders {
            id,
            retries: self.integer("retries")?.unwrap_or(0),
            requeues: self.integer(REQUEUES)?.unwrap_or(0),
            replaced_task_nesting: self.integer("replaced_task_nesting")?.unwrap_or(0),
        })
    }

    fn integer(&self, name: &str) -> Result<Option<u32>, Refusal> {
        let Some(number) = self.0.read(name, "a number", Value::as_number)? else {
            return Ok(None);
        };
        match number.as_u64().map(u32::try_from) {
            Some(Ok(number)) => Ok(Some(number)),
            _ => Err(Refusal::malformed(format!(
                "header `{name}` is {number}, not 0 to {}",
                u32::MAX
            ))),
        }
    }

    fn timestamp(&self, name: &str) -> Result<Option<jiff::Timestamp>, Refusal> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match time::from_iso(&text) {
            Some(time) => Ok(Some(time)),
            None => Err(Refusal::malformed(format!(
                "header `{name}` is {text:?}, not an ISO 8601 time"
            ))),
        }
    }

    /// `[hard, soft]`, in seconds.
    fn time_limits(&self) -> Result<TimeLimits, Refusal> {
        match self.0.array("timelimit")? {
            None => Ok(TimeLimits::default()),
            Some([hard, soft]) => Ok(TimeLimits {
                hard: seconds(hard)?,
                soft: seconds(soft)?,
            }),
            Some(limits) => Err(Refusal::malformed(format!(
                "header `timelimit` has {} elements, not 2",
                limits.len()
            ))),
        }
    }

    fn ignore_result(&self) -> Result<bool, Refusal> {
        Ok(self.0.boolean("ignore_result")?.unwrap_or(false))
    }

    fn stamped_headers(&self) -> Result<Vec<String>, Refusal> {
        let names = self.0.array("stamped_headers")?.unwrap_or_default();
        let text = |name: &Value| name.as_str().map(str::to_owned);
        let names: Option<_> = names.iter().map(text).collect();
        names.ok_or_else(|| Refusal::malformed("a name in `stamped_headers` is no string"))
    }

    /// Both headers, or neither: one that a guest could do without would be no limit.
    fn lineage(&self) -> Result<Option<Lineage>, Refusal> {
        let descendants = self.integer(DESCENDANTS)?;
        match (descendants, self.integer(DEPTH)?) {
            (None, None) => Ok(None),
            (Some(descendants), Some(depth)) => Ok(Some(Lineage {
                descendants: usize::try_from(descendants).unwrap_or(usize::MAX),
                depth,
            })),
            (Some(_), None) => Err(missing(DEPTH, DESCENDANTS)),
            (None, Some(_)) => Err(missing(DESCENDANTS, DEPTH)),
        }
    }

    fn stamps(&self) -> Result<Map<String, Value>, Refusal> {
        Ok(self.0.object("stamps")?.cloned().unwrap_or_default())
    }
}

/// A time limit; 0 is none, as in Celery.
fn seconds(value: &Value) -> Result<Option<std::time::Duration>, Refusal> {
    if value.is_null() {
        return Ok(None);
    }
    let limit = value
        .as_f64()
        .and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
    match limit {
        Some(limit) => Ok(Some(limit).filter(|limit| !limit.is_zero())),
        None => Err(Refusal::malformed(
            "a limit in header `timelimit` is no number of seconds",
        )),
    }
}

fn missing(name: &str, other: &str) -> Refusal {
    Refusal::malformed(format!("header `{other}` without `{name}`"))
}
