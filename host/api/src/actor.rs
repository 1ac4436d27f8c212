use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

/// The author of a change or of a request.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Actor {
    /// The token's name, where one was right.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "text")]
    pub token: Option<Arc<str>>,
    /// The subject of the client's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "text")]
    pub certificate: Option<Arc<str>>,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The user of this machine who ran the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

fn text<S: serde::Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(serializer)
}

impl Actor {
    /// The user who runs this process.
    pub fn local() -> Self {
        Self {
            user: Some(local_user()),
            ..Self::default()
        }
    }

    /// As the catalog keeps it: `token ci`, `user alice`.
    pub fn name(&self) -> String {
        let Self {
            token,
            certificate,
            address: _,
            user,
        } = self;
        match (user, token, certificate) {
            (Some(user), ..) => format!("user {user}"),
            (None, Some(token), None) => format!("token {token}"),
            (None, Some(token), Some(certificate)) => {
                format!("token {token}, certificate {certificate}")
            }
            (None, None, _) => "nobody".to_owned(),
        }
    }
}

/// The name of the user whom this process belongs to: unlike `$USER`, nobody can choose it.
fn local_user() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}
