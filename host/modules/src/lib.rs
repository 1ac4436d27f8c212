//! Content-addressed store of components, and the catalog that names their versions and says which
//! is active.
//!
//! Everything here reads and writes files and so blocks. A store is a folder that several processes
//! may use at once:
//!
//! ```text
//! components/<sha256>.wasm   never changed once there
//! components/<sha256>.json   the schema of its tasks
//! catalog/<generation>.json  the highest number counts; each change writes the next one
//! lock                       held by whoever writes
//! workers/                   what each worker has loaded, written anew while it lives
//! temporary/                 what is being written; a crash may leave files, which are ignored
//! ```

mod catalog;
mod catalog_file;
mod component;
mod digest;
mod error;
mod manifest;
#[cfg(test)]
mod manifest_fuzz;
mod name;
mod settings;
mod signing;
mod store;
mod upload;
mod version;
mod workers;

pub use catalog::{Catalog, Snapshot};
pub use catalog_file::Generation;
pub use component::Component;
pub use digest::{Digest, DigestError};
pub use error::{CatalogError, StoreError};
pub use manifest::{MAX_MANIFEST, Manifest, ManifestError};
pub use name::{ModuleName, NameError};
pub use settings::TaskSettings;
pub use signing::{
    KeyId, MANIFEST_PART, MAX_SIGNATURE, MODULE_PART, Signed, SigningError, SigningPolicy,
};
pub use store::Store;
pub use upload::Upload;
pub use version::{Module, Version, VersionNumber};
pub use workers::{Announcement, HEARTBEAT, ModuleState, WorkerState};

/// Versions of a module that are kept. Adding one more drops the oldest that is neither active nor
/// what a rollback would go to.
pub const VERSIONS_KEPT: usize = 100;
