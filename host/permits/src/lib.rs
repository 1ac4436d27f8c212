//! What tasks may reach beyond their sandbox: what a manifest asks for, what a worker's policy allows, and
//! what follows from both. Pure: no I/O, no clock.

mod address;
mod capabilities;
mod host;
mod http;
mod keyvalue;
mod policy;
#[cfg(test)]
mod properties;
mod rule;
mod secret;
mod size;
#[cfg(test)]
mod tables;
mod tcp;

pub use address::is_public;
pub use capabilities::{
    Access, Capabilities, CapabilityError, MAX_ASKED, Refused, is_folder, is_variable,
};
pub use host::{Host, HostPattern, MAX_HOST};
pub use http::{HttpRule, MAX_METHOD, Scheme};
pub use keyvalue::{
    KeyValue, KeyValueError, Keys, MAX_BATCH_KEYS, MAX_BATCH_SIZE, MAX_KEY, MAX_VALUE, PAGE, Swap,
};
pub use policy::{Grant, Policy};
pub use rule::RuleError;
pub use secret::{MIN_REDACTED, REDACTED, Redactor, Secret};
pub use size::{Size, SizeError};
pub use tcp::TcpRule;
