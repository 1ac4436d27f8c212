//! A request's target, by its URL.

use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use petiole_permits::{Host, Scheme};
use wasmtime_wasi_http::Error;

/// The server that a request goes to.
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Target {
    pub(super) fn of(uri: &Uri) -> Result<Self, Error> {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(Error::HttpProtocolError),
        };
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        // a user name in front of the host misleads whoever reads the URL
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let host = authority.host().parse();
        let port = match authority.port() {
            None => scheme.default_port(),
            Some(port) => port.as_u16(),
        };
        // anything after the host is a port, or else it is no URL
        let text = authority.as_str();
        let has_port = authority.port().is_some();
        if port == 0 || (!has_port && text.len() != authority.host().len()) {
            return Err(Error::HttpRequestUriInvalid);
        }
        Ok(Self {
            scheme,
            host: host.map_err(|_| Error::HttpRequestUriInvalid)?,
            port,
        })
    }

    /// For the header, as RFC 9112 section 3.2 has it.
    pub(super) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// `/path?query`: with an authority in it, a proxy would take the request elsewhere.
pub(super) fn origin_form(uri: &Uri) -> Result<Uri, Error> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    path.parse().map_err(|_| Error::HttpRequestUriInvalid)
}
