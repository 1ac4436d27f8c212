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

/// Why this can't be a WIT name.
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
