//! WIT types as a tree of our own: printed, compared and converted without wasmtime.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::ops::RangeInclusive;

use indexmap::IndexMap;
use wasmtime::component::Type;

/// The most that the types of all exports of a component may come to when they are written out: nested types
/// can double at each level, so that a component of 300 bytes prints as megabytes.
pub(crate) const MAX_TYPE_TEXT: usize = 256 * 1024;

/// The field that makes a record free-form JSON (`json` in `wit/task.wit`).
pub(crate) const JSON_FIELD: &str = "petiole-json";

/// A type that JSON values can be converted to and from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WitType {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    /// `list<u8>`
    Bytes,
    /// The record `json` of `petiole:task/types`.
    Json,
    List(Box<WitType>),
    Option(Box<WitType>),
    Tuple(Vec<WitType>),
    Record(Vec<Field>),
    Variant(Cases),
    /// Its cases have no payload.
    Enum(Cases),
    Flags(Vec<Name>),
    Result(Option<Box<WitType>>, Option<Box<WitType>>),
}

/// A WIT identifier: kebab-case in WIT, snake_case in JSON and in Celery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) kebab: String,
    pub(crate) snake: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: Name,
    pub(crate) ty: WitType,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) name: Name,
    pub(crate) ty: Option<WitType>,
}

/// The cases of a variant or an enum, in their order. A type may have 10,000 and a value millions, so that each is found
/// by its name in snake_case.
#[derive(Debug, Clone)]
pub(crate) struct Cases(IndexMap<String, Case>);

impl Cases {
    /// By either spelling of its name.
    pub(crate) fn get(&self, name: &str) -> Option<&Case> {
        let case = self.0.get(snake(name).as_ref())?;
        case.name.is(name).then_some(case)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Case> {
        self.0.values()
    }
}

/// Of the same cases in the same order.
impl PartialEq for Cases {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice() == other.0.as_slice()
    }
}

impl Eq for Cases {}

impl FromIterator<Case> for Cases {
    fn from_iter<I: IntoIterator<Item = Case>>(cases: I) -> Self {
        let cases = cases.into_iter();
        Self(cases.map(|case| (case.name.snake.clone(), case)).collect())
    }
}

/// An enum's.
impl FromIterator<Name> for Cases {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Self {
        let cases = names.into_iter().map(|name| Case { name, ty: None });
        cases.collect()
    }
}

/// A type that can't be in a task's schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TypeError {
    #[error("{0} has no form in JSON")]
    NotJson(&'static str),
    #[error("the component's types are larger than {MAX_TYPE_TEXT} bytes when written out")]
    TooLarge,
}

/// True if a type leaves it open how large its values are.
pub(crate) fn is_unbounded(ty: &WitType) -> bool {
    matches!(
        ty,
        WitType::String | WitType::Bytes | WitType::Json | WitType::List(_)
    )
}

/// True if values of a type may take long to read and to write: each element of a list takes some 50 ns.
pub(crate) fn holds_list(ty: &WitType) -> bool {
    ty.holds(|ty| matches!(ty, WitType::Bytes | WitType::List(_)))
}

/// Text that the types of one component may still take.
#[derive(Debug)]
pub(crate) struct TypeBudget(usize);

impl TypeBudget {
    pub(crate) fn new() -> Self {
        Self(MAX_TYPE_TEXT)
    }

    /// `text`: the length of the names at this node.
    fn spend(&mut self, text: usize) -> Result<(), TypeError> {
        const NODE: usize = 8;
        self.0 = self
            .0
            .checked_sub(text.saturating_add(NODE))
            .ok_or(TypeError::TooLarge)?;
        Ok(())
    }
}

impl Name {
    pub(crate) fn new(kebab: &str) -> Self {
        Self {
            kebab: kebab.to_owned(),
            snake: snake(kebab).into_owned(),
        }
    }

    /// Both spellings are accepted everywhere.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.snake == name || self.kebab == name
    }
}

/// A WIT identifier in snake_case.
pub(crate) fn snake(kebab: &str) -> Cow<'_, str> {
    if kebab.contains('-') {
        kebab.replace('-', "_").into()
    } else {
        kebab.into()
    }
}

impl WitType {
    /// The bounds of an integer type.
    pub(crate) fn range(&self) -> Option<RangeInclusive<i128>> {
        Some(match self {
            Self::S8 => i8::MIN.into()..=i8::MAX.into(),
            Self::U8 => u8::MIN.into()..=u8::MAX.into(),
            Self::S16 => i16::MIN.into()..=i16::MAX.into(),
            Self::U16 => u16::MIN.into()..=u16::MAX.into(),
            Self::S32 => i32::MIN.into()..=i32::MAX.into(),
            Self::U32 => u32::MIN.into()..=u32::MAX.into(),
            Self::S64 => i64::MIN.into()..=i64::MAX.into(),
            Self::U64 => u64::MIN.into()..=u64::MAX.into(),
            _ => return None,
        })
    }

    pub(crate) fn reflect(ty: &Type, budget: &mut TypeBudget) -> Result<Self, TypeError> {
        budget.spend(0)?;
        Ok(match ty {
            Type::Bool => Self::Bool,
            Type::S8 => Self::S8,
            Type::U8 => Self::U8,
            Type::S16 => Self::S16,
            Type::U16 => Self::U16,
            Type::S32 => Self::S32,
            Type::U32 => Self::U32,
            Type::S64 => Self::S64,
            Type::U64 => Self::U64,
            Type::Float32 => Self::F32,
            Type::Float64 => Self::F64,
            Type::Char => Self::Char,
            Type::String => Self::String,
            Type::List(list) => match Self::reflect(&list.ty(), budget)? {
                Self::U8 => Self::Bytes,
                element => Self::List(Box::new(element)),
            },
            Type::Option(option) => Self::Option(Box::new(Self::reflect(&option.ty(), budget)?)),
            Type::Tuple(tuple) => Self::Tuple(
                tuple
                    .types()
                    .map(|ty| Self::reflect(&ty, budget))
                    .collect::<Result<_, _>>()?,
            ),
            Type::Record(record) => Self::record(
                record
                    .fields()
                    .map(|field| {
                        budget.spend(field.name.len())?;
                        Ok(Field {
                            name: Name::new(field.name),
                            ty: Self::reflect(&field.ty, budget)?,
                        })
                    })
                    .collect::<Result<_, _>>()?,
            ),
            Type::Variant(variant) => Self::Variant(
                variant
                    .cases()
                    .map(|case| {
                        budget.spend(case.name.len())?;
                        let ty = case.ty.map(|ty| Self::reflect(&ty, budget)).transpose()?;
                        Ok(Case {
                            name: Name::new(case.name),
                            ty,
                        })
                    })
                    .collect::<Result<_, _>>()?,
            ),
            Type::Enum(cases) => Self::Enum(names(cases.names(), budget)?.into_iter().collect()),
            Type::Flags(flags) => Self::Flags(names(flags.names(), budget)?),
            Type::Result(result) => Self::Result(
                result
                    .ok()
                    .map(|ty| Self::reflect(&ty, budget).map(Box::new))
                    .transpose()?,
                result
                    .err()
                    .map(|ty| Self::reflect(&ty, budget).map(Box::new))
                    .transpose()?,
            ),
            Type::FixedLengthList(_) => return Err(TypeError::NotJson("a list of a fixed length")),
            Type::Map(_) => return Err(TypeError::NotJson("map")),
            Type::Own(_) | Type::Borrow(_) => return Err(TypeError::NotJson("a resource handle")),
            Type::Future(_) => return Err(TypeError::NotJson("future")),
            Type::Stream(_) => return Err(TypeError::NotJson("stream")),
            Type::ErrorContext => return Err(TypeError::NotJson("error-context")),
        })
    }

    /// True if it, or a type within it, is one of these.
    pub(crate) fn holds(&self, is: fn(&Self) -> bool) -> bool {
        let within = |ty: &Option<Box<Self>>| ty.as_deref().is_some_and(|ty| ty.holds(is));
        is(self)
            || match self {
                Self::List(inner) | Self::Option(inner) => inner.holds(is),
                Self::Tuple(types) => types.iter().any(|ty| ty.holds(is)),
                Self::Record(fields) => fields.iter().any(|field| field.ty.holds(is)),
                Self::Variant(cases) => cases
                    .iter()
                    .filter_map(|case| case.ty.as_ref())
                    .any(|ty| ty.holds(is)),
                Self::Result(ok, err) => within(ok) || within(err),
                Self::Bool
                | Self::S8
                | Self::U8
                | Self::S16
                | Self::U16
                | Self::S32
                | Self::U32
                | Self::S64
                | Self::U64
                | Self::F32
                | Self::F64
                | Self::Char
                | Self::String
                | Self::Bytes
                | Self::Json
                | Self::Enum(_)
                | Self::Flags(_) => false,
            }
    }

    /// The record of these fields, which is [`WitType::Json`] where it has its shape.
    pub(crate) fn record(fields: Vec<Field>) -> Self {
        match fields.as_slice() {
            [
                Field {
                    name,
                    ty: Self::String,
                },
            ] if name.kebab == JSON_FIELD => Self::Json,
            _ => Self::Record(fields),
        }
    }
}

fn names<'a>(
    names: impl Iterator<Item = &'a str>,
    budget: &mut TypeBudget,
) -> Result<Vec<Name>, TypeError> {
    names
        .map(|name| {
            budget.spend(name.len())?;
            Ok(Name::new(name))
        })
        .collect()
}

impl Display for WitType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::S8 => f.write_str("s8"),
            Self::U8 => f.write_str("u8"),
            Self::S16 => f.write_str("s16"),
            Self::U16 => f.write_str("u16"),
            Self::S32 => f.write_str("s32"),
            Self::U32 => f.write_str("u32"),
            Self::S64 => f.write_str("s64"),
            Self::U64 => f.write_str("u64"),
            Self::F32 => f.write_str("f32"),
            Self::F64 => f.write_str("f64"),
            Self::Char => f.write_str("char"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("list<u8>"),
            Self::Json => f.write_str("json"),
            Self::List(ty) => write!(f, "list<{ty}>"),
            Self::Option(ty) => write!(f, "option<{ty}>"),
            Self::Tuple(types) => {
                f.write_str("tuple<")?;
                separated(f, types.iter(), |f, ty| write!(f, "{ty}"))?;
                f.write_str(">")
            }
            Self::Record(fields) => braced(f, "record", fields.iter(), |f, field| {
                write!(f, "{}: {}", field.name.snake, field.ty)
            }),
            Self::Variant(cases) => braced(f, "variant", cases.iter(), |f, case| match &case.ty {
                Some(ty) => write!(f, "{}({ty})", case.name.snake),
                None => f.write_str(&case.name.snake),
            }),
            Self::Enum(cases) => braced(f, "enum", cases.iter(), |f, case| {
                f.write_str(&case.name.snake)
            }),
            Self::Flags(names) => {
                braced(f, "flags", names.iter(), |f, name| f.write_str(&name.snake))
            }
            Self::Result(None, None) => f.write_str("result"),
            Self::Result(Some(ok), None) => write!(f, "result<{ok}>"),
            Self::Result(None, Some(err)) => write!(f, "result<_, {err}>"),
            Self::Result(Some(ok), Some(err)) => write!(f, "result<{ok}, {err}>"),
        }
    }
}

fn braced<T>(
    f: &mut Formatter<'_>,
    keyword: &str,
    items: impl Iterator<Item = T>,
    item: impl Fn(&mut Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    write!(f, "{keyword} {{ ")?;
    separated(f, items, item)?;
    f.write_str(" }")
}

fn separated<T>(
    f: &mut Formatter<'_>,
    items: impl Iterator<Item = T>,
    item: impl Fn(&mut Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (index, it) in items.enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        item(f, it)?;
    }
    Ok(())
}
