//! Positional and keyword arguments to a function's parameters.

use petiole_celery::Refusal;
use serde_json::{Map, Value};
use wasmtime::component::Val;

use crate::schema::from_json::{each, from_json, json_pair, json_record};
use crate::schema::function_type::FunctionType;
use crate::schema::json_texts::ValueMemory;
use crate::schema::mismatch::{Mismatch, quoted};

use crate::schema::wit_type::{Name, WitType};

/// Arguments that fit a task's parameters.
#[derive(Debug, Clone)]
pub struct Arguments {
    pub(crate) vals: Vec<Val>,
    /// Their memory, in bytes.
    pub(crate) memory: usize,
}

/// Arguments that do not fit a task's parameters. Its text names the task, the parameter, the type
/// wanted and the value got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{task}: {problem}")]
pub struct ArgumentError {
    task: String,
    problem: Box<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("takes at most {most} arguments, got {got}")]
    TooMany { most: usize, got: usize },
    #[error("missing argument {name}: {ty}")]
    Missing { name: String, ty: String },
    #[error("unknown argument {name}; it takes {known}")]
    Unknown { name: String, known: String },
    #[error("argument {name} is given twice")]
    Twice { name: String },
    #[error("argument {name}{mismatch}")]
    Mismatch { name: String, mismatch: Mismatch },
}

/// The refusal of the message. Arguments that would take too much memory are as arguments that are too large.
impl From<ArgumentError> for Refusal {
    fn from(error: ArgumentError) -> Self {
        if let Problem::Mismatch { mismatch, .. } = &*error.problem
            && let Some((size, limit)) = mismatch.size_and_limit()
        {
            return Self::ArgumentsTooLarge { size, limit };
        }
        Self::Arguments {
            reason: error.to_string(),
        }
    }
}

/// Checks arguments against the parameters of `task`. `limit`: the size of their JSON, in bytes, which they may take memory
/// in proportion to.
pub(crate) fn bind(
    task: &str,
    function: &FunctionType,
    args: &[Value],
    kwargs: &Map<String, Value>,
    limit: usize,
) -> Result<Arguments, ArgumentError> {
    let memory = &mut ValueMemory::new(limit);
    let vals = if function.takes_anything() {
        anything(args, kwargs, memory)
    } else {
        bind_each(function, args, kwargs, memory)
    };
    let vals = vals.map_err(|problem| ArgumentError {
        task: task.to_owned(),
        problem: Box::new(problem),
    })?;
    let memory = memory.taken();
    Ok(Arguments { vals, memory })
}

fn bind_each(
    function: &FunctionType,
    args: &[Value],
    kwargs: &Map<String, Value>,
    memory: &mut ValueMemory,
) -> Result<Vec<Val>, Problem> {
    let params = &function.params;
    if args.len() > params.len() {
        return Err(Problem::TooMany {
            most: params.len(),
            got: args.len(),
        });
    }
    if let Some(unknown) = kwargs
        .keys()
        .find(|key| !params.iter().any(|(name, _)| name.is(key)))
    {
        return Err(Problem::Unknown {
            name: quoted(&Value::from(unknown.as_str())),
            known: match params.as_slice() {
                [] => "none".to_owned(),
                _ => params
                    .iter()
                    .map(|(name, _)| name.snake.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        });
    }
    let optional_from = function.optional_from();
    let vals = params.iter().enumerate().map(|(index, (name, ty))| {
        match (given(name, args.get(index), kwargs)?, ty) {
            (Some(value), _) => {
                from_json(ty, value, memory).map_err(|mismatch| Problem::Mismatch {
                    name: name.snake.clone(),
                    mismatch,
                })
            }
            (None, WitType::Option(_)) if index >= optional_from => Ok(Val::Option(None)),
            (None, _) => Err(Problem::Missing {
                name: name.snake.clone(),
                ty: ty.to_string(),
            }),
        }
    });
    vals.collect()
}

/// The parameter's value: by its place, or by either spelling of its name.
fn given<'a>(
    name: &Name,
    by_place: Option<&'a Value>,
    kwargs: &'a Map<String, Value>,
) -> Result<Option<&'a Value>, Problem> {
    let kebab = if name.kebab == name.snake {
        None
    } else {
        kwargs.get(&name.kebab)
    };
    let mut all = [by_place, kwargs.get(&name.snake), kebab]
        .into_iter()
        .flatten();
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(Problem::Twice {
            name: name.snake.clone(),
        }),
        (value, None) => Ok(value),
    }
}

fn anything(
    args: &[Value],
    kwargs: &Map<String, Value>,
    memory: &mut ValueMemory,
) -> Result<Vec<Val>, Problem> {
    let within = |name: &'static str| {
        move |mismatch| Problem::Mismatch {
            name: name.to_owned(),
            mismatch,
        }
    };
    let args = each(args.iter(), memory, json_record).map_err(within("args"))?;
    let kwargs = each(kwargs.iter(), memory, json_pair).map_err(within("kwargs"))?;
    Ok(vec![Val::List(args), Val::List(kwargs)])
}
