//! Why a version can't be installed or loaded, and whose fault that is: pure.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use petiole_modules::{
    CatalogError, Manifest, ModuleName, SigningError, StoreError, VersionNumber,
};
use petiole_runtime::{CacheError, CompileError, LoadError};

use crate::catalog::grants::Grants;
use crate::catalog::not_granted::NotGranted;
use crate::catalog::settings_error::SettingsError;

/// The store or its catalog can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The catalog could not be read the last time.
    #[error("the catalog can't be read: {reason}")]
    Unread {
        /// The cause.
        reason: Arc<str>,
    },
    /// The thread that read them ended early.
    #[error("reading the store was cut off: {0}")]
    CutOff(#[from] tokio::task::JoinError),
}

/// A component is not taken, could not be kept, or is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Not a module name.
    #[error(transparent)]
    Name(#[from] petiole_modules::NameError),
    /// Not signed, or not as it has to be.
    #[error(transparent)]
    Signature(#[from] SigningError),
    /// Not a component that can be run here.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It imports what it is not granted.
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    /// The manifest asks for what there is not.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The store failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It was kept and activated, and this worker could not follow.
    #[error(
        "version {version} of module {module} is in the store and active, but this worker can't follow: {reason}; it tries again"
    )]
    NotFollowed {
        /// The module.
        module: ModuleName,
        /// Its new version.
        version: VersionNumber,
        /// The obstacle.
        reason: String,
    },
    /// It was kept and activated, and somebody else has changed the module since.
    #[error(
        "version {version} of module {module} is in the store, but no longer active: {}",
        now.map_or_else(|| "the module was removed meanwhile".to_owned(), |now| format!("version {now} has taken its place meanwhile"))
    )]
    Superseded {
        /// The module.
        module: ModuleName,
        /// Its new version.
        version: VersionNumber,
        /// The version that is active now.
        now: Option<VersionNumber>,
    },
}

impl Grants {
    /// The error of a component that can't be loaded.
    pub fn refusal(
        &self,
        module: &ModuleName,
        manifest: &Manifest,
        error: LoadError,
    ) -> InstallError {
        match error {
            LoadError::Imports { imports } => {
                NotGranted::new(imports, module, manifest, self).into()
            }
            error @ (LoadError::Compile(_)
            | LoadError::Cache(_)
            | LoadError::Code { .. }
            | LoadError::Incompatible { .. }
            | LoadError::NoTasks { .. }) => error.into(),
        }
    }
}

impl InstallError {
    /// True where the upload is at fault: pushing it again as it is makes no sense.
    pub fn is_refusal(&self) -> bool {
        match self.passing() {
            // Both say what to do about the component; the machine is a guess.
            Some(Passing::Compiler) => !matches!(
                self,
                Self::Load(LoadError::Compile(
                    CompileError::Busy | CompileError::Host(_)
                ))
            ),
            Some(Passing::Store | Passing::Machine | Passing::Catalog) => false,
            None => !matches!(self, Self::Superseded { .. }),
        }
    }

    /// The fault of the host, where it may be gone the next time; none where this worker, as it is configured,
    /// never loads such a version.
    pub fn passing(&self) -> Option<Passing> {
        match self {
            Self::Name(_) | Self::Signature(_) | Self::NotGranted(_) | Self::Settings(_) => None,
            Self::Load(error) => of_load(error),
            Self::Registry(RegistryError::Store(_)) => Some(Passing::Store),
            Self::Registry(RegistryError::Catalog(_) | RegistryError::Unread { .. }) => {
                Some(Passing::Catalog)
            }
            Self::Registry(RegistryError::CutOff(_)) => Some(Passing::Machine),
            Self::NotFollowed { .. } => Some(Passing::Catalog),
            Self::Superseded { .. } => None,
        }
    }
}

fn of_load(error: &LoadError) -> Option<Passing> {
    match error {
        LoadError::Compile(error) => match error {
            CompileError::NotWasm { .. }
            | CompileError::CoreModule
            | CompileError::TooLarge { .. }
            | CompileError::Invalid { .. } => None,
            CompileError::TooSlow { .. }
            | CompileError::Crashed { .. }
            | CompileError::Busy
            | CompileError::Host(_) => Some(Passing::Compiler),
        },
        LoadError::Cache(
            CacheError::Io { .. }
            | CacheError::NotPrivate { .. }
            | CacheError::NotOwned { .. }
            | CacheError::Key { .. }
            | CacheError::Host(_),
        )
        | LoadError::Code { .. } => Some(Passing::Machine),
        LoadError::Imports { .. } | LoadError::Incompatible { .. } | LoadError::NoTasks { .. } => {
            None
        }
    }
}

/// A fault of the host that may pass: the version is loaded another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// The component can't be read from the store, or is damaged there.
    Store,
    /// The catalog can't be read.
    Catalog,
    /// The compiler was busy, too slow, or ended by itself.
    Compiler,
    /// No memory, files or disk for the compiled code.
    Machine,
}

/// Short, and without paths: whoever asks for readiness need not have a token.
impl Display for Passing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "the store does not give the component",
            Self::Catalog => "the catalog can't be read",
            Self::Compiler => "the compiler failed",
            Self::Machine => "the compiled code can't be kept or mapped",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;
    use std::os::unix::process::ExitStatusExt;
    use std::path::PathBuf;
    use std::time::Duration;

    use petiole_modules::Digest;

    use super::*;

    /// Nothing that the machine or the store may do makes a component count as bad for good.
    #[test]
    fn whose_fault_it_is_is_told_by_its_type() {
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let store = |source| StoreError::Io {
            action: "read",
            path: PathBuf::new(),
            source,
        };
        let digest = Digest::of(b"");
        let reason = String::new;
        let crashed = CompileError::Crashed {
            status: ExitStatusExt::from_raw(9),
            memory: 0,
            stderr: reason(),
        };
        let slow = CompileError::TooSlow {
            limit: Duration::ZERO,
        };
        let cache = |kind| CacheError::Io {
            action: "writing",
            path: PathBuf::new(),
            source: io(kind),
        };
        let of_store = |error: StoreError| InstallError::from(RegistryError::from(error));
        let of_load = |error: LoadError| InstallError::from(error);
        let of_compiler = |error: CompileError| InstallError::from(LoadError::from(error));
        let table = [
            (
                of_store(store(io(io::ErrorKind::StorageFull))),
                Some(Passing::Store),
                false,
            ),
            (
                of_store(StoreError::Missing { digest }),
                Some(Passing::Store),
                false,
            ),
            (
                of_store(StoreError::Corrupt {
                    digest,
                    found: digest,
                    path: PathBuf::new(),
                }),
                Some(Passing::Store),
                false,
            ),
            (
                RegistryError::from(CatalogError::Unsettled { attempts: 1 }).into(),
                Some(Passing::Catalog),
                false,
            ),
            (of_compiler(slow), Some(Passing::Compiler), true),
            (of_compiler(crashed), Some(Passing::Compiler), true),
            (
                of_compiler(CompileError::Busy),
                Some(Passing::Compiler),
                false,
            ),
            (
                of_compiler(CompileError::Host(io(io::ErrorKind::OutOfMemory))),
                Some(Passing::Compiler),
                false,
            ),
            (
                of_load(cache(io::ErrorKind::StorageFull).into()),
                Some(Passing::Machine),
                false,
            ),
            (
                of_load(LoadError::Code { reason: reason() }),
                Some(Passing::Machine),
                false,
            ),
            (
                of_compiler(CompileError::NotWasm { start: vec![] }),
                None,
                true,
            ),
            (of_compiler(CompileError::CoreModule), None, true),
            (of_compiler(CompileError::TooLarge { size: 1 }), None, true),
            (
                of_compiler(CompileError::Invalid { reason: reason() }),
                None,
                true,
            ),
            (of_load(LoadError::Imports { imports: vec![] }), None, true),
            (
                of_load(LoadError::Incompatible { reason: reason() }),
                None,
                true,
            ),
            (of_load(LoadError::NoTasks { refused: vec![] }), None, true),
            (SigningError::Malformed.into(), None, true),
            (
                SettingsError::SameName { task: reason() }.into(),
                None,
                true,
            ),
        ];
        for (error, passing, refusal) in table {
            assert_eq!(error.passing(), passing, "{error}");
            assert_eq!(error.is_refusal(), refusal, "{error}");
        }
    }
}
