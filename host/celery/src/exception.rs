use serde_json::{Value, json};

use crate::json;

/// An exception as Celery's result backends store it; a Python reader raises the class of that
/// name, or one made up of that name where its module has not been imported.
#[derive(Debug, Clone, PartialEq)]
pub struct Exception {
    /// The class name.
    pub exc_type: String,
    /// The exception's `args`.
    pub exc_message: Vec<Value>,
    /// The Python module to import the class from.
    pub exc_module: String,
}

impl Exception {
    /// An exception with a text for its only argument.
    pub fn new(exc_module: &str, exc_type: &str, message: impl Into<String>) -> Self {
        Self {
            exc_type: exc_type.to_owned(),
            exc_message: vec![json::string(message)],
            exc_module: exc_module.to_owned(),
        }
    }

    /// The form that a result backend stores.
    pub fn to_json(&self) -> Value {
        json!({
            "exc_type": self.exc_type,
            "exc_message": self.exc_message,
            "exc_module": self.exc_module,
        })
    }
}
