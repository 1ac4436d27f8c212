//! AMQP field tables and JSON, both ways: what stands for what is [`Field`]'s to say.

use lapin::types::{
    AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString, ShortString,
};
use petiole_celery::wire::{DEPTH_LIMIT, Field, table_to_json};
use serde_json::{Map, Value};

/// The JSON of a table; what is nested deeper than the limit is cut off (null).
pub(super) fn to_json(table: &FieldTable) -> Map<String, Value> {
    json_of_table(table, DEPTH_LIMIT)
}

fn json_of_table(table: &FieldTable, depth: usize) -> Map<String, Value> {
    table
        .into_iter()
        .map(|(name, value)| (name.as_str().to_owned(), json_of_value(value, depth)))
        .collect()
}

fn json_of_value(value: &AMQPValue, depth: usize) -> Value {
    let field = match value {
        AMQPValue::Void => Field::Void,
        AMQPValue::Boolean(value) => Field::Boolean(*value),
        AMQPValue::ShortShortInt(value) => Field::I8(*value),
        AMQPValue::ShortShortUInt(value) => Field::U8(*value),
        AMQPValue::ShortInt(value) => Field::I16(*value),
        AMQPValue::ShortUInt(value) => Field::U16(*value),
        AMQPValue::LongInt(value) => Field::I32(*value),
        AMQPValue::LongUInt(value) => Field::U32(*value),
        AMQPValue::LongLongInt(value) => Field::I64(*value),
        AMQPValue::Float(value) => Field::F32(*value),
        AMQPValue::Double(value) => Field::F64(*value),
        AMQPValue::DecimalValue(DecimalValue { scale, value }) => Field::Decimal {
            scale: *scale,
            value: *value,
        },
        AMQPValue::Timestamp(value) => Field::Timestamp(*value),
        // RabbitMQ has no such type, and none is ever read.
        AMQPValue::ShortString(value) => Field::Text(value.as_str().as_bytes().into()),
        AMQPValue::LongString(value) => Field::Text(value.as_bytes().into()),
        AMQPValue::ByteArray(value) => Field::Bytes(value.as_slice().into()),
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) if depth == 0 => Field::Void,
        AMQPValue::FieldArray(values) => {
            let values = values.as_slice().iter();
            return values
                .map(|value| json_of_value(value, depth - 1))
                .collect();
        }
        AMQPValue::FieldTable(table) => return table_to_json(json_of_table(table, depth - 1)),
    };
    field.to_json()
}

/// The table of a JSON object; none where [`check`](petiole_celery::wire::check) refuses it.
pub(super) fn from_json(object: &Map<String, Value>) -> Option<FieldTable> {
    table_of_json(object, DEPTH_LIMIT)
}

fn table_of_json(object: &Map<String, Value>, depth: usize) -> Option<FieldTable> {
    let mut table = FieldTable::default();
    for (name, value) in object {
        let name = ShortString::try_new(name.as_str()).ok()?;
        table.insert(name, value_of_json(value, depth)?);
    }
    Some(table)
}

fn value_of_json(value: &Value, depth: usize) -> Option<AMQPValue> {
    Some(match Field::of(value) {
        Field::Void => AMQPValue::Void,
        Field::Boolean(value) => AMQPValue::Boolean(value),
        Field::I8(value) => AMQPValue::ShortShortInt(value),
        Field::U8(value) => AMQPValue::ShortShortUInt(value),
        Field::I16(value) => AMQPValue::ShortInt(value),
        Field::U16(value) => AMQPValue::ShortUInt(value),
        Field::I32(value) => AMQPValue::LongInt(value),
        Field::U32(value) => AMQPValue::LongUInt(value),
        Field::I64(value) => AMQPValue::LongLongInt(value),
        Field::F32(value) => AMQPValue::Float(value),
        Field::F64(value) => AMQPValue::Double(value),
        Field::Decimal { scale, value } => AMQPValue::DecimalValue(DecimalValue { scale, value }),
        Field::Timestamp(value) => AMQPValue::Timestamp(value),
        Field::Text(bytes) => AMQPValue::LongString(LongString::from(bytes.into_owned())),
        Field::Bytes(bytes) => AMQPValue::ByteArray(ByteArray::from(bytes.into_owned())),
        Field::Array(values) => {
            let depth = depth.checked_sub(1)?;
            let values: Vec<AMQPValue> = values
                .iter()
                .map(|value| value_of_json(value, depth))
                .collect::<Option<_>>()?;
            AMQPValue::FieldArray(FieldArray::from(values))
        }
        Field::Table(table) => AMQPValue::FieldTable(table_of_json(table, depth.checked_sub(1)?)?),
    })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

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

    /// Any value that can be read off the wire, but for NaN, which is not equal to itself.
    fn amqp() -> impl Strategy<Value = AMQPValue> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..20);
        let leaf = prop_oneof![
            Just(AMQPValue::Void),
            any::<bool>().prop_map(AMQPValue::Boolean),
            any::<i8>().prop_map(AMQPValue::ShortShortInt),
            any::<u8>().prop_map(AMQPValue::ShortShortUInt),
            any::<i16>().prop_map(AMQPValue::ShortInt),
            any::<u16>().prop_map(AMQPValue::ShortUInt),
            any::<i32>().prop_map(AMQPValue::LongInt),
            any::<u32>().prop_map(AMQPValue::LongUInt),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            (-200_i64..200).prop_map(AMQPValue::LongLongInt),
            any::<f32>().prop_map(AMQPValue::Float),
            any::<f64>().prop_map(AMQPValue::Double),
            Just(AMQPValue::Double(f64::INFINITY)),
            Just(AMQPValue::Float(f32::NEG_INFINITY)),
            (any::<u8>(), any::<u32>())
                .prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
            any::<u64>().prop_map(AMQPValue::Timestamp),
            bytes().prop_map(|bytes| AMQPValue::LongString(LongString::from(bytes))),
            "[a-z]{0,8}".prop_map(|text| AMQPValue::LongString(LongString::from(text.as_str()))),
            bytes().prop_map(|bytes| AMQPValue::ByteArray(ByteArray::from(bytes))),
        ];
        // Names and texts that tables need to look like a tag.
        let text = |text: &str| AMQPValue::LongString(LongString::from(text));
        let tag = prop_oneof![
            Just(text("base64")),
            Just(text("amqp.u8")),
            Just(text("amqp.table")),
            Just(text("amqp.decimal")),
        ];
        leaf.prop_recursive(5, 40, 6, move |inner| {
            let table = |pairs: Vec<(String, AMQPValue)>| {
                let mut table = FieldTable::default();
                for (name, value) in pairs {
                    table.insert(name.into(), value);
                }
                AMQPValue::FieldTable(table)
            };
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6)
                    .prop_map(|values| AMQPValue::FieldArray(FieldArray::from(values))),
                prop::collection::vec(("[a-z_]{0,8}", inner.clone()), 0..6).prop_map(table),
                (tag.clone(), inner).prop_map(move |(tag, value)| table(vec![
                    ("__type__".to_owned(), tag),
                    ("__value__".to_owned(), value),
                ])),
            ]
        })
    }

    pub(in crate::amqp) fn tables() -> impl Strategy<Value = FieldTable> {
        prop::collection::vec(("[a-z_-]{0,20}", amqp()), 0..8).prop_map(|pairs| {
            let mut table = FieldTable::default();
            for (name, value) in pairs {
                table.insert(name.into(), value);
            }
            table
        })
    }

    proptest! {
        #[test]
        fn json_survives_the_way_through_amqp(object in prop::collection::btree_map("[a-z_-]{0,20}", json(), 0..8)) {
            let object: Map<String, Value> = object.into_iter().collect();
            prop_assert_eq!(to_json(&from_json(&object).unwrap()), object);
        }

        #[test]
        fn amqp_survives_the_way_through_json_and_its_text(table in tables()) {
            let text = serde_json::to_string(&to_json(&table)).unwrap();
            let json = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(from_json(&json), Some(table));
        }
    }

    #[test]
    fn what_json_has_no_form_for_has_its_type_with_it() {
        for (value, want) in [
            (
                AMQPValue::Timestamp(1_700_000_000),
                json!({"__type__": "amqp.timestamp", "__value__": 1_700_000_000}),
            ),
            (
                AMQPValue::Double(f64::NAN),
                json!({"__type__": "amqp.f64", "__value__": "NaN"}),
            ),
            (
                AMQPValue::Float(0.5),
                json!({"__type__": "amqp.f32", "__value__": 0.5}),
            ),
            (
                AMQPValue::ByteArray(ByteArray::from(vec![0xff])),
                json!({"__type__": "base64", "__value__": "/w=="}),
            ),
            (
                AMQPValue::LongString(LongString::from(vec![0xff])),
                json!({"__type__": "amqp.string", "__value__": "/w=="}),
            ),
        ] {
            assert_eq!(json_of_value(&value, DEPTH_LIMIT), want);
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
        assert_eq!(from_json(&Map::from_iter([("d".to_owned(), deep)])), None);
        let mut deepest = &json_of_value(&table, DEPTH_LIMIT);
        let mut levels = 0;
        while let Some(inner) = deepest.get(0) {
            deepest = inner;
            levels += 1;
        }
        assert_eq!((levels, deepest), (DEPTH_LIMIT, &Value::Null));
        let long = Map::from_iter([("x".repeat(256), Value::Null)]);
        assert_eq!(from_json(&long), None);
    }
}
