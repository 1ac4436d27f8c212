//! Results out of a sandbox. Each value that is made costs fuel: see
//! [`Store::set_hostcall_fuel`](wasmtime::Store::set_hostcall_fuel).

use std::slice;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wasmtime::component::__internal::wasmtime_environ::component::VariantInfo;
use wasmtime::component::__internal::{InterfaceType, LiftContext};
use wasmtime::component::{Lift, Val};
use wasmtime::{Result, ValRaw, bail, format_err};

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
    let types = cx.types.clone();
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
        Type::String => Val::String(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        Type::List(ty) => {
            let pair = (word(bytes, 0)?, word(bytes, 4)?);
            list(cx, types[ty].element, pair)?
        }
        Type::Record(ty) => {
            let fields = &types[ty].fields;
            cx.consume_fuel_array(fields.len(), size_of::<Val>())?;
            let mut at = 0;
            let mut vals = Vec::with_capacity(fields.len());
            for field in fields {
                cx.consume_fuel(field.name.len())?;
                let val = load_field(cx, field.ty, bytes, &mut at)?;
                vals.push((field.name.clone(), val));
            }
            Val::Record(vals)
        }
        Type::Tuple(ty) => {
            let fields = &types[ty].types;
            cx.consume_fuel_array(fields.len(), size_of::<Val>())?;
            let mut at = 0;
            let vals = fields.iter().map(|ty| load_field(cx, *ty, bytes, &mut at));
            Val::Tuple(vals.collect::<Result<_>>()?)
        }
        Type::FixedLengthList(ty) => {
            let (element, len) = (types[ty].element, usize::try_from(types[ty].size)?);
            cx.consume_fuel_array(len, size_of::<Val>())?;
            let mut at = 0;
            let vals = (0..len).map(|_| load_field(cx, element, bytes, &mut at));
            Val::FixedLengthList(vals.collect::<Result<_>>()?)
        }
        Type::Flags(ty) => {
            let words = bytes.chunks(4).map(|chunk| {
                let bytes = chunk.iter().rev();
                bytes.fold(0, |word, byte| word << 8 | u32::from(*byte))
            });
            let names = types[ty].names.iter().map(|name| &**name);
            Val::Flags(flags(cx, names, words)?)
        }
        Type::Variant(_) | Type::Enum(_) | Type::Option(_) | Type::Result(_) => {
            let info = info(cx, ty)?;
            let size = usize::try_from(u32::from(info.size))?;
            let bytes_of_case = bytes.get(..size).unwrap_or_default().iter().rev();
            let index = bytes_of_case.fold(0, |word, byte| word << 8 | u32::from(*byte));
            let Case { name, payload } = case(cx, ty, index)?;
            let mut at = usize::try_from(info.payload_offset32)?;
            let payload = payload.map(|ty| {
                cx.consume_fuel(size_of::<Val>())?;
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

/// A result on the stack is one core value, so that neither strings nor lists are there.
fn flat(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    values: &mut slice::Iter<'_, ValRaw>,
) -> Result<Val> {
    use InterfaceType as Type;
    let types = cx.types.clone();
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
        Type::FixedLengthList(ty) => {
            let vals = (0..types[ty].size).map(|_| flat(cx, types[ty].element, values));
            Val::FixedLengthList(vals.collect::<Result<_>>()?)
        }
        Type::Flags(ty) => {
            let words = [next()?.get_u32()].into_iter();
            let names = types[ty].names.iter().map(|name| &**name);
            Val::Flags(flags(cx, names, words)?)
        }
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
        cx.consume_fuel(base64::encoded_len(len, true).unwrap_or(usize::MAX))?;
        return Ok(Val::String(STANDARD.encode(bytes)));
    }
    cx.consume_fuel_array(len, size_of::<Val>())?;
    let vals = (0..len).map(|index| load(cx, element, part(bytes, index * size, size, 1)?));
    Ok(Val::List(vals.collect::<Result<_>>()?))
}

fn flags<'a>(
    cx: &mut LiftContext<'_>,
    names: impl Iterator<Item = &'a str>,
    words: impl Iterator<Item = u32>,
) -> Result<Vec<String>> {
    let bits = words.flat_map(|word| (0..32).map(move |bit| word >> bit & 1 == 1));
    let set = names
        .zip(bits)
        .filter_map(|(name, set)| set.then_some(name));
    set.map(|name| {
        cx.consume_fuel(name.len())?;
        Ok(name.to_owned())
    })
    .collect()
}

/// A case of a variant's type.
struct Case {
    name: String,
    payload: Option<InterfaceType>,
}

/// The case at `index`, which is the guest's.
fn case(cx: &mut LiftContext<'_>, ty: InterfaceType, index: u32) -> Result<Case> {
    let at = usize::try_from(index)?;
    let case = match ty {
        InterfaceType::Variant(ty) => {
            let case = cx.types[ty].cases.get_index(at);
            case.map(|(name, payload)| (name.clone(), *payload))
        }
        InterfaceType::Enum(ty) => {
            let names = &cx.types[ty].names;
            (at < names.len()).then(|| (names[at].clone(), None))
        }
        InterfaceType::Option(ty) => {
            let cases = [None, Some(cx.types[ty].ty)];
            cases.get(at).map(|ty| (String::new(), *ty))
        }
        InterfaceType::Result(ty) => {
            let cases = [cx.types[ty].ok, cx.types[ty].err];
            cases.get(at).map(|ty| (String::new(), *ty))
        }
        _ => return unknown(),
    };
    let (name, payload) = case.ok_or_else(|| format_err!("there is no case {index}"))?;
    cx.consume_fuel(name.len())?;
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

fn info(cx: &LiftContext<'_>, ty: InterfaceType) -> Result<VariantInfo> {
    Ok(match ty {
        InterfaceType::Variant(ty) => cx.types[ty].info.clone(),
        InterfaceType::Enum(ty) => cx.types[ty].info.clone(),
        InterfaceType::Option(ty) => cx.types[ty].info.clone(),
        InterfaceType::Result(ty) => cx.types[ty].info.clone(),
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
