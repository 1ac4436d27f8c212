use crate::{MAX_MANIFEST, Manifest, ManifestError};

/// Bytes of tasks' names that the catalog keeps of a version: it is read as a whole, at each change, with up to
/// [`VERSIONS_KEPT`](crate::VERSIONS_KEPT) versions of a module. Of a version with more it keeps none.
pub(crate) const MAX_NAMES: usize = 32 << 10;

/// Everything that comes with a component.
#[derive(Debug, Clone, PartialEq)]
pub struct Upload {
    pub(crate) manifest: Manifest,
    pub(crate) manifest_toml: String,
    pub(crate) signature: Option<String>,
    pub(crate) tasks: Option<Vec<String>>,
    pub(crate) by: String,
}

impl Upload {
    /// Without manifest and signature; `by` is the uploader, as an audit says it: `token ci`, `user alice`.
    pub fn new(by: impl Into<String>) -> Self {
        Self {
            manifest: Manifest::default(),
            manifest_toml: String::new(),
            signature: None,
            tasks: None,
            by: by.into(),
        }
    }

    /// With a manifest, in TOML. An empty text is no manifest.
    ///
    /// # Errors
    /// When it can't be used, or has more than [`MAX_MANIFEST`] bytes.
    pub fn with_manifest(self, toml: &str) -> Result<Self, ManifestError> {
        let size = toml.len();
        if size > MAX_MANIFEST {
            return Err(ManifestError::TooLarge { size });
        }
        Ok(Self {
            manifest: Manifest::from_toml(toml)?,
            manifest_toml: toml.to_owned(),
            ..self
        })
    }

    /// With a signature in minisign's format.
    pub fn with_signature(self, signature: String) -> Self {
        Self {
            signature: Some(signature),
            ..self
        }
    }

    /// With the full names of the component's tasks, so that a worker knows whose a task is before it has the
    /// component.
    #[must_use]
    pub fn with_tasks(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut bytes = 0_usize;
        let names = names.into_iter().map(|name| {
            let name = name.into();
            bytes = bytes.saturating_add(name.len());
            (bytes <= MAX_NAMES).then_some(name)
        });
        Self {
            tasks: names.collect(),
            ..self
        }
    }

    /// The manifest; the default one where none came.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest as it came: what a signature covers. Empty where none came.
    pub fn manifest_toml(&self) -> &str {
        &self.manifest_toml
    }

    /// The signature.
    pub fn signature(&self) -> Option<&str> {
        self.signature.as_deref()
    }

    /// The uploader.
    pub fn by(&self) -> &str {
        &self.by
    }
}
