//! Positional and keyword arguments to a function's parameters.

use serde_json::{Map, Value};
use wasmtime::component::Val;

use crate::from_json::{from_json, json_record};
use crate::mismatch::{Mismatch, quoted};
use crate::signature::Shape;
use crate::wit_type::{Name, WitType};

/// Arguments that fit a task's parameters.
#[derive(Debug, Clone)]
pub struct Arguments(pub(crate) Vec<Val>);

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

/// Checks arguments against the parameters of `task`.
pub(crate) fn bind(
    task: &str,
    shape: &Shape,
    args: &[Value],
    kwargs: &Map<String, Value>,
) -> Result<Arguments, ArgumentError> {
    if shape.takes_anything() {
        return Ok(Arguments(anything(args, kwargs)));
    }
    bind_each(shape, args, kwargs)
        .map(Arguments)
        .map_err(|problem| ArgumentError {
            task: task.to_owned(),
            problem: Box::new(problem),
        })
}

fn bind_each(
    shape: &Shape,
    args: &[Value],
    kwargs: &Map<String, Value>,
) -> Result<Vec<Val>, Problem> {
    let params = &shape.params;
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
    let optional_from = shape.optional_from();
    let vals = params.iter().enumerate().map(|(index, (name, ty))| {
        match (given(name, args.get(index), kwargs)?, ty) {
            (Some(value), _) => from_json(ty, value).map_err(|mismatch| Problem::Mismatch {
                name: name.snake.clone(),
                mismatch,
            }),
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

fn anything(args: &[Value], kwargs: &Map<String, Value>) -> Vec<Val> {
    let args = args.iter().map(json_record).collect();
    let kwargs = kwargs
        .iter()
        .map(|(name, value)| Val::Tuple(vec![Val::String(name.clone()), json_record(value)]));
    vec![Val::List(args), Val::List(kwargs.collect())]
}
