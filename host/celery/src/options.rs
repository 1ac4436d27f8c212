//! A signature's execution options, checked: the keywords of Celery's `apply_async`.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use crate::signature::kind;
use crate::{Destination, Routes, Signature, SignatureError, time};

/// Options as `apply_async` takes them. Those that concern only the sending side's library
/// (`serializer`, `compression`, `retry`, `connection`, ...) are left out.
pub(crate) struct Options {
    queue: Option<String>,
    exchange: Option<String>,
    routing_key: Option<String>,
    pub(crate) priority: Option<u8>,
    pub(crate) persistent: bool,
    countdown: Option<SignedDuration>,
    eta: Option<Timestamp>,
    expires: Option<Expires>,
    pub(crate) time_limit: Value,
    pub(crate) soft_time_limit: Value,
    pub(crate) retries: u32,
    pub(crate) link: Vec<Value>,
    pub(crate) link_error: Vec<Value>,
    pub(crate) chain: Vec<Value>,
    pub(crate) chord: Option<Value>,
    pub(crate) group_id: Option<String>,
    pub(crate) group_index: Option<u32>,
    pub(crate) root_id: Option<String>,
    pub(crate) parent_id: Option<String>,
    pub(crate) reply_to: Option<String>,
    pub(crate) shadow: Option<String>,
    pub(crate) headers: Map<String, Value>,
    pub(crate) stamped_headers: Option<Vec<String>>,
    pub(crate) stamps: Map<String, Value>,
    pub(crate) ignore_result: Option<bool>,
    pub(crate) replaced_task_nesting: u32,
}

/// A number of seconds or a time.
enum Expires {
    After(SignedDuration),
    At(Timestamp),
}

impl Options {
    pub(crate) fn read(task: &str, options: &Map<String, Value>) -> Result<Self, SignatureError> {
        let read = Reader { task, options };
        let stamped_headers = read.names("stamped_headers")?;
        let stamps = stamped_headers
            .iter()
            .flatten()
            .filter_map(|name| options.get(name).map(|stamp| (name.clone(), stamp.clone())))
            .collect();
        read.text("task_id")?;
        Ok(Self {
            queue: read.text("queue")?,
            exchange: read.text("exchange")?,
            routing_key: read.text("routing_key")?,
            priority: read.integer("priority")?,
            persistent: read.persistent()?,
            countdown: read.seconds("countdown")?,
            eta: read.time("eta")?,
            expires: match read.get("expires") {
                Some(Value::Number(_)) => read.seconds("expires")?.map(Expires::After),
                _ => read.time("expires")?.map(Expires::At),
            },
            time_limit: read.limit("time_limit")?,
            soft_time_limit: read.limit("soft_time_limit")?,
            retries: read.integer("retries")?.unwrap_or(0),
            link: read.signatures("link")?,
            link_error: read.signatures("link_error")?,
            chain: read.signatures("chain")?,
            chord: read.signatures("chord")?.into_iter().next(),
            group_id: read.text("group_id")?,
            group_index: read.integer("group_index")?,
            root_id: read.text("root_id")?,
            parent_id: read.text("parent_id")?,
            reply_to: read.text("reply_to")?,
            shadow: read.text("shadow")?,
            headers: read.object("headers")?,
            stamped_headers,
            stamps,
            ignore_result: read.boolean("ignore_result")?,
            replaced_task_nesting: read.integer("replaced_task_nesting")?.unwrap_or(0),
        })
    }

    /// An exchange counts only together with a routing key, as in Celery, where a direct exchange
    /// without one is replaced by the default exchange and the queue.
    pub(crate) fn destination(&self, task: &str, routes: &Routes) -> Destination {
        match (&self.exchange, &self.routing_key, &self.queue) {
            (Some(exchange), Some(routing_key), _) => Destination {
                exchange: exchange.clone(),
                routing_key: routing_key.clone(),
            },
            (_, _, Some(queue)) => Destination::queue(queue),
            _ => routes.destination(task),
        }
    }

    /// When to run: a `countdown` other than 0 comes before an `eta`, as in Celery.
    pub(crate) fn run_at(&self, now: Timestamp) -> Option<Timestamp> {
        let countdown = self.countdown.filter(|countdown| !countdown.is_zero());
        countdown
            .map(|countdown| time::after(now, countdown))
            .or(self.eta)
    }

    pub(crate) fn expire_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.expires.as_ref().map(|expires| match expires {
            Expires::After(seconds) => time::after(now, *seconds),
            Expires::At(time) => *time,
        })
    }
}

/// Reads options by name; null counts as missing, as in Celery.
struct Reader<'a> {
    task: &'a str,
    options: &'a Map<String, Value>,
}

impl<'a> Reader<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.options.get(name).filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> SignatureError {
        let found = match found {
            Value::Number(_) | Value::Bool(_) => found.to_string(),
            other => kind(other).to_owned(),
        };
        SignatureError::new(format!(
            "option `{name}` of {:?} is {found} where {expected} was expected",
            self.task
        ))
    }

    fn text(&self, name: &str) -> Result<Option<String>, SignatureError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(other) => Err(self.wrong(name, "a string", other)),
        }
    }

    fn integer<T: TryFrom<u64>>(&self, name: &str) -> Result<Option<T>, SignatureError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_u64().map(T::try_from) {
            Some(Ok(number)) => Ok(Some(number)),
            _ => {
                let bits = size_of::<T>() * 8;
                Err(self.wrong(name, &format!("an unsigned {bits} bit integer"), value))
            }
        }
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, SignatureError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(name, "a boolean", other)),
        }
    }

    fn object(&self, name: &str) -> Result<Map<String, Value>, SignatureError> {
        match self.get(name) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.clone()),
            Some(other) => Err(self.wrong(name, "an object", other)),
        }
    }

    fn seconds(&self, name: &str) -> Result<Option<SignedDuration>, SignatureError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let seconds = value
            .as_f64()
            .and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
        seconds
            .map(Some)
            .ok_or_else(|| self.wrong(name, "a number of seconds", value))
    }

    fn time(&self, name: &str) -> Result<Option<Timestamp>, SignatureError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let time = value.as_str().and_then(time::from_iso);
        time.map(Some)
            .ok_or_else(|| self.wrong(name, "an ISO 8601 time", value))
    }

    /// A time limit in seconds: the number as it stands, or null.
    fn limit(&self, name: &str) -> Result<Value, SignatureError> {
        let limit = self.options.get(name).unwrap_or(&Value::Null);
        match self.seconds(name)? {
            Some(seconds) if seconds.is_negative() => {
                Err(self.wrong(name, "a number of seconds", limit))
            }
            _ => Ok(limit.clone()),
        }
    }

    fn names(&self, name: &str) -> Result<Option<Vec<String>>, SignatureError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let text = |name: &Value| name.as_str().map(str::to_owned);
        let names = value
            .as_array()
            .and_then(|names| names.iter().map(text).collect());
        names
            .map(Some)
            .ok_or_else(|| self.wrong(name, "an array of strings", value))
    }

    /// One signature or several, kept as they stand so that nothing of them is lost on the way.
    fn signatures(&self, name: &str) -> Result<Vec<Value>, SignatureError> {
        let values = match self.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values.clone(),
            Some(value) => vec![value.clone()],
        };
        for value in &values {
            Signature::from_json(value).map_err(|error| {
                SignatureError::new(format!("`{name}` of {:?}: {error}", self.task))
            })?;
        }
        Ok(values)
    }

    /// AMQP delivery mode: 2, which is the default, or 1.
    fn persistent(&self) -> Result<bool, SignatureError> {
        match self.get("delivery_mode") {
            None => Ok(true),
            Some(mode) => match (mode.as_u64(), mode.as_str()) {
                (Some(2), _) | (_, Some("persistent")) => Ok(true),
                (Some(1), _) | (_, Some("transient")) => Ok(false),
                _ => Err(self.wrong("delivery_mode", "1 or 2", mode)),
            },
        }
    }
}
