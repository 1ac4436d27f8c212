use std::borrow::Cow;
use std::io::Read;

use base64::Engine;
use serde_json::{Map, Value};

use crate::embed::Body;
use crate::request::TimeLimits;
use crate::signature::kind;
use crate::{Message, Refusal, Request, time};

/// How large a body may be once its encoding and compression are undone. RabbitMQ's own limit is
/// 16 MiB for new nodes and was 128 MiB before; a compressed body could grow a thousandfold.
const MAX_BODY_BYTES: usize = 64 << 20;

/// A message that is no request: why, and what could still be read of it, so that its sender hears.
#[derive(Debug, Clone, PartialEq)]
pub struct Undecodable {
    /// Why.
    pub refusal: Refusal,
    /// Header `id`, or the correlation id.
    pub id: Option<String>,
    /// Header `task`.
    pub task: Option<String>,
    /// The message, untouched.
    pub message: Message,
}

impl Request {
    /// Reads a protocol v2 message.
    ///
    /// # Errors
    /// [`Undecodable`] for every message that is not one; it never panics, and never decodes pickle
    /// or yaml.
    pub fn decode(message: Message) -> Result<Self, Box<Undecodable>> {
        match read(&message) {
            Ok(request) => Ok(Self { message, ..request }),
            Err(refusal) => {
                let text = |name| {
                    message
                        .headers
                        .get(name)
                        .and_then(Value::as_str)
                        .map(str::to_owned)
                };
                let id = text("id").or_else(|| message.properties.correlation_id.clone());
                let id = id.filter(|id| !id.is_empty());
                let task = text("task");
                Err(Box::new(Undecodable {
                    refusal,
                    id,
                    task,
                    message,
                }))
            }
        }
    }
}

/// Everything but the message itself.
fn read(message: &Message) -> Result<Request, Refusal> {
    let json = parse(message)?;
    let headers = Headers(&message.headers);
    let Some(task) = headers.text("task")? else {
        return Err(without_task_header(&json));
    };
    let Some(id) = headers.text("id")? else {
        return Err(malformed("no `id` header"));
    };
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
        retries: headers.integer("retries")?.unwrap_or(0),
        time_limits: headers.time_limits()?,
        root_id: headers.text("root_id")?.unwrap_or_else(|| id.clone()),
        parent_id: headers.text("parent_id")?,
        group: headers.text("group")?,
        group_index: headers.integer("group_index")?,
        ignore_result: headers.ignore_result()?,
        replaced_task_nesting: headers.integer("replaced_task_nesting")?.unwrap_or(0),
        stamped_headers: headers.stamped_headers()?,
        stamps: headers.stamps()?,
        id,
        message: Message::default(),
    })
}

fn malformed(reason: impl Into<String>) -> Refusal {
    Refusal::Malformed {
        reason: reason.into(),
    }
}

fn without_task_header(body: &Value) -> Refusal {
    if body.get("task").is_some() {
        malformed(
            "task protocol 1 is not supported: set task_protocol = 2 in the app that sends it",
        )
    } else {
        malformed("no `task` header: it was not sent by Celery's protocol 2")
    }
}

/// The body as JSON.
fn parse(message: &Message) -> Result<Value, Refusal> {
    match message.properties.content_type.as_deref() {
        Some("application/json") => {}
        other => {
            let content_type = other.unwrap_or("a body without a content type").to_owned();
            return Err(Refusal::ContentDisallowed { content_type });
        }
    }
    let body = decompress(
        decode_encoding(message)?,
        message.headers.get("compression"),
    )?;
    if body.len() > MAX_BODY_BYTES {
        return Err(too_large());
    }
    serde_json::from_slice(&body).map_err(|error| malformed(format!("body is not JSON: {error}")))
}

fn too_large() -> Refusal {
    malformed(format!("body is larger than {MAX_BODY_BYTES} bytes"))
}

fn decode_encoding(message: &Message) -> Result<Cow<'_, [u8]>, Refusal> {
    let encoding = message
        .properties
        .content_encoding
        .as_deref()
        .unwrap_or_default();
    match encoding.to_ascii_lowercase().as_str() {
        "" | "utf-8" | "utf8" | "binary" | "us-ascii" | "ascii" => Ok(Cow::Borrowed(&message.body)),
        "base64" => base64::engine::general_purpose::STANDARD
            .decode(&message.body)
            .map(Cow::Owned)
            .map_err(|error| malformed(format!("body is not base64: {error}"))),
        _ => Err(malformed(format!(
            "content encoding {encoding:?} is not one of utf-8, binary, base64"
        ))),
    }
}

fn decompress<'a>(
    body: Cow<'a, [u8]>,
    compression: Option<&Value>,
) -> Result<Cow<'a, [u8]>, Refusal> {
    match compression {
        None | Some(Value::Null) => Ok(body),
        // What kombu calls gzip is zlib data (RFC 1950).
        Some(Value::String(name))
            if matches!(name.as_str(), "application/x-gzip" | "gzip" | "zlib") =>
        {
            inflate(&body).map(Cow::Owned)
        }
        Some(Value::String(name)) => Err(malformed(format!(
            "compression {name:?} is not supported: use gzip or none"
        ))),
        Some(other) => Err(malformed(format!(
            "header `compression` is {}",
            kind(other)
        ))),
    }
}

fn inflate(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let limit = u64::try_from(MAX_BODY_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut inflated = Vec::new();
    flate2::read::ZlibDecoder::new(body)
        .take(limit)
        .read_to_end(&mut inflated)
        .map_err(|error| malformed(format!("body is not zlib data: {error}")))?;
    Ok(inflated)
}

/// Reads headers by name; null counts as missing.
struct Headers<'a>(&'a Map<String, Value>);

impl Headers<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(other) => Err(wrong(name, "a string", other)),
        }
    }

    fn integer(&self, name: &str) -> Result<Option<u32>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_u64().map(u32::try_from) {
            Some(Ok(number)) => Ok(Some(number)),
            _ if value.is_number() => Err(malformed(format!(
                "header `{name}` is {value}, not 0 to {}",
                u32::MAX
            ))),
            _ => Err(wrong(name, "a number", value)),
        }
    }

    fn timestamp(&self, name: &str) -> Result<Option<jiff::Timestamp>, Refusal> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match time::from_iso(&text) {
            Some(time) => Ok(Some(time)),
            None => Err(malformed(format!(
                "header `{name}` is {text:?}, not an ISO 8601 time"
            ))),
        }
    }

    /// `[hard, soft]`, in seconds.
    fn time_limits(&self) -> Result<TimeLimits, Refusal> {
        match self.get("timelimit") {
            None => Ok(TimeLimits::default()),
            Some(Value::Array(limits)) => match limits.as_slice() {
                [hard, soft] => Ok(TimeLimits {
                    hard: seconds(hard)?,
                    soft: seconds(soft)?,
                }),
                _ => Err(malformed(format!(
                    "header `timelimit` has {} elements, not 2",
                    limits.len()
                ))),
            },
            Some(other) => Err(wrong("timelimit", "an array", other)),
        }
    }

    fn ignore_result(&self) -> Result<bool, Refusal> {
        match self.get("ignore_result") {
            None => Ok(false),
            Some(Value::Bool(ignore)) => Ok(*ignore),
            Some(other) => Err(wrong("ignore_result", "a boolean", other)),
        }
    }

    fn stamped_headers(&self) -> Result<Vec<String>, Refusal> {
        let Some(value) = self.get("stamped_headers") else {
            return Ok(Vec::new());
        };
        let Value::Array(names) = value else {
            return Err(wrong("stamped_headers", "an array", value));
        };
        let text = |name: &Value| name.as_str().map(str::to_owned);
        names
            .iter()
            .map(text)
            .collect::<Option<_>>()
            .ok_or_else(|| malformed("a name in `stamped_headers` is no string"))
    }

    fn stamps(&self) -> Result<Map<String, Value>, Refusal> {
        match self.get("stamps") {
            None => Ok(Map::new()),
            Some(Value::Object(stamps)) => Ok(stamps.clone()),
            Some(other) => Err(wrong("stamps", "an object", other)),
        }
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
        None => Err(malformed(
            "a limit in header `timelimit` is no number of seconds",
        )),
    }
}

fn wrong(name: &str, expected: &str, found: &Value) -> Refusal {
    malformed(format!(
        "header `{name}` is {} where {expected} was expected",
        kind(found)
    ))
}
