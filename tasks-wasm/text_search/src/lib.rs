//! Searches documents for a regular expression. Pushed as `text_search`:
//!
//! ```python
//! text_search.search.delay([{"name": "a.txt", "text": "one\ntwo"}], "t.o").get()
//! # [{"document": "a.txt", "line": 2, "column": 1, "matched": "two", "excerpt": "two"}]
//! ```
//!
//! The expression may come from a user: the `regex` crate needs time in proportion to the text, whatever
//! the expression.

use petiole::Error;
use regex::{Regex, RegexBuilder};

/// Bytes that a compiled expression may take.
const MAX_EXPRESSION_BYTES: usize = 1 << 20;
/// Hits where no limit is given.
const DEFAULT_LIMIT: u32 = 100;
/// Characters of an excerpt on each side of the match.
const CONTEXT: usize = 40;

/// A text to search.
#[derive(Clone, Debug, PartialEq, petiole::Type)]
struct Document {
    name: String,
    text: String,
}

/// A place where the expression was found.
#[derive(Clone, Debug, PartialEq, petiole::Type)]
struct Hit {
    document: String,
    /// From 1.
    line: u64,
    /// In characters, from 1.
    column: u64,
    matched: String,
    /// The match with what is around it on its line.
    excerpt: String,
}

/// Finds a regular expression in documents, line by line, in their order; 100 hits unless a limit is
/// given. Upper and lower case are different unless `ignore_case` is true.
#[petiole::task]
fn search(
    documents: Vec<Document>,
    pattern: String,
    ignore_case: Option<bool>,
    limit: Option<u32>,
) -> Result<Vec<Hit>, Error> {
    let expression = RegexBuilder::new(&pattern)
        .case_insensitive(ignore_case.unwrap_or(false))
        .size_limit(MAX_EXPRESSION_BYTES)
        .build()
        .map_err(|error| {
            Error::fail("ValueError", format!("the pattern can't be used: {error}"))
        })?;
    let limit = usize::try_from(limit.unwrap_or(DEFAULT_LIMIT))?;
    Ok(documents
        .iter()
        .flat_map(|document| hits(&expression, document))
        .take(limit)
        .collect())
}

fn hits(expression: &Regex, document: &Document) -> impl Iterator<Item = Hit> {
    document
        .text
        .lines()
        .zip(1..)
        .flat_map(move |(line, number)| {
            expression.find_iter(line).map(move |found| Hit {
                document: document.name.clone(),
                line: number,
                column: line[..found.start()].chars().count() as u64 + 1,
                matched: found.as_str().to_owned(),
                excerpt: excerpt(line, found.start(), found.end()),
            })
        })
}

/// The match and [`CONTEXT`] characters on each side of it.
fn excerpt(line: &str, start: usize, end: usize) -> String {
    let from = line[..start]
        .char_indices()
        .rev()
        .take(CONTEXT)
        .last()
        .map_or(start, |(index, _)| index);
    let to = line[end..]
        .char_indices()
        .nth(CONTEXT)
        .map_or(line.len(), |(index, _)| end + index);
    line[from..to].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Vec<Document> {
        let document = |name: &str, text: &str| Document {
            name: name.into(),
            text: text.into(),
        };
        vec![
            document("a", "one two\nnaïve Two"),
            document("b", &format!("{}two{}", "x".repeat(99), "y".repeat(99))),
        ]
    }

    #[test]
    fn finds_lines_and_columns() {
        let found = search(documents(), "two".into(), Some(true), None).unwrap();
        let places: Vec<_> = found
            .iter()
            .map(|hit| (hit.document.as_str(), hit.line, hit.column))
            .collect();
        assert_eq!(places, [("a", 1, 5), ("a", 2, 7), ("b", 1, 100)]);
        assert_eq!(
            (found[1].matched.as_str(), found[1].excerpt.as_str()),
            ("Two", "naïve Two")
        );
        assert_eq!(
            found[2].excerpt,
            format!("{}two{}", "x".repeat(40), "y".repeat(40))
        );
    }

    #[test]
    fn keeps_to_case_and_limit() {
        assert_eq!(
            search(documents(), "Two".into(), None, None).unwrap().len(),
            1
        );
        assert_eq!(
            search(documents(), r"\w+".into(), None, Some(2))
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn refuses_a_pattern_that_is_wrong_or_too_large() {
        for pattern in ["(", r"(\w{100}){100}"] {
            assert!(
                matches!(
                    search(documents(), pattern.into(), None, None),
                    Err(Error::Fail(_))
                ),
                "{pattern}"
            );
        }
    }
}
