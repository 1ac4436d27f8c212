//! Fetches a web page and summarises it. Pushed as `page_summary` with `manifest.toml`:
//!
//! ```python
//! page_summary.summarize.delay("https://www.example.com/").get()
//! # {"url": "https://www.example.com/", "title": "Example Domain", "words": 28, "links": [...], ...}
//! ```
//!
//! HTTP is a capability: the manifest asks for hosts, and the worker's `[grants]` allow them. The worker makes
//! the request, and its TLS; a host that is not granted is the failure `NotGranted`, which tells the URL.
//! The client is `wstd`, the Bytecode Alliance's library over `wasi:http`; it is `async`, a task is not, and
//! `block_on` stands between them. While it waits, the worker runs other tasks.

mod fetch;
mod page;

use wstd::runtime::block_on;

/// The contents of a page.
#[derive(Clone, Debug, PartialEq, petiole::Type)]
struct Summary {
    /// The address after redirects.
    url: String,
    title: Option<String>,
    /// Its own description, or else its first paragraph.
    description: Option<String>,
    /// As a tag like `en`.
    language: Option<String>,
    /// The first 100.
    headings: Vec<Heading>,
    /// The number of words that it shows.
    words: u64,
    /// The first 100 addresses that it links to, each once.
    links: Vec<String>,
}

/// A heading of a page.
#[derive(Clone, Debug, PartialEq, petiole::Type)]
struct Heading {
    /// From 1 to 6.
    level: u8,
    text: String,
}

/// The reason that there is no summary. A case's name is the exception's class in Python.
#[derive(Clone, Debug, PartialEq, petiole::Type)]
enum PageError {
    /// No URL of a web page.
    InvalidUrl(String),
    /// The worker's grants do not allow a request to this URL.
    NotGranted(String),
    /// Nobody answers.
    Unreachable(String),
    /// There is no such page.
    NotFound(String),
    /// Another status than success: 403, 500, ...
    Status(u16),
    /// More redirects than this.
    TooManyRedirects(u32),
    /// More bytes than this.
    TooLarge(u64),
    /// The content type that it has instead.
    NotHtml(String),
}

/// Fetches a page and summarises it. Follows up to 5 redirects; reads up to 2 MiB of HTML, as UTF-8.
#[petiole::task]
fn summarize(url: String) -> Result<Summary, PageError> {
    let (url, html) = block_on(fetch::page(&url))?;
    Ok(page::summary(&url, &html))
}
