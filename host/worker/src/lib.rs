//! The worker: the journey of a task from delivery to ack. It can be embedded; the `petiole` binary
//! adds command line, configuration and the HTTP API.
//!
//! Start reading at `pipeline.rs`: it is the journey, top to bottom.

mod active;
mod admit;
mod announce;
mod carry_out;
mod causes;
mod config;
mod grants;
mod limits;
mod metrics;
mod not_granted;
mod one_by_one;
mod outage;
mod pipeline;
mod progress;
mod registered;
mod registry;
mod runs;
mod shutdown;
mod slot;
mod status;
mod task_log;
mod trouble;
mod usage;
mod worker;

pub use active::NotLoaded;
pub use announce::workers_with;
pub use config::{TaskDefaults, WorkerConfig};
pub use grants::{Grants, TaskGrants, Values};
pub use not_granted::{NotGranted, NotLinked, Reason};
pub use registered::{RegisteredTask, SettingsError, check_functions};
pub use registry::{Installed, Registry};
pub use shutdown::{Shutdown, Stage};
pub use status::Status;
pub use trouble::{InstallError, Passing, RegistryError};
pub use worker::{Worker, WorkerError};
