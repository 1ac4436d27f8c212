//! The body of a v2 message: `[args, kwargs, embed]`.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::json::kind;
use crate::part::Part;
use crate::{Refusal, Signature};

/// Callbacks, chain and chord that follow a task: the third element of a v2 body.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embed {
    /// `link`: called with the result.
    pub callbacks: Vec<Signature>,
    /// `link_error`: called when the task fails.
    pub errbacks: Vec<Signature>,
    /// The rest of the chain, reversed: the next task is the last element.
    pub chain: Vec<Signature>,
    /// The chord body that this task is a header part of.
    pub chord: Option<Signature>,
}

/// A body, parsed.
pub(crate) struct Body {
    pub(crate) args: Vec<Value>,
    pub(crate) kwargs: Map<String, Value>,
    pub(crate) embed: Embed,
}

impl Body {
    pub(crate) fn from_json(json: Value) -> Result<Self, Refusal> {
        let Value::Array(parts) = json else {
            return Err(Refusal::malformed(format!(
                "body is {}, not [args, kwargs, embed]",
                kind(&json)
            )));
        };
        let [args, kwargs, embed] = <[Value; 3]>::try_from(parts).map_err(|parts| {
            Refusal::malformed(format!(
                "body has {} elements, not [args, kwargs, embed]",
                parts.len()
            ))
        })?;
        let args = match args {
            Value::Array(args) => args,
            other => {
                return Err(Refusal::malformed(format!(
                    "args are {}, not an array",
                    kind(&other)
                )));
            }
        };
        let kwargs = match kwargs {
            Value::Object(kwargs) => kwargs,
            other => {
                return Err(Refusal::malformed(format!(
                    "kwargs are {}, not an object",
                    kind(&other)
                )));
            }
        };
        Ok(Self {
            args,
            kwargs,
            embed: Embed::from_json(embed)?,
        })
    }
}

impl Embed {
    fn from_json(json: Value) -> Result<Self, Refusal> {
        let mut embed = match json {
            Value::Object(embed) => embed,
            Value::Null => Map::new(),
            other => {
                return Err(Refusal::malformed(format!(
                    "embed is {}, not an object",
                    kind(&other)
                )));
            }
        };
        let mut take = |name: &str| embed.get_mut(name).map(Value::take).unwrap_or_default();
        Ok(Self {
            callbacks: signatures(take("callbacks"), "callbacks")?,
            errbacks: signatures(take("errbacks"), "errbacks")?,
            chain: signatures(take("chain"), "chain")?,
            chord: match take("chord") {
                Value::Null => None,
                chord => Some(signature(chord, "chord")?),
            },
        })
    }
}

/// The embed of a new task. Celery writes null for what is absent.
#[derive(Serialize)]
pub(crate) struct EmbedRef<'a> {
    #[serde(serialize_with = "list")]
    pub(crate) callbacks: &'a [&'a Value],
    #[serde(serialize_with = "list")]
    pub(crate) errbacks: &'a [&'a Value],
    pub(crate) chain: Chain<'a>,
    pub(crate) chord: Option<&'a Value>,
}

/// The rest of a chain, reversed.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Chain<'a> {
    /// As the task's own options have it.
    #[serde(serialize_with = "list")]
    Own(&'a [&'a Value]),
    /// Of the chain that the task is a part of.
    Rest(&'a [Part<'a>]),
}

fn list<S: Serializer>(values: &[&Value], serializer: S) -> Result<S::Ok, S::Error> {
    let values = Some(values).filter(|values| !values.is_empty());
    values.serialize(serializer)
}

fn signatures(value: Value, name: &str) -> Result<Vec<Signature>, Refusal> {
    let values = match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values,
        value => vec![value],
    };
    let signatures = values.into_iter().map(|value| signature(value, name));
    signatures.collect()
}

fn signature(value: Value, name: &str) -> Result<Signature, Refusal> {
    Signature::from_value(value)
        .map_err(|error| Refusal::malformed(format!("`{name}` in embed: {error}")))
}
