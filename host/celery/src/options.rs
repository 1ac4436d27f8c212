//! A signature's execution options, checked: the keywords of Celery's `apply_async`.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use crate::fields::Mistyped;
use crate::json::{self, kind, plain_text};
use crate::layered::{LayeredOptions, OptionValue};
use crate::signature::SignatureRef;
use crate::{Destination, Routes, SignatureError, time};

/// Options as `apply_async` takes them. Those that concern only the sending side's library
/// (`serializer`, `compression`, `retry`, `connection`, ...) are left out.
pub(crate) struct Options<'a> {
    queue: Option<&'a str>,
    exchange: Option<&'a str>,
    routing_key: Option<&'a str>,
    pub(crate) priority: Option<u8>,
    pub(crate) persistent: bool,
    countdown: Option<SignedDuration>,
    eta: Option<Timestamp>,
    expires: Option<Expires>,
    pub(crate) time_limit: &'a Value,
    pub(crate) soft_time_limit: &'a Value,
    pub(crate) retries: u32,
    pub(crate) link: Vec<&'a Value>,
    pub(crate) link_error: Vec<&'a Value>,
    pub(crate) chain: Vec<&'a Value>,
    pub(crate) chord: Option<&'a Value>,
    pub(crate) group_id: Option<&'a str>,
    pub(crate) group_index: Option<u32>,
    pub(crate) root_id: Option<&'a str>,
    pub(crate) parent_id: Option<&'a str>,
    pub(crate) reply_to: Option<&'a str>,
    pub(crate) shadow: Option<&'a str>,
    pub(crate) headers: Option<&'a Map<String, Value>>,
    pub(crate) stamped_headers: Option<Vec<&'a str>>,
    pub(crate) stamps: Vec<(&'a str, OptionValue<'a>)>,
    pub(crate) ignore_result: Option<bool>,
    pub(crate) replaced_task_nesting: u32,
}

/// A number of seconds or a time.
enum Expires {
    After(SignedDuration),
    At(Timestamp),
}

impl<'a> Options<'a> {
    pub(crate) fn read(
        task: &'a str,
        options: &'a LayeredOptions<'a>,
    ) -> Result<Self, SignatureError> {
        let read = Reader { task, options };
        let stamped_headers = read.names("stamped_headers")?;
        let mut seen = HashSet::new();
        let names = stamped_headers.iter().flatten();
        let stamps = names
            .filter(|name| seen.insert(**name))
            .filter_map(|name| Some((*name, options.get(name)?)))
            .collect();
        Reader {
            task,
            options: &LayeredOptions::own(options.own),
        }
        .text("task_id")?;
        Ok(Self {
            queue: read.text("queue")?,
            exchange: read.text("exchange")?,
            routing_key: read.text("routing_key")?,
            priority: read.integer("priority")?,
            persistent: read.persistent()?,
            countdown: read.countdown()?,
            eta: read.json("eta", "an ISO 8601 time", |eta| {
                time(eta).or_else(|| date(eta))
            })?,
            expires: match read.get("expires") {
                Some(OptionValue::Json(value)) if json::is_number(value) => {
                    read.seconds("expires")?.map(Expires::After)
                }
                _ => read
                    .json("expires", "an ISO 8601 time", time)?
                    .map(Expires::At),
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
        match (self.exchange, self.routing_key, self.queue) {
            (Some(exchange), Some(routing_key), _) => Destination {
                exchange: exchange.to_owned(),
                routing_key: routing_key.to_owned(),
            },
            (_, _, Some(queue)) => Destination::queue(queue),
            _ => routes.destination(task),
        }
    }

    /// The time to run: a `countdown` other than 0 takes precedence over an `eta`, as in Celery.
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
    options: &'a LayeredOptions<'a>,
}

impl<'a> Reader<'a> {
    fn get(&self, name: &str) -> Option<OptionValue<'a>> {
        self.options.get(name).filter(|option| !option.is_null())
    }

    fn mistyped(&self, name: &str, expected: &str, found: OptionValue<'_>) -> Mistyped {
        let found = match found {
            OptionValue::Json(value) if value.is_boolean() || json::is_number(value) => {
                json::Text(value).to_string()
            }
            OptionValue::Json(value) => match json::tagged(value) {
                Some((tag, _)) => format!("kombu's {tag:?}"),
                None => kind(value).to_owned(),
            },
            OptionValue::Text(_) => "a string".to_owned(),
            OptionValue::Index(index) => index.to_string(),
            OptionValue::Signatures(_) => "an array".to_owned(),
        };
        let option = format!("option `{name}` of {:?}", self.task);
        Mistyped::new(option, expected, found)
    }

    /// The value that `read` makes of the option, where it is set.
    fn option<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(OptionValue<'a>) -> Option<T>,
    ) -> Result<Option<T>, SignatureError> {
        let Some(option) = self.get(name) else {
            return Ok(None);
        };
        let value = read(option);
        value
            .map(Some)
            .ok_or_else(|| self.mistyped(name, expected, option).into())
    }

    /// The same of one that no workflow sets.
    fn json<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, SignatureError> {
        self.option(name, expected, |option| match option {
            OptionValue::Json(value) => read(value),
            _ => None,
        })
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, SignatureError> {
        let text = self.option(name, "a string", |option| match option {
            OptionValue::Text(text) => Some(text),
            OptionValue::Json(value) => plain_text(value),
            _ => None,
        })?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn integer<T: TryFrom<i64> + TryFrom<u64>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, SignatureError> {
        let expected = format!("an unsigned {} bit integer", size_of::<T>() * 8);
        self.option(name, &expected, |option| match option {
            OptionValue::Index(index) => T::try_from(u64::try_from(index).ok()?).ok(),
            OptionValue::Json(value) => json::integer(value),
            _ => None,
        })
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, SignatureError> {
        self.json(name, "a boolean", Value::as_bool)
    }

    fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, SignatureError> {
        self.json(name, "an object", Value::as_object)
    }

    fn seconds(&self, name: &str) -> Result<Option<SignedDuration>, SignatureError> {
        self.json(name, "a number of seconds", seconds)
    }

    /// Of kombu's forms for Python's types Celery takes a zero alone, which counts as none.
    fn countdown(&self) -> Result<Option<SignedDuration>, SignatureError> {
        match self.get("countdown") {
            Some(OptionValue::Json(value)) if is_zero_decimal(value) => Ok(None),
            _ => self.seconds("countdown"),
        }
    }

    /// A time limit in seconds: the number as it stands, or null.
    fn limit(&self, name: &str) -> Result<&'a Value, SignatureError> {
        let limit = self.json(name, "a number of seconds", |value| {
            let seconds = seconds(value)?;
            (!seconds.is_negative()).then_some(value)
        })?;
        Ok(limit.unwrap_or(&Value::Null))
    }

    fn names(&self, name: &str) -> Result<Option<Vec<&'a str>>, SignatureError> {
        self.json(name, "an array of strings", |value| {
            value.as_array()?.iter().map(plain_text).collect()
        })
    }

    /// One signature or several, as they stand so that nothing of them is lost on the way.
    fn signatures(&self, name: &str) -> Result<Vec<&'a Value>, SignatureError> {
        let values = match self.get(name) {
            None => return Ok(Vec::new()),
            Some(OptionValue::Json(Value::Array(values))) => values.iter().collect(),
            Some(OptionValue::Json(value)) => vec![value],
            Some(OptionValue::Signatures(values)) => values.to_vec(),
            Some(option @ (OptionValue::Text(_) | OptionValue::Index(_))) => {
                return Err(self.mistyped(name, "a signature", option).into());
            }
        };
        for value in &values {
            SignatureRef::from_json(value).map_err(|error| {
                SignatureError::new(format!("`{name}` of {:?}: {error}", self.task))
            })?;
        }
        Ok(values)
    }

    /// AMQP delivery mode: 2, which is the default, or 1.
    fn persistent(&self) -> Result<bool, SignatureError> {
        let persistent = self.json("delivery_mode", "1 or 2", |mode| {
            match (json::integer::<u64>(mode), plain_text(mode)) {
                (Some(2), _) | (_, Some("persistent")) => Some(true),
                (Some(1), _) | (_, Some("transient")) => Some(false),
                _ => None,
            }
        })?;
        Ok(persistent.unwrap_or(true))
    }
}

fn seconds(value: &Value) -> Option<SignedDuration> {
    SignedDuration::try_from_secs_f64(json::float(value)?).ok()
}

/// Text, or Python's `datetime` as kombu writes it.
fn time(value: &Value) -> Option<Timestamp> {
    let text = match json::tagged(value) {
        Some(("datetime", text)) => text,
        Some(_) => return None,
        None => value,
    };
    time::from_iso(plain_text(text)?)
}

/// Python's `date` as kombu writes it. As an `eta` its midnight is meant, in UTC.
fn date(value: &Value) -> Option<Timestamp> {
    let ("date", text) = json::tagged(value)? else {
        return None;
    };
    time::from_iso_date(plain_text(text)?)
}

/// Python's `decimal` as kombu writes it, where it is 0.
fn is_zero_decimal(value: &Value) -> bool {
    let Some(("decimal", text)) = json::tagged(value) else {
        return false;
    };
    plain_text(text).is_some_and(|text| {
        let digits = text.split(['e', 'E']).next().unwrap_or_default();
        // 1E-999 is 0 as a float
        text.parse() == Ok(0.0) && !digits.bytes().any(|digit| matches!(digit, b'1'..=b'9'))
    })
}
