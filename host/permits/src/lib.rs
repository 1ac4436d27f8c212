//! The capabilities of tasks beyond their sandbox, and their limits within it: as a manifest asks for them, as a
//! worker's policy and limits allow them, and what follows from both; with the pure things that all crates above share:
//! sizes, URLs of services and how they are shown, pauses between tries. No I/O, no clock.

mod access;
mod address;
mod amount;
mod backoff;
mod capabilities;
mod host;
mod http;
mod keyvalue;
mod limits;
mod policy;
mod refused;
mod rule;
mod secret;
mod size;
mod tcp;
#[cfg(test)]
mod tests;
pub mod url;

pub use access::Access;
pub use address::is_public;
pub use amount::{Amount, Unit};
pub use backoff::Backoff;
pub use capabilities::{Capabilities, CapabilityError, MAX_ASKED, is_folder, is_variable};
pub use host::{Host, HostPattern, MAX_HOST};
pub use http::{HttpRule, MAX_METHOD, Scheme};
pub use keyvalue::{
    KeyValue, KeyValueError, Keys, MAX_BATCH_KEYS, MAX_BATCH_SIZE, MAX_KEY, MAX_VALUE, PAGE, Swap,
};
pub use limits::{Amounts, LIMITS, Limit, LimitSpec, Limits, drop_unreachable};
pub use policy::{Grant, Policy};
pub use refused::Refused;
pub use rule::RuleError;
pub use secret::{MIN_REDACTED, REDACTED, Redactor, Secret};
pub use size::{Size, SizeError};
pub use tcp::TcpRule;
pub use url::ServiceUrl;
