//! Free-form values.

use core::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;
use crate::abi::{Fields, Kind, Place, Type};

/// Any JSON value, where no more is known of an argument or a result.
///
/// ```
/// use petiole::{Error, Json};
///
/// #[petiole::task]
/// fn first(document: Json) -> Result<Json, Error> {
///     let items: Vec<Json> = document.parse()?;
///     items.into_iter().next().ok_or_else(|| Error::fail("IndexError", "the list is empty"))
/// }
/// # fn main() {}
/// ```
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Json(pub Value);

impl Json {
    /// The JSON of a value. Fails for what has none, such as a map whose keys are no strings.
    pub fn from_serialize(value: &impl Serialize) -> Result<Json, Error> {
        Ok(Json(serde_json::to_value(value)?))
    }

    /// Reads it as a type of your own, which derives `serde::Deserialize`.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_value(self.0).map_err(|error| Error::fail("ValueError", error.to_string()))
    }
}

impl<T: Into<Value>> From<T> for Json {
    fn from(value: T) -> Json {
        Json(value.into())
    }
}

impl Deref for Json {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

/// Has the shape of `wit/task.wit`: the record `json`, whose one field is a JSON text.
impl Type for Json {
    const KIND: &'static Kind = &Kind::Record("json", &[("petiole-json", String::KIND)]);
    type Flat = <String as Type>::Flat;

    fn load(at: Place) -> Json {
        let text: String = Fields::of(at).load();
        serde_json::from_str(&text).map_or_else(
            |_| crate::abi::invalid("a json record that is not JSON"),
            Json,
        )
    }

    fn store(self, at: Place) {
        Fields::of(at).store(self.0.to_string());
    }
}
