//! Rules for outbound HTTP: `[METHODS ]SCHEME://HOST[:PORT]`.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::rule::{host_and_port, serde_as_string};
use crate::{Host, HostPattern, RuleError};

/// The longest method, in bytes; the longest registered one (UPDATEREDIRECTREF) has 17.
pub const MAX_METHOD: usize = 24;

/// The methods of one rule; some 40 are registered.
const MAX_METHODS: usize = 64;

/// The protocol of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// Requests that may be sent: methods, scheme, hosts and port. Written `https://api.example.com` (every
/// method), or `GET,HEAD https://*.example.com:8443`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpRule {
    /// None: every one.
    methods: Option<BTreeSet<String>>,
    scheme: Scheme,
    host: HostPattern,
    port: u16,
}

impl Scheme {
    /// The port where a URL names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl HttpRule {
    /// The rule that would be needed for one request.
    pub fn of_request(method: &str, scheme: Scheme, host: Host, port: u16) -> Self {
        Self {
            methods: Some(BTreeSet::from([method.to_owned()])),
            scheme,
            host: HostPattern::Host(host),
            port,
        }
    }

    /// The hosts it is for.
    pub fn host(&self) -> &HostPattern {
        &self.host
    }

    /// Decides if a request may be sent. Methods are case-sensitive (RFC 9110 section 9.1). CONNECT never
    /// is: it asks the server for a tunnel to anywhere.
    pub fn matches(&self, method: &str, scheme: Scheme, host: &Host, port: u16) -> bool {
        method != "CONNECT"
            && self
                .methods
                .as_ref()
                .is_none_or(|methods| methods.contains(method))
            && self.scheme == scheme
            && self.host.matches(host)
            && self.port == port
    }

    /// True if it allows everything that `other` allows.
    #[cfg(test)]
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => own.is_superset(other),
        };
        methods && self.covers_server(other)
    }

    fn covers_server(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.port == other.port && self.host.covers(&other.host)
    }

    /// The requests that both allow.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.scheme != other.scheme || self.port != other.port {
            return None;
        }
        let methods = match (&self.methods, &other.methods) {
            (None, methods) | (methods, None) => methods.clone(),
            (Some(own), Some(other)) => {
                let both: BTreeSet<String> = own.intersection(other).cloned().collect();
                if both.is_empty() {
                    return None;
                }
                Some(both)
            }
        };
        Some(Self {
            methods,
            scheme: self.scheme,
            host: self.host.intersection(&other.host)?,
            port: self.port,
        })
    }

    /// The part of this rule that none of `allowed` allows, as far as one rule can say it: without the methods that
    /// are allowed for all of its hosts.
    pub(crate) fn beyond(&self, allowed: &[Self]) -> Option<Self> {
        let same_server = allowed.iter().filter(|rule| rule.covers_server(self));
        let mut rest = self.clone();
        for rule in same_server {
            match (&mut rest.methods, &rule.methods) {
                (_, None) => return None,
                (None, Some(_)) => {}
                (Some(rest), Some(allowed)) => rest.retain(|method| !allowed.contains(method)),
            }
        }
        match &rest.methods {
            Some(methods) if methods.is_empty() => None,
            _ => Some(rest),
        }
    }
}

impl FromStr for HttpRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let bad = |reason| RuleError::Rule {
            rule: text.to_owned(),
            reason,
        };
        let (methods, url) = match text.split_once(' ') {
            Some((methods, url)) => (Some(parse_methods(methods).map_err(bad)?), url),
            None => (None, text),
        };
        let (scheme, server) = match url.split_once("://") {
            Some(("http", server)) => (Scheme::Http, server),
            Some(("https", server)) => (Scheme::Https, server),
            _ => {
                return Err(bad(
                    "it is written [METHODS ]http(s)://HOST[:PORT], as in `GET,HEAD https://api.example.com`",
                ));
            }
        };
        if server.contains(['/', '?', '#', '@', '\\']) {
            return Err(bad(
                "it ends with the host or its port: paths and user names can't be told apart",
            ));
        }
        let (host, port) = host_and_port(server).map_err(bad)?;
        Ok(Self {
            methods,
            scheme,
            host: host.parse()?,
            port: port.unwrap_or(scheme.default_port()),
        })
    }
}

fn parse_methods(text: &str) -> Result<BTreeSet<String>, &'static str> {
    let methods: BTreeSet<String> = text
        .split(',')
        .map(|method| {
            let is_name = |b: u8| b.is_ascii_uppercase() || b == b'-';
            if method.is_empty() || method.len() > MAX_METHOD || !method.bytes().all(is_name) {
                Err("methods are in upper case, with commas and no spaces between them")
            } else if method == "CONNECT" {
                Err("CONNECT is never granted: it would lead past the rules")
            } else {
                Ok(method.to_owned())
            }
        })
        .collect::<Result<_, _>>()?;
    if methods.len() > MAX_METHODS {
        return Err("it has more than 64 methods");
    }
    Ok(methods)
}

impl Display for Scheme {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Display for HttpRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            methods,
            scheme,
            host,
            port,
        } = self;
        for (index, method) in methods.iter().flatten().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{method}")?;
        }
        if methods.is_some() {
            f.write_str(" ")?;
        }
        write!(f, "{scheme}://{host}")?;
        if *port == scheme.default_port() {
            Ok(())
        } else {
            write!(f, ":{port}")
        }
    }
}

serde_as_string!(HttpRule);
