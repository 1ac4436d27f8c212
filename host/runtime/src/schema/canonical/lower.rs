//! Arguments into a sandbox.

use std::mem::MaybeUninit;

use petiole_permits::Limit;
use wasmtime::component::__internal::wasmtime_environ::component::TypeFlags;
use wasmtime::component::__internal::{InterfaceType, LowerContext};
use wasmtime::component::{Lower, Val};
use wasmtime::{Result, ValRaw, bail, format_err};

use crate::limits::exceeded::LimitExceeded;
use crate::schema::from_json::BASE64;

/// Core values that parameters are passed in; where a function has more, they are in memory (`MAX_FLAT_PARAMS`
/// of the canonical ABI).
pub(in crate::schema) const MAX_FLAT_PARAMS: usize = 16;

/// All parameters, on the stack, or as the one pointer that stands for them there.
pub(super) fn params<T>(
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    vals: &[Val],
) -> Result<[ValRaw; MAX_FLAT_PARAMS]> {
    let InterfaceType::Tuple(tuple) = ty else {
        return misfit();
    };
    let mut flat = Flat::new();
    let types = &cx.types[tuple].types;
    let abi = cx.types.canonical_abi(&ty);
    if abi.flat_count(MAX_FLAT_PARAMS).is_some() {
        for (ty, val) in pairs(types.iter(), vals.iter())? {
            push(cx, *ty, val, &mut flat)?;
        }
    } else {
        let at = realloc(cx, abi.align32, usize::try_from(abi.size32)?)?;
        store_fields(cx, pairs(types.iter(), vals.iter())?, at)?;
        flat.pointer(at)?;
    }
    Ok(flat.slots)
}

/// Core values on their way to the stack.
struct Flat {
    slots: [ValRaw; MAX_FLAT_PARAMS],
    used: usize,
}

impl Flat {
    fn new() -> Self {
        Self {
            slots: [ValRaw::u64(0); MAX_FLAT_PARAMS],
            used: 0,
        }
    }

    fn push(&mut self, value: ValRaw) -> Result<()> {
        let slot = self.slots.get_mut(self.used);
        *slot.ok_or_else(|| format_err!("more core values than fit the stack"))? = value;
        self.used += 1;
        Ok(())
    }

    /// A pointer or a length.
    fn pointer(&mut self, at: usize) -> Result<()> {
        self.push(ValRaw::u32(u32::try_from(at)?))
    }
}

/// Does the same with the number, truth value or character in a [`Val`], whichever it is, if it is of its type.
macro_rules! scalar {
    ($ty:expr, $val:expr, $value:ident => $done:expr, $($other:tt)*) => {
        match ($ty, $val) {
            (InterfaceType::Bool, Val::Bool($value)) => $done,
            (InterfaceType::S8, Val::S8($value)) => $done,
            (InterfaceType::U8, Val::U8($value)) => $done,
            (InterfaceType::S16, Val::S16($value)) => $done,
            (InterfaceType::U16, Val::U16($value)) => $done,
            (InterfaceType::S32, Val::S32($value)) => $done,
            (InterfaceType::U32, Val::U32($value)) => $done,
            (InterfaceType::S64, Val::S64($value)) => $done,
            (InterfaceType::U64, Val::U64($value)) => $done,
            (InterfaceType::Float32, Val::Float32($value)) => $done,
            (InterfaceType::Float64, Val::Float64($value)) => $done,
            (InterfaceType::Char, Val::Char($value)) => $done,
            $($other)*
        }
    };
}

fn push<T>(
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    val: &Val,
    flat: &mut Flat,
) -> Result<()> {
    let types = cx.types;
    scalar!(ty, val, value => flat.push(flattened(cx, ty, value)?),
        (InterfaceType::String, Val::String(text)) => {
            for value in flattened(cx, ty, text)? {
                flat.push(value)?;
            }
            Ok(())
        }
        (InterfaceType::List(list), val) => {
            let (at, len) = elements(cx, types[list].element, val)?;
            flat.pointer(at)?;
            flat.pointer(len)
        }
        (InterfaceType::Record(ty), Val::Record(vals)) => {
            let fields = types[ty].fields.iter().map(|field| &field.ty);
            for (ty, val) in pairs(fields, vals.iter().map(|(_, val)| val))? {
                push(cx, *ty, val, flat)?;
            }
            Ok(())
        }
        (InterfaceType::Tuple(ty), Val::Tuple(vals)) => {
            for (ty, val) in pairs(types[ty].types.iter(), vals.iter())? {
                push(cx, *ty, val, flat)?;
            }
            Ok(())
        }
        (InterfaceType::Flags(ty), Val::Flags(names)) => {
            flat.push(ValRaw::u32(bits(&types[ty], names)?))
        }
        (ty, val) => {
            let case = case(cx, ty, val)?;
            flat.push(ValRaw::u32(case.discriminant))?;
            let begin = flat.used;
            if let Some((ty, val)) = case.payload {
                push(cx, ty, val, flat)?;
            }
            // the other cases may be larger: what they have more is zero
            let all = types.canonical_abi(&ty).flat_count(MAX_FLAT_PARAMS);
            let all = all.ok_or_else(|| format_err!("more core values than fit the stack"))?;
            while flat.used + 1 < begin + all {
                flat.push(ValRaw::u64(0))?;
            }
            Ok(())
        }
    )
}

fn store<T>(cx: &mut LowerContext<'_, T>, ty: InterfaceType, val: &Val, at: usize) -> Result<()> {
    let types = cx.types;
    scalar!(ty, val, value => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::String, Val::String(text)) => text.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::List(list), val) => {
            let (begin, len) = elements(cx, types[list].element, val)?;
            write(cx, at, &u32::try_from(begin)?.to_le_bytes())?;
            write(cx, at + 4, &u32::try_from(len)?.to_le_bytes())
        }
        (InterfaceType::Record(ty), Val::Record(vals)) => {
            let fields = types[ty].fields.iter().map(|field| &field.ty);
            store_fields(cx, pairs(fields, vals.iter().map(|(_, val)| val))?, at)
        }
        (InterfaceType::Tuple(ty), Val::Tuple(vals)) => {
            store_fields(cx, pairs(types[ty].types.iter(), vals.iter())?, at)
        }
        (InterfaceType::Flags(flags), Val::Flags(names)) => {
            let size = usize::try_from(types.canonical_abi(&ty).size32)?;
            let bytes = bits(&types[flags], names)?.to_le_bytes();
            write(cx, at, bytes.get(..size).unwrap_or_default())
        }
        (ty, val) => {
            let case = case(cx, ty, val)?;
            let discriminant = case.discriminant.to_le_bytes();
            write(cx, at, discriminant.get(..case.size).unwrap_or_default())?;
            match case.payload {
                Some((ty, val)) => store(cx, ty, val, at + case.payload_at),
                None => Ok(()),
            }
        }
    )
}

fn store_fields<'a, T>(
    cx: &mut LowerContext<'_, T>,
    fields: impl Iterator<Item = (&'a InterfaceType, &'a Val)>,
    mut at: usize,
) -> Result<()> {
    for (ty, val) in fields {
        let field = cx.types.canonical_abi(ty).next_field32_size(&mut at);
        store(cx, *ty, val, field)?;
    }
    Ok(())
}

/// Each value with its type, as many as there are of the other.
fn pairs<'a>(
    types: impl ExactSizeIterator<Item = &'a InterfaceType>,
    vals: impl ExactSizeIterator<Item = &'a Val>,
) -> Result<impl Iterator<Item = (&'a InterfaceType, &'a Val)>> {
    if types.len() != vals.len() {
        return misfit();
    }
    Ok(types.zip(vals))
}

/// Place and length of a list of such elements.
fn elements<T>(
    cx: &mut LowerContext<'_, T>,
    element: InterfaceType,
    val: &Val,
) -> Result<(usize, usize)> {
    match (element, val) {
        (InterfaceType::U8, Val::String(text)) => bytes(cx, text),
        (_, Val::List(vals)) => {
            let abi = cx.types.canonical_abi(&element);
            let (size, align) = (usize::try_from(abi.size32)?, abi.align32);
            let begin = realloc(cx, align, size.saturating_mul(vals.len()))?;
            for (index, val) in vals.iter().enumerate() {
                store(cx, element, val, begin + index * size)?;
            }
            Ok((begin, vals.len()))
        }
        _ => misfit(),
    }
}

/// The bytes that base64 stands for, straight into the guest's memory.
fn bytes<T>(cx: &mut LowerContext<'_, T>, text: &str) -> Result<(usize, usize)> {
    use base64::Engine as _;
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    // four characters are three bytes
    let len = (text.len() - padding) * 3 / 4;
    let begin = realloc(cx, 1, len)?;
    let into = cx.as_slice_mut().get_mut(begin..begin + len);
    // exactly as long as what is written: the decoder asks for no room beyond that
    match BASE64.decode_slice(text, into.unwrap_or_default()) {
        Ok(written) if written == len => Ok((begin, len)),
        _ => misfit(),
    }
}

/// Of the guest's memory. Values may be larger there than in JSON, as cases of a variant with a large one are.
fn realloc<T>(cx: &mut LowerContext<'_, T>, align: u32, size: usize) -> Result<usize> {
    const MAX_MEMORY: usize = 1 << 32;
    if size >= MAX_MEMORY {
        bail!(LimitExceeded::new(Limit::Memory, MAX_MEMORY, size));
    }
    cx.realloc(0, 0, align, size)
}

/// A case of a variant.
struct Case<'a> {
    discriminant: u32,
    /// The discriminant's size in memory.
    size: usize,
    /// The payload's place after the case's.
    payload_at: usize,
    payload: Option<(InterfaceType, &'a Val)>,
}

fn case<'a, T>(cx: &LowerContext<'_, T>, ty: InterfaceType, val: &'a Val) -> Result<Case<'a>> {
    let types = cx.types;
    let (info, index, ty, val) = match (ty, val) {
        (InterfaceType::Variant(ty), Val::Variant(name, val)) => {
            let ty = &types[ty];
            let found = ty.cases.get_full(name);
            let (index, _, case) = found.ok_or_else(|| format_err!("no case is named {name}"))?;
            (&ty.info, index, *case, val.as_deref())
        }
        (InterfaceType::Enum(ty), Val::Enum(name)) => {
            let ty = &types[ty];
            let index = ty.names.get_index_of(name);
            let index = index.ok_or_else(|| format_err!("no case is named {name}"))?;
            (&ty.info, index, None, None)
        }
        (InterfaceType::Option(ty), Val::Option(val)) => {
            let ty = &types[ty];
            let some = val.as_deref();
            (&ty.info, usize::from(some.is_some()), Some(ty.ty), some)
        }
        (InterfaceType::Result(ty), Val::Result(Ok(val))) => {
            let ty = &types[ty];
            (&ty.info, 0, ty.ok, val.as_deref())
        }
        (InterfaceType::Result(ty), Val::Result(Err(val))) => {
            let ty = &types[ty];
            (&ty.info, 1, ty.err, val.as_deref())
        }
        _ => return misfit(),
    };
    Ok(Case {
        discriminant: u32::try_from(index)?,
        size: usize::try_from(u32::from(info.size))?,
        payload_at: usize::try_from(info.payload_offset32)?,
        payload: ty.zip(val),
    })
}

/// Flags as bits, of which 32 are the most that a type has.
fn bits(ty: &TypeFlags, set: &[String]) -> Result<u32> {
    set.iter().try_fold(0, |bits, name| {
        let bit = ty.names.get_index_of(name).map(u32::try_from);
        let flag = bit.and_then(|bit| 1_u32.checked_shl(bit.ok()?));
        let flag = flag.ok_or_else(|| format_err!("no flag is named {name}"))?;
        Ok(bits | flag)
    })
}

fn write<T>(cx: &mut LowerContext<'_, T>, at: usize, bytes: &[u8]) -> Result<()> {
    let memory = cx
        .as_slice_mut()
        .get_mut(at..at.saturating_add(bytes.len()));
    let memory = memory.ok_or_else(|| format_err!("a value is beyond the end of memory"))?;
    memory.copy_from_slice(bytes);
    Ok(())
}

/// A value of a type that wasmtime knows, as it makes it.
fn flattened<T, V: Lower>(
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    value: &V,
) -> Result<V::Lower> {
    let mut flat = MaybeUninit::uninit();
    value.linear_lower_to_flat(cx, ty, &mut flat)?;
    // SAFETY: it is written where lowering succeeds, as the trait demands.
    Ok(unsafe { flat.assume_init() })
}

/// Can't be: arguments are made by the types that the component names.
fn misfit<T>() -> Result<T> {
    bail!("an argument is not of its type")
}
