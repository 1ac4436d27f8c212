//! JSON that a guest hands over as text.

use petiole_celery::json;
use serde_json::{Map, Value};

use crate::schema::json_texts::{MAX_DEPTH, is_too_deep};

pub(super) fn parsed(name: &str, text: &str) -> Result<Value, String> {
    let value = json::parse(text.as_bytes());
    let value = value.map_err(|error| format!("{name} is not JSON: {error}"))?;
    if is_too_deep(&value) {
        return Err(format!(
            "{name} has more than {MAX_DEPTH} levels of arrays and objects"
        ));
    }
    Ok(value)
}

pub(super) fn object(name: &str, text: &str) -> Result<Map<String, Value>, String> {
    match parsed(name, text)? {
        Value::Object(object) => Ok(object),
        _ => Err(format!("{name} is not a JSON object")),
    }
}

pub(super) fn within(name: &str, size: usize, limit: usize) -> Result<(), String> {
    if size <= limit {
        Ok(())
    } else {
        Err(format!(
            "{name} of {size} bytes is larger than the limit of {limit}"
        ))
    }
}
