//! The body of a v2 message: `[args, kwargs, embed]`.

use serde_json::{Map, Value, json};

use crate::signature::kind;
use crate::{Embed, Refusal, Signature};

/// A body, parsed.
pub(crate) struct Body {
    pub(crate) args: Vec<Value>,
    pub(crate) kwargs: Map<String, Value>,
    pub(crate) embed: Embed,
}

impl Body {
    pub(crate) fn from_json(json: Value) -> Result<Self, Refusal> {
        let Value::Array(parts) = json else {
            return Err(malformed(format!(
                "body is {}, not [args, kwargs, embed]",
                kind(&json)
            )));
        };
        let [args, kwargs, embed] = <[Value; 3]>::try_from(parts).map_err(|parts| {
            malformed(format!(
                "body has {} elements, not [args, kwargs, embed]",
                parts.len()
            ))
        })?;
        let args = match args {
            Value::Array(args) => args,
            other => {
                return Err(malformed(format!(
                    "args are {}, not an array",
                    kind(&other)
                )));
            }
        };
        let kwargs = match kwargs {
            Value::Object(kwargs) => kwargs,
            other => {
                return Err(malformed(format!(
                    "kwargs are {}, not an object",
                    kind(&other)
                )));
            }
        };
        Ok(Self {
            args,
            kwargs,
            embed: Embed::from_json(&embed)?,
        })
    }
}

impl Embed {
    fn from_json(json: &Value) -> Result<Self, Refusal> {
        if !json.is_object() && !json.is_null() {
            return Err(malformed(format!("embed is {}, not an object", kind(json))));
        }
        Ok(Self {
            callbacks: signatures(json, "callbacks")?,
            errbacks: signatures(json, "errbacks")?,
            chain: signatures(json, "chain")?,
            chord: match json.get("chord") {
                None | Some(Value::Null) => None,
                Some(chord) => Some(signature(chord, "chord")?),
            },
        })
    }

    /// The third element of a body. Celery writes null for what there is none of.
    pub(crate) fn write(
        callbacks: &[Value],
        errbacks: &[Value],
        chain: &[Value],
        chord: Option<&Value>,
    ) -> Value {
        let list = |values: &[Value]| {
            if values.is_empty() {
                Value::Null
            } else {
                values.into()
            }
        };
        json!({"callbacks": list(callbacks), "errbacks": list(errbacks), "chain": list(chain), "chord": chord})
    }
}

fn signatures(embed: &Value, name: &str) -> Result<Vec<Signature>, Refusal> {
    match embed.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(|value| signature(value, name)).collect(),
        Some(value) => Ok(vec![signature(value, name)?]),
    }
}

fn signature(value: &Value, name: &str) -> Result<Signature, Refusal> {
    Signature::from_json(value).map_err(|error| malformed(format!("`{name}` in embed: {error}")))
}

fn malformed(reason: String) -> Refusal {
    Refusal::Malformed { reason }
}
