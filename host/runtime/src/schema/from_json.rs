//! JSON to WIT values.

use std::borrow::Cow;
use std::collections::HashSet;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use petiole_celery::json::{self, tagged};
use serde_json::{Map, Value};
use wasmtime::component::Val;

use crate::schema::json_texts::{ValueMemory, text_memory, values_memory};
use crate::schema::mismatch::Mismatch;
use crate::schema::wit_type::{Case, Cases, Field, JSON_FIELD, Name, WitType};

/// RFC 4648 section 4, with or without padding.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The value of this type that `value` stands for. What is made beside it is counted in `memory`, before it is made.
pub(crate) fn from_json(
    ty: &WitType,
    value: &Value,
    memory: &mut ValueMemory,
) -> Result<Val, Mismatch> {
    let expected = || Mismatch::expected(ty, value);
    match ty {
        WitType::Bool => value.as_bool().map(Val::Bool).ok_or_else(expected),
        WitType::S8 => json::integer(value).map(Val::S8).ok_or_else(expected),
        WitType::U8 => json::integer(value).map(Val::U8).ok_or_else(expected),
        WitType::S16 => json::integer(value).map(Val::S16).ok_or_else(expected),
        WitType::U16 => json::integer(value).map(Val::U16).ok_or_else(expected),
        WitType::S32 => json::integer(value).map(Val::S32).ok_or_else(expected),
        WitType::U32 => json::integer(value).map(Val::U32).ok_or_else(expected),
        WitType::S64 => json::integer(value)
            .or_else(|| decimal(value))
            .map(Val::S64)
            .ok_or_else(expected),
        WitType::U64 => json::integer(value)
            .or_else(|| decimal(value))
            .map(Val::U64)
            .ok_or_else(expected),
        WitType::F32 => float(value)
            .and_then(to_f32)
            .map(Val::Float32)
            .ok_or_else(expected),
        WitType::F64 => float(value).map(Val::Float64).ok_or_else(expected),
        WitType::Char => character(value).map(Val::Char).ok_or_else(expected),
        WitType::String => counted(text(value).ok_or_else(expected)?, memory).map(Val::String),
        WitType::Bytes => counted(bytes(value).ok_or_else(expected)?, memory).map(Val::String),
        WitType::Json => json_record(value, memory),
        WitType::List(element) => {
            let items = value.as_array().ok_or_else(expected)?;
            let vals = each(items.iter(), memory, |item, memory| {
                from_json(element, item, memory)
            });
            vals.map(Val::List)
        }
        WitType::Option(inner) => option(inner, value, memory)
            .ok_or_else(expected)?
            .map(Val::Option),
        WitType::Tuple(types) => {
            let items = value
                .as_array()
                .filter(|items| items.len() == types.len())
                .ok_or_else(expected)?;
            let items = types.iter().zip(items);
            let vals = each(items, memory, |(ty, item), memory| {
                from_json(ty, item, memory)
            });
            vals.map(Val::Tuple)
        }
        WitType::Record(fields) => record(fields, value.as_object().ok_or_else(expected)?, memory),
        WitType::Variant(cases) => variant(cases, value, memory).ok_or_else(expected)?,
        WitType::Enum(cases) => {
            let case = value.as_str().and_then(|given| cases.get(given));
            named(&case.ok_or_else(expected)?.name, memory).map(Val::Enum)
        }
        WitType::Flags(names) => {
            let set = flags(names, value).ok_or_else(expected)?;
            take(memory, values_memory::<String>(set.len()))?;
            let mut names = Vec::with_capacity(set.len());
            for name in set {
                names.push(named(name, memory)?);
            }
            Ok(Val::Flags(names))
        }
        WitType::Result(ok, err) => result(ok.as_deref(), err.as_deref(), value, memory)
            .ok_or_else(expected)?
            .map(Val::Result),
    }
}

/// A keyword argument of any name and value.
pub(crate) fn json_pair(
    (name, value): (&String, &Value),
    memory: &mut ValueMemory,
) -> Result<Val, Mismatch> {
    take(memory, values_memory::<Val>(2))?;
    let key = json::name(name)
        .ok_or_else(|| Mismatch::expected(&WitType::String, &name.as_str().into()))?;
    let name = counted(key.into_owned(), memory)?;
    let value = json_record(value, memory)?;
    Ok(Val::Tuple(vec![Val::String(name), value]))
}

/// Any JSON value as a record that holds its text, unless a reader of JSON would not take it.
pub(crate) fn json_record(value: &Value, memory: &mut ValueMemory) -> Result<Val, Mismatch> {
    if let Some(foreign) = json::foreign(value) {
        return Err(Mismatch::foreign(foreign));
    }
    take(memory, values_memory::<(String, Val)>(1))?;
    take(memory, text_memory(JSON_FIELD.len()))?;
    let text = counted(json::Text(value).to_string(), memory)?;
    Ok(Val::Record(vec![(
        JSON_FIELD.to_owned(),
        Val::String(text),
    )]))
}

fn take(memory: &mut ValueMemory, bytes: usize) -> Result<(), Mismatch> {
    let taken = memory.take(bytes);
    taken.map_err(|size| Mismatch::too_large(size, memory.limit()))
}

/// Once it is made: one text alone is as long as the message's, about.
fn counted(text: String, memory: &mut ValueMemory) -> Result<String, Mismatch> {
    take(memory, text_memory(text.capacity()))?;
    Ok(text)
}

/// A name as the component has it.
fn named(name: &Name, memory: &mut ValueMemory) -> Result<String, Mismatch> {
    take(memory, text_memory(name.kebab.len()))?;
    Ok(name.kebab.clone())
}

/// A value behind a pointer.
fn boxed(ty: &WitType, value: &Value, memory: &mut ValueMemory) -> Result<Box<Val>, Mismatch> {
    take(memory, values_memory::<Val>(1))?;
    from_json(ty, value, memory).map(Box::new)
}

/// JavaScript and others can't write large integers as JSON numbers.
fn decimal<T: FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

/// The names are accepted as text too: other JSON than Python's has none for what is not finite.
fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => json::float(value),
    }
}

/// The nearest f32; none where only infinity is.
fn to_f32(wide: f64) -> Option<f32> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding is meant, overflow is checked below"
    )]
    let narrow = wide as f32;
    (narrow.is_finite() || !wide.is_finite()).then_some(narrow)
}

fn character(value: &Value) -> Option<char> {
    let text = json::text(value)?;
    let mut chars = text.chars();
    let first = chars.next()?;
    chars.next().is_none().then_some(first)
}

/// A string, or what kombu >= 5.3 makes of Python's dates, decimals and UUIDs
/// (`kombu.utils.json`, `register_type`).
fn text(value: &Value) -> Option<String> {
    let text = match tagged(value) {
        None => value,
        Some(("uuid", Value::Object(parts))) => return hyphenated(parts.get("hex")?.as_str()?),
        Some(("datetime" | "date" | "time" | "decimal" | "uuid", text)) => text,
        Some(_) => return None,
    };
    json::text(text).map(Cow::into_owned)
}

/// The usual form of a UUID's 32 hexadecimal digits.
fn hyphenated(hex: &str) -> Option<String> {
    if hex.len() != 32 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let parts =
        [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default());
    Some(parts.join("-"))
}

/// In base64: a [`Val`] for each byte would be 40 bytes (see [`canonical`](crate::schema::canonical)).
fn bytes(value: &Value) -> Option<String> {
    match (tagged(value), value) {
        (Some(("bytes", text)), _) => Some(STANDARD.encode(json::text(text)?.as_bytes())),
        (Some(("base64", Value::String(text))), _) | (None, Value::String(text)) => {
            is_base64(text).then(|| padded(text))
        }
        (None, Value::Array(items)) => {
            let bytes: Option<Vec<u8>> = items.iter().map(json::integer).collect();
            Some(STANDARD.encode(bytes?))
        }
        _ => None,
    }
}

fn padded(text: &str) -> String {
    let padding = text.len().next_multiple_of(4) - text.len();
    let padding = "===".get(..padding).unwrap_or_default();
    [text, padding].concat()
}

/// True if it can be decoded; quicker than to do so, which is done in the sandbox's memory.
pub(crate) fn is_base64(text: &str) -> bool {
    let last = text.len().saturating_sub(1) / 4 * 4;
    let (whole, last) = text.as_bytes().split_at(last);
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    // without a way out, so that many are looked at at once
    let digits = whole.iter().fold(true, |all, byte| all & is_digit(byte));
    digits && BASE64.decode_slice(last, &mut [0; 3]).is_ok()
}

/// The values of all of these.
pub(crate) fn each<T>(
    items: impl ExactSizeIterator<Item = T>,
    memory: &mut ValueMemory,
    val: impl Fn(T, &mut ValueMemory) -> Result<Val, Mismatch>,
) -> Result<Vec<Val>, Mismatch> {
    take(memory, values_memory::<Val>(items.len()))?;
    let mut vals = Vec::with_capacity(items.len());
    for (index, item) in items.enumerate() {
        vals.push(val(item, memory).map_err(|e| e.at_index(index))?);
    }
    Ok(vals)
}

/// `null` is none. An option inside of an option is `{"some": ...}`, so that none and some(none)
/// differ.
fn option(
    inner: &WitType,
    value: &Value,
    memory: &mut ValueMemory,
) -> Option<Result<Option<Box<Val>>, Mismatch>> {
    let value = match (inner, value) {
        (_, Value::Null) => return Some(Ok(None)),
        (WitType::Option(_), _) => match single(value)? {
            ("some", inner) => inner,
            _ => return None,
        },
        _ => value,
    };
    Some(boxed(inner, value, memory).map(Some))
}

fn record(
    fields: &[Field],
    object: &Map<String, Value>,
    memory: &mut ValueMemory,
) -> Result<Val, Mismatch> {
    take(memory, values_memory::<(String, Val)>(fields.len()))?;
    let mut found = 0;
    let mut vals = Vec::with_capacity(fields.len());
    for Field { name, ty } in fields {
        let value = given(name, object)?;
        found += usize::from(value.is_some());
        let val = match (value, ty) {
            (Some(value), _) => from_json(ty, value, memory).map_err(|e| e.in_field(name))?,
            (None, WitType::Option(_)) => Val::Option(None),
            (None, _) => {
                return Err(unknown(fields, object).unwrap_or_else(|| Mismatch::missing(name, ty)));
            }
        };
        vals.push((named(name, memory)?, val));
    }
    // no field has two of its keys
    if found != object.len()
        && let Some(unknown) = unknown(fields, object)
    {
        return Err(unknown);
    }
    Ok(Val::Record(vals))
}

/// The complaint about the first key that no field has.
fn unknown(fields: &[Field], object: &Map<String, Value>) -> Option<Mismatch> {
    let names = || fields.iter().map(|field| &field.name);
    let known = names().flat_map(|name| [name.snake.as_str(), &name.kebab]);
    let known: HashSet<&str> = known.collect();
    let key = object.keys().find(|key| !known.contains(key.as_str()))?;
    Some(Mismatch::unknown(key, names()))
}

/// The field's value, under either spelling of its name.
fn given<'a>(name: &Name, object: &'a Map<String, Value>) -> Result<Option<&'a Value>, Mismatch> {
    let snake = object.get(&name.snake);
    let kebab = if name.kebab == name.snake {
        None
    } else {
        object.get(&name.kebab)
    };
    match (snake, kebab) {
        (Some(_), Some(_)) => Err(Mismatch::twice(name)),
        (snake, kebab) => Ok(snake.or(kebab)),
    }
}

/// `"name"` for a case without a payload, else `{"name": payload}`.
fn variant(
    cases: &Cases,
    value: &Value,
    memory: &mut ValueMemory,
) -> Option<Result<Val, Mismatch>> {
    let (given, payload) = match value {
        Value::String(name) => (name.as_str(), None),
        _ => single(value).map(|(name, payload)| (name, Some(payload)))?,
    };
    let Case { name, ty } = cases.get(given)?;
    let payload = match (ty, payload) {
        (None, None | Some(Value::Null)) => Ok(None),
        (None, Some(_)) | (Some(_), None) => return None,
        (Some(ty), Some(payload)) => boxed(ty, payload, memory).map(Some),
    };
    let payload = payload.map_err(|e| e.in_field(name));
    Some(payload.and_then(|payload| Ok(Val::Variant(named(name, memory)?, payload))))
}

/// In the order of the type, which has 32 at most, each once.
fn flags<'a>(names: &'a [Name], value: &Value) -> Option<Vec<&'a Name>> {
    let given: Vec<&str> = value
        .as_array()?
        .iter()
        .map(Value::as_str)
        .collect::<Option<_>>()?;
    let is_known = |flag: &&str| names.iter().any(|name| name.is(flag));
    if !given.iter().all(is_known) {
        return None;
    }
    let set = names
        .iter()
        .filter(|name| given.iter().any(|flag| name.is(flag)));
    Some(set.collect())
}

type ResultVal = Result<Option<Box<Val>>, Option<Box<Val>>>;

/// `{"ok": ...}` or `{"err": ...}`, with `null` for what has no payload.
fn result(
    ok: Option<&WitType>,
    err: Option<&WitType>,
    value: &Value,
    memory: &mut ValueMemory,
) -> Option<Result<ResultVal, Mismatch>> {
    let (side, value) = single(value)?;
    let ty = match side {
        "ok" => ok,
        "err" => err,
        _ => return None,
    };
    let payload = match (ty, value) {
        (None, Value::Null) => Ok(None),
        (None, _) => return None,
        (Some(ty), value) => boxed(ty, value, memory).map(Some),
    };
    let payload = payload.map_err(|e| e.in_field(&Name::new(side)));
    Some(payload.map(|payload| {
        if side == "ok" {
            Ok(payload)
        } else {
            Err(payload)
        }
    }))
}

/// The one member of an object.
fn single(value: &Value) -> Option<(&str, &Value)> {
    let mut members = value.as_object()?.iter();
    let (name, value) = members.next()?;
    members.next().is_none().then_some((name.as_str(), value))
}
