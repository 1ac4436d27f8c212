//! The other end of a connection: names and addresses, and patterns of them.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::str::FromStr;

use crate::{RuleError, is_public};

/// The longest text that may be a host, in bytes: before it is ASCII, a name of `MAX_NAME` characters may take
/// four times as many. Making it ASCII takes up to a millisecond for each of its labels.
pub const MAX_HOST: usize = 1024;

/// The longest host name in characters (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

/// A host as a URL names it, normalised: names in lower case and ASCII (IDNA), without a trailing dot;
/// every spelling of an IPv4 address (`0x7f.1`, `2130706433`, `[::ffff:127.0.0.1]`) as that address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name that has to be resolved.
    Name(String),
    /// An address literal.
    Address(IpAddr),
}

/// The hosts that a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// `*`: every name, and every address of the public internet. Other addresses must be named.
    Any,
    /// `*.example.com`: names that end so, at any depth; not `example.com` itself.
    Subdomains(String),
    /// One host.
    Host(Host),
}

impl FromStr for Host {
    type Err = RuleError;

    /// A host as in a URL: IPv6 addresses in brackets.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text.len() > MAX_HOST {
            return Err(RuleError::LongHost { size: text.len() });
        }
        let bad = |reason: String| RuleError::Host {
            host: text.to_owned(),
            reason,
        };
        match url::Host::parse(text).map_err(|error| bad(error.to_string()))? {
            url::Host::Ipv4(address) => Ok(Self::Address(address.into())),
            url::Host::Ipv6(address) => Ok(Self::Address(IpAddr::from(address).to_canonical())),
            url::Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                if name.is_empty() || name.len() > MAX_NAME {
                    return Err(bad(format!("a name has 1 to {MAX_NAME} characters")));
                }
                if name.split('.').any(str::is_empty) {
                    return Err(bad("a part of the name is empty".to_owned()));
                }
                if name.contains('*') {
                    return Err(bad("`*` stands alone or before the first dot".to_owned()));
                }
                Ok(Self::Name(name.to_owned()))
            }
        }
    }
}

impl HostPattern {
    /// True if the host is one of these.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, Host::Name(_)) => true,
            (Self::Any, Host::Address(address)) => is_public(*address),
            (Self::Host(own), host) => own == host,
            (Self::Subdomains(parent), Host::Name(name)) => is_below(name, parent),
            (Self::Subdomains(_), Host::Address(_)) => false,
        }
    }

    /// True if it matches every host that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (own, Self::Host(host)) => own.matches(host),
            (Self::Any, Self::Any | Self::Subdomains(_)) => true,
            (_, Self::Any) => false,
            (Self::Subdomains(own), Self::Subdomains(other)) => {
                own == other || is_below(other, own)
            }
            (Self::Host(_), Self::Subdomains(_)) => false,
        }
    }

    /// The hosts that both match: one of the two, for patterns either contain one another or have nothing in common.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.covers(other) {
            Some(other.clone())
        } else if other.covers(self) {
            Some(self.clone())
        } else {
            None
        }
    }
}

/// True if `name` ends in `.parent`, with something before it.
fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent)
        .and_then(|rest| rest.strip_suffix('.'))
        .is_some_and(|labels| !labels.is_empty())
}

impl FromStr for HostPattern {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some(parent) = text.strip_prefix("*.") else {
            return Ok(Self::Host(text.parse()?));
        };
        match parent.parse()? {
            Host::Name(parent) => Ok(Self::Subdomains(parent)),
            Host::Address(_) => Err(RuleError::Host {
                host: text.to_owned(),
                reason: "an address has no subdomains".to_owned(),
            }),
        }
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl Display for HostPattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Subdomains(parent) => write!(f, "*.{parent}"),
            Self::Host(host) => host.fmt(f),
        }
    }
}
