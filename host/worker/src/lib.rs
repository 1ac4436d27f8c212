//! The worker: the journey of a task from delivery to ack. It can be embedded; the `petiole` binary
//! adds command line, configuration and the HTTP API.
//!
//! Start reading at `pipeline.rs`: it is the journey, top to bottom.

mod admit;
mod carry_out;
mod catalog;
mod causes;
mod config;
mod one_by_one;
mod pipeline;
mod progress;
mod shutdown;
mod status;
mod tell;
mod turns;
mod worker;

pub use catalog::active::NotLoaded;
pub use catalog::announce::workers_with;
pub use catalog::declared::{DeclaredTask, declared_tasks};
pub use catalog::defaults::TaskDefaults;
pub use catalog::grants::{Grants, TaskGrants, Values};
pub use catalog::not_granted::{NotGranted, NotLinked, Reason};
pub use catalog::registered::RegisteredTask;
pub use catalog::registry::{Installed, Registry};
pub use catalog::settings_error::SettingsError;
pub use catalog::task_config::{TaskConfig, check_functions};
pub use catalog::trouble::{InstallError, Passing, RegistryError};
pub use causes::causes;
pub use config::WorkerConfig;
pub use shutdown::{Shutdown, Stage};
pub use status::Status;
pub use worker::{Worker, WorkerError};
