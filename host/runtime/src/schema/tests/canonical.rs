//! The same as wasmtime's own dynamic calls, on random types and values.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use wasmtime::component::{Component, Func, Instance, Linker, Val};
use wasmtime::{Engine, Store};

use crate::code::engine;
use crate::schema::canonical::call;
use crate::schema::canonical::lower::MAX_FLAT_PARAMS;
use crate::schema::tests::properties::{heap, type_and_val};
use crate::schema::wit_type::{Case, Field, Name, WitType};

/// Parameters beside the one that is tested, so that all of them are in memory.
const MORE: usize = 17;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn values_come_back_and_are_the_same_in_the_guest((ty, val) in type_and_val()) {
        let guest = Guest::new(&ty);
        let more = (0..MORE).map(|_| Val::U64(7));
        let many: Vec<Val> = [val.clone()].into_iter().chain(more).collect();
        let back = guest.copied("echo", &many);
        prop_assert_eq!(&back, &Ok(Some(Val::Tuple(many.clone()))));
        let taken = back.map(|back| heap(&back.unwrap())).unwrap();
        let short_of_fuel = guest.with_fuel(taken - 1);
        let refused = short_of_fuel.copied("echo", &many).unwrap_err();
        prop_assert!(refused.contains("too much data"), "{}", refused);
        assert_same_in_guest(&guest, &ty, &val);
        if flat(&ty).len() == 1 {
            prop_assert_eq!(guest.copied("one", std::slice::from_ref(&val)), Ok(Some(val)));
        }
    }
}

/// By copy and by wasmtime's dynamic calls: the core values on the stack, and all memory that the guest gave.
fn assert_same_in_guest(guest: &Guest, ty: &WitType, val: &Val) {
    let more = || (0..MORE).map(|_| Val::U64(7));
    let of = |val: Val| [val].into_iter().chain(more()).collect::<Vec<_>>();
    let (one, wide) = ([val.clone()], wide(ty, val));
    let flat = flat(ty).len() <= MAX_FLAT_PARAMS;
    if flat {
        let dynamic = guest.dynamic("flat", std::slice::from_ref(&wide));
        assert_eq!(guest.copied("flat", &one), dynamic, "{ty} {val:?}");
    }
    let (many, wide_many) = (of(val.clone()), of(wide.clone()));
    for (name, copied, dynamic) in [
        ("flat", &one[..], std::slice::from_ref(&wide)),
        ("echo", &many, &wide_many),
        ("sink", &many, &wide_many),
    ] {
        if name != "flat" || flat {
            let copied = guest.image(name, copied, true);
            assert!(
                copied == guest.image(name, dynamic, false),
                "{name}: {ty} {val:?}"
            );
        }
    }
}

/// Rare among random types and values.
#[test]
fn the_edges_of_the_abi_are_as_wasmtime_has_them() {
    let name = |n: usize| Name::new(&format!("n{n}"));
    let case = |n: usize, ty| Case { name: name(n), ty };
    let one_of = |types: &[WitType]| {
        let cases = types.iter().cloned().enumerate();
        WitType::Variant(cases.map(|(n, ty)| case(n, Some(ty))).collect())
    };
    let variant = |n: usize, val| Val::Variant(name(n).kebab, Some(Box::new(val)));
    let many_cases = |ty: Option<WitType>| (0..300).map(move |n| case(n, ty.clone()));
    let mut cases = vec![
        (
            WitType::Enum(many_cases(None).collect()),
            Val::Enum("n299".to_owned()),
        ),
        (
            WitType::Variant(many_cases(Some(WitType::U8)).collect()),
            variant(299, Val::U8(255)),
        ),
        (WitType::String, Val::String("aß€𝄞".repeat(100))),
        (WitType::String, Val::String("aß".repeat(100))),
        (WitType::Bytes, Val::String("AAECAwQ=".to_owned())),
        (WitType::Char, Val::Char('𝄞')),
        (WitType::S8, Val::S8(-1)),
    ];
    for count in [1, 8, 9, 16, 17, 31, 32] {
        let all = |step| (0..count).step_by(step).map(|n| name(n).kebab).collect();
        for set in [all(1), all(2), vec![name(count - 1).kebab]] {
            let ty = WitType::Flags((0..count).map(name).collect());
            cases.push((ty, Val::Flags(set)));
        }
    }
    for count in [MAX_FLAT_PARAMS - 1, MAX_FLAT_PARAMS, MAX_FLAT_PARAMS + 1] {
        let vals = (0..count).map(|n| Val::U8(u8::try_from(n).unwrap()));
        cases.push((
            WitType::Tuple(vec![WitType::U8; count]),
            Val::Tuple(vals.collect()),
        ));
    }
    let joined = [
        (WitType::F32, Val::Float32(-1.5)),
        (WitType::F64, Val::Float64(-1.5)),
        (WitType::S8, Val::S8(-1)),
        (WitType::S32, Val::S32(-1)),
        (WitType::S64, Val::S64(-1)),
        (WitType::String, Val::String("a".to_owned())),
    ];
    for (first, first_val) in &joined {
        for (second, second_val) in &joined {
            let ty = one_of(&[first.clone(), second.clone()]);
            cases.push((ty.clone(), variant(0, first_val.clone())));
            cases.push((ty, variant(1, second_val.clone())));
        }
    }
    for (ty, val) in &cases {
        assert_same_in_guest(&Guest::new(ty), ty, val);
    }
    let text = WitType::List(Box::new(WitType::String));
    for encoding in ["utf16", "latin1+utf16"] {
        let guest = Guest::of_encoding(&text, encoding);
        for content in ["", "abc", "aß", "aß€𝄞"] {
            let val = Val::List(vec![Val::String(content.to_owned()); 3]);
            assert_same_in_guest(&guest, &text, &val);
            let more = (0..MORE).map(|_| Val::U64(7));
            let args: Vec<Val> = [val].into_iter().chain(more).collect();
            assert_eq!(
                guest.copied("echo", &args),
                Ok(Some(Val::Tuple(args.clone())))
            );
        }
    }
}

/// Can't be, as arguments are made by their types: no panic, and nothing wrong in the guest.
#[test]
fn arguments_of_another_type_are_refused() {
    let record = WitType::Record(vec![Field {
        name: Name::new("a"),
        ty: WitType::U8,
    }]);
    let list = |ty| WitType::List(Box::new(ty));
    for (ty, val) in [
        (WitType::U8, Val::U64(1)),
        (WitType::U64, Val::U8(1)),
        (WitType::Char, Val::U32(0xd800)),
        (WitType::String, Val::U8(1)),
        (WitType::Bytes, Val::U8(1)),
        (list(WitType::U8), Val::List(vec![Val::U64(1)])),
        (list(WitType::U16), Val::String("AAAA".to_owned())),
        (list(WitType::U16), Val::List(vec![Val::Bool(true)])),
        (record.clone(), Val::Record(Vec::new())),
        (record, Val::Tuple(vec![Val::U8(1)])),
        (WitType::Tuple(vec![WitType::U8]), Val::Tuple(Vec::new())),
        (
            WitType::Option(Box::new(WitType::U8)),
            Val::Result(Ok(None)),
        ),
    ] {
        let guest = Guest::new(&ty);
        let more = (0..MORE).map(|_| Val::U64(7));
        let many: Vec<Val> = [val.clone()].into_iter().chain(more).collect();
        for (name, args) in [("flat", std::slice::from_ref(&val)), ("sink", &many)] {
            let refused = guest.copied(name, args).unwrap_err();
            assert!(
                refused.contains("not of its type"),
                "{ty} {val:?}: {refused}"
            );
        }
    }
}

/// The arguments are what is too large, not the result.
#[test]
fn arguments_larger_than_any_memory_are_beyond_its_limit() {
    let wide = WitType::Tuple(vec![WitType::Tuple(vec![WitType::U64; 100]); 100]);
    let case = |name: &str, ty| Case {
        name: Name::new(name),
        ty,
    };
    let cases = [case("small", None), case("big", Some(wide))];
    let ty = WitType::List(Box::new(WitType::Variant(cases.into_iter().collect())));
    let vals = Val::List(vec![Val::Variant("small".to_owned(), None); 60_000]);
    let refused = Guest::new(&ty).copied("flat", &[vals]).unwrap_err();
    let expected = "memory limit of 4096 MiB exceeded: the task asked for 4800480000 bytes";
    assert!(refused.contains(expected), "{refused}");
}

/// The guest gets its memory back.
#[test]
fn a_result_is_returned_and_cleaned_up() {
    let guest = Guest::of(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (global $cleaned (mut i32) (i32.const 0))
                (data (i32.const 8) "\10\00\00\00\03\00\00\00abc")
                (func (export "f") (result i32) (i32.const 8))
                (func (export "clean") (param i32) (global.set $cleaned (local.get 0)))
                (func (export "cleaned") (result i32) (global.get $cleaned)))
            (core instance $i (instantiate $m))
            (func (export "f") (result (list u8)) (canon lift (core func $i "f")
                (memory $i "memory") (post-return (func $i "clean"))))
            (func (export "cleaned") (result u32) (canon lift (core func $i "cleaned"))))"#,
    );
    block_on(async {
        let (mut store, instance) = guest.instance().await;
        let f = instance.get_func(&mut store, "f").unwrap();
        let cleaned = instance.get_func(&mut store, "cleaned").unwrap();
        let result = call(f, &mut store, &[]).await.unwrap();
        assert_eq!(result, Some(Val::String(STANDARD.encode("abc"))));
        let cleaned = call(cleaned, &mut store, &[]).await.unwrap();
        assert_eq!(cleaned, Some(Val::U32(8)));
    });
}

/// A guest that never ends while its arguments are written: the call is dropped there.
#[test]
fn a_call_is_given_up_while_it_is_lowered() {
    let guest = Guest::of(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                    (loop $again (br $again)) (i32.const 0))
                (func (export "f") (param i32 i32)))
            (core instance $i (instantiate $m))
            (func (export "f") (param "p" (list u8)) (canon lift (core func $i "f")
                (memory $i "memory") (realloc (func $i "realloc")))))"#,
    );
    block_on(async {
        for _ in 0..3 {
            let (mut store, instance) = guest.instance().await;
            // whenever it looks
            store.set_epoch_deadline(0);
            store.epoch_deadline_async_yield_and_update(0);
            let f = instance.get_func(&mut store, "f").unwrap();
            let args = [Val::String("AAAA".to_owned())];
            let mut call = std::pin::pin!(call(f, &mut store, &args));
            for _ in 0..3 {
                let polled =
                    std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx)));
                assert!(polled.await.is_pending());
            }
        }
    });
}

/// As many bytes of fuel as the memory that is taken: a small guest must not have much of the host's.
#[test]
fn values_cost_what_they_take() {
    let names = |n: usize| (0..n).map(|n| Name::new(&format!("n{n}")));
    let fields = |n| {
        names(n).map(|name| Field {
            name,
            ty: WitType::U8,
        })
    };
    let flags: Vec<String> = names(32).map(|name| name.kebab).collect();
    let record = fields(3).map(|field| (field.name.kebab, Val::U8(1)));
    let record = Val::Record(record.collect());
    let some = Val::Option(Some(Box::new(Val::U8(1))));
    for (ty, val) in [
        (WitType::Flags(names(32).collect()), Val::Flags(flags)),
        (WitType::Record(fields(3).collect()), record),
        (WitType::Option(Box::new(WitType::U8)), some),
        (
            WitType::Enum(names(3).collect()),
            Val::Enum("n1".to_owned()),
        ),
        (WitType::String, Val::String("a".to_owned())),
        (
            WitType::List(Box::new(WitType::U16)),
            Val::List(vec![Val::U16(1)]),
        ),
    ] {
        const VALUES: usize = 1000;
        let taken = VALUES * (size_of::<Val>() + heap(&val));
        let many = Val::List(vec![val; VALUES]);
        let guest = Guest::new(&WitType::List(Box::new(ty.clone())));
        let more = (0..MORE).map(|_| Val::U64(7));
        let args: Vec<Val> = [many].into_iter().chain(more).collect();
        let refused = guest.with_fuel(taken).copied("echo", &args);
        assert!(refused.unwrap_err().contains("too much data"), "{ty}");
        let enough = taken + taken / 4 + 4096;
        assert!(
            guest.with_fuel(enough).copied("echo", &args).is_ok(),
            "{ty}"
        );
    }
}

/// 4 bytes of base64 for each 3: no 40 for each one.
#[test]
fn bytes_cost_what_their_text_takes() {
    const MIB: usize = 1 << 20;
    let mut guest = Guest::new(&WitType::Bytes);
    let text = STANDARD.encode(vec![7; MIB]);
    let more = (0..MORE).map(|_| Val::U64(7));
    let args: Vec<Val> = [Val::String(text.clone())]
        .into_iter()
        .chain(more)
        .collect();
    guest.fuel = text.len() + 2 * args.len() * size_of::<Val>() + 100;
    let back = guest.copied("echo", &args);
    assert!(back == Ok(Some(Val::Tuple(args.clone()))));
    guest.fuel = text.len() - 1;
    let refused = guest.copied("echo", &args).unwrap_err();
    assert!(refused.contains("too much data"), "{refused}");
}

/// A guest may return anything.
#[test]
fn wild_results_are_refused() {
    let of = |ty: &str, at: i32, words: [i32; 2]| {
        let [first, second] = words;
        let text = format!(
            r#"(component
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "f") (result i32)
                        (i32.store (i32.const 8) (i32.const {first}))
                        (i32.store (i32.const 12) (i32.const {second}))
                        (i32.const {at})))
                (core instance $i (instantiate $m))
                (func (export "f") (result {ty}) (canon lift (core func $i "f") (memory $i "memory"))))"#
        );
        Guest::of(&text).copied("f", &[])
    };
    let bytes = "(list u8)";
    assert_eq!(
        of(bytes, 8, [65_533, 3]),
        Ok(Some(Val::String("AAAA".to_owned())))
    );
    for (ty, at, words) in [
        (bytes, 8, [65_534, 3]),
        (bytes, 8, [0, -1]),
        (bytes, 8, [-1, -1]),
        (bytes, 8, [-1, 1]),
        (bytes, 65_532, [0, 0]),
        (bytes, -8, [0, 0]),
        (bytes, 9, [0, 0]),
        ("(list (list u8))", 8, [2, 1]),
        ("(list (list u8))", 8, [65_532, 1]),
        ("(list (list u8))", 8, [0, i32::MAX]),
        ("(option (list u8))", 8, [2, 0]),
        ("(result (list u8))", 8, [-1, 0]),
        ("(tuple char (list u8))", 8, [0xd800, 0]),
        ("string", 8, [65_535, 2]),
    ] {
        let result = of(ty, at, words);
        assert!(result.is_err(), "{ty} {at} {words:?}: {result:?}");
    }
}

struct Guest {
    engine: Engine,
    component: Component,
    fuel: usize,
}

impl Guest {
    /// It has functions that return what they are given, and one that returns its core values.
    fn new(ty: &WitType) -> Self {
        Self::of_encoding(ty, "utf8")
    }

    fn of_encoding(ty: &WitType, encoding: &str) -> Self {
        let mut types = Types::default();
        let (tested, flat) = (types.text(ty), flat(ty));
        let mut stores = String::new();
        for (index, core) in flat.iter().enumerate() {
            let value = format!("(local.get {index})");
            let bits = match *core {
                "i32" => format!("(i64.extend_i32_u {value})"),
                "f32" => format!("(i64.extend_i32_u (i32.reinterpret_f32 {value}))"),
                "f64" => format!("(i64.reinterpret_f64 {value})"),
                _ => value,
            };
            write!(stores, "(i64.store (i32.const {}) {bits})", index * 8).unwrap();
        }
        let options = format!(
            r#"string-encoding={encoding} (memory $i "memory") (realloc (func $i "realloc"))"#
        );
        let mut functions = String::new();
        let mut export = |name: &str, params: &str, result: &str| {
            write!(
                functions,
                r#"(func (export "{name}") {params} {result} (canon lift (core func $i "{name}") {options}))"#
            )
            .unwrap();
        };
        let param = format!(r#"(param "p" {tested})"#);
        let more: String = (0..MORE)
            .map(|n| format!(r#" (param "p{n}" u64)"#))
            .collect();
        let echoed = format!("(result (tuple {tested} {}))", "u64 ".repeat(MORE));
        export("echo", &format!("{param}{more}"), &echoed);
        export("sink", &format!("{param}{more}"), "");
        export("image", "", "(result (list u8))");
        let mut core = String::new();
        if flat.len() <= MAX_FLAT_PARAMS {
            export("flat", &param, "(result (list u64))");
            write!(
                core,
                r#"(func (export "flat") (param {}) (result i32) {stores}
                    (i32.store (i32.const 512) (i32.const 0))
                    (i32.store (i32.const 516) (i32.const {}))
                    (i32.const 512))"#,
                flat.join(" "),
                flat.len()
            )
            .unwrap();
        }
        if let [one] = flat.as_slice() {
            export("one", &param, &format!("(result {tested})"));
            write!(
                core,
                r#"(func (export "one") (param {one}) (result {one}) (local.get 0))"#
            )
            .unwrap();
        }
        Self::of(&format!(
            r#"(component
                {}
                (core module $m
                    (memory (export "memory") 64)
                    (global $next (mut i32) (i32.const 1024))
                    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
                        (local $at i32)
                        (local.set $at (i32.and
                            (i32.add (global.get $next) (i32.sub (local.get 2) (i32.const 1)))
                            (i32.sub (i32.const 0) (local.get 2))))
                        (global.set $next (i32.add (local.get $at) (local.get $size)))
                        (memory.copy (local.get $at) (local.get 0)
                            (select (local.get 1) (local.get $size)
                                (i32.lt_u (local.get 1) (local.get $size))))
                        (local.get $at))
                    (func (export "echo") (param i32) (result i32) (local.get 0))
                    (func (export "sink") (param i32))
                    (func (export "image") (result i32)
                        (i32.store (i32.const 512) (i32.const 1024))
                        (i32.store (i32.const 516)
                            (i32.sub (global.get $next) (i32.const 1024)))
                        (i32.const 512))
                    {core})
                (core instance $i (instantiate $m))
                {functions})"#,
            types.defined
        ))
    }

    fn of(text: &str) -> Self {
        let engine = engine::compiling().unwrap();
        let wasm = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let component = Component::from_binary(&engine, &wasm).unwrap();
        Self {
            engine,
            component,
            fuel: 1 << 30,
        }
    }

    fn with_fuel(&self, fuel: usize) -> Self {
        Self {
            engine: self.engine.clone(),
            component: self.component.clone(),
            fuel,
        }
    }

    /// By the code that is tested, in a sandbox of its own.
    fn copied(&self, name: &str, args: &[Val]) -> Result<Option<Val>, String> {
        block_on(async {
            let (mut store, func) = self.function(name).await;
            let result = call(func, &mut store, args).await;
            result.map_err(|error| format!("{error:#}"))
        })
    }

    /// By wasmtime's own.
    fn dynamic(&self, name: &str, args: &[Val]) -> Result<Option<Val>, String> {
        block_on(async {
            let (mut store, func) = self.function(name).await;
            let mut result = [Val::Bool(false)];
            func.call_async(&mut store, args, &mut result)
                .await
                .unwrap();
            let [result] = result;
            Ok(Some(result))
        })
    }

    /// The memory that it gave for the arguments of a call.
    fn image(&self, name: &str, args: &[Val], copied: bool) -> Option<Val> {
        block_on(async {
            let (mut store, instance) = self.instance().await;
            let func = instance.get_func(&mut store, name).unwrap();
            let image = instance.get_func(&mut store, "image").unwrap();
            if copied {
                call(func, &mut store, args).await.unwrap();
            } else {
                let mut result = [Val::Bool(false)];
                let results = if name == "sink" {
                    &mut []
                } else {
                    &mut result[..]
                };
                func.call_async(&mut store, args, results).await.unwrap();
            }
            call(image, &mut store, &[]).await.unwrap()
        })
    }

    async fn function(&self, name: &str) -> (Store<()>, Func) {
        let (mut store, instance) = self.instance().await;
        let func = instance.get_func(&mut store, name).expect(name);
        (store, func)
    }

    async fn instance(&self) -> (Store<()>, Instance) {
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(u64::MAX / 2);
        store.set_hostcall_fuel(self.fuel);
        let linker = Linker::new(&self.engine);
        let instance: Instance = linker
            .instantiate_async(&mut store, &self.component)
            .await
            .unwrap();
        (store, instance)
    }
}

fn block_on<T>(run: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(run)
}

/// The value as wasmtime's dynamic calls want it.
fn wide(ty: &WitType, val: &Val) -> Val {
    let boxed = |ty: Option<&WitType>, val: &Option<Box<Val>>| {
        let val = ty.zip(val.as_deref());
        val.map(|(ty, val)| Box::new(wide(ty, val)))
    };
    match (ty, val) {
        (WitType::Bytes, Val::String(text)) => {
            let bytes = STANDARD.decode(text).unwrap();
            Val::List(bytes.into_iter().map(Val::U8).collect())
        }
        (WitType::List(ty), Val::List(vals)) => {
            Val::List(vals.iter().map(|val| wide(ty, val)).collect())
        }
        (WitType::Option(ty), Val::Option(val)) => Val::Option(boxed(Some(ty), val)),
        (WitType::Tuple(types), Val::Tuple(vals)) => {
            let vals = types.iter().zip(vals);
            Val::Tuple(vals.map(|(ty, val)| wide(ty, val)).collect())
        }
        (WitType::Record(fields), Val::Record(vals)) => {
            let vals = fields.iter().zip(vals);
            let vals = vals.map(|(field, (name, val))| (name.clone(), wide(&field.ty, val)));
            Val::Record(vals.collect())
        }
        (WitType::Variant(cases), Val::Variant(name, val)) => {
            let case = cases.get(name).unwrap();
            Val::Variant(name.clone(), boxed(case.ty.as_ref(), val))
        }
        (WitType::Result(ok, _), Val::Result(Ok(val))) => {
            Val::Result(Ok(boxed(ok.as_deref(), val)))
        }
        (WitType::Result(_, err), Val::Result(Err(val))) => {
            Val::Result(Err(boxed(err.as_deref(), val)))
        }
        (_, val) => val.clone(),
    }
}

/// A type's core values (component model, CanonicalABI.md, "Flattening").
fn flat(ty: &WitType) -> Vec<&'static str> {
    let cases = |types: &mut dyn Iterator<Item = Option<&WitType>>| {
        let mut all = vec!["i32"];
        for case in types.flatten() {
            for (index, core) in flat(case).into_iter().enumerate() {
                match all.get_mut(index + 1) {
                    None => all.push(core),
                    Some(other) if *other == core => {}
                    Some(other) if [*other, core].iter().all(|core| core.ends_with("32")) => {
                        *other = "i32"
                    }
                    Some(other) => *other = "i64",
                }
            }
        }
        all
    };
    match ty {
        WitType::S64 | WitType::U64 => vec!["i64"],
        WitType::F32 => vec!["f32"],
        WitType::F64 => vec!["f64"],
        WitType::String | WitType::Json | WitType::Bytes | WitType::List(_) => vec!["i32"; 2],
        WitType::Tuple(types) => types.iter().flat_map(flat).collect(),
        WitType::Record(fields) => fields.iter().flat_map(|field| flat(&field.ty)).collect(),
        WitType::Option(ty) => cases(&mut [Some(&**ty)].into_iter()),
        WitType::Result(ok, err) => cases(&mut [ok.as_deref(), err.as_deref()].into_iter()),
        WitType::Variant(types) => cases(&mut types.iter().map(|case| case.ty.as_ref())),
        _ => vec!["i32"],
    }
}

/// Types in WAT, where those that have to have a name are exported.
#[derive(Default)]
struct Types {
    defined: String,
    count: usize,
}

impl Types {
    fn text(&mut self, ty: &WitType) -> String {
        fn quoted<'a>(names: impl Iterator<Item = &'a Name>) -> String {
            let names = names.map(|name| format!(" {:?}", name.kebab));
            names.collect()
        }
        match ty {
            WitType::Bytes => "(list u8)".to_owned(),
            WitType::List(ty) => format!("(list {})", self.text(ty)),
            WitType::Option(ty) => format!("(option {})", self.text(ty)),
            WitType::Tuple(types) => {
                let types: Vec<String> = types.iter().map(|ty| self.text(ty)).collect();
                format!("(tuple {})", types.join(" "))
            }
            WitType::Result(ok, err) => {
                let ok = ok.as_ref().map(|ty| self.text(ty)).unwrap_or_default();
                let err = err.as_ref().map(|ty| format!("(error {})", self.text(ty)));
                format!("(result {ok} {})", err.unwrap_or_default())
            }
            WitType::Json => self.named(r#"(record (field "petiole-json" string))"#),
            WitType::Record(fields) => {
                let fields = fields.iter();
                let fields =
                    fields.map(|f| format!("(field {:?} {})", f.name.kebab, self.text(&f.ty)));
                let fields: String = fields.collect();
                self.named(&format!("(record {fields})"))
            }
            WitType::Variant(cases) => {
                let cases = cases.iter().map(|case| {
                    let ty = case.ty.as_ref().map(|ty| self.text(ty)).unwrap_or_default();
                    format!("(case {:?} {ty})", case.name.kebab)
                });
                let cases: String = cases.collect();
                self.named(&format!("(variant {cases})"))
            }
            WitType::Enum(cases) => self.named(&format!(
                "(enum{})",
                quoted(cases.iter().map(|case| &case.name))
            )),
            WitType::Flags(names) => self.named(&format!("(flags{})", quoted(names.iter()))),
            scalar => scalar.to_string(),
        }
    }

    fn named(&mut self, ty: &str) -> String {
        self.count += 1;
        let n = self.count;
        writeln!(
            self.defined,
            r#"(type $t{n} {ty}) (export $e{n} "t{n}" (type $t{n}))"#
        )
        .unwrap();
        format!("$e{n}")
    }
}
