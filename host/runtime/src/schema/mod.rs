//! Types of a component's exports, and JSON as their values.

pub(crate) mod bind;
pub(crate) mod canonical;
pub(crate) mod docs;
pub(crate) mod from_json;
pub(crate) mod function_type;
pub(crate) mod json_texts;
pub(crate) mod mismatch;
pub(crate) mod reflect;
pub(crate) mod task_error;
pub(crate) mod task_schema;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod to_json;
pub(crate) mod wit_type;
