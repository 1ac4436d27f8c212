//! Names in WIT's kebab-case.

use heck::ToKebabCase;
use syn::{Error, Ident, Result};

/// The WIT name of a Rust name.
pub(crate) fn kebab(ident: &Ident) -> Result<String> {
    use syn::ext::IdentExt;
    let name = ident.unraw().to_string().to_kebab_case();
    match problem(&name) {
        None => Ok(name),
        Some(problem) => Err(Error::new(ident.span(), problem)),
    }
}

/// The reason that this can't be a WIT name; `None` if it can.
pub(crate) fn problem(name: &str) -> Option<String> {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    (!name.split('-').all(is_word)).then(|| {
        format!("`{name}` is no name in WIT: each word begins with an ASCII letter, then has letters and digits only")
    })
}

/// Functions of the C library below Rust's standard library whose names a task might plausibly have.
const C_FUNCTIONS: &[&str] = &[
    "abort",
    "abs",
    "accept",
    "access",
    "bind",
    "ceil",
    "chdir",
    "chmod",
    "close",
    "connect",
    "cos",
    "div",
    "environ",
    "exit",
    "exp",
    "floor",
    "free",
    "glob",
    "index",
    "ioctl",
    "link",
    "listen",
    "log",
    "malloc",
    "mkdir",
    "open",
    "poll",
    "pow",
    "printf",
    "puts",
    "raise",
    "rand",
    "random",
    "read",
    "recv",
    "remainder",
    "remove",
    "rename",
    "rewind",
    "rmdir",
    "round",
    "scanf",
    "select",
    "send",
    "shutdown",
    "signal",
    "sin",
    "sleep",
    "socket",
    "sqrt",
    "stat",
    "symlink",
    "tan",
    "time",
    "trunc",
    "truncate",
    "uname",
    "unlink",
    "write",
];

/// The name of a task, which becomes a symbol of the linker's: one of the C library's own would take its place, and
/// `TcpStream::connect` would call the task.
pub(crate) fn task(ident: &Ident) -> Result<String> {
    let name = kebab(ident)?;
    if C_FUNCTIONS.contains(&name.as_str()) {
        let problem = format!(
            "`{name}` is a function of the C library, which the task would take the place of: give it another name, such \
             as `{name}_task`, and the manifest can rename the task"
        );
        return Err(Error::new(ident.span(), problem));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::kebab;
    use quote::format_ident;

    #[test]
    fn rust_names_become_kebab_case() {
        for (rust, wit) in [
            ("run_task", "run-task"),
            ("RetryAt", "retry-at"),
            ("r#type", "type"),
            ("_unused", "unused"),
            ("sha256", "sha256"),
            ("HTTPServer", "http-server"),
        ] {
            let ident = rust
                .strip_prefix("r#")
                .map_or_else(|| format_ident!("{rust}"), |raw| format_ident!("r#{raw}"));
            assert_eq!(kebab(&ident).ok().as_deref(), Some(wit));
        }
        for rust in ["run_2d", "naïve"] {
            assert!(kebab(&format_ident!("{rust}")).is_err(), "{rust}");
        }
    }
}
