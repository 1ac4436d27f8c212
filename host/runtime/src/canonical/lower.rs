//! Arguments into a sandbox.

use std::mem::MaybeUninit;

use wasmtime::component::__internal::{InterfaceType, LowerContext};
use wasmtime::component::{Lower, Val};
use wasmtime::{Result, ValRaw, bail, format_err};

use super::MAX_FLAT_PARAMS;
use crate::from_json::BASE64;

/// All parameters, on the stack, or as the one pointer that stands for them there.
pub(super) fn params<T>(
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    vals: &[Val],
) -> Result<[ValRaw; MAX_FLAT_PARAMS]> {
    let mut flat = Flat::new();
    let fields = fields(cx, ty, vals.len())?;
    let abi = cx.types.canonical_abi(&ty).clone();
    if abi.flat_count(MAX_FLAT_PARAMS).is_some() {
        for (ty, val) in fields.into_iter().zip(vals) {
            push(cx, ty, val, &mut flat)?;
        }
    } else {
        let at = cx.realloc(0, 0, abi.align32, usize::try_from(abi.size32)?)?;
        store_fields(cx, &fields, vals.iter(), at)?;
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

/// Does the same with the number, truth value or character in a [`Val`], whichever it is.
macro_rules! scalar {
    ($val:expr, $value:ident => $done:expr, $($other:tt)*) => {
        match $val {
            Val::Bool($value) => $done,
            Val::S8($value) => $done,
            Val::U8($value) => $done,
            Val::S16($value) => $done,
            Val::U16($value) => $done,
            Val::S32($value) => $done,
            Val::U32($value) => $done,
            Val::S64($value) => $done,
            Val::U64($value) => $done,
            Val::Float32($value) => $done,
            Val::Float64($value) => $done,
            Val::Char($value) => $done,
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
    scalar!(val, value => flat.push(flattened(cx, ty, value)?),
        Val::String(text) if matches!(ty, InterfaceType::String) => {
            for value in flattened(cx, ty, text)? {
                flat.push(value)?;
            }
            Ok(())
        }
        Val::String(_) | Val::List(_) => {
            let (at, len) = list(cx, ty, val)?;
            flat.pointer(at)?;
            flat.pointer(len)
        }
        Val::Record(vals) => {
            let fields = fields(cx, ty, vals.len())?;
            for (ty, (_, val)) in fields.into_iter().zip(vals) {
                push(cx, ty, val, flat)?;
            }
            Ok(())
        }
        Val::Tuple(vals) | Val::FixedLengthList(vals) => {
            let fields = fields(cx, ty, vals.len())?;
            for (ty, val) in fields.into_iter().zip(vals) {
                push(cx, ty, val, flat)?;
            }
            Ok(())
        }
        Val::Flags(names) => {
            for word in words(cx, ty, names)? {
                flat.push(ValRaw::u32(word))?;
            }
            Ok(())
        }
        Val::Enum(_) | Val::Variant(..) | Val::Option(_) | Val::Result(_) => {
            let case = case(cx, ty, val)?;
            flat.push(ValRaw::u32(case.discriminant))?;
            let begin = flat.used;
            if let Some((ty, val)) = case.payload {
                push(cx, ty, val, flat)?;
            }
            // the other cases may be larger: what they have more is zero
            let all = cx.types.canonical_abi(&ty).flat_count(MAX_FLAT_PARAMS);
            let all = all.ok_or_else(|| format_err!("more core values than fit the stack"))?;
            while flat.used + 1 < begin + all {
                flat.push(ValRaw::u64(0))?;
            }
            Ok(())
        }
        _ => misfit(),
    )
}

fn store<T>(cx: &mut LowerContext<'_, T>, ty: InterfaceType, val: &Val, at: usize) -> Result<()> {
    scalar!(val, value => value.linear_lower_to_memory(cx, ty, at),
        Val::String(text) if matches!(ty, InterfaceType::String) => {
            text.linear_lower_to_memory(cx, ty, at)
        }
        Val::String(_) | Val::List(_) => {
            let (begin, len) = list(cx, ty, val)?;
            write(cx, at, &u32::try_from(begin)?.to_le_bytes())?;
            write(cx, at + 4, &u32::try_from(len)?.to_le_bytes())
        }
        Val::Record(vals) => {
            let fields = fields(cx, ty, vals.len())?;
            store_fields(cx, &fields, vals.iter().map(|(_, val)| val), at)
        }
        Val::Tuple(vals) | Val::FixedLengthList(vals) => {
            let fields = fields(cx, ty, vals.len())?;
            store_fields(cx, &fields, vals.iter(), at)
        }
        Val::Flags(names) => {
            let size = usize::try_from(cx.types.canonical_abi(&ty).size32)?;
            let words = words(cx, ty, names)?;
            let bytes = words.iter().flat_map(|word| word.to_le_bytes());
            write(cx, at, &bytes.take(size).collect::<Vec<u8>>())
        }
        Val::Enum(_) | Val::Variant(..) | Val::Option(_) | Val::Result(_) => {
            let case = case(cx, ty, val)?;
            let discriminant = case.discriminant.to_le_bytes();
            write(cx, at, discriminant.get(..case.size).unwrap_or_default())?;
            match case.payload {
                Some((ty, val)) => store(cx, ty, val, at + case.payload_at),
                None => Ok(()),
            }
        }
        _ => misfit(),
    )
}

fn store_fields<'a, T>(
    cx: &mut LowerContext<'_, T>,
    types: &[InterfaceType],
    vals: impl Iterator<Item = &'a Val>,
    mut at: usize,
) -> Result<()> {
    for (ty, val) in types.iter().zip(vals) {
        let field = cx.types.canonical_abi(ty).next_field32_size(&mut at);
        store(cx, *ty, val, field)?;
    }
    Ok(())
}

/// Where a list is, and how many elements it has.
fn list<T>(cx: &mut LowerContext<'_, T>, ty: InterfaceType, val: &Val) -> Result<(usize, usize)> {
    let InterfaceType::List(list) = ty else {
        return misfit();
    };
    let element = cx.types[list].element;
    match (element, val) {
        (InterfaceType::U8, Val::String(text)) => bytes(cx, text),
        (_, Val::List(vals)) => {
            let abi = cx.types.canonical_abi(&element);
            let (size, align) = (usize::try_from(abi.size32)?, abi.align32);
            let all = size.checked_mul(vals.len());
            let all = all.ok_or_else(|| format_err!("a list is larger than memory"))?;
            let begin = cx.realloc(0, 0, align, all)?;
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
    let begin = cx.realloc(0, 0, 1, len)?;
    let into = cx.as_slice_mut().get_mut(begin..begin + len);
    match BASE64.decode_slice(text, into.unwrap_or_default()) {
        Ok(written) if written == len => Ok((begin, len)),
        _ => misfit(),
    }
}

/// The types of what a record, a tuple or a list of a fixed length holds.
fn fields<T>(
    cx: &LowerContext<'_, T>,
    ty: InterfaceType,
    len: usize,
) -> Result<Vec<InterfaceType>> {
    let types: Vec<InterfaceType> = match ty {
        InterfaceType::Record(ty) => cx.types[ty].fields.iter().map(|field| field.ty).collect(),
        InterfaceType::Tuple(ty) => cx.types[ty].types.to_vec(),
        InterfaceType::FixedLengthList(ty) => vec![cx.types[ty].element; len],
        _ => return misfit(),
    };
    if types.len() == len {
        Ok(types)
    } else {
        misfit()
    }
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

/// Flags as bits, in as many words as their type has.
fn words<T>(cx: &LowerContext<'_, T>, ty: InterfaceType, names: &[String]) -> Result<Vec<u32>> {
    let InterfaceType::Flags(flags) = ty else {
        return misfit();
    };
    let mut words = vec![0; cx.types[flags].names.len().div_ceil(32)];
    for name in names {
        let bit = cx.types[flags].names.get_index_of(name);
        let bit = bit.ok_or_else(|| format_err!("no flag is named {name}"))?;
        if let Some(word) = words.get_mut(bit / 32) {
            *word |= 1 << (bit % 32);
        }
    }
    Ok(words)
}

fn write<T>(cx: &mut LowerContext<'_, T>, at: usize, bytes: &[u8]) -> Result<()> {
    let memory = cx
        .as_slice_mut()
        .get_mut(at..at.saturating_add(bytes.len()));
    let memory = memory.ok_or_else(|| format_err!("a value is beyond the end of memory"))?;
    memory.copy_from_slice(bytes);
    Ok(())
}

/// What wasmtime makes of a value of a type that it knows.
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
