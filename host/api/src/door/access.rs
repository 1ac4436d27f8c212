//! Tokens, and the one table of what their scopes open. Pure.

use std::sync::Arc;

use petiole_modules::Digest;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// A kind of request that a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Pushing modules, which makes them active.
    Upload,
    /// Modules, tasks, results and metrics.
    Read,
    /// Sending tasks, and reading their results.
    Send,
    /// Everything.
    Admin,
}

/// An entry of `[[http.tokens]]`. The token itself is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// As the audit names it.
    pub name: String,
    /// Of the token.
    pub sha256: Digest,
    /// The kinds of request that it opens.
    pub scopes: Vec<Scope>,
}

impl Scope {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Upload, Self::Read, Self::Send, Self::Admin];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Read => "read",
            Self::Send => "send",
            Self::Admin => "admin",
        }
    }
}

/// By method and path, the scopes of which a request needs one; `admin` opens everything. What is not
/// listed, `admin` alone opens.
const ACCESS: &[(&str, &str, &[Scope])] = &[
    ("POST", "/v1/modules/{name}", &[Scope::Upload]),
    ("GET", "/v1/modules", &[Scope::Read]),
    ("GET", "/v1/modules/{name}", &[Scope::Read]),
    ("GET", "/v1/tasks", &[Scope::Read]),
    ("GET", "/v1/tasks/{name}", &[Scope::Read]),
    ("GET", "/v1/results/{id}", &[Scope::Read, Scope::Send]),
    ("GET", "/metrics", &[Scope::Read]),
    ("POST", "/v1/send", &[Scope::Send]),
];

/// The scopes of which this request needs one. HEAD is what GET is.
pub(crate) fn needed(method: &str, path: &str) -> Vec<Scope> {
    let method = if method == "HEAD" { "GET" } else { method };
    let listed = ACCESS.iter().find(|(m, p, _)| *m == method && *p == path);
    let scopes = listed.map_or(&[][..], |(_, _, scopes)| scopes);
    scopes.iter().copied().chain([Scope::Admin]).collect()
}

/// A token that the API takes. What it is, only its owner knows.
///
/// A plain SHA-256 is kept: tokens that `petiole token` makes have 244 random bits, so that there is nothing to
/// guess, and a slow hash would only slow requests down.
#[derive(Debug)]
pub(crate) struct Token {
    /// As the audit names it.
    pub(crate) name: Arc<str>,
    sha256: Digest,
    pub(crate) scopes: Vec<Scope>,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens(Vec<Arc<Token>>);

impl Tokens {
    /// Those that are listed, and the one of the setting `http.token`, which opens everything.
    pub(crate) fn new(listed: &[TokenEntry], one: Option<&str>) -> Self {
        let listed = listed.iter().map(|entry| Token {
            name: entry.name.as_str().into(),
            sha256: entry.sha256,
            scopes: entry.scopes.clone(),
        });
        let one = one.map(|token| Token {
            name: "http.token".into(),
            sha256: Digest::of(token.as_bytes()),
            scopes: vec![Scope::Admin],
        });
        Self(listed.chain(one).map(Arc::new).collect())
    }

    /// The token of this text. All are compared, each in constant time: how long it takes says nothing of
    /// which one is right, or how much of it.
    pub(crate) fn find(&self, given: &[u8]) -> Option<&Arc<Token>> {
        let given = Digest::of(given);
        self.0.iter().fold(None, |found, token| {
            let same: bool = token.sha256.as_bytes().ct_eq(given.as_bytes()).into();
            if same { Some(token) } else { found }
        })
    }
}

impl Token {
    /// True with one of these scopes.
    pub(crate) fn opens(&self, needed: &[Scope]) -> bool {
        self.scopes.iter().any(|scope| needed.contains(scope))
    }
}

/// A new token: 244 random bits from the system's generator.
pub fn generate_token() -> String {
    let part = || uuid::Uuid::new_v4().simple().to_string();
    format!("{}{}", part(), part())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn entry(name: &str, token: &str, scopes: &[Scope]) -> TokenEntry {
        TokenEntry {
            name: name.to_owned(),
            sha256: Digest::of(token.as_bytes()),
            scopes: scopes.to_vec(),
        }
    }

    #[test]
    fn a_token_is_found_by_what_it_is() {
        let listed = [
            entry("ci", "one", &[Scope::Upload]),
            entry("app", "two", &[Scope::Send]),
        ];
        let tokens = Tokens::new(&listed, Some("three"));
        for (given, name) in [("one", "ci"), ("two", "app"), ("three", "http.token")] {
            assert_eq!(&*tokens.find(given.as_bytes()).unwrap().name, name);
        }
        let hash = listed[0].sha256.to_string();
        for given in ["", "on", "onetwo", &hash] {
            assert!(tokens.find(given.as_bytes()).is_none(), "{given}");
        }
        assert!(Tokens::default().find(b"").is_none());
    }

    /// The table of docs/uploads.md.
    #[test]
    fn what_each_scope_opens() {
        let all = [
            ("POST", "/v1/modules/{name}"),
            ("GET", "/v1/modules"),
            ("GET", "/v1/modules/{name}"),
            ("HEAD", "/v1/modules/{name}"),
            ("GET", "/v1/tasks"),
            ("GET", "/v1/tasks/{name}"),
            ("GET", "/v1/results/{id}"),
            ("GET", "/metrics"),
            ("POST", "/v1/send"),
            ("POST", "/v1/modules/{name}/activate"),
            ("POST", "/v1/modules/{name}/rollback"),
            ("DELETE", "/v1/modules/{name}"),
            ("GET", "/v1/what/may/come"),
        ];
        let opened = |scope: Scope| -> Vec<usize> {
            let token = Token {
                name: "".into(),
                sha256: Digest::of(b""),
                scopes: vec![scope],
            };
            (0..all.len())
                .filter(|n| token.opens(&needed(all[*n].0, all[*n].1)))
                .collect()
        };
        assert_eq!(opened(Scope::Upload), [0]);
        assert_eq!(opened(Scope::Read), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(opened(Scope::Send), [6, 8]);
        assert_eq!(opened(Scope::Admin), (0..all.len()).collect::<Vec<_>>());
    }
}
