//! The worker's HTTP API.
//!
//! `GET /healthz` and `/readyz` are open, `/metrics` is unless told otherwise; everything under `/v1` wants a bearer
//! token, whose scopes say what it opens (`access.rs`). Errors are JSON: `{"error": "..."}`.

mod access;
mod auth;
mod body;
mod connections;
mod error;
mod health;
mod listen;
mod modules;
mod places;
mod rate;
mod results;
mod router;
mod send;
mod serving;
mod tasks;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use listen::{DEV, Listening, check, generate, listen};
pub(crate) use router::{Api, Gate};
pub(crate) use serving::Serving;
