//! A task's schema: what it can be called with.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::schema::function_type::FunctionType;
use crate::schema::task_error::is_task_error;
use crate::schema::wit_type::WitType;

/// A task's name, its parameters and what it gives back, as `petiole tasks` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSchema {
    /// Its name to Celery: module name + `.` + function, for example `my_app.tasks.run_task`.
    pub name: String,
    /// The exported function's name in snake_case.
    pub function: String,
    /// In their order.
    pub params: Vec<Param>,
    /// The result as a WIT type; none where there is no result.
    pub result: Option<String>,
    /// The type of its `err`, as a WIT type; none where it says nothing. `task-error` is the one of
    /// `petiole:task/types`.
    pub error: Option<String>,
    /// From the guest's source (custom section `petiole:docs`); empty where there are none.
    pub docs: String,
}

/// A task's parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// In snake_case: the name of the keyword argument.
    pub name: String,
    /// Its WIT type, written out.
    #[serde(rename = "type")]
    pub ty: String,
    /// It may be left out: it belongs to a trailing run of `option` parameters.
    pub optional: bool,
}

/// `my_app.tasks.add(x: s64, y: s64) -> s64`
impl Display for TaskSchema {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (index, param) in self.params.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}: {}", param.name, param.ty)?;
        }
        f.write_str(")")?;
        match (&self.result, &self.error) {
            (None, None) => Ok(()),
            (Some(result), None) => write!(f, " -> {result}"),
            (result, Some(error)) => write!(
                f,
                " -> result<{}, {error}>",
                result.as_deref().unwrap_or("_")
            ),
        }
    }
}

impl TaskSchema {
    /// Of the exported function `function`, which is a task of `module`.
    pub(crate) fn new(module: &str, function: &str, ty: &FunctionType, docs: String) -> Self {
        let optional_from = ty.optional_from();
        let params = ty
            .params
            .iter()
            .enumerate()
            .map(|(index, (name, ty))| Param {
                name: name.snake.clone(),
                ty: ty.to_string(),
                optional: index >= optional_from,
            });
        let (result, error) = match &ty.result {
            Some(WitType::Result(ok, err)) => (
                ok.as_ref().map(ToString::to_string),
                Some(err.as_deref().map_or_else(|| "_".to_owned(), error_text)),
            ),
            result => (result.as_ref().map(ToString::to_string), None),
        };
        Self {
            name: format!("{module}.{function}"),
            function: function.to_owned(),
            params: params.collect(),
            result,
            error,
            docs,
        }
    }
}

/// `task-error` by its name: every task that uses the SDK has it.
fn error_text(ty: &WitType) -> String {
    if is_task_error(ty) {
        "task-error".to_owned()
    } else {
        ty.to_string()
    }
}
