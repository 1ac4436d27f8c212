//! AMQP's field values and JSON, both ways without loss.
//!
//! Values that JSON has itself stand for themselves: null, booleans, integers (as `I` where 32 bits hold them, else
//! `l`), floats (`d`), strings (`S`), arrays and tables. A value of another type is an object such as kombu makes for
//! what JSON has no form for: `{"__type__": "amqp.u8", "__value__": 7}`, and
//! `{"__type__": "base64", "__value__": ...}`, which is kombu's own, for bytes (`x`). A table that looks like one of
//! these is one of them itself, `amqp.table`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value, json};

use crate::json;

const TYPE: &str = "__type__";
const VALUE: &str = "__value__";
/// kombu's own.
const BASE64: &str = "base64";

/// A field value, with RabbitMQ's letters for the types.
#[derive(Debug, Clone, PartialEq)]
pub enum Field<'a> {
    /// `V`
    Void,
    /// `t`
    Boolean(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: the value divided by ten to the power of the scale.
    Decimal {
        /// Decimal places.
        scale: u8,
        /// All digits.
        value: u32,
    },
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `S`: UTF-8 in all but name.
    Text(Cow<'a, [u8]>),
    /// `x`
    Bytes(Cow<'a, [u8]>),
    /// `A`
    Array(&'a [Value]),
    /// `F`
    Table(&'a Map<String, Value>),
}

impl<'a> Field<'a> {
    /// The field value that JSON stands for. An integer past 64 signed bits, which AMQP as RabbitMQ speaks it
    /// has no type for, is its decimal digits.
    pub fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Void,
            Value::Bool(value) => Self::Boolean(*value),
            Value::Number(number) => Self::of_number(number),
            Value::String(text) => Self::Text(Cow::Borrowed(text.as_bytes())),
            Value::Array(values) => Self::Array(values),
            Value::Object(object) => tagged(object).unwrap_or(Self::Table(object)),
        }
    }

    fn of_number(number: &Number) -> Self {
        if let Some(value) = number.as_i64() {
            return i32::try_from(value).map_or(Self::I64(value), Self::I32);
        }
        match number.as_f64() {
            Some(value) if number.is_f64() => Self::F64(value),
            _ => Self::Text(Cow::Owned(number.to_string().into_bytes())),
        }
    }

    /// The JSON that stands for it. Only of a table made of several is it not simply its own: see
    /// [`table_to_json`].
    pub fn to_json(&self) -> Value {
        match self {
            Self::Void => Value::Null,
            Self::Boolean(value) => json!(value),
            Self::I8(value) => tag("amqp.i8", value),
            Self::U8(value) => tag("amqp.u8", value),
            Self::I16(value) => tag("amqp.i16", value),
            Self::U16(value) => tag("amqp.u16", value),
            Self::I32(value) => json!(value),
            Self::U32(value) => tag("amqp.u32", value),
            Self::I64(value) if i32::try_from(*value).is_ok() => tag("amqp.i64", value),
            Self::I64(value) => json!(value),
            Self::F32(value) => tag("amqp.f32", float_to_json(f64::from(*value))),
            Self::F64(value) if value.is_finite() => json!(value),
            Self::F64(value) => tag("amqp.f64", float_to_json(*value)),
            Self::Decimal { scale, value } => tag("amqp.decimal", json!([scale, value])),
            Self::Timestamp(value) => tag("amqp.timestamp", value),
            Self::Text(bytes) => match str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => tag("amqp.string", STANDARD.encode(bytes)),
            },
            Self::Bytes(bytes) => tag(BASE64, STANDARD.encode(bytes)),
            Self::Array(values) => Value::Array(values.to_vec()),
            Self::Table(table) => table_to_json((*table).clone()),
        }
    }

    /// The JSON that a reader wants: the value without its type. A float that is no number is null, bytes that
    /// are no UTF-8 are in base64, as kombu has it.
    pub(crate) fn plain(&self) -> Value {
        match self {
            Self::I8(value) => json!(value),
            Self::U8(value) => json!(value),
            Self::I16(value) => json!(value),
            Self::U16(value) => json!(value),
            Self::U32(value) => json!(value),
            Self::I64(value) => json!(value),
            Self::F32(value) => json!(value),
            Self::F64(value) => json!(value),
            Self::Timestamp(value) => json!(value),
            Self::Decimal { scale, value } => {
                json!(f64::from(*value) / 10_f64.powi(i32::from(*scale)))
            }
            Self::Text(bytes) | Self::Bytes(bytes) => match str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => tag(BASE64, STANDARD.encode(bytes)),
            },
            Self::Array(values) => values
                .iter()
                .map(|value| Field::of(value).plain())
                .collect(),
            Self::Table(table) => Value::Object(plain_table(table)),
            Self::Void | Self::Boolean(_) | Self::I32(_) => self.to_json(),
        }
    }
}

/// A value of a message's JSON as the JSON that stands for a field value. An integer past 64 bits is its digits here
/// too; none where a text has a lone surrogate, as AMQP's are UTF-8.
pub(crate) fn from_message(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::Array(values) => {
            let values: Option<Vec<Value>> = values.iter().map(from_message).collect();
            values?.into()
        }
        Value::Object(object) => {
            let members = object.iter();
            let members = members
                .map(|(name, value)| Some((json::name(name)?.into_owned(), from_message(value)?)));
            let object: Option<Map<String, Value>> = members.collect();
            object?.into()
        }
        Value::String(held) => match (json::raw_of(held), json::integer::<i64>(value)) {
            (None, _) => value.clone(),
            (Some(_), Some(integer)) => integer.into(),
            (Some(digits), None) if json::is_integer(value) => digits.into(),
            (Some(_), None) => match json::float(value) {
                Some(float) => Field::F64(float).to_json(),
                None => json::text(value)?.into(),
            },
        },
    })
}

/// A header as a value of a message's JSON.
pub(crate) fn to_message(value: Value) -> Value {
    match value {
        Value::String(text) => json::string(text),
        Value::Array(values) => values.into_iter().map(to_message).collect(),
        Value::Object(object) => {
            let of = |(name, value)| (json::held(name), to_message(value));
            object.into_iter().map(of).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// The JSON of a table whose values are JSON already.
pub fn table_to_json(table: Map<String, Value>) -> Value {
    if tagged(&table).is_some() {
        tag("amqp.table", table)
    } else {
        Value::Object(table)
    }
}

/// Headers as a reader wants them: values without AMQP's types.
pub fn plain(headers: &Map<String, Value>) -> Cow<'_, Map<String, Value>> {
    if headers.values().any(is_tagged) {
        Cow::Owned(plain_table(headers))
    } else {
        Cow::Borrowed(headers)
    }
}

fn plain_table(table: &Map<String, Value>) -> Map<String, Value> {
    table
        .iter()
        .map(|(name, value)| (name.clone(), Field::of(value).plain()))
        .collect()
}

/// True if there is a value with a type, itself or in it.
fn is_tagged(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(is_tagged),
        Value::Object(object) => object.contains_key(TYPE) || object.values().any(is_tagged),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn tag(name: &str, value: impl Into<Tagged>) -> Value {
    json!({TYPE: name, VALUE: value.into().0})
}

/// The content of a tag.
struct Tagged(Value);

impl<T: serde::Serialize> From<T> for Tagged {
    fn from(value: T) -> Self {
        Self(json!(value))
    }
}

fn float_to_json(value: f64) -> Value {
    match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => json!("NaN"),
        None if value > 0.0 => json!("Infinity"),
        None => json!("-Infinity"),
    }
}

fn float_from_json(value: &Value) -> Option<f64> {
    match value {
        Value::String(name) => match name.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        other => other.as_f64(),
    }
}

fn tagged(object: &Map<String, Value>) -> Option<Field<'_>> {
    if object.len() != 2 {
        return None;
    }
    let name = object.get(TYPE)?.as_str()?;
    let value = object.get(VALUE)?;
    let bytes = || Some(Cow::Owned(STANDARD.decode(value.as_str()?).ok()?));
    Some(match name {
        BASE64 => Field::Bytes(bytes()?),
        "amqp.string" => Field::Text(bytes()?),
        "amqp.i8" => Field::I8(integer(value)?),
        "amqp.u8" => Field::U8(integer(value)?),
        "amqp.i16" => Field::I16(integer(value)?),
        "amqp.u16" => Field::U16(integer(value)?),
        "amqp.u32" => Field::U32(integer(value)?),
        "amqp.i64" => Field::I64(integer(value)?),
        "amqp.f32" => Field::F32(single(float_from_json(value)?)?),
        "amqp.f64" => Field::F64(float_from_json(value)?),
        "amqp.timestamp" => Field::Timestamp(value.as_u64()?),
        "amqp.decimal" => match value.as_array()?.as_slice() {
            [scale, value] => Field::Decimal {
                scale: integer(scale)?,
                value: integer(value)?,
            },
            _ => return None,
        },
        "amqp.table" => Field::Table(value.as_object()?),
        _ => return None,
    })
}

fn integer<T: TryFrom<i64>>(value: &Value) -> Option<T> {
    T::try_from(value.as_i64()?).ok()
}

/// The single precision float that has this value, where one has.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what does not survive it is none"
)]
fn single(value: f64) -> Option<f32> {
    let single = value as f32;
    (value.is_nan() || f64::from(single) == value).then_some(single)
}
