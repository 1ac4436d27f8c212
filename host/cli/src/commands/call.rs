//! `--args` and `--kwargs`.

use anyhow::anyhow;
use petiole_celery::json;
use serde_json::{Map, Value};

use crate::cli::CallArgs;
use crate::exit::{Failure, Result};

/// The positional arguments.
pub(super) fn positional(call: &CallArgs) -> Result<Vec<Value>> {
    match read("--args", &call.args, ARRAY)? {
        Value::Array(args) => Ok(args),
        _ => Err(not("--args", &call.args, "", ARRAY)),
    }
}

/// The keyword arguments.
pub(super) fn keyword(call: &CallArgs) -> Result<Map<String, Value>> {
    match read("--kwargs", &call.kwargs, OBJECT)? {
        Value::Object(kwargs) => Ok(kwargs),
        _ => Err(not("--kwargs", &call.kwargs, "", OBJECT)),
    }
}

const ARRAY: &str = "a JSON array, for example '[1, \"two\"]'";
const OBJECT: &str = "a JSON object, for example '{\"name\": \"value\"}'";

fn read(flag: &str, text: &str, wanted: &str) -> Result<Value> {
    json::parse(text.as_bytes()).map_err(|error| not(flag, text, &format!(" ({error})"), wanted))
}

/// Characters of the text that an error quotes.
const SHOWN: usize = 80;

fn not(flag: &str, text: &str, why: &str, wanted: &str) -> Failure {
    let shown: String = text.chars().take(SHOWN).collect();
    Failure::usage(anyhow!("{flag} {shown:?} is not {wanted}{why}"))
}
