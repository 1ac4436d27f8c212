//! AMQP field tables and JSON, both ways.
//!
//! What has no JSON of its own: bytes become a string where they are UTF-8, else kombu's
//! `{"__type__": "base64", "__value__": ...}`; a timestamp its seconds; a decimal its nearest float;
//! a float that is no number null.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lapin::types::{AMQPValue, ByteArray, FieldArray, FieldTable, LongString, ShortString};
use serde_json::{Map, Number, Value, json};

/// Tables nested deeper than this are cut off on the way in (null), and refused on the way out.
pub(super) const DEPTH_LIMIT: usize = 64;

/// The JSON of a table.
pub(super) fn to_json(table: &FieldTable) -> Map<String, Value> {
    table_to_json(table, DEPTH_LIMIT)
}

fn table_to_json(table: &FieldTable, depth: usize) -> Map<String, Value> {
    table
        .into_iter()
        .map(|(name, value)| (name.as_str().to_owned(), value_to_json(value, depth)))
        .collect()
}

fn value_to_json(value: &AMQPValue, depth: usize) -> Value {
    match value {
        AMQPValue::Void => Value::Null,
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::ShortShortInt(value) => json!(value),
        AMQPValue::ShortShortUInt(value) => json!(value),
        AMQPValue::ShortInt(value) => json!(value),
        AMQPValue::ShortUInt(value) => json!(value),
        AMQPValue::LongInt(value) => json!(value),
        AMQPValue::LongUInt(value) => json!(value),
        AMQPValue::LongLongInt(value) => json!(value),
        AMQPValue::Timestamp(value) => json!(value),
        AMQPValue::Float(value) => float(f64::from(*value)),
        AMQPValue::Double(value) => float(*value),
        AMQPValue::DecimalValue(value) => {
            float(f64::from(value.value) / 10_f64.powi(i32::from(value.scale)))
        }
        AMQPValue::ShortString(value) => Value::String(value.as_str().to_owned()),
        AMQPValue::LongString(value) => bytes(value.as_bytes()),
        AMQPValue::ByteArray(value) => bytes(value.as_slice()),
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) if depth == 0 => Value::Null,
        AMQPValue::FieldArray(values) => values
            .as_slice()
            .iter()
            .map(|value| value_to_json(value, depth - 1))
            .collect(),
        AMQPValue::FieldTable(table) => Value::Object(table_to_json(table, depth - 1)),
    }
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn bytes(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => json!({"__type__": "base64", "__value__": STANDARD.encode(bytes)}),
    }
}

/// Why JSON can't be a field table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TableError {
    /// A name over AMQP's limit for short strings.
    #[error("the header name {name:.40?}... has {length} bytes, over the limit of 255")]
    Name { name: String, length: usize },
    /// Nested too deep.
    #[error("headers nested deeper than {DEPTH_LIMIT}")]
    Depth,
}

/// The table of a JSON object.
pub(super) fn from_json(object: &Map<String, Value>) -> Result<FieldTable, TableError> {
    table_from_json(object, DEPTH_LIMIT)
}

fn table_from_json(object: &Map<String, Value>, depth: usize) -> Result<FieldTable, TableError> {
    let mut table = FieldTable::default();
    for (name, value) in object {
        let short = ShortString::try_new(name.as_str()).map_err(|_| TableError::Name {
            name: name.clone(),
            length: name.len(),
        })?;
        table.insert(short, value_from_json(value, depth)?);
    }
    Ok(table)
}

fn value_from_json(value: &Value, depth: usize) -> Result<AMQPValue, TableError> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => number_from_json(number),
        Value::String(text) => AMQPValue::LongString(LongString::from(text.as_bytes())),
        Value::Array(_) | Value::Object(_) if depth == 0 => return Err(TableError::Depth),
        Value::Array(values) => {
            let values: Vec<AMQPValue> = values
                .iter()
                .map(|value| value_from_json(value, depth - 1))
                .collect::<Result<_, _>>()?;
            AMQPValue::FieldArray(FieldArray::from(values))
        }
        Value::Object(object) => match base64_bytes(object) {
            Some(bytes) => AMQPValue::ByteArray(ByteArray::from(bytes)),
            None => AMQPValue::FieldTable(table_from_json(object, depth - 1)?),
        },
    })
}

/// An integer past 64 signed bits, which AMQP as RabbitMQ speaks it has no type for, goes as decimal
/// digits.
fn number_from_json(number: &Number) -> AMQPValue {
    if let Some(value) = number.as_i64() {
        return i32::try_from(value).map_or(AMQPValue::LongLongInt(value), AMQPValue::LongInt);
    }
    match number.as_f64() {
        Some(value) if number.is_f64() => AMQPValue::Double(value),
        _ => AMQPValue::LongString(LongString::from(number.to_string().into_bytes())),
    }
}

fn base64_bytes(object: &Map<String, Value>) -> Option<Vec<u8>> {
    if object.len() != 2 || object.get("__type__")?.as_str()? != "base64" {
        return None;
    }
    STANDARD.decode(object.get("__value__")?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("json", |value| value.is_finite())
                .prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-z_]{0,8}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_survives_the_way_through_amqp(object in prop::collection::btree_map("[a-z_-]{0,20}", json(), 0..8)) {
            let object: Map<String, Value> = object.into_iter().collect();
            prop_assert_eq!(to_json(&from_json(&object).unwrap()), object);
        }

        #[test]
        fn bytes_survive_the_way_through_json(raw in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut table = FieldTable::default();
            table.insert("b".into(), AMQPValue::ByteArray(ByteArray::from(raw.clone())));
            let back = from_json(&to_json(&table)).unwrap();
            let kept = match back.inner().get("b") {
                Some(AMQPValue::ByteArray(bytes)) => bytes.as_slice().to_vec(),
                Some(AMQPValue::LongString(text)) => text.as_bytes().to_vec(),
                _ => Vec::new(),
            };
            prop_assert_eq!(kept, raw);
        }
    }

    #[test]
    fn what_json_has_no_form_for() {
        for (value, want) in [
            (AMQPValue::Timestamp(1_700_000_000), json!(1_700_000_000)),
            (AMQPValue::Double(f64::NAN), Value::Null),
            (AMQPValue::Float(0.5), json!(0.5)),
            (
                AMQPValue::LongString(LongString::from(vec![0xff])),
                json!({"__type__": "base64", "__value__": "/w=="}),
            ),
        ] {
            assert_eq!(value_to_json(&value, DEPTH_LIMIT), want);
        }
        let large = Map::from_iter([("n".to_owned(), json!(u64::MAX))]);
        assert_eq!(
            to_json(&from_json(&large).unwrap()).get("n"),
            Some(&json!(u64::MAX.to_string()))
        );
    }

    #[test]
    fn depth_and_names_are_bounded() {
        let mut deep = json!(1);
        let mut table = AMQPValue::LongInt(1);
        for _ in 0..5_000 {
            deep = Value::Array(vec![deep]);
            table = AMQPValue::FieldArray(FieldArray::from(vec![table]));
        }
        assert_eq!(
            from_json(&Map::from_iter([("d".to_owned(), deep)])),
            Err(TableError::Depth)
        );
        let mut deepest = &value_to_json(&table, DEPTH_LIMIT);
        let mut levels = 0;
        while let Some(inner) = deepest.get(0) {
            deepest = inner;
            levels += 1;
        }
        assert_eq!((levels, deepest), (DEPTH_LIMIT, &Value::Null));
        let long = Map::from_iter([("x".repeat(256), Value::Null)]);
        assert!(matches!(
            from_json(&long),
            Err(TableError::Name { length: 256, .. })
        ));
    }
}
