//! The text of a message's body, once its encoding and compression are undone.

use std::borrow::Cow;
use std::io::Read;

use base64::Engine;
use serde_json::Value;

use crate::json::kind;
use crate::{Message, Refusal};

/// No more than `limit` is decompressed.
pub(super) fn body(message: &Message, limit: usize) -> Result<Cow<'_, [u8]>, Refusal> {
    match message.properties.content_type.as_deref() {
        Some("application/json") => {}
        other => {
            let content_type = other.unwrap_or("a body without a content type").to_owned();
            return Err(Refusal::ContentDisallowed { content_type });
        }
    }
    let body = decompress(
        decode_encoding(message)?,
        message.headers.get("compression"),
        limit,
    )?;
    if body.len() > limit {
        let size = body.len();
        return Err(Refusal::ArgumentsTooLarge { size, limit });
    }
    Ok(body)
}

fn decode_encoding(message: &Message) -> Result<Cow<'_, [u8]>, Refusal> {
    let encoding = message
        .properties
        .content_encoding
        .as_deref()
        .unwrap_or_default();
    match encoding.to_ascii_lowercase().as_str() {
        "" | "utf-8" | "utf8" | "binary" | "us-ascii" | "ascii" => Ok(Cow::Borrowed(&message.body)),
        "base64" => base64::engine::general_purpose::STANDARD
            .decode(&message.body)
            .map(Cow::Owned)
            .map_err(|error| Refusal::malformed(format!("body is not base64: {error}"))),
        _ => Err(Refusal::malformed(format!(
            "content encoding {encoding:?} is not one of utf-8, binary, base64"
        ))),
    }
}

fn decompress<'a>(
    body: Cow<'a, [u8]>,
    compression: Option<&Value>,
    limit: usize,
) -> Result<Cow<'a, [u8]>, Refusal> {
    match compression {
        None | Some(Value::Null) => Ok(body),
        // Kombu's gzip is zlib data (RFC 1950).
        Some(Value::String(name))
            if matches!(name.as_str(), "application/x-gzip" | "gzip" | "zlib") =>
        {
            inflate(&body, limit).map(Cow::Owned)
        }
        Some(Value::String(name)) => Err(Refusal::malformed(format!(
            "compression {name:?} is not supported: use gzip or none"
        ))),
        Some(other) => Err(Refusal::malformed(format!(
            "header `compression` is {}",
            kind(other)
        ))),
    }
}

/// Inflates zlib data, at most to one byte past the limit.
fn inflate(body: &[u8], limit: usize) -> Result<Vec<u8>, Refusal> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut inflated = Vec::new();
    flate2::read::ZlibDecoder::new(body)
        .take(limit.saturating_add(1))
        .read_to_end(&mut inflated)
        .map_err(|error| Refusal::malformed(format!("body is not zlib data: {error}")))?;
    Ok(inflated)
}
