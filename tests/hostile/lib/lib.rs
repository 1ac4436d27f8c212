//! Outbound HTTP for the hostile guests: what goes wrong is a text, and nothing is checked here.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, IncomingResponse, OutgoingRequest, Scheme};

/// Sends a GET to `http://AUTHORITY/PATH`, both as they are, and waits for the head of the answer.
pub fn get(authority: &str, path: &str, headers: Fields) -> Result<IncomingResponse, String> {
    let request = OutgoingRequest::new(headers);
    let scheme = request.set_scheme(Some(&Scheme::Http));
    scheme.map_err(|()| "bad scheme".to_owned())?;
    let authority = request.set_authority(Some(authority));
    authority.map_err(|()| "bad authority".to_owned())?;
    let path = request.set_path_with_query(Some(path));
    path.map_err(|()| "bad path".to_owned())?;
    let future = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    future.subscribe().block();
    match future.get() {
        Some(Ok(reply)) => reply.map_err(|code| format!("{code:?}")),
        other => Err(format!("no reply: {other:?}")),
    }
}

/// The outcome of a GET of `/`: its status, or the error.
pub fn outcome(authority: &str) -> String {
    match get(authority, "/", Fields::new()) {
        Ok(reply) => reply.status().to_string(),
        Err(reason) => reason,
    }
}

/// The outcome of each of them, with its authority before it.
pub fn outcomes<'a>(authorities: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let each = authorities.into_iter();
    each.map(|authority| format!("{authority}: {}", outcome(authority)))
        .collect()
}

/// The whole body of an answer, as far as it comes.
pub fn body(reply: &IncomingResponse) -> Vec<u8> {
    let Ok(body) = reply.consume() else {
        return Vec::new();
    };
    let Ok(stream) = body.stream() else {
        return Vec::new();
    };
    let mut bytes = Vec::new();
    while let Ok(chunk) = stream.blocking_read(64 * 1024) {
        bytes.extend(chunk);
    }
    bytes
}
