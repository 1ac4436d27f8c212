//! Requests, by `wasi:http`.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

/// Bytes that are read at once.
const CHUNK: u64 = 64 * 1024;

/// Sends a request, and returns status and body. `url`: cut at its first `/` behind `://` and nowhere else, so
/// that a host can be anything. The error is the interface's own name for it.
#[petiole::task]
fn fetch(
    method: String,
    url: String,
    headers: Option<Vec<(String, String)>>,
    body: Option<String>,
    timeout_ms: Option<u64>,
) -> Result<(u16, String), String> {
    let request = Request {
        method,
        url,
        headers: headers.unwrap_or_default(),
        body,
        timeout_ms,
    };
    let response = request.send()?;
    let status = response.status();
    let mut bytes = Vec::new();
    read(&response, |chunk| bytes.extend(chunk))?;
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

/// As `fetch` with GET, and counts the body's bytes without keeping them.
#[petiole::task]
fn fetch_size(url: String) -> Result<u64, String> {
    let mut size = 0;
    read(&Request::get(url).send()?, |chunk| {
        size += chunk.len() as u64
    })?;
    Ok(size)
}

/// GET, and as a browser follows redirects: three requests at most.
#[petiole::task]
fn follow(url: String) -> Result<(u16, String), String> {
    let mut url = url;
    for _ in 0..3 {
        let response = Request::get(url.clone()).send()?;
        let Some(location) = response.headers().get("location").pop() else {
            let mut bytes = Vec::new();
            read(&response, |chunk| bytes.extend(chunk))?;
            return Ok((
                response.status(),
                String::from_utf8_lossy(&bytes).into_owned(),
            ));
        };
        url = String::from_utf8_lossy(&location).into_owned();
    }
    Err("too many redirects".to_owned())
}

/// Makes this many requests and keeps all of their responses, unread.
#[petiole::task]
fn hoard(url: String, requests: u32) -> Result<u32, String> {
    let mut responses = Vec::new();
    for _ in 0..requests {
        let mut request = Request::get(url.clone());
        request.timeout_ms = Some(500);
        responses.push(request.send()?);
    }
    Ok(responses.len() as u32)
}

/// GET, this many times, whatever comes of it; returns how many were refused.
#[petiole::task]
fn insist(url: String, requests: u32) -> u32 {
    let refused = |_: &u32| Request::get(url.clone()).send().is_err();
    (0..requests).filter(refused).count() as u32
}

struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    timeout_ms: Option<u64>,
}

impl Request {
    fn get(url: String) -> Self {
        Self {
            method: "GET".to_owned(),
            url,
            headers: Vec::new(),
            body: None,
            timeout_ms: None,
        }
    }

    fn send(self) -> Result<IncomingResponse, String> {
        let headers: Vec<_> = self
            .headers
            .into_iter()
            .map(|(name, value)| (name, value.into_bytes()))
            .collect();
        let headers = Fields::from_list(&headers).map_err(|error| format!("{error:?}"))?;
        let request = OutgoingRequest::new(headers);
        let method = match self.method.as_str() {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "CONNECT" => Method::Connect,
            other => Method::Other(other.to_owned()),
        };
        request.set_method(&method).map_err(|()| "method")?;
        let (scheme, rest) = self.url.split_once("://").ok_or("no scheme")?;
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => Scheme::Other(other.to_owned()),
        };
        request.set_scheme(Some(&scheme)).map_err(|()| "scheme")?;
        request
            .set_authority(Some(authority))
            .map_err(|()| "authority")?;
        request
            .set_path_with_query(Some(path))
            .map_err(|()| "path")?;
        let options = RequestOptions::new();
        let timeout = self.timeout_ms.map(|ms| ms * 1_000_000);
        for set in [
            RequestOptions::set_connect_timeout,
            RequestOptions::set_first_byte_timeout,
            RequestOptions::set_between_bytes_timeout,
        ] {
            set(&options, timeout).map_err(|()| "timeout")?;
        }

        let body = request.body().map_err(|()| "body")?;
        let future = handle(request, Some(options)).map_err(name)?;
        if let Some(text) = self.body {
            let stream = body.write().map_err(|()| "write")?;
            for chunk in text.as_bytes().chunks(4096) {
                stream
                    .blocking_write_and_flush(chunk)
                    .map_err(|error| format!("{error:?}"))?;
            }
        }
        OutgoingBody::finish(body, None).map_err(name)?;
        future.subscribe().block();
        future
            .get()
            .ok_or("not ready")?
            .map_err(|()| "taken")?
            .map_err(name)
    }
}

fn read(response: &IncomingResponse, mut take: impl FnMut(&[u8])) -> Result<(), String> {
    let body: IncomingBody = response.consume().map_err(|()| "consumed")?;
    let stream = body.stream().map_err(|()| "stream")?;
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(bytes) => take(&bytes),
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(wasip2::http::types::http_error_code(&error)
                    .map_or_else(|| error.to_debug_string(), name));
            }
        }
    }
}

/// `HttpRequestDenied`
fn name(code: ErrorCode) -> String {
    let text = format!("{code:?}");
    text.trim_start_matches("ErrorCode::").to_owned()
}
