//! The canonical ABI for functions whose types hold lists. The bytes of a `list<u8>` are copied as a whole, and what a result
//! takes of the host's memory is counted in full.
//!
//! wasmtime's dynamic calls make a [`Val`] of 40 bytes of each `u8`, and count names and small values for a part of what they
//! take; its typed ones copy, but want the function's type when they are compiled. Here a typed call has parameters and results of any type: [`Params`], [`OnStack`] and
//! [`InMemory`] have a layout that every function fits, and are lowered and lifted by the types that the component
//! names. A `list<u8>` is a [`Val::String`] of its base64, as JSON has it; all else is as in wasmtime's dynamic calls.
//! Decision 13 says why.

#![expect(
    unsafe_code,
    reason = "wasmtime's traits for types of a layout of their own are unsafe to implement"
)]

mod lift;
pub(super) mod lower;

use std::mem::MaybeUninit;

use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext,
};
use wasmtime::component::{ComponentNamedList, ComponentType, Func, Lift, Lower, Val};
use wasmtime::{Result, Store, ValRaw, bail, format_err};

/// Calls a function, with its arguments in their order; the result is none for a function without one.
///
/// # Errors
/// As [`Func::call_async`].
pub(crate) async fn call<T: Send + 'static>(
    func: Func,
    store: &mut Store<T>,
    arguments: &[Val],
) -> Result<Option<Val>> {
    let params = Params(arguments);
    if let Ok(func) = func.typed::<Params<'_>, InMemory>(&mut *store) {
        return func.call_async(store, params).await.map(|result| result.0);
    }
    if let Ok(func) = func.typed::<Params<'_>, OnStack>(&mut *store) {
        return func.call_async(store, params).await.map(|result| result.0);
    }
    let func = func.typed::<Params<'_>, ()>(&mut *store)?;
    func.call_async(store, params).await?;
    Ok(None)
}

/// Any parameters.
struct Params<'a>(&'a [Val]);

// SAFETY: `Lower` is an array of `ValRaw`, of as many as any call has on the stack; a call reads those that its function
// has. What is written into them is made by the types that the component names, which wasmtime passes on: nothing is
// taken for granted of the values, and every access of memory is checked.
unsafe impl ComponentType for Params<'_> {
    type Lower = [ValRaw; lower::MAX_FLAT_PARAMS];

    /// Never used: parameters that are in memory are put there by [`lower::params`].
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::SCALAR4;

    fn typecheck(ty: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        match ty {
            InterfaceType::Tuple(_) => Ok(()),
            _ => bail!("parameters are a tuple"),
        }
    }
}

// SAFETY: as above.
unsafe impl ComponentNamedList for Params<'_> {}

// SAFETY: all of `dst` is written.
unsafe impl Lower for Params<'_> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        dst.write(lower::params(cx, ty, self.0)?);
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: usize,
    ) -> Result<()> {
        bail!("parameters are lowered to the stack")
    }
}

/// A result that is one core value.
struct OnStack(Option<Val>);

// SAFETY: `Lower` is an array of the one `ValRaw` that such a result is.
unsafe impl ComponentType for OnStack {
    type Lower = [ValRaw; 1];

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::SCALAR4;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        match types.types.canonical_abi(ty).flat_count(1) {
            Some(1) => Ok(()),
            _ => bail!("the result is not one core value"),
        }
    }
}

// SAFETY: as above.
unsafe impl ComponentNamedList for OnStack {}

// SAFETY: what is read is what `Lower` holds.
unsafe impl Lift for OnStack {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        src: &Self::Lower,
    ) -> Result<Self> {
        lift::from_stack(cx, ty, src).map(|results| Self(only(results)))
    }

    fn linear_lift_from_memory(
        _: &mut LiftContext<'_>,
        _: InterfaceType,
        _: &[u8],
    ) -> Result<Self> {
        bail!("a result of one core value is on the stack")
    }
}

/// A result that is in memory.
struct InMemory(Option<Val>);

// SAFETY: `Lower` is an array of `ValRaw`, of more than a call returns on the stack, so that wasmtime reads a pointer.
// Its length is checked where it is read.
unsafe impl ComponentType for InMemory {
    type Lower = [ValRaw; 2];

    /// Of one byte, of which wasmtime passes on where the result begins.
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo {
        size32: 1,
        align32: 1,
        size64: 1,
        align64: 1,
        flat_count: Some(2),
    };

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        match types.types.canonical_abi(ty).flat_count(1) {
            None => Ok(()),
            Some(_) => bail!("the result is not in memory"),
        }
    }
}

// SAFETY: as above.
unsafe impl ComponentNamedList for InMemory {}

// SAFETY: what is read is a part of memory that is checked to be there.
unsafe impl Lift for InMemory {
    fn linear_lift_from_flat(
        _: &mut LiftContext<'_>,
        _: InterfaceType,
        _: &Self::Lower,
    ) -> Result<Self> {
        bail!("a result of several core values is in memory")
    }

    /// `bytes`: the result's first, a part of memory.
    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        bytes: &[u8],
    ) -> Result<Self> {
        let begin = bytes.as_ptr().addr();
        let at = begin.checked_sub(cx.memory().as_ptr().addr());
        let at = at.ok_or_else(|| format_err!("the result is not in memory"))?;
        lift::from_memory(cx, ty, at).map(|results| Self(only(results)))
    }
}

/// The one of a function's results.
fn only(results: Val) -> Option<Val> {
    match results {
        Val::Tuple(mut results) => results.pop(),
        _ => None,
    }
}
