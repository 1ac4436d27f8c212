//! The worker: the journey of a task from delivery to ack. It can be embedded; the `petiole` binary
//! adds command line, configuration and the HTTP API.
//!
//! Start reading at `pipeline.rs`: it is the journey, top to bottom.

mod admit;
mod carry_out;
mod config;
mod pipeline;
mod progress;
mod registered;
mod registry;
mod runs;
mod shutdown;
mod status;
mod task_log;
mod worker;

pub use config::{TaskDefaults, WorkerConfig};
pub use registered::{RegisteredTask, SettingsError};
pub use registry::{InstallError, Installed, Registry, RegistryError};
pub use shutdown::{Shutdown, Stage};
pub use status::{Count, Status};
pub use worker::{Worker, WorkerError};
