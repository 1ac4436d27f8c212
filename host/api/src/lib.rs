//! The worker's HTTP API, and what it shares with the command line: its documents, the audit, sending a task.
//!
//! `GET /healthz` and `/readyz` are open, `/metrics` is unless told otherwise; everything under `/v1` wants a bearer
//! token, whose scopes say what it opens (`door/access.rs`). Errors are JSON: `{"error": "..."}`.

mod actor;
mod administration;
mod audit;
pub mod documents;
mod door;
mod error;
mod private;
mod routes;
mod send;
mod server;
mod settings;
mod state;
#[cfg(test)]
mod tests;

pub use actor::Actor;
pub use administration::{Administration, AdministrationError, Changed, Kind, module, modules};
pub use audit::Audit;
pub use door::{Scope, TokenEntry, generate_token};
pub use private::check_private;
pub use send::{SendError, send};
pub use server::{ApiEnded, ListenError, Listening, Serving, TlsError, check, listen};
pub use settings::{Settings, TlsFiles};
pub use state::{Api, Gate};
