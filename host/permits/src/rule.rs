//! Errors of rules, and their reading and writing as strings.

use crate::MAX_HOST;

/// A rule can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The host is none.
    #[error("{host:?} is no host: {reason}")]
    Host {
        /// As written.
        host: String,
        /// The fault in it.
        reason: String,
    },
    /// The host is longer than any.
    #[error("a host of {size} bytes is longer than the limit of {MAX_HOST}")]
    LongHost {
        /// In bytes.
        size: usize,
    },
    /// The rest of the rule.
    #[error("{rule:?} is no rule: {reason}")]
    Rule {
        /// As written.
        rule: String,
        /// The fault in it, and the right form.
        reason: &'static str,
    },
}

/// Splits `HOST:PORT` and `[ADDRESS]:PORT`; the port is none where there is no colon.
///
/// # Errors
/// When the port is not a number from 1 to 65535 in plain digits.
pub(crate) fn host_and_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    // the colons inside of brackets are the address's
    let after_address = text.rfind(']').unwrap_or(0);
    let Some(colon) = text.rfind(':').filter(|colon| *colon > after_address) else {
        return Ok((text, None));
    };
    let (host, port) = text.split_at(colon);
    let digits = port.trim_start_matches(':');
    let port = Some(digits)
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .filter(|port| *port != 0);
    match port {
        Some(port) => Ok((host, Some(port))),
        None => Err("the port is a number from 1 to 65535"),
    }
}

/// Serde's traits by way of `Display` and `FromStr`.
macro_rules! serde_as_string {
    ($rule:ty) => {
        impl serde::Serialize for $rule {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $rule {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use serde_as_string;
