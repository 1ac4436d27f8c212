//! WIT values to JSON.

use petiole_celery::json;
use serde_json::{Map, Value};
use wasmtime::component::Val;

use crate::limits::off_the_executor::is_long;
use crate::schema::json_texts::{JsonTexts, members_memory, text_memory, values_memory};
use crate::schema::wit_type::{WitType, snake};

/// The reason why a value has no JSON form.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToJsonError {
    #[error("the task returned a json record that does not hold a JSON text: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("the result counts as {size} bytes of JSON or more: the limit is {limit}")]
    TooLarge { size: usize, limit: usize },
    /// Can't be: wasmtime checks what it lifts.
    #[error("a value is not of its type, {ty}")]
    OtherType { ty: String },
}

/// The JSON form of a value of this type. `texts`: what its JSON texts count in, and the values that are made beside it,
/// before they are made.
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
        (WitType::F32, Val::Float32(x)) => float(x.into(), texts)?,
        (WitType::F64, Val::Float64(x)) => float(x, texts)?,
        (WitType::Char, Val::Char(c)) => owned(c.encode_utf8(&mut [0; 4]), texts)?.into(),
        // counted where it was read, and bytes are base64 already
        (WitType::String | WitType::Bytes, Val::String(text)) => json::string(text),
        (WitType::Json, Val::Record(fields)) => match fields.into_iter().next() {
            Some((_, Val::String(text))) => read(&text, texts)?,
            _ => return Err(other_type(ty)),
        },
        (WitType::List(element), Val::List(items)) => {
            array(items.into_iter().map(|item| (&**element, item)), texts)?
        }
        (WitType::Option(_), Val::Option(None)) => Value::Null,
        (WitType::Option(inner), Val::Option(Some(val))) => match **inner {
            WitType::Option(_) => single("some", Some(&**inner), Some(val), texts)?,
            _ => to_json(inner, *val, texts)?,
        },
        (WitType::Tuple(types), Val::Tuple(items)) => array(types.iter().zip(items), texts)?,
        (WitType::Record(fields), Val::Record(vals)) => {
            let mut members = object(fields.len(), texts)?;
            for (field, (_, val)) in fields.iter().zip(vals) {
                let name = owned(&field.name.snake, texts)?;
                members.insert(name, to_json(&field.ty, val, texts)?);
            }
            Value::Object(members)
        }
        (WitType::Variant(cases), Val::Variant(name, payload)) => {
            let case = cases.get(&name).ok_or_else(|| other_type(ty))?;
            match (&case.ty, payload) {
                (None, None) => owned(&case.name.snake, texts)?.into(),
                (Some(ty), Some(val)) => single(&case.name.snake, Some(ty), Some(val), texts)?,
                _ => return Err(other_type(ty)),
            }
        }
        (WitType::Enum(_), Val::Enum(case)) => owned(&snake(&case), texts)?.into(),
        (WitType::Flags(_), Val::Flags(set)) => {
            take(texts, values_memory::<Value>(set.len()))?;
            let mut names = Vec::with_capacity(set.len());
            for flag in &set {
                names.push(owned(&snake(flag), texts)?.into());
            }
            Value::Array(names)
        }
        (WitType::Result(ok, _), Val::Result(Ok(val))) => single("ok", ok.as_deref(), val, texts)?,
        (WitType::Result(_, err), Val::Result(Err(val))) => {
            single("err", err.as_deref(), val, texts)?
        }
        _ => return Err(other_type(ty)),
    })
}

/// The payload of a side of a result; null for nothing.
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
    let added = texts.add(text);
    added.map_err(|size| too_large(size, texts))?;
    Ok(json::parse(text.as_bytes())?)
}

fn take(texts: &mut JsonTexts, bytes: usize) -> Result<(), ToJsonError> {
    let taken = texts.values.take(bytes);
    taken.map_err(|size| too_large(size, texts))
}

fn too_large(size: usize, texts: &JsonTexts) -> ToJsonError {
    let limit = texts.values.limit();
    ToJsonError::TooLarge { size, limit }
}

fn array<'a>(
    items: impl ExactSizeIterator<Item = (&'a WitType, Val)>,
    texts: &mut JsonTexts,
) -> Result<Value, ToJsonError> {
    take(texts, values_memory::<Value>(items.len()))?;
    let mut values = Vec::with_capacity(items.len());
    for (ty, item) in items {
        values.push(to_json(ty, item, texts)?);
    }
    Ok(Value::Array(values))
}

/// An object with room for its members, without them.
fn object(len: usize, texts: &mut JsonTexts) -> Result<Map<String, Value>, ToJsonError> {
    take(texts, members_memory(len))?;
    Ok(Map::with_capacity(len))
}

/// An object of one member.
fn single(
    key: &str,
    ty: Option<&WitType>,
    val: Option<Box<Val>>,
    texts: &mut JsonTexts,
) -> Result<Value, ToJsonError> {
    let mut members = object(1, texts)?;
    let key = owned(key, texts)?;
    members.insert(key, payload(ty, val, texts)?);
    Ok(Value::Object(members))
}

/// A text that is not the guest's.
fn owned(text: &str, texts: &mut JsonTexts) -> Result<String, ToJsonError> {
    take(texts, text_memory(text.len()))?;
    Ok(text.to_owned())
}

/// JSON has no numbers for what is not finite.
fn float(x: f64, texts: &mut JsonTexts) -> Result<Value, ToJsonError> {
    let infinite = match serde_json::Number::from_f64(x) {
        Some(number) => return Ok(Value::Number(number)),
        None if x.is_nan() => "NaN",
        None if x > 0.0 => "Infinity",
        None => "-Infinity",
    };
    Ok(owned(infinite, texts)?.into())
}

fn other_type(ty: &WitType) -> ToJsonError {
    ToJsonError::OtherType { ty: ty.to_string() }
}

/// True if a value without lists holds a text that takes long to read.
pub(crate) fn holds_long_text(val: &Val) -> bool {
    let holds = |val: &Option<Box<Val>>| val.as_deref().is_some_and(holds_long_text);
    match val {
        Val::String(text) => is_long(text.len()),
        Val::Tuple(vals) => vals.iter().any(holds_long_text),
        Val::Record(fields) => fields.iter().any(|(_, val)| holds_long_text(val)),
        Val::Variant(_, val) | Val::Option(val) | Val::Result(Ok(val) | Err(val)) => holds(val),
        _ => false,
    }
}
