//! Files that hold secrets.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// ssh's rule for private keys: one's own file must not be open to others. A file of another user (root's, in a
/// container) is theirs to protect.
///
/// # Errors
/// When others may open it; the text names the file and says what to do.
pub fn check_private(path: &Path, meta: &Metadata) -> Result<(), String> {
    let open_to_others = meta.mode() & 0o077 != 0;
    if open_to_others && meta.uid() == rustix::process::geteuid().as_raw() {
        return Err(format!(
            "{} holds a secret, and other users may open it (mode {:03o}): chmod 600 {}",
            path.display(),
            meta.mode() & 0o777,
            path.display()
        ));
    }
    Ok(())
}
