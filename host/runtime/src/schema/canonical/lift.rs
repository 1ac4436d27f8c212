//! Results out of a sandbox. Each value costs fuel before it is made, as much as the memory that it takes: see
//! [`Store::set_hostcall_fuel`](wasmtime::Store::set_hostcall_fuel).

use std::slice;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wasmtime::component::__internal::wasmtime_environ::component::{TypeFlags, VariantInfo};
use wasmtime::component::__internal::{InterfaceType, LiftContext};
use wasmtime::component::{Lift, Val};
use wasmtime::{Result, ValRaw, bail, format_err};

use crate::schema::json_texts::{text_memory, values_memory};

/// The value of this type that begins at `at` in memory.
pub(super) fn from_memory(cx: &mut LiftContext<'_>, ty: InterfaceType, at: usize) -> Result<Val> {
    let abi = cx.types.canonical_abi(&ty);
    let (size, align) = (abi.size32, abi.align32);
    let bytes = part(cx.memory(), at, usize::try_from(size)?, align)?;
    load(cx, ty, bytes)
}

/// The value of this type that these core values are.
pub(super) fn from_stack(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    values: &[ValRaw],
) -> Result<Val> {
    flat(cx, ty, &mut values.iter())
}

fn load(cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Result<Val> {
    use InterfaceType as Type;
    let types = cx.types;
    Ok(match ty {
        Type::Bool => Val::Bool(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::S8 => Val::S8(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::U8 => Val::U8(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::S16 => Val::S16(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::U16 => Val::U16(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::S32 => Val::S32(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::U32 => Val::U32(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::S64 => Val::S64(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::U64 => Val::U64(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::Float32 => Val::Float32(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::Float64 => Val::Float64(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::Char => Val::Char(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::String => Val::String(string(cx, bytes)?),
        Type::List(ty) => {
            let pair = (word(bytes, 0)?, word(bytes, 4)?);
            list(cx, types[ty].element, pair)?
        }
        Type::Record(ty) => {
            let fields = &types[ty].fields;
            let mut at = 0;
            let mut vals = room(cx, fields.len())?;
            for field in fields {
                let name = name(cx, &field.name)?;
                vals.push((name, load_field(cx, field.ty, bytes, &mut at)?));
            }
            Val::Record(vals)
        }
        Type::Tuple(ty) => {
            let fields = &types[ty].types;
            let mut at = 0;
            let mut vals = room(cx, fields.len())?;
            for ty in fields {
                vals.push(load_field(cx, *ty, bytes, &mut at)?);
            }
            Val::Tuple(vals)
        }
        Type::Flags(ty) => Val::Flags(flags(cx, &types[ty], number(bytes))?),
        Type::Variant(_) | Type::Enum(_) | Type::Option(_) | Type::Result(_) => {
            let info = info(cx, ty)?;
            let size = usize::try_from(u32::from(info.size))?;
            let index = number(bytes.get(..size).unwrap_or_default());
            let Case { name, payload } = case(cx, ty, index)?;
            let mut at = usize::try_from(info.payload_offset32)?;
            let payload = payload.map(|ty| {
                cx.consume_fuel(values_memory::<Val>(1))?;
                load_field(cx, ty, bytes, &mut at)
            });
            of_case(ty, index, name, payload.transpose()?)
        }
        _ => return unknown(),
    })
}

fn load_field(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    bytes: &[u8],
    at: &mut usize,
) -> Result<Val> {
    let abi = cx.types.canonical_abi(&ty);
    let (begin, size) = (abi.next_field32_size(at), usize::try_from(abi.size32)?);
    load(cx, ty, part(bytes, begin, size, 1)?)
}

/// A result on the stack is one core value, so that neither strings nor lists are there, and few values.
fn flat(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    values: &mut slice::Iter<'_, ValRaw>,
) -> Result<Val> {
    use InterfaceType as Type;
    let types = cx.types;
    let mut next = || {
        values
            .next()
            .ok_or_else(|| format_err!("a core value is missing"))
    };
    Ok(match ty {
        Type::Bool => Val::Bool(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::S8 => Val::S8(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::U8 => Val::U8(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::S16 => Val::S16(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::U16 => Val::U16(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::S32 => Val::S32(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::U32 => Val::U32(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::S64 => Val::S64(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::U64 => Val::U64(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::Float32 => Val::Float32(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::Float64 => Val::Float64(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::Char => Val::Char(Lift::linear_lift_from_flat(cx, ty, next()?)?),
        Type::Record(ty) => {
            let fields = types[ty].fields.iter();
            let vals = fields.map(|field| Ok((field.name.clone(), flat(cx, field.ty, values)?)));
            Val::Record(vals.collect::<Result<_>>()?)
        }
        Type::Tuple(ty) => {
            let fields = types[ty].types.iter();
            let vals = fields.map(|ty| flat(cx, *ty, values));
            Val::Tuple(vals.collect::<Result<_>>()?)
        }
        Type::Flags(ty) => Val::Flags(flags(cx, &types[ty], next()?.get_u32())?),
        Type::Variant(_) | Type::Enum(_) | Type::Option(_) | Type::Result(_) => {
            let index = next()?.get_u32();
            let Case { name, payload } = case(cx, ty, index)?;
            let payload = payload.map(|ty| flat(cx, ty, values));
            of_case(ty, index, name, payload.transpose()?)
        }
        _ => return unknown(),
    })
}

fn list(
    cx: &mut LiftContext<'_>,
    element: InterfaceType,
    (at, len): (usize, usize),
) -> Result<Val> {
    let abi = cx.types.canonical_abi(&element);
    let (size, align) = (usize::try_from(abi.size32)?, abi.align32);
    let all = size.saturating_mul(len);
    let bytes = part(cx.memory(), at, all, align)?;
    if matches!(element, InterfaceType::U8) {
        let text = base64::encoded_len(len, true).unwrap_or(usize::MAX);
        cx.consume_fuel(text_memory(text))?;
        return Ok(Val::String(STANDARD.encode(bytes)));
    }
    let mut vals = room(cx, len)?;
    for index in 0..len {
        vals.push(load(cx, element, part(bytes, index * size, size, 1)?)?);
    }
    Ok(Val::List(vals))
}

/// A text, which wasmtime counts as the guest has it: UTF-16 may take half as much again here.
fn string(cx: &mut LiftContext<'_>, bytes: &[u8]) -> Result<String> {
    let text: String = Lift::linear_lift_from_memory(cx, InterfaceType::String, bytes)?;
    cx.consume_fuel(text_memory(text.capacity()))?;
    Ok(text)
}

/// Room for `len` values.
fn room<T>(cx: &mut LiftContext<'_>, len: usize) -> Result<Vec<T>> {
    cx.consume_fuel(values_memory::<T>(len))?;
    Ok(Vec::with_capacity(len))
}

/// A name as the component has it.
fn name(cx: &mut LiftContext<'_>, name: &str) -> Result<String> {
    cx.consume_fuel(text_memory(name.len()))?;
    Ok(name.to_owned())
}

/// Of 32 at most (component model, Binary.md, `flags`).
fn flags(cx: &mut LiftContext<'_>, ty: &TypeFlags, bits: u32) -> Result<Vec<String>> {
    let names = (0..u32::BITS).zip(&ty.names);
    let set = names.filter(|(bit, _)| bits >> bit & 1 == 1);
    let set: Vec<&String> = set.map(|(_, name)| name).collect();
    let mut flags = room(cx, set.len())?;
    for flag in set {
        flags.push(name(cx, flag)?);
    }
    Ok(flags)
}

/// Of four bytes at most.
fn number(bytes: &[u8]) -> u32 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// A case of a variant's type.
struct Case {
    name: String,
    payload: Option<InterfaceType>,
}

/// The case at `index`, which is the guest's.
fn case(cx: &mut LiftContext<'_>, ty: InterfaceType, index: u32) -> Result<Case> {
    let (types, at) = (cx.types, usize::try_from(index)?);
    let case = match ty {
        InterfaceType::Variant(ty) => {
            let case = types[ty].cases.get_index(at);
            case.map(|(name, payload)| (Some(name), *payload))
        }
        InterfaceType::Enum(ty) => {
            let names = &types[ty].names;
            (at < names.len()).then(|| (Some(&names[at]), None))
        }
        InterfaceType::Option(ty) => {
            let cases = [None, Some(types[ty].ty)];
            cases.get(at).map(|ty| (None, *ty))
        }
        InterfaceType::Result(ty) => {
            let cases = [types[ty].ok, types[ty].err];
            cases.get(at).map(|ty| (None, *ty))
        }
        _ => return unknown(),
    };
    let (case, payload) = case.ok_or_else(|| format_err!("there is no case {index}"))?;
    let name = case.map_or_else(|| Ok(String::new()), |case| name(cx, case))?;
    Ok(Case { name, payload })
}

fn of_case(ty: InterfaceType, index: u32, name: String, payload: Option<Val>) -> Val {
    let payload = payload.map(Box::new);
    match ty {
        InterfaceType::Option(_) => Val::Option(payload),
        InterfaceType::Result(_) if index == 0 => Val::Result(Ok(payload)),
        InterfaceType::Result(_) => Val::Result(Err(payload)),
        InterfaceType::Enum(_) => Val::Enum(name),
        _ => Val::Variant(name, payload),
    }
}

fn info<'a>(cx: &LiftContext<'a>, ty: InterfaceType) -> Result<&'a VariantInfo> {
    let types = cx.types;
    Ok(match ty {
        InterfaceType::Variant(ty) => &types[ty].info,
        InterfaceType::Enum(ty) => &types[ty].info,
        InterfaceType::Option(ty) => &types[ty].info,
        InterfaceType::Result(ty) => &types[ty].info,
        _ => return unknown(),
    })
}

fn part(bytes: &[u8], at: usize, size: usize, align: u32) -> Result<&[u8]> {
    if !at.is_multiple_of(usize::try_from(align)?) {
        bail!("a pointer is not aligned");
    }
    let part = bytes.get(at..at.saturating_add(size));
    part.ok_or_else(|| format_err!("a pointer is out of bounds of memory"))
}

fn word(bytes: &[u8], at: usize) -> Result<usize> {
    let word = part(bytes, at, 4, 1)?.first_chunk().copied();
    Ok(usize::try_from(u32::from_le_bytes(
        word.unwrap_or_default(),
    ))?)
}

/// Can't be: such a function is no task.
fn unknown<T>() -> Result<T> {
    bail!("a result is of a type that has no form in JSON")
}
