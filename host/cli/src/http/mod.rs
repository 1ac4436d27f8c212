//! The worker's HTTP API.
//!
//! `GET /healthz`, `/readyz` and `/metrics` are open; everything under `/v1` wants a bearer token. Errors
//! are JSON: `{"error": "..."}`.

mod auth;
mod error;
mod health;
mod listen;
mod modules;
mod results;
mod router;
mod send;
mod tasks;

pub(crate) use listen::{DEV, Listening, listen};
pub(crate) use router::{Api, serve};
