//! HTTP: one page, through its redirects. The worker checks each request on its own.

use std::time::Duration;

use url::Url;
use wstd::http::body::util::{BodyExt, LengthLimitError, Limited};
use wstd::http::{Body, Client, Error, ErrorCode, HeaderMap, Request, StatusCode};

use crate::PageError;

const MAX_REDIRECTS: u32 = 5;
const MAX_BYTES: usize = 2 << 20;
/// Until the first byte of an answer, and between two.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The client's next step after an answer.
#[derive(Debug, PartialEq)]
enum Next {
    Read,
    Follow(Url),
}

/// The HTML of a page, and where it was found.
pub(crate) async fn page(address: &str) -> Result<(Url, String), PageError> {
    let mut url = parse(address)?;
    let mut client = Client::new();
    client.set_connect_timeout(TIMEOUT);
    client.set_first_byte_timeout(TIMEOUT);
    client.set_between_bytes_timeout(TIMEOUT);
    for _ in 0..=MAX_REDIRECTS {
        let request = Request::get(url.as_str())
            .header("accept", "text/html")
            .body(Body::empty())
            .map_err(|error| PageError::InvalidUrl(error.to_string()))?;
        let answer = client
            .send(request)
            .await
            .map_err(|error| failed(&url, &error))?;
        match next(&url, answer.status(), answer.headers())? {
            Next::Read => {
                let html = read(&url, answer.into_body()).await?;
                return Ok((url, html));
            }
            Next::Follow(to) => url = to,
        }
    }
    Err(PageError::TooManyRedirects(MAX_REDIRECTS))
}

fn parse(address: &str) -> Result<Url, PageError> {
    let url = Url::parse(address)
        .map_err(|error| PageError::InvalidUrl(format!("{address:?}: {error}")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(PageError::InvalidUrl(format!(
            "{address:?} is not http or https"
        ))),
    }
}

fn next(url: &Url, status: StatusCode, headers: &HeaderMap) -> Result<Next, PageError> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    match status {
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => {
            let to = url.join(text("location"));
            let to = to.map_err(|error| PageError::InvalidUrl(error.to_string()))?;
            Ok(Next::Follow(parse(to.as_str())?))
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(PageError::NotFound(url.to_string())),
        status if !status.is_success() => Err(PageError::Status(status.as_u16())),
        _ => match text("content-type").split(';').next().map(str::trim) {
            Some("text/html" | "application/xhtml+xml") => Ok(Next::Read),
            other => Err(PageError::NotHtml(other.unwrap_or_default().to_owned())),
        },
    }
}

async fn read(url: &Url, body: Body) -> Result<String, PageError> {
    let limited = Limited::new(body.into_boxed_body(), MAX_BYTES);
    let bytes = limited.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            PageError::TooLarge(MAX_BYTES as u64)
        } else {
            PageError::Unreachable(format!("{url}: {error}"))
        }
    })?;
    Ok(String::from_utf8_lossy(&bytes.to_bytes()).into_owned())
}

fn failed(url: &Url, error: &Error) -> PageError {
    match error.downcast_ref() {
        Some(ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited) => {
            PageError::NotGranted(url.to_string())
        }
        _ => PageError::Unreachable(format!("{url}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wstd::http::HeaderValue;

    fn answer(status: u16, name: &'static str, value: &'static str) -> Result<Next, PageError> {
        let headers = HeaderMap::from_iter([(
            wstd::http::HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )]);
        let url = Url::parse("https://example.com/a/b").unwrap();
        next(&url, StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn an_answer_is_read_followed_or_an_error() {
        let html = "text/html; charset=utf-8";
        assert_eq!(answer(200, "content-type", html), Ok(Next::Read));
        let follow = |to| Ok(Next::Follow(Url::parse(to).unwrap()));
        assert_eq!(
            answer(302, "location", "../c"),
            follow("https://example.com/c")
        );
        assert_eq!(
            answer(308, "location", "//other.example/"),
            follow("https://other.example/")
        );
        for (status, name, value, error) in [
            (
                404,
                "content-type",
                html,
                PageError::NotFound("https://example.com/a/b".into()),
            ),
            (503, "content-type", html, PageError::Status(503)),
            (
                200,
                "content-type",
                "image/png",
                PageError::NotHtml("image/png".into()),
            ),
            (200, "server", "none", PageError::NotHtml(String::new())),
            (
                301,
                "location",
                "file:///etc/passwd",
                PageError::InvalidUrl(r#""file:///etc/passwd" is not http or https"#.into()),
            ),
        ] {
            assert_eq!(answer(status, name, value), Err(error));
        }
    }

    #[test]
    fn only_addresses_of_web_pages_are_fetched() {
        assert!(parse("http://example.com").is_ok());
        for address in ["", "example.com", "ftp://example.com/", "http://"] {
            assert!(
                matches!(parse(address), Err(PageError::InvalidUrl(_))),
                "{address:?}"
            );
        }
    }
}
