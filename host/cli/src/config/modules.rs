//! The modules: where they are kept, how they are compiled, and whose are taken.

use std::path::{Path, PathBuf};

use petiole_permits::{ServiceUrl, Size};
use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::key::settings;
use super::layer::Merged;
use super::setting::{Setting, parts};
use super::units::Seconds;
use super::url::check_store;

/// The folder for what belongs to this folder's workers: modules, the embedded broker, the session.
pub(crate) const FOLDER: &str = ".petiole";

settings! {
    /// The modules: their store, their compilation, and the signatures that they need.
    ModuleSettings with origins {
        /// Where they are kept.
        store: ServiceUrl = format!("file://{FOLDER}/modules").into(),
            Url "store" ["PETIOLE_STORE"] "--store";
        /// The private folder for compiled code.
        cache: String = default_cache(),
            Plain "cache" ["PETIOLE_CACHE"];
        /// Time to compile one.
        compile_time: Seconds = Seconds::whole(120),
            Plain "compile.time" ["PETIOLE_COMPILE_TIME"];
        /// Memory to compile one.
        compile_memory: Size = Size::new(4 << 30),
            Plain "compile.memory" ["PETIOLE_COMPILE_MEMORY"];
        /// minisign public keys, or files of such.
        signature_keys: SignatureKeys = SignatureKeys(Vec::new()),
            Plain "signatures.keys" ["PETIOLE_SIGNATURE_KEYS"];
        /// True if modules without a signature are refused.
        signatures_required: bool = false,
            Plain "signatures.required" ["PETIOLE_SIGNATURES_REQUIRED"];
    }
}

/// minisign public keys, or files of such.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SignatureKeys(pub Vec<String>);

impl Setting for SignatureKeys {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self(parts(text).map(str::to_owned).collect()))
    }

    fn start_at(&mut self, folder: &Path) {
        for key in self.0.iter_mut().filter(|key| !is_key(key)) {
            let mut file = PathBuf::from(&*key);
            file.start_at(folder);
            *key = file.display().to_string();
        }
    }
}

/// True for a key: 42 bytes in base64, of which the first two say minisign. Everything else is a file.
pub(crate) fn is_key(text: &str) -> bool {
    text.starts_with("RW") && text.len() == 56
}

fn default_cache() -> String {
    let set = |name| std::env::var_os(name).filter(|dir| !dir.is_empty());
    let xdg = set("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || set("HOME").map(|dir| Path::new(&dir).join(".cache"));
    let dir = xdg.or_else(home).map_or_else(
        || Path::new(FOLDER).join("cache"),
        |dir| dir.join("petiole"),
    );
    dir.display().to_string()
}

impl ModuleSettings {
    /// Reads them. Where keys are listed, signatures are required unless told otherwise.
    pub(super) fn resolve(merged: &Merged) -> Result<Self, ConfigError> {
        let mut settings = Self::read(merged)?;
        settings.signatures_required |=
            !settings.origins.has("signatures.required") && !settings.signature_keys.0.is_empty();
        Ok(settings)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check_store(&self.store).map_err(|reason| self.origins.wrong("store", reason))?;
        if self.signatures_required && self.signature_keys.0.is_empty() {
            return Err(self.origins.wrong(
                "signatures.required",
                "signatures.required: no module could be taken: list keys in signatures.keys",
            ));
        }
        Ok(())
    }
}
