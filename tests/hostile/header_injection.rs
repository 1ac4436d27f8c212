//! Attack: smuggle a second request past the worker, in headers, paths, methods and bodies of a length that is not so.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, Method, OutgoingBody, OutgoingRequest, Scheme};

const SECOND: &str = "x\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// Returns the attempts that were not refused.
#[petiole::task]
fn attack(authority: String) -> Vec<String> {
    let mut taken = Vec::new();
    let fields = Fields::new();
    for (name, value) in [
        ("x-a", SECOND),
        ("x-a", "x\ny"),
        ("x-a", "x\0y"),
        (SECOND, "x"),
        ("x a", "x"),
        ("", "x"),
        ("x:", "x"),
        ("host", "elsewhere"),
        ("Host", "elsewhere"),
        ("transfer-encoding", "chunked"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("proxy-authorization", "x"),
        ("keep-alive", "1"),
        ("te", "trailers, x"),
    ] {
        if fields.append(name, value.as_bytes()).is_ok() {
            taken.push(format!("header {name:?}: {value:?}"));
        }
    }
    let request = OutgoingRequest::new(Fields::new());
    for path in [SECOND, "/a b", "/\r\n", "/x HTTP/1.1\r\nHost: x"] {
        if request.set_path_with_query(Some(path)).is_ok() {
            taken.push(format!("path {path:?}"));
        }
    }
    for method in [SECOND, "GET /smuggled", "", "G\r\nT"] {
        if request
            .set_method(&Method::Other(method.to_owned()))
            .is_ok()
        {
            taken.push(format!("method {method:?}"));
        }
    }
    if request
        .set_scheme(Some(&Scheme::Other("gopher".to_owned())))
        .is_ok()
    {
        let _ = request.set_authority(Some(&authority));
        if outgoing_handler::handle(request, None).is_ok() {
            taken.push("scheme gopher".to_owned());
        }
    }
    body_of_another_length(&authority);
    taken
}

/// Announces 5 bytes and sends a request in place of the rest.
fn body_of_another_length(authority: &str) {
    let fields = Fields::new();
    let _ = fields.append("content-length", b"5");
    let request = OutgoingRequest::new(fields);
    let _ = request.set_method(&Method::Post);
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(authority));
    let Ok(body) = request.body() else { return };
    let Ok(future) = outgoing_handler::handle(request, None) else {
        return;
    };
    if let Ok(stream) = body.write() {
        let _ = stream.blocking_write_and_flush(format!("12345{SECOND}").as_bytes());
    }
    let _ = OutgoingBody::finish(body, None);
    future.subscribe().block();
}
