//! An upload as `multipart/form-data` (RFC 7578): a part for the component, and one each for its manifest and its
//! signature, where they come with it. Pure.
//!
//! axum's own way, `multer` 3.1, searches all that it has for the end of a part's head anew with each chunk that comes
//! in, so that a large head in small chunks costs time by its square, and copies the component.

use std::fmt::{self, Display, Formatter};

use axum::body::Bytes;
use axum::http::StatusCode;
use memchr::memmem;
use petiole_modules::{MAX_MANIFEST, MAX_SIGNATURE};
use petiole_runtime::MAX_COMPONENT_SIZE;

use crate::error::ApiError;

/// The largest head of a part, in bytes: it says the part's name, and most often that of a file.
const MAX_PART_HEAD: usize = 4 << 10;

/// The longest boundary (RFC 2046 section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// The largest form, in bytes.
pub(super) const MAX_FORM: usize =
    MAX_COMPONENT_SIZE + MAX_MANIFEST + MAX_SIGNATURE + 4 * (MAX_PART_HEAD + MAX_BOUNDARY);

/// The parts of a form, by the name that each has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Component,
    Manifest,
    Signature,
}

/// The contents of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) component: Bytes,
    /// Empty for none.
    pub(super) manifest: String,
    pub(super) signature: Option<String>,
}

/// A body is not a form of an upload.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    #[error("multipart/form-data needs a boundary of 1 to {MAX_BOUNDARY} characters")]
    Boundary,
    #[error("the form does not begin with its boundary")]
    Beginning,
    #[error("the form breaks off: it has no closing boundary")]
    CutOff,
    #[error("a boundary of the form has something behind it")]
    Delimiter,
    #[error("a part of the form has no name within its first {MAX_PART_HEAD} bytes")]
    Nameless,
    #[error("the form has a part that is none of component, manifest, signature")]
    Unknown,
    #[error("the form has the part {0} twice")]
    Twice(Part),
    #[error("the form has no part component")]
    NoComponent,
    #[error("the component is larger than {MAX_COMPONENT_SIZE} bytes")]
    TooLarge,
    #[error("the {0} has more than {limit} bytes", limit = .0.limit())]
    TooLong(Part),
    #[error("the {0} is not UTF-8")]
    NotText(Part),
}

/// The boundary of a form, where a body of this content type is one.
pub(super) fn boundary(content_type: &str) -> Result<Option<&str>, FormError> {
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !media_type
        .trim()
        .eq_ignore_ascii_case("multipart/form-data")
    {
        return Ok(None);
    }
    let boundary = parameter(parameters, "boundary").filter(|boundary| {
        (1..=MAX_BOUNDARY).contains(&boundary.len())
            && boundary
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic())
    });
    boundary.map(Some).ok_or(FormError::Boundary)
}

impl Form {
    /// Reads the parts, in whichever order they come. It takes time that grows with the body's size alone, and memory
    /// for the two texts.
    pub(super) fn read(mut body: Bytes, boundary: &str) -> Result<Self, FormError> {
        let delimiter = format!("\r\n--{boundary}");
        let delimiters = memmem::Finder::new(&delimiter);
        // The first one has no line before it.
        let first = delimiter.trim_ascii_start();
        if !body.starts_with(first.as_bytes()) {
            return Err(FormError::Beginning);
        }
        body = body.slice(first.len()..);
        let [mut component, mut manifest, mut signature] = [None, None, None];
        while let Some(rest) = part_behind(&body)? {
            let end = delimiters.find(&rest).ok_or(FormError::CutOff)?;
            let (part, content) = named(&rest.slice(..end))?;
            let place = match part {
                Part::Component => &mut component,
                Part::Manifest => &mut manifest,
                Part::Signature => &mut signature,
            };
            if place.replace(content).is_some() {
                return Err(FormError::Twice(part));
            }
            body = rest.slice(end.saturating_add(delimiter.len())..);
        }
        Ok(Self {
            component: component.ok_or(FormError::NoComponent)?,
            manifest: text(Part::Manifest, manifest)?,
            signature: Some(text(Part::Signature, signature)?).filter(|text| !text.is_empty()),
        })
    }
}

/// The part behind a boundary; none behind the last one.
fn part_behind(body: &Bytes) -> Result<Option<Bytes>, FormError> {
    match &**body {
        [b'\r', b'\n', ..] => Ok(Some(body.slice(2..))),
        b"--" | b"--\r\n" => Ok(None),
        [] | [_] => Err(FormError::CutOff),
        _ => Err(FormError::Delimiter),
    }
}

/// A part by its name, and its content.
fn named(part: &Bytes) -> Result<(Part, Bytes), FormError> {
    let beginning = part.get(..MAX_PART_HEAD).unwrap_or(part);
    let end = memmem::find(beginning, b"\r\n\r\n").ok_or(FormError::Nameless)?;
    let head = part.get(..end).and_then(|head| str::from_utf8(head).ok());
    let name = head.and_then(name).ok_or(FormError::Nameless)?;
    let named = |part: &Part| part.name() == name;
    let known = Part::ALL.into_iter().find(named);
    let known = known.ok_or(FormError::Unknown)?;
    let content = part.slice(end.saturating_add(4)..);
    match known {
        part if content.len() <= part.limit() => Ok((part, content)),
        Part::Component => Err(FormError::TooLarge),
        part => Err(FormError::TooLong(part)),
    }
}

/// The name in a part's head: `Content-Disposition: form-data; name="component"; filename="my_app.wasm"`.
fn name(head: &str) -> Option<&str> {
    let disposition = head.split("\r\n").find_map(|line| {
        let (header, value) = line.split_once(':')?;
        let is_it = header.trim().eq_ignore_ascii_case("content-disposition");
        is_it.then_some(value)
    })?;
    let (kind, parameters) = disposition.split_once(';')?;
    let is_form = kind.trim().eq_ignore_ascii_case("form-data");
    parameter(parameters, "name").filter(|_| is_form)
}

/// The value of a parameter: a token, or what stands in quotes.
fn parameter<'a>(mut parameters: &'a str, wanted: &str) -> Option<&'a str> {
    loop {
        let (name, rest) = parameters.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find(';').unwrap_or(rest.len())),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value.trim());
        }
        (_, parameters) = rest.split_once(';')?;
    }
}

fn text(part: Part, content: Option<Bytes>) -> Result<String, FormError> {
    let content = content.unwrap_or_default();
    String::from_utf8(content.into()).map_err(|_| FormError::NotText(part))
}

impl Part {
    const ALL: [Self; 3] = [Self::Component, Self::Manifest, Self::Signature];

    fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Manifest => "manifest",
            Self::Signature => "signature",
        }
    }

    fn limit(self) -> usize {
        match self {
            Self::Component => MAX_COMPONENT_SIZE,
            Self::Manifest => MAX_MANIFEST,
            Self::Signature => MAX_SIGNATURE,
        }
    }
}

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<FormError> for ApiError {
    fn from(error: FormError) -> Self {
        let status = match error {
            FormError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            FormError::TooLong(_) | FormError::NotText(_) => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BOUNDARY: &str = "x-1";

    fn part(name: &str, content: &str) -> String {
        format!("--x-1\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    }

    fn read(body: impl Into<Bytes>) -> Result<Form, FormError> {
        Form::read(body.into(), BOUNDARY)
    }

    #[test]
    fn parts_come_in_any_order_with_or_without_what_clients_add() {
        let [component, manifest, signature] = [
            ("component", "\0asm"),
            ("manifest", "a = 1\n"),
            ("signature", "RW"),
        ]
        .map(|(name, content)| part(name, content));
        let all = Form {
            component: Bytes::from_static(b"\0asm"),
            manifest: "a = 1\n".to_owned(),
            signature: Some("RW".to_owned()),
        };
        for order in [
            [&component, &manifest, &signature],
            [&signature, &component, &manifest],
            [&manifest, &signature, &component],
        ] {
            let parts: String = order.into_iter().map(String::as_str).collect();
            assert_eq!(read(format!("{parts}--x-1--\r\n")).as_ref(), Ok(&all));
            assert_eq!(read(format!("{parts}--x-1--")).as_ref(), Ok(&all));
        }
        // As curl writes it; and content that nearly is a boundary.
        let curl = "--x-1\r\nContent-Disposition: form-data; name=\"component\"; filename=\"a;b=\\\"c.wasm\"\r\n\
                    Content-Type: application/wasm\r\n\r\n--x-\r\n--x\r\n\r\n--x-1--\r\n";
        let form = read(curl).unwrap();
        assert_eq!(form.component, "--x-\r\n--x\r\n");
        assert_eq!((form.manifest.as_str(), form.signature), ("", None));
        let other = "--x-1\r\ncontent-type: a/b\r\ncontent-disposition:Form-Data;filename=c.wasm; NAME=component\r\n\r\n\r\n--x-1--";
        assert_eq!(read(other).unwrap().component, "");
    }

    #[test]
    fn what_is_no_form_of_an_upload_is_refused() {
        let component = part("component", "\0asm");
        let large = |name, limit: usize| {
            let content = "a".repeat(limit + 1);
            format!("{component}{}--x-1--", part(name, &content))
        };
        let long = format!("a=\"{}\"", "b".repeat(MAX_PART_HEAD));
        let headless = "--x-1\r\n\r\n\0asm\r\n--x-1--".to_owned();
        for (body, error) in [
            (String::new(), FormError::Beginning),
            ("\0asm".to_owned(), FormError::Beginning),
            (format!("\r\n{component}--x-1--"), FormError::Beginning),
            ("--x-1".to_owned(), FormError::CutOff),
            ("--x-1\r\n".to_owned(), FormError::CutOff),
            (component.clone(), FormError::CutOff),
            (format!("{component}--x-1"), FormError::CutOff),
            (format!("{component}--x-1-"), FormError::CutOff),
            (format!("{component}--x-12--"), FormError::Delimiter),
            (format!("{component}--x-1--\r\nmore"), FormError::Delimiter),
            (
                format!("--x-1 \r\n{component}--x-1--"),
                FormError::Delimiter,
            ),
            ("--x-1--".to_owned(), FormError::NoComponent),
            (
                format!("{}--x-1--", part("manifest", "")),
                FormError::NoComponent,
            ),
            (
                format!("{component}{component}--x-1--"),
                FormError::Twice(Part::Component),
            ),
            (
                format!("{component}{}--x-1--", part("Manifest", "")),
                FormError::Unknown,
            ),
            (
                format!("{component}{}--x-1--", part("", "")),
                FormError::Unknown,
            ),
            (headless.clone(), FormError::Nameless),
            (
                headless.replace("\r\n\r\n", "\r\nname=component\r\n\r\n"),
                FormError::Nameless,
            ),
            (
                component.replace("form-data", "file") + "--x-1--",
                FormError::Nameless,
            ),
            (
                component.replace("; name", &format!("; {long}; name")) + "--x-1--",
                FormError::Nameless,
            ),
            (
                component.replace("name=\"component\"", "name=\"component") + "--x-1--",
                FormError::Nameless,
            ),
            (
                large("manifest", MAX_MANIFEST),
                FormError::TooLong(Part::Manifest),
            ),
            (
                large("signature", MAX_SIGNATURE),
                FormError::TooLong(Part::Signature),
            ),
        ] {
            let beginning: String = body.chars().take(200).collect();
            assert_eq!(read(body), Err(error), "{beginning:?}");
        }
        let not_text = format!("{component}{}--x-1--", part("manifest", "?"));
        let not_text: Vec<u8> = not_text
            .bytes()
            .map(|byte| if byte == b'?' { 0xff } else { byte })
            .collect();
        assert_eq!(read(not_text), Err(FormError::NotText(Part::Manifest)));
    }

    /// In 64 MiB, for the length of which a naive search would take minutes.
    #[test]
    fn boundaries_that_nearly_are_some_cost_no_time() {
        let boundary = "-".repeat(MAX_BOUNDARY);
        let body = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=component\r\n\r\n{}",
            format!("\r\n{}", "-".repeat(MAX_BOUNDARY + 1)).repeat(MAX_COMPONENT_SIZE / 80)
        );
        let began = std::time::Instant::now();
        assert_eq!(Form::read(body.into(), &boundary), Err(FormError::CutOff));
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }

    #[test]
    fn a_boundary_is_read_from_the_content_type() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=x-1", Ok(Some("x-1"))),
            (
                "Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"",
                Ok(Some("a b")),
            ),
            ("application/wasm", Ok(None)),
            ("multipart/mixed; boundary=x-1", Ok(None)),
            ("", Ok(None)),
            ("multipart/form-data", Err(FormError::Boundary)),
            ("multipart/form-data; boundary=", Err(FormError::Boundary)),
            (
                "multipart/form-data; boundary=\"a\tb\"",
                Err(FormError::Boundary),
            ),
            (
                "multipart/form-data; boundary=\"a",
                Err(FormError::Boundary),
            ),
        ] {
            assert_eq!(boundary(content_type), expected, "{content_type}");
        }
        let long = format!(
            "multipart/form-data; boundary={}",
            "a".repeat(MAX_BOUNDARY + 1)
        );
        assert_eq!(boundary(&long), Err(FormError::Boundary));
    }
}
