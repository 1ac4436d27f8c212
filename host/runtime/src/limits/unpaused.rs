//! Work that can't be interrupted: values are read out of sandboxes, and made JSON of, in one go, and memory is
//! written and given back.

use tokio::runtime::{Handle, RuntimeFlavor};
use wasmtime::component::Val;

use crate::schema::wit_type::WitType;

/// Text of so many bytes takes long.
const LONG: usize = 64 * 1024;

/// Runs what may take long. A tokio runtime of several threads gives this thread's other tasks to another
/// one meanwhile: they would wait for some 100 ms where a guest returns a list of millions.
pub fn unpaused<T>(long: bool, run: impl FnOnce() -> T) -> T {
    let threads = || Handle::try_current().map(|handle| handle.runtime_flavor());
    if long && matches!(threads(), Ok(RuntimeFlavor::MultiThread)) {
        tokio::task::block_in_place(run)
    } else {
        run()
    }
}

/// Whether a value of this type may take long to read and to write: each element of a list takes some 50 ns.
pub(crate) fn holds_list(ty: &WitType) -> bool {
    ty.holds(|ty| matches!(ty, WitType::Bytes | WitType::List(_)))
}

/// Whether it takes long to read so many bytes of text.
pub fn is_long(bytes: usize) -> bool {
    bytes > LONG
}

/// Whether a value without lists holds a long text.
pub(crate) fn holds_long_text(val: &Val) -> bool {
    let holds = |val: &Option<Box<Val>>| val.as_deref().is_some_and(holds_long_text);
    match val {
        Val::String(text) => is_long(text.len()),
        Val::Tuple(vals) => vals.iter().any(holds_long_text),
        Val::Record(fields) => fields.iter().any(|(_, val)| holds_long_text(val)),
        Val::Variant(_, val) | Val::Option(val) | Val::Result(Ok(val) | Err(val)) => holds(val),
        _ => false,
    }
}
