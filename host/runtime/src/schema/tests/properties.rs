//! JSON <-> WIT values, on random types and values.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use petiole_celery::json::{Text, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value};
use wasmtime::component::Val;

use crate::schema::from_json::{self, BASE64, is_base64};
use crate::schema::json_texts::{JsonTexts, ValueMemory};
use crate::schema::mismatch::Mismatch;
use crate::schema::to_json;
use crate::schema::wit_type::{Case, Field, Name, WitType};

fn to_json(ty: &WitType, val: Val) -> Result<Value, to_json::ToJsonError> {
    to_json::to_json(ty, val, &mut JsonTexts::new(usize::MAX))
}

fn from_json(ty: &WitType, value: &Value) -> Result<Val, Mismatch> {
    from_json::from_json(ty, value, &mut ValueMemory::new(usize::MAX))
}

fn json_record(value: &Value) -> Val {
    from_json(&WitType::Json, value).unwrap()
}

/// Different names, in kebab-case.
fn name(index: usize) -> Name {
    Name::new(&format!("name-{index}"))
}

fn names(count: usize) -> Vec<Name> {
    (0..count).map(name).collect()
}

fn wit_type() -> impl Strategy<Value = WitType> {
    let leaf = prop_oneof![
        Just(WitType::Bool),
        Just(WitType::S8),
        Just(WitType::U8),
        Just(WitType::S16),
        Just(WitType::U16),
        Just(WitType::S32),
        Just(WitType::U32),
        Just(WitType::S64),
        Just(WitType::U64),
        Just(WitType::F32),
        Just(WitType::F64),
        Just(WitType::Char),
        Just(WitType::String),
        Just(WitType::Bytes),
        Just(WitType::Json),
        (1..5_usize).prop_map(|count| WitType::Enum(names(count).into_iter().collect())),
        (1..5_usize).prop_map(|count| WitType::Flags(names(count))),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed
                .clone()
                .prop_filter("list<u8> is Bytes", |ty| **ty != WitType::U8)
                .prop_map(WitType::List),
            boxed.clone().prop_map(WitType::Option),
            vec(inner.clone(), 1..4).prop_map(WitType::Tuple),
            vec(inner.clone(), 1..4).prop_map(|types| {
                let fields = types.into_iter().enumerate();
                WitType::Record(
                    fields
                        .map(|(index, ty)| Field {
                            name: name(index),
                            ty,
                        })
                        .collect(),
                )
            }),
            vec(proptest::option::of(inner), 1..4).prop_map(|types| {
                let cases = types.into_iter().enumerate();
                WitType::Variant(
                    cases
                        .map(|(index, ty)| Case {
                            name: name(index),
                            ty,
                        })
                        .collect(),
                )
            }),
            (
                proptest::option::of(boxed.clone()),
                proptest::option::of(boxed)
            )
                .prop_map(|(ok, err)| WitType::Result(ok, err)),
        ]
    })
}

/// JSON that only Python has, or has exactly.
const EXOTIC: [&str; 7] = [
    "NaN",
    "-Infinity",
    "1e999",
    "-0",
    "18446744073709551616",
    r#""\ud800""#,
    r#""\udbff\udfffNaN""#,
];

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        "[a-z0-9+/=]{0,8}".prop_map(Value::from),
        (0..4_usize).prop_map(|index| Value::from(name(index).snake)),
        proptest::sample::select(EXOTIC.to_vec()).prop_map(|text| parse(text.as_bytes()).unwrap()),
    ];
    let key = prop_oneof![
        (0..4_usize).prop_map(|index| name(index).snake),
        (0..4_usize).prop_map(|index| name(index).kebab),
        proptest::sample::select(vec![
            "ok",
            "err",
            "some",
            "__type__",
            "__value__",
            "petiole-json"
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key.clone(), inner), 0..4)
                .prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

/// Any value of this type.
fn val(ty: &WitType) -> BoxedStrategy<Val> {
    let boxed = |ty: &WitType| val(ty).prop_map(|val| Some(Box::new(val)));
    let side = |ty: &Option<Box<WitType>>| match ty {
        Some(ty) => val(ty).prop_map(|val| Some(Box::new(val))).boxed(),
        None => Just(None).boxed(),
    };
    match ty {
        WitType::Bool => any::<bool>().prop_map(Val::Bool).boxed(),
        WitType::S8 => any::<i8>().prop_map(Val::S8).boxed(),
        WitType::U8 => any::<u8>().prop_map(Val::U8).boxed(),
        WitType::S16 => any::<i16>().prop_map(Val::S16).boxed(),
        WitType::U16 => any::<u16>().prop_map(Val::U16).boxed(),
        WitType::S32 => any::<i32>().prop_map(Val::S32).boxed(),
        WitType::U32 => any::<u32>().prop_map(Val::U32).boxed(),
        WitType::S64 => any::<i64>().prop_map(Val::S64).boxed(),
        WitType::U64 => any::<u64>().prop_map(Val::U64).boxed(),
        WitType::F32 => proptest::num::f32::ANY.prop_map(Val::Float32).boxed(),
        WitType::F64 => proptest::num::f64::ANY.prop_map(Val::Float64).boxed(),
        WitType::Char => any::<char>().prop_map(Val::Char).boxed(),
        WitType::String => any::<String>().prop_map(Val::String).boxed(),
        WitType::Bytes => vec(any::<u8>(), 0..20)
            .prop_map(|bytes| Val::String(STANDARD.encode(bytes)))
            .boxed(),
        WitType::Json => json()
            .prop_filter_map("no JSON", |value| from_json(&WitType::Json, &value).ok())
            .boxed(),
        WitType::List(ty) => vec(val(ty), 0..4).prop_map(Val::List).boxed(),
        WitType::Option(ty) => {
            // some(null) of option<json> is none: documented
            let is_null =
                |val: &Option<Box<Val>>| val.as_deref() == Some(&json_record(&Value::Null));
            let some = boxed(ty).prop_filter("some(null)", move |val| !is_null(val));
            prop_oneof![Just(None), some].prop_map(Val::Option).boxed()
        }
        WitType::Tuple(types) => types
            .iter()
            .map(val)
            .collect::<Vec<_>>()
            .prop_map(Val::Tuple)
            .boxed(),
        WitType::Record(fields) => {
            let names: Vec<_> = fields
                .iter()
                .map(|field| field.name.kebab.clone())
                .collect();
            let vals: Vec<_> = fields.iter().map(|field| val(&field.ty)).collect();
            vals.prop_map(move |vals| Val::Record(names.iter().cloned().zip(vals).collect()))
                .boxed()
        }
        WitType::Variant(cases) => {
            let cases = cases.iter().map(|case| {
                let name = case.name.kebab.clone();
                let payload = case
                    .ty
                    .as_ref()
                    .map_or_else(|| Just(None).boxed(), |ty| boxed(ty).boxed());
                payload
                    .prop_map(move |val| Val::Variant(name.clone(), val))
                    .boxed()
            });
            proptest::strategy::Union::new(cases).boxed()
        }
        WitType::Enum(cases) => {
            let cases: Vec<Case> = cases.iter().cloned().collect();
            proptest::sample::select(cases)
                .prop_map(|case| Val::Enum(case.name.kebab))
                .boxed()
        }
        WitType::Flags(names) => proptest::sample::subsequence(names.clone(), 0..=names.len())
            .prop_map(|names| Val::Flags(names.into_iter().map(|name| name.kebab).collect()))
            .boxed(),
        WitType::Result(ok, err) => prop_oneof![side(ok).prop_map(Ok), side(err).prop_map(Err)]
            .prop_map(Val::Result)
            .boxed(),
    }
}

pub(crate) fn type_and_val() -> impl Strategy<Value = (WitType, Val)> {
    wit_type().prop_flat_map(|ty| {
        let vals = val(&ty);
        (Just(ty), vals)
    })
}

/// Through JSON text, as messages and results are.
fn assert_survives_json(ty: &WitType, val: Val) {
    let json = to_json(ty, val.clone()).unwrap();
    let json = parse(Text(&json).to_string().as_bytes()).unwrap();
    let mut memory = ValueMemory::new(usize::MAX);
    let back = from_json::from_json(ty, &json, &mut memory);
    let taken = back.as_ref().map_or(0, heap);
    assert!(
        taken <= memory.taken(),
        "{ty} as {json}: {taken} of {memory:?}"
    );
    assert_eq!(back, Ok(val), "{ty} as {json}");
}

/// Memory of a value beside itself, in bytes, with the most that the allocator adds.
pub(crate) fn heap(val: &Val) -> usize {
    fn piece<T>(capacity: usize) -> usize {
        match capacity * size_of::<T>() {
            0 => 0,
            bytes => bytes + 32,
        }
    }
    let text = |text: &String| piece::<u8>(text.capacity());
    let boxed =
        |val: &Option<Box<Val>>| val.as_deref().map_or(0, |val| piece::<Val>(1) + heap(val));
    match val {
        Val::String(content) | Val::Enum(content) => text(content),
        Val::List(vals) | Val::Tuple(vals) => {
            piece::<Val>(vals.capacity()) + vals.iter().map(heap).sum::<usize>()
        }
        Val::Record(fields) => {
            let within = fields.iter().map(|(name, val)| text(name) + heap(val));
            piece::<(String, Val)>(fields.capacity()) + within.sum::<usize>()
        }
        Val::Variant(name, val) => text(name) + boxed(val),
        Val::Option(val) | Val::Result(Ok(val) | Err(val)) => boxed(val),
        Val::Flags(names) => {
            piece::<String>(names.capacity()) + names.iter().map(text).sum::<usize>()
        }
        _ => 0,
    }
}

fn assert_taken_or_refused(ty: &WitType, value: &Value) {
    match from_json(ty, value) {
        Ok(val) => assert_survives_json(ty, val),
        Err(mismatch) => assert!(mismatch.to_string().chars().count() < 1_000),
    }
}

proptest! {
    #[test]
    fn a_value_survives_json((ty, val) in type_and_val()) {
        assert_survives_json(&ty, val);
    }

    #[test]
    fn any_json_is_taken_or_refused(ty in wit_type(), value in json()) {
        assert_taken_or_refused(&ty, &value);
    }

    #[test]
    fn base64_is_what_can_be_decoded(text in "[A-Za-z0-9+/]{0,9}[A-Za-z0-9+/=é\\-]{0,5}") {
        prop_assert_eq!(is_base64(&text), BASE64.decode(&text).is_ok());
    }
}

/// The same for a fuzzer: a type and a value of it, and edits of its JSON text: where (in 65,536ths), and the byte.
#[test]
fn edited_json_is_taken_or_refused() {
    bolero::check!()
        .with_type::<([u8; 32], Vec<(u16, u8)>)>()
        .with_iterations(2_000)
        .for_each(|(seed, edits)| {
            let rng = TestRng::from_seed(RngAlgorithm::ChaCha, seed);
            let mut runner = TestRunner::new_with_rng(Config::default(), rng);
            let Ok(tree) = type_and_val().new_tree(&mut runner) else {
                return;
            };
            let (ty, val) = tree.current();
            let text = to_json(&ty, val.clone()).unwrap();
            let mut text = Text(&text).to_string().into_bytes();
            assert_survives_json(&ty, val);
            // few, so that it is still JSON now and then
            for (at, byte) in edits.iter().take(edits.len() % 4) {
                if text.is_empty() {
                    break;
                }
                let at = text.len() * usize::from(*at) / 65_536;
                const TOKENS: &[u8] = b"0123456789-+.eE\"\\[]{},:ntfa \xffNIud8";
                let token = TOKENS[usize::from(*byte) % TOKENS.len()];
                match byte % 3 {
                    0 => text[at] = token,
                    1 => text.insert(at, token),
                    _ => drop(text.remove(at)),
                }
            }
            if let Ok(value) = parse(&text) {
                assert_taken_or_refused(&ty, &value);
            }
        });
}
