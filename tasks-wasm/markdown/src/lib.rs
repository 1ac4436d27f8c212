//! Markdown to HTML that is safe to show. Pushed as `markdown`:
//!
//! ```python
//! markdown.to_html.delay("# Hello\n\n<script>alert(1)</script>")     # "<h1>Hello</h1>\n"
//! ```

use pulldown_cmark::{Options, Parser, html};

/// Renders Markdown, with tables, strikethrough and footnotes.
///
/// HTML inside of it is kept as far as it is harmless: scripts, styles, event handlers and links of other
/// schemes than the web's and mail's are taken out.
#[petiole::task]
fn to_html(markdown: String) -> String {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_FOOTNOTES;
    let mut unsafe_html = String::with_capacity(markdown.len() * 3 / 2);
    html::push_html(&mut unsafe_html, Parser::new_ext(&markdown, options));
    ammonia::clean(&unsafe_html)
}

#[cfg(test)]
mod tests {
    use super::to_html;

    #[test]
    fn renders_markdown() {
        for (markdown, html) in [
            (
                "# Hello\n\n*world*",
                "<h1>Hello</h1>\n<p><em>world</em></p>\n",
            ),
            (
                "~~old~~ `a < b`",
                "<p><del>old</del> <code>a &lt; b</code></p>\n",
            ),
            (
                "|a|\n|-|\n|1|",
                "<table><thead><tr><th>a</th></tr></thead><tbody>\n<tr><td>1</td></tr>\n</tbody></table>\n",
            ),
            (
                "[site](https://example.org)",
                "<p><a href=\"https://example.org\" rel=\"noopener noreferrer\">site</a></p>\n",
            ),
        ] {
            assert_eq!(to_html(markdown.into()), html);
        }
    }

    #[test]
    fn nothing_runs_in_the_reader() {
        for hostile in [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "[click](javascript:alert(1))",
            "<svg><style><img src=x onerror=alert(1)></style></svg>",
            "<iframe src=//example.org></iframe>",
        ] {
            let html = to_html(hostile.into());
            assert!(
                !["script", "onerror", "iframe", "style"]
                    .iter()
                    .any(|word| html.contains(word)),
                "{html}"
            );
        }
    }
}
