//! Celery's messages, signatures, outcomes and the plan. Pure: no I/O, no clock, no WebAssembly.
//!
//! The way of a task through this crate: [`decode`](Request::decode) turns a [`Message`] into a
//! [`Request`] or a [`Refusal`]; the worker runs the request and gets an [`Outcome`];
//! [`plan`](plan::plan) says what follows from it. Sources: Celery's
//! [message protocol](https://docs.celeryq.dev/en/stable/internals/protocol.html) page and the
//! behaviour of Celery 5 itself, recorded by the tests.

mod canvas;
mod commit;
mod compose;
mod decode;
mod embed;
mod exception;
mod fields;
mod headers;
mod id;
pub mod json;
mod kept;
mod layered;
mod lineage;
mod message;
mod meta;
mod options;
mod outcome;
mod part;
pub mod plan;
mod python;
mod refusal;
mod request;
mod routes;
mod signature;
mod time;
pub mod wire;

pub use commit::{Commit, RunKey};
pub use compose::{Origin, compose};
pub use decode::{Undecodable, memory_to_decode, memory_to_inflate};
pub use embed::Embed;
pub use exception::Exception;
pub use headers::{RAW_PROPERTIES, UNREADABLE};
pub use id::{ChildKind, child_id};
pub use kept::Kept;
pub use lineage::Lineage;
pub use message::{Destination, Message, Properties, Publication};
pub use meta::{Extended, State, TaskMeta};
pub use outcome::{Outcome, RetryAt, RetrySettings};
pub use refusal::Refusal;
pub use request::{Request, TimeLimits};
pub use routes::Routes;
pub use signature::{Signature, SignatureError};
