//! Parts of requests that are never sent, which the host keeps.

use super::*;

async fn parts() -> Module {
    let interfaces = Interfaces {
        http: true,
        ..Interfaces::default()
    };
    let (wasm, compiler) = (wat("egress/parts.wat"), Compiler::in_process());
    let runtime = &HOST.runtime;
    runtime
        .load("parts", binary(&wasm), &HOST.cache, &compiler, interfaces)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_parts_of_a_request_are_bounded() {
    let module = parts().await;
    for (part, most) in [("path", 65_534), ("value", 32 * 1024 - 73)] {
        let taken = call_with(&module, part, json!([most]), LIMITS).await;
        assert_eq!(taken.outcome, Outcome::Success(json!(true)), "{part}");
    }
    let path = call_with(&module, "path", json!([65_535]), LIMITS).await;
    assert_eq!(path.outcome, Outcome::Success(json!(false)));
    let value = call_with(&module, "value", json!([32 * 1024]), LIMITS).await;
    let (exc_type, args, _) = failure(&value.outcome);
    let said = args[0].as_str().unwrap();
    assert_eq!(exc_type, "WasmTrap");
    assert!(said.contains("total size of fields"), "{said}");
}

/// However many handles it may have, a guest has a limited number of `fields` at once for each request.
#[tokio::test]
async fn so_many_fields_may_be_kept() {
    let module = parts().await;
    let limits = Limits {
        requests: 3,
        ..LIMITS
    };
    let expected = own(
        "HandleLimitExceeded",
        "handle limit of 28 exceeded: the task asked for 29",
    );
    for (task, most) in [("keep", 28), ("keep_lists", 28), ("keep_clones", 27)] {
        let run = call_with(&module, task, json!([most]), limits).await;
        assert_eq!(run.outcome, Outcome::Success(json!(null)), "{task}");
        let run = call_with(&module, task, json!([most + 1]), limits).await;
        assert_eq!(failure(&run.outcome), expected, "{task}");
        assert_eq!(run.limit, Some(Limit::Handles), "{task}");
    }
    let run = call_with(&module, "make_and_drop", json!([1_000]), limits).await;
    assert_eq!(run.outcome, Outcome::Success(json!(null)));
}
