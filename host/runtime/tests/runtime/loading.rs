//! Components that load, and their tasks.

use super::*;

#[tokio::test]
async fn signatures_are_reflected() {
    let module = HOST.guest().await;
    let schema = |task: &str| module.task(task).unwrap().schema();
    assert_eq!(
        schema("add").to_string(),
        "my_app.tasks.add(x: s64, y: s64) -> s64"
    );
    assert_eq!(
        schema("maybe").to_string(),
        "my_app.tasks.maybe(a: u32, b_c: option<u32>) -> u32"
    );
    assert_eq!(
        schema("fail").to_string(),
        "my_app.tasks.fail(text: string) -> result<_, string>"
    );
    assert_eq!(
        schema("find").to_string(),
        "my_app.tasks.find(case: u32) -> result<u32, enum { not_found, too_big }>"
    );
    assert_eq!(schema("crash").to_string(), "my_app.tasks.crash()");
    assert_eq!(
        serde_json::to_value(schema("add")).unwrap(),
        json!({
            "name": "my_app.tasks.add",
            "function": "add",
            "params": [
                {"name": "x", "type": "s64", "optional": false},
                {"name": "y", "type": "s64", "optional": false},
            ],
            "result": "s64",
            "error": null,
            "docs": "Adds two numbers.",
        })
    );
    assert_eq!(schema("my_id").docs, "Its own id.");
    let names: Vec<_> = module
        .tasks()
        .map(|task| task.schema().function.as_str())
        .collect();
    assert!(names.is_sorted() && names.len() == 22, "{names:?}");
    assert!(module.task("my-id").is_none() && module.task("nothing").is_none());
}

#[tokio::test]
async fn exports_are_sorted_into_tasks_and_others() {
    let wasm = component(
        r#"(export "run-it" (func $f))
        (export "twice" (func $f))
        (type $r (resource (rep i32)))
        (export $thing "thing" (type $r))
        (func (export "make") (result (own $thing)) (canon lift (core func $i "one")))
        (instance $inner (export "in-it" (func $f)) (export "twice" (func $f)))
        (export "demo:calc/ops@1.0.0" (instance $inner))
        (core module $n (memory (export "memory") 1)
            (func (export "init") (param i32 i32 i32 i32))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
        (core instance $n (instantiate $n))
        (func (export "init") (param "shim" string) (param "script" string)
            (canon lift (core func $n "init") (memory $n "memory") (realloc (func $n "realloc"))))
        (instance $py (export "hidden" (func $f)))
        (export "exports" (instance $py))
        (instance $run (export "run" (func $f)))
        (export "wasi:cli/run@0.2.0" (instance $run))"#,
    );
    let module = HOST.load(&wasm).await.unwrap();
    let names: Vec<_> = module
        .tasks()
        .map(|task| task.schema().name.as_str())
        .collect();
    assert_eq!(names, ["my_app.tasks.in_it", "my_app.tasks.run_it"]);
    let mut refused: Vec<_> = module.refused().iter().map(ToString::to_string).collect();
    refused.sort();
    assert_eq!(
        refused,
        [
            "demo:calc/ops@1.0.0#twice: twice would be the same task: rename one",
            "make: the result: a resource handle has no form in JSON",
            "twice: demo:calc/ops@1.0.0#twice would be the same task: rename one",
        ]
    );
    assert_eq!(
        call(&module, "in_it", json!([])).await,
        Outcome::Success(json!(null))
    );
}

#[tokio::test]
async fn what_cant_run_is_refused_with_the_whole_list() {
    let imports = component(
        r#"(import "wasi:http/types@0.2.0" (instance (export "f" (func))))
        (import "acme:db/sql" (instance (export "f" (func))))
        (import "lonely" (func))
        (import "wasi:cli/stdin@0.3.0" (instance (export "f" (func))))
        (export "run-it" (func $f))"#,
    );
    let error = HOST.load(&imports).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the component imports what is not granted to it:\n  \
         wasi:http/types@0.2.0: needs `http`, asked for in the manifest's [capabilities] and allowed by the \
         worker's [grants]\n  \
         acme:db/sql: no capability grants it\n  \
         lonely: no capability grants it\n  \
         wasi:cli/stdin@0.3.0: no capability grants it"
    );

    let shape = component(
        r#"(import "petiole:task/context@0.1.0" (instance (export "no-such" (func)))) (export "r" (func $f))"#,
    );
    let error = HOST.load(&shape).await.unwrap_err();
    assert!(
        matches!(&error, LoadError::Incompatible { reason } if reason.contains("no-such")),
        "{error}"
    );

    let twice = component(
        r#"(instance $inner (export "twice" (func $f)))
        (export "demo:calc/ops@1.0.0" (instance $inner)) (export "twice" (func $f))"#,
    );
    let error = HOST.load(&twice).await.unwrap_err();
    assert!(
        matches!(&error, LoadError::NoTasks { refused } if refused.len() == 2),
        "{error}"
    );
    let error = HOST.load(&component("")).await.unwrap_err();
    assert!(matches!(error, LoadError::NoTasks { .. }), "{error}");

    let huge =
        r#"(core module $b (memory 200)) (core instance (instantiate $b)) (export "r" (func $f))"#;
    let error = HOST.load(&component(huge)).await.unwrap_err();
    assert!(matches!(error, LoadError::Incompatible { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_component_is_refused() {
    let error = HOST.load(b"PK\x03\x04").await.unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::NotWasm { .. })),
        "{error}"
    );
    let error = HOST.load(b"(component)").await.unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::NotWasm { .. })),
        "{error}"
    );
    let error = HOST.load(b"").await.unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::NotWasm { .. })),
        "{error}"
    );
    let error = HOST
        .load(&wat::parse_str("(module)").unwrap())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("wasm-tools component new"),
        "{error}"
    );
    let mut cut = guest();
    cut.truncate(1000);
    let error = HOST.load(&cut).await.unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::Invalid { .. })),
        "{error}"
    );
}

/// Each level of the type is twice the one before.
#[tokio::test]
async fn exponential_types_are_refused() {
    let mut types = String::from("(type $t0 (tuple u32 u32))");
    for level in 1..=16 {
        types += &format!("(type $t{level} (tuple $t{0} $t{0}))", level - 1);
    }
    let body = format!(
        r#"{types} (core module $n (memory (export "memory") 1) (func (export "f") (param i32))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
        (core instance $n (instantiate $n))
        (func (export "big") (param "x" (option $t16)) (canon lift (core func $n "f")
            (memory $n "memory") (realloc (func $n "realloc"))))
        (export "small" (func $f))"#
    );
    let module = HOST.load(&component(&body)).await.unwrap();
    let [refused] = module.refused() else {
        panic!("{:?}", module.refused())
    };
    assert!(
        refused.name == "big" && refused.reason.contains("larger than 262144"),
        "{refused}"
    );
}
