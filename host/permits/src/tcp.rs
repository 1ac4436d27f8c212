//! Rules for TCP connections: `HOST:PORT`.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::rule::{host_and_port, serde_as_string};
use crate::{Host, HostPattern, RuleError};

/// Connections that may be made: hosts and port. Written `db.example.com:5432`, `10.0.0.7:6379` or
/// `[fd00::7]:6379`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpRule {
    host: HostPattern,
    port: u16,
}

impl TcpRule {
    /// The hosts it is for.
    pub fn host(&self) -> &HostPattern {
        &self.host
    }

    /// The one port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Decides if a connection may be made.
    pub fn matches(&self, host: &Host, port: u16) -> bool {
        self.port == port && self.host.matches(host)
    }

    /// True if it allows everything that `other` allows.
    pub fn covers(&self, other: &Self) -> bool {
        self.port == other.port && self.host.covers(&other.host)
    }

    /// The connections that both allow.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.port != other.port {
            return None;
        }
        Some(Self {
            host: self.host.intersection(&other.host)?,
            port: self.port,
        })
    }
}

impl FromStr for TcpRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let bad = |reason| RuleError::Rule {
            rule: text.to_owned(),
            reason,
        };
        let (host, port) = host_and_port(text).map_err(bad)?;
        let Some(port) = port else {
            return Err(bad(
                "it is written HOST:PORT, as in `db.example.com:5432` or `[fd00::7]:5432`",
            ));
        };
        Ok(Self {
            host: host.parse()?,
            port,
        })
    }
}

impl Display for TcpRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

serde_as_string!(TcpRule);
