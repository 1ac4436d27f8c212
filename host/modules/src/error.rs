use std::io;
use std::path::PathBuf;

use crate::{Digest, ModuleName, VersionNumber};

/// The store can't be used, or doesn't hold what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not a store's URL.
    #[error("store {url:?} can't be read: use file://DIR")]
    Url {
        /// As it was given.
        url: String,
    },
    /// A store of another kind.
    #[error("there is no store for {scheme}:// yet: use file://DIR")]
    UnsupportedScheme {
        /// The text before `://`.
        scheme: String,
    },
    /// A file can't be read or written.
    #[error("can't {action} {}", path.display())]
    Io {
        /// The verb for it.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Somebody else has been writing to the store all the while.
    #[error("{} stayed locked for {seconds} s: another process is writing to the store", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The time waited for it.
        seconds: u64,
    },
    /// No component of this digest.
    #[error("component {digest} is not in the store: upload it again")]
    Missing {
        /// The digest asked for.
        digest: Digest,
    },
    /// No schema beside this component.
    #[error("the schema of component {digest} is not in the store: upload the component again")]
    NoSchema {
        /// The component.
        digest: Digest,
    },
    /// The stored bytes are not those that were put.
    #[error("component {digest} is corrupt: {} hashes to {found}; remove the file and upload the component again", path.display())]
    Corrupt {
        /// The digest asked for.
        digest: Digest,
        /// The digest of the stored bytes.
        found: Digest,
        /// Their file.
        path: PathBuf,
    },
}

/// A change or a question that the catalog can't answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The store below.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog's file is not what Petiole writes.
    #[error("{} is not a catalog that this version of petiole can read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The place where it goes wrong.
        source: serde_json::Error,
    },
    /// No module of this name.
    #[error("there is no module {name}")]
    UnknownModule {
        /// The name.
        name: ModuleName,
    },
    /// No version of this number.
    #[error(
        "module {name} has no version {number}: there is {}",
        numbers(there_is)
    )]
    UnknownVersion {
        /// The module.
        name: ModuleName,
        /// The number.
        number: VersionNumber,
        /// The versions there are.
        there_is: Vec<VersionNumber>,
    },
    /// The version is active.
    #[error(
        "version {number} of module {name} is active: activate another one first, or force the removal"
    )]
    ActiveVersion {
        /// The module.
        name: ModuleName,
        /// The number.
        number: VersionNumber,
    },
    /// Nothing to roll back to.
    #[error("no version of module {name} was active before this one")]
    NoPrevious {
        /// The module.
        name: ModuleName,
    },
    /// The numbers have run out.
    #[error("module {name} has used all its version numbers: remove it and start again")]
    NumbersUsedUp {
        /// The module.
        name: ModuleName,
    },
    /// Other processes changed the catalog faster than it could be read.
    #[error("the catalog changed {attempts} times while it was read")]
    Unsettled {
        /// The number of tries.
        attempts: u32,
    },
}

fn numbers(numbers: &[VersionNumber]) -> String {
    if numbers.is_empty() {
        return "none".to_owned();
    }
    numbers
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
