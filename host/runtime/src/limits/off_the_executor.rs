//! Work that can't be interrupted: values are read out of sandboxes, and made JSON of, in one go, and memory is
//! written and given back.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Bytes of text beyond which reading it takes long.
const LONG: usize = 64 * 1024;

/// Runs what may take long. A tokio runtime of several threads gives this thread's other tasks to another
/// one meanwhile: they would wait for some 100 ms where a guest returns a list of millions.
pub fn off_the_executor<T>(long: bool, run: impl FnOnce() -> T) -> T {
    let threads = || Handle::try_current().map(|handle| handle.runtime_flavor());
    if long && matches!(threads(), Ok(RuntimeFlavor::MultiThread)) {
        tokio::task::block_in_place(run)
    } else {
        run()
    }
}

/// True for text of a size that takes long to read.
pub fn is_long(bytes: usize) -> bool {
    bytes > LONG
}
