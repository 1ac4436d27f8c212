//! Counts the views and the visitors of pages. Pushed as `page_views` with `manifest.toml`:
//!
//! ```python
//! page_views.record_view.delay("/pricing", "visitor 17").get()
//! # {"views": 1, "visitors": 1}
//! ```
//!
//! Numbers that outlive a task are kept in key-value storage, `wasi:keyvalue`: the worker's Redis or SQLite file, where
//! the keys of each module are its own. Tasks run side by side, so numbers are incremented by the store instead
//! of read and written.
//!
//! There is no transaction over several numbers. A task that is cut off and delivered again, or that retries
//! because the storage was down, may count its view again; and a visitor whose first task was cut off after
//! their own number and before the sum is missing from the sum.

mod store;

use petiole::Error;

/// The views of a page.
#[derive(Clone, Debug, PartialEq, petiole::Type)]
struct Views {
    views: u64,
    /// Each of them once.
    visitors: u64,
}

/// Counts a view of a page by a visitor, who is any text that stays the same, such as a session's id. Returns
/// the sums with it.
#[petiole::task]
fn record_view(page: String, visitor: String) -> Result<Views, Error> {
    store::check(&visitor_key(&page, &visitor))?;
    let bucket = store::open()?;
    record(&page, &visitor, |key, delta| {
        store::add(&bucket, key, delta)
    })
}

/// Returns the views and visitors of a page so far.
#[petiole::task]
fn views(page: String) -> Result<Views, Error> {
    store::check(&visitors_key(&page))?;
    let bucket = store::open()?;
    Ok(Views {
        views: store::number(&bucket, &views_key(&page))?,
        visitors: store::number(&bucket, &visitors_key(&page))?,
    })
}

/// `add` adds to the number of a key, and returns the sum. The view counts last, when nothing else can fail.
fn record<E>(
    page: &str,
    visitor: &str,
    mut add: impl FnMut(&str, u32) -> Result<u64, E>,
) -> Result<Views, E> {
    // Of all views by this visitor, wherever they run, one gets the 1.
    let is_first = add(&visitor_key(page, visitor), 1)? == 1;
    let visitors = add(&visitors_key(page), u32::from(is_first))?;
    let views = add(&views_key(page), 1)?;
    Ok(Views { views, visitors })
}

fn views_key(page: &str) -> String {
    format!("views:{page}")
}

fn visitors_key(page: &str) -> String {
    format!("visitors:{page}")
}

/// With the length of the page, because page and visitor may have colons of their own. No key of the page is
/// longer.
fn visitor_key(page: &str, visitor: &str) -> String {
    format!("visitor:{}:{page}:{visitor}", page.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::convert::Infallible;

    #[test]
    fn a_visitor_counts_once_for_each_page() {
        let mut numbers = HashMap::new();
        let mut see = |page: &str, visitor: &str| {
            let add = |key: &str, delta: u32| -> Result<u64, Infallible> {
                let number = numbers.entry(key.to_owned()).or_insert(0);
                *number += u64::from(delta);
                Ok(*number)
            };
            let Ok(Views { views, visitors }) = record(page, visitor, add);
            (views, visitors)
        };
        assert_eq!(see("/", "ada"), (1, 1));
        assert_eq!(see("/", "bob"), (2, 2));
        assert_eq!(see("/", "ada"), (3, 2));
        assert_eq!(see("/pricing", "ada"), (1, 1));
    }

    #[test]
    fn no_two_visits_share_a_key() {
        assert_ne!(visitor_key("a", "b:c"), visitor_key("a:b", "c"));
        assert_ne!(views_key("a"), visitors_key("a"));
    }

    #[test]
    fn what_can_not_be_counted_is_told() {
        assert_eq!(record("/", "ada", |_, _| Err("full")), Err("full"));
    }

    /// A retry after an error would count it again.
    #[test]
    fn a_view_counts_only_where_its_visitor_did() {
        for fails in [visitor_key("/", "ada"), visitors_key("/")] {
            let mut added = Vec::new();
            let add = |key: &str, _: u32| {
                added.push(key.to_owned());
                if key == fails { Err("down") } else { Ok(1) }
            };
            assert_eq!(record("/", "ada", add), Err("down"));
            assert!(!added.contains(&views_key("/")), "{added:?}");
        }
    }

    #[test]
    fn a_key_that_is_too_long_fails_the_task() {
        let longest = "v".repeat(1024 - visitor_key("/", "").len());
        assert!(store::check(&visitor_key("/", &longest)).is_ok());
        let failed = store::check(&visitor_key("/", &format!("{longest}v")));
        assert!(matches!(failed, Err(Error::Fail(_))), "{failed:?}");
        let page = "p".repeat(1024);
        for shorter in [views_key(&page), visitors_key(&page)] {
            assert!(shorter.len() <= visitor_key(&page, "").len());
        }
    }
}
