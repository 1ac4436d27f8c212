//! Serves the routes: where it listens, over which connections, with which certificates.

mod connections;
mod listen;
mod serving;
mod tls;

pub use listen::{ListenError, Listening, check, listen};
pub use serving::{ApiEnded, Serving};
pub use tls::TlsError;
