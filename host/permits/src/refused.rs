use std::fmt::{self, Display, Formatter};

use crate::{Access, HttpRule, Size, TcpRule};

/// One thing that is asked for and not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A value.
    Env(String),
    /// A secret value.
    Secret(String),
    /// Requests.
    Http(HttpRule),
    /// Connections.
    Tcp(TcpRule),
    /// Storage.
    KeyValue,
    /// A folder, or to write to it.
    Folder(String, Access),
    /// A folder of its own, or one as large.
    Temp {
        /// The size asked for.
        asked: Size,
        /// The size allowed; none for no such folder at all.
        allowed: Option<Size>,
    },
    /// Clocks that go on.
    Clocks,
    /// Numbers that are random.
    Random,
}

impl Display for Refused {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env {name}"),
            Self::Secret(name) => write!(f, "secret {name}"),
            Self::Http(rule) => write!(f, "http {rule}"),
            Self::Tcp(rule) => write!(f, "tcp {rule}"),
            Self::KeyValue => f.write_str("keyvalue"),
            Self::Folder(name, access) => write!(f, "folder {name} {access}"),
            Self::Temp {
                asked,
                allowed: None,
            } => write!(f, "temp {asked}"),
            Self::Temp {
                asked,
                allowed: Some(allowed),
            } => write!(f, "temp {asked} (allowed: {allowed})"),
            Self::Clocks => f.write_str("clocks"),
            Self::Random => f.write_str("random"),
        }
    }
}
