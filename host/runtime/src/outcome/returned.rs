//! Outcomes of what a guest has returned: its result, or its `err`.

use petiole_celery::{Exception, Outcome, json};
use petiole_permits::Limit;
use serde_json::Value;
use wasmtime::component::Val;

use crate::outcome::task_error::task_error;
use crate::outcome::{Ended, exceeded, failed, failure, values};
use crate::schema::json_texts::{JsonTexts, MAX_DEPTH, is_too_deep};
use crate::schema::task_error::is_task_error;
use crate::schema::to_json::{ToJsonError, payload, to_json};
use crate::schema::wit_type::WitType;

/// The length of an exception's class and of its module, in bytes: log lines and headers hold them whole.
const MAX_EXCEPTION_NAME: usize = 255;

/// The outcome of a function's result. `texts`: of the result, with the limit of its size as JSON.
pub(crate) fn returned(ty: Option<&WitType>, val: Option<Val>, mut texts: JsonTexts) -> Ended {
    let limit = texts.values.limit();
    let texts = &mut texts;
    let outcome = match (ty, val) {
        (Some(WitType::Result(ok, _)), Some(Val::Result(Ok(val)))) => {
            payload(ok.as_deref(), val, texts).map(Outcome::Success)
        }
        (Some(WitType::Result(_, err)), Some(Val::Result(Err(val)))) => {
            returned_err(err.as_deref(), val, texts)
        }
        (Some(ty), Some(val)) => to_json(ty, val, texts).map(Outcome::Success),
        _ => Ok(Outcome::Success(Value::Null)),
    };
    match outcome {
        Ok(outcome) => bounded(outcome, limit),
        Err(error @ ToJsonError::TooLarge { .. }) => {
            let message = texts.values.beyond_budget();
            exceeded(Limit::Result, message.unwrap_or_else(|| error.to_string()))
        }
        Err(error) => failure("InvalidResult", error.to_string()).into(),
    }
}

fn returned_err(
    ty: Option<&WitType>,
    val: Option<Box<Val>>,
    texts: &mut JsonTexts,
) -> Result<Outcome, ToJsonError> {
    let (Some(ty), Some(val)) = (ty, val) else {
        return Ok(failed("TaskError".to_owned(), Vec::new()));
    };
    Ok(match (ty, *val) {
        (ty, val) if is_task_error(ty) => task_error(to_json(ty, val, texts)?),
        (WitType::Enum(_), Val::Enum(name)) => failed(upper_camel(&name), Vec::new()),
        (WitType::Variant(cases), Val::Variant(name, val)) => {
            let ty = cases.get(&name).and_then(|case| case.ty.as_ref());
            let args = match val {
                Some(val) => vec![payload(ty, Some(val), texts)?],
                None => Vec::new(),
            };
            failed(upper_camel(&name), args)
        }
        (ty, val) => failed("TaskError".to_owned(), vec![to_json(ty, val, texts)?]),
    })
}

fn bounded(outcome: Outcome, limit: usize) -> Ended {
    if let Outcome::Failure { exception, .. } | Outcome::Retry { exception, .. } = &outcome
        && let Some(message) = overlong(exception)
    {
        return failure("InvalidResult", message).into();
    }
    let (values, other) = values(&outcome);
    if values.iter().any(is_too_deep) {
        let message = format!("the result has more than {MAX_DEPTH} levels of arrays and objects");
        return failure("InvalidResult", message).into();
    }
    let size = other + values.iter().map(json::size).sum::<usize>();
    if size <= limit {
        return outcome.into();
    }
    let message = format!("the result is {size} bytes of JSON: the limit is {limit}");
    exceeded(Limit::Result, message)
}

/// The message for a name that is too long.
fn overlong(exception: &Exception) -> Option<String> {
    [
        ("class", &exception.exc_type),
        ("module", &exception.exc_module),
    ]
    .into_iter()
    .find(|(_, name)| name.len() > MAX_EXCEPTION_NAME)
    .map(|(what, name)| {
        let size = name.len();
        format!(
            "the name of the exception's {what} is {size} bytes: the limit is {MAX_EXCEPTION_NAME}"
        )
    })
}

/// `not-found` as a Python class: `NotFound`.
fn upper_camel(kebab: &str) -> String {
    kebab
        .split('-')
        .flat_map(|word| {
            let mut chars = word.chars();
            chars
                .next()
                .map(|first| first.to_ascii_uppercase())
                .into_iter()
                .chain(chars)
        })
        .collect()
}
