//! A component that imports what is not granted to it, and who would have to do what about it: pure.

use std::fmt::{self, Display, Formatter, Write};

use petiole_modules::{Manifest, ModuleName};
use petiole_permits::Capabilities;
use petiole_runtime::RefusedImport;

use crate::catalog::grants::Grants;

/// A component imports what is not linked for it.
#[derive(Debug, thiserror::Error)]
#[error("module {module} imports what is not granted to it:{}", lines(imports))]
pub struct NotGranted {
    /// The module.
    pub module: ModuleName,
    /// All of them.
    pub imports: Vec<NotLinked>,
}

/// An import, and why it is not linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotLinked {
    /// The interface with its version.
    pub import: RefusedImport,
    /// The table for a grant of it, `[grants."shop.orders"]`.
    pub table: String,
    /// The obstacle.
    pub reason: Reason,
}

/// The reason why an import is not linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The manifest does not ask for its capability, which the policy allows.
    NotAsked,
    /// The manifest asks for its capability; the policy allows nothing of that.
    NotAllowed,
    /// Neither.
    NotAskedNorAllowed,
    /// No capability is for it.
    Unknown,
}

impl NotGranted {
    pub(crate) fn new(
        imports: Vec<RefusedImport>,
        module: &ModuleName,
        manifest: &Manifest,
        grants: &Grants,
    ) -> Self {
        let allowed = grants.policy.for_module(module.as_str()).capabilities;
        let own = manifest
            .tasks
            .values()
            .filter_map(|task| task.capabilities.as_ref());
        let asked: Vec<_> = own.chain([&manifest.capabilities]).collect();
        let imports = imports.into_iter().map(|import| {
            let reason = import.capability.map_or(Reason::Unknown, |capability| {
                let asks = asked.iter().any(|asked| has(asked, capability));
                match (asks, has(&allowed, capability)) {
                    // Both may have some, and nothing in common.
                    (true, _) => Reason::NotAllowed,
                    (false, true) => Reason::NotAsked,
                    (false, false) => Reason::NotAskedNorAllowed,
                }
            });
            NotLinked {
                import,
                table: format!("[grants.\"{module}\"]"),
                reason,
            }
        });
        Self {
            module: module.clone(),
            imports: imports.collect(),
        }
    }
}

/// True where there is anything of the capability that an import needs.
fn has(capabilities: &Capabilities, capability: &str) -> bool {
    match capability {
        "http" => !capabilities.http.is_empty(),
        "keyvalue" => capabilities.keyvalue,
        _ => false,
    }
}

impl Display for NotLinked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let RefusedImport { name, capability } = &self.import;
        let capability = capability.unwrap_or_default();
        let table = &self.table;
        write!(f, "{name}: ")?;
        match self.reason {
            Reason::NotAsked => write!(
                f,
                "needs `{capability}`: ask for it in the manifest's [capabilities]"
            ),
            Reason::NotAllowed => write!(
                f,
                "needs `{capability}`: the manifest asks for it, and this worker does not allow it: its petiole.toml \
                 needs `{capability}` under {table}"
            ),
            Reason::NotAskedNorAllowed => write!(
                f,
                "needs `{capability}`: ask for it in the manifest's [capabilities]; to allow it, this worker's \
                 petiole.toml needs `{capability}` under {table}"
            ),
            Reason::Unknown => f.write_str("no capability grants it"),
        }
    }
}

fn lines(imports: &[NotLinked]) -> String {
    imports.iter().fold(String::new(), |mut text, import| {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  {import}");
        text
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use petiole_permits::{Grant, Policy};

    use super::*;

    #[test]
    fn it_says_who_would_have_to_do_what() {
        let import = |name: &str, capability| RefusedImport {
            name: name.to_owned(),
            capability,
        };
        let imports = vec![
            import("wasi:http/outgoing-handler@0.2.0", Some("http")),
            import("wasi:keyvalue/store@0.2.0-draft", Some("keyvalue")),
            import("acme:gpu/run@1.0.0", None),
        ];
        let http = |rule: &str| Capabilities {
            http: vec![rule.parse().unwrap()],
            ..Capabilities::default()
        };
        let manifest = |capabilities| Manifest {
            capabilities,
            ..Manifest::default()
        };
        let grants = |capabilities| Grants {
            policy: Policy::new(vec![(
                "shop.*".to_owned(),
                Grant {
                    capabilities,
                    ..Grant::default()
                },
            )]),
            ..Grants::default()
        };
        let module: ModuleName = "shop.orders".parse().unwrap();
        let reasons = |asked, allowed| {
            let error =
                NotGranted::new(imports.clone(), &module, &manifest(asked), &grants(allowed));
            let reasons: Vec<_> = error.imports.iter().map(|import| import.reason).collect();
            (reasons, error.to_string())
        };
        let nothing = Capabilities::default;
        let (none, text) = reasons(nothing(), nothing());
        assert_eq!(
            none,
            [
                Reason::NotAskedNorAllowed,
                Reason::NotAskedNorAllowed,
                Reason::Unknown
            ]
        );
        assert!(text.contains("[capabilities]") && text.contains("[grants.\"shop.orders\"]"));
        assert!(
            text.contains("acme:gpu/run@1.0.0: no capability grants it"),
            "{text}"
        );
        let (allowed, text) = reasons(nothing(), http("https://a.example"));
        assert_eq!(allowed.first(), Some(&Reason::NotAsked));
        assert!(
            text.contains("outgoing-handler@0.2.0: needs `http`: ask for it"),
            "{text}"
        );
        // A rule that has nothing in common with what is allowed is as good as none.
        for allowed in [nothing(), http("https://b.example")] {
            let (asked, text) = reasons(http("https://a.example"), allowed);
            assert_eq!(asked.first(), Some(&Reason::NotAllowed));
            assert!(
                text.contains("`http` under [grants.\"shop.orders\"]"),
                "{text}"
            );
        }
    }
}
