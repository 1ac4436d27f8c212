//! The contents of an HTML page.

use std::collections::HashSet;

use scraper::{ElementRef, Html, Selector};
use url::Url;

use crate::{Heading, Summary};

/// Headings and links of a summary, each.
const MOST: usize = 100;

pub(crate) fn summary(url: &Url, html: &str) -> Summary {
    let page = Html::parse_document(html);
    let described = "meta[name='description'], meta[property='og:description']";
    Summary {
        url: url.to_string(),
        title: first(&page, "title", text),
        description: first(&page, described, |meta| attribute(meta, "content"))
            .or_else(|| first(&page, "p", text)),
        language: first(&page, "html", |html| attribute(html, "lang")),
        headings: headings(&page),
        links: links(&page, url),
        words: words(page),
    }
}

/// The first text that is not empty, of the elements that match.
fn first(page: &Html, selector: &str, of: impl Fn(ElementRef<'_>) -> String) -> Option<String> {
    let selector = select(selector);
    let mut found = page.select(&selector).map(of);
    found.find(|text| !text.is_empty())
}

fn headings(page: &Html) -> Vec<Heading> {
    let selector = select("h1, h2, h3, h4, h5, h6");
    let headings = page.select(&selector).filter_map(|heading| {
        Some(Heading {
            level: heading.value().name().strip_prefix('h')?.parse().ok()?,
            text: text(heading),
        })
    });
    let headings = headings.filter(|heading| !heading.text.is_empty());
    headings.take(MOST).collect()
}

fn links(page: &Html, url: &Url) -> Vec<String> {
    let selector = select("a[href]");
    let mut seen = HashSet::new();
    let links = page.select(&selector).filter_map(|link| {
        let mut to = url.join(link.attr("href")?).ok()?;
        to.set_fragment(None);
        let is_new = matches!(to.scheme(), "http" | "https") && seen.insert(to.clone());
        is_new.then(|| to.into())
    });
    links.take(MOST).collect()
}

/// Counts the words that a reader sees.
fn words(mut page: Html) -> u64 {
    let selector = select("head, noscript, script, style, template");
    let unseen: Vec<_> = page.select(&selector).map(|element| element.id()).collect();
    for id in unseen {
        if let Some(mut element) = page.tree.get_mut(id) {
            element.detach();
        }
    }
    let words = page.root_element().text().flat_map(str::split_whitespace);
    words.count() as u64
}

/// The text of an element, its white space made single spaces.
fn text(element: ElementRef<'_>) -> String {
    let text: String = element.text().collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn attribute(element: ElementRef<'_>, name: &str) -> String {
    element.attr(name).unwrap_or_default().trim().to_owned()
}

fn select(selector: &str) -> Selector {
    Selector::parse(selector).expect("the selectors of this file are right")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(html: &str) -> Summary {
        summary(&Url::parse("https://example.com/docs/").unwrap(), html)
    }

    #[test]
    fn a_page_is_summarised() {
        let summary = of(r##"<!DOCTYPE html><html lang="en"><head>
            <title> The
              title </title><meta name="description" content="What it is.">
            <style>p { color: red }</style></head>
            <body><h1>One <em>two</em></h1><p>three &amp; four</p><h3></h3><h4>Last</h4>
            <script>let five = 6;</script>
            <a href="more#part">seven</a> <a href="more">eight</a> <a href="mailto:me@example.com">me</a>
            <a href="https://other.example/">nine</a></body></html>"##);
        let heading = |level, text: &str| Heading {
            level,
            text: text.into(),
        };
        assert_eq!(
            summary,
            Summary {
                url: "https://example.com/docs/".into(),
                title: Some("The title".into()),
                description: Some("What it is.".into()),
                language: Some("en".into()),
                headings: vec![heading(1, "One two"), heading(4, "Last")],
                words: 10,
                links: vec![
                    "https://example.com/docs/more".into(),
                    "https://other.example/".into()
                ],
            }
        );
    }

    #[test]
    fn the_first_paragraph_describes_a_page_that_does_not() {
        let description = |html| of(html).description;
        let og = "<meta property='og:description' content='Shared'><p>First";
        assert_eq!(description(og).as_deref(), Some("Shared"));
        let empty = "<meta name=description content=' '><p></p><p>First";
        assert_eq!(description(empty).as_deref(), Some("First"));
        assert_eq!(description("<h1>Only</h1>"), None);
    }

    #[test]
    fn whatever_is_no_html_has_words() {
        assert_eq!(of("").words, 0);
        assert_eq!(of("a < b > c </p>").words, 5);
        assert_eq!(of(&"<div>".repeat(500)).title, None);
    }

    #[test]
    fn a_summary_has_a_limit() {
        let link = |n| format!("<h2>{n}</h2><a href='/{n}'>{n}</a>");
        let summary = of(&(0..MOST + 1).map(link).collect::<String>());
        assert_eq!((summary.headings.len(), summary.links.len()), (MOST, MOST));
    }
}
