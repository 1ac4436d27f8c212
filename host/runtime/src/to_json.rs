//! WIT values to JSON.

use serde_json::{Map, Value};
use wasmtime::component::Val;

use crate::json_texts::JsonTexts;
use crate::wit_type::{WitType, snake};

/// Why a value has no JSON form.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToJsonError {
    #[error("the task returned a json record that does not hold a JSON text: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("the result's JSON texts count as {size} bytes: the limit is {limit}")]
    TooLarge { size: usize, limit: usize },
    /// Can't be: wasmtime checks what it lifts.
    #[error("a value is not of its type, {ty}")]
    OtherType { ty: String },
}

/// The JSON form of a value of this type. `texts`: what its JSON texts count in.
pub(crate) fn to_json(ty: &WitType, val: Val, texts: &mut JsonTexts) -> Result<Value, ToJsonError> {
    Ok(match (ty, val) {
        (WitType::Bool, Val::Bool(b)) => b.into(),
        (WitType::S8, Val::S8(n)) => n.into(),
        (WitType::U8, Val::U8(n)) => n.into(),
        (WitType::S16, Val::S16(n)) => n.into(),
        (WitType::U16, Val::U16(n)) => n.into(),
        (WitType::S32, Val::S32(n)) => n.into(),
        (WitType::U32, Val::U32(n)) => n.into(),
        (WitType::S64, Val::S64(n)) => n.into(),
        (WitType::U64, Val::U64(n)) => n.into(),
        (WitType::F32, Val::Float32(x)) => float(x.into()),
        (WitType::F64, Val::Float64(x)) => float(x),
        (WitType::Char, Val::Char(c)) => c.to_string().into(),
        // bytes are base64 already
        (WitType::String | WitType::Bytes, Val::String(text)) => text.into(),
        (WitType::Json, Val::Record(fields)) => match fields.into_iter().next() {
            Some((_, Val::String(text))) => read(&text, texts)?,
            _ => return Err(other_type(ty)),
        },
        (WitType::List(element), Val::List(items))
        | (WitType::FixedList(element, _), Val::FixedLengthList(items)) => items
            .into_iter()
            .map(|item| to_json(element, item, texts))
            .collect::<Result<_, _>>()?,
        (WitType::Option(_), Val::Option(None)) => Value::Null,
        (WitType::Option(inner), Val::Option(Some(val))) => match **inner {
            WitType::Option(_) => single("some", to_json(inner, *val, texts)?),
            _ => to_json(inner, *val, texts)?,
        },
        (WitType::Tuple(types), Val::Tuple(items)) => types
            .iter()
            .zip(items)
            .map(|(ty, item)| to_json(ty, item, texts))
            .collect::<Result<_, _>>()?,
        (WitType::Record(fields), Val::Record(vals)) => {
            let members = fields.iter().zip(vals);
            let members = members
                .map(|(field, (_, val))| {
                    Ok((field.name.snake.clone(), to_json(&field.ty, val, texts)?))
                })
                .collect::<Result<Map<_, _>, ToJsonError>>()?;
            Value::Object(members)
        }
        (WitType::Variant(cases), Val::Variant(name, payload)) => {
            let case = cases.get(&name).ok_or_else(|| other_type(ty))?;
            match (&case.ty, payload) {
                (None, None) => case.name.snake.clone().into(),
                (Some(ty), Some(val)) => single(&case.name.snake, to_json(ty, *val, texts)?),
                _ => return Err(other_type(ty)),
            }
        }
        (WitType::Enum(_), Val::Enum(name)) => snake(&name).into(),
        (WitType::Flags(_), Val::Flags(names)) => names.iter().map(|name| snake(name)).collect(),
        (WitType::Result(ok, _), Val::Result(Ok(val))) => {
            single("ok", payload(ok.as_deref(), val, texts)?)
        }
        (WitType::Result(_, err), Val::Result(Err(val))) => {
            single("err", payload(err.as_deref(), val, texts)?)
        }
        _ => return Err(other_type(ty)),
    })
}

/// What a side of a result carries; null for nothing.
pub(crate) fn payload(
    ty: Option<&WitType>,
    val: Option<Box<Val>>,
    texts: &mut JsonTexts,
) -> Result<Value, ToJsonError> {
    match (ty, val) {
        (Some(ty), Some(val)) => to_json(ty, *val, texts),
        _ => Ok(Value::Null),
    }
}

fn read(text: &str, texts: &mut JsonTexts) -> Result<Value, ToJsonError> {
    texts.add(text).map_err(|size| ToJsonError::TooLarge {
        size,
        limit: texts.limit(),
    })?;
    Ok(serde_json::from_str(text)?)
}

/// JSON has no numbers for what is not finite.
fn float(x: f64) -> Value {
    match serde_json::Number::from_f64(x) {
        Some(number) => Value::Number(number),
        None if x.is_nan() => "NaN".into(),
        None if x > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

fn single(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

fn other_type(ty: &WitType) -> ToJsonError {
    ToJsonError::OtherType { ty: ty.to_string() }
}
